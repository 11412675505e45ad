"""anthropic-python, unmodified, against a running server: shapes, order of events, counts; not wisdom."""

import os
import unittest

import anthropic
from anthropic import Anthropic
from pydantic import BaseModel

URL = os.environ["INFERD_URL"].removesuffix("/").removesuffix("/v1")
MODEL = os.environ["INFERD_MODEL"]
KEY = os.environ.get("INFERD_KEY", "not-needed")

client = Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=300)
HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "name": "get_weather",
    "description": "Current weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
CALL = {"messages": ASK, "tools": [WEATHER], "tool_choice": {"type": "tool", "name": "get_weather"}, "max_tokens": 200}


class Answer(BaseModel):
    yes: bool
    count: int


def options(**more):
    return {"model": MODEL, "temperature": 0, "max_tokens": 12, "messages": HELLO, **more}


def asked(**more):
    """The same in the client's own arguments: temperature is none of them, and goes into the body all the same."""
    return {"extra_body": {"temperature": 0}, **{key: value for key, value in options(**more).items() if key != "temperature"}}


def create(**more):
    return client.messages.create(**asked(**more))


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def taken(usage):
    return usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


class Messages(unittest.TestCase):
    def test_create(self):
        reply = create(system="Be brief.")
        self.assertTrue(reply.id.startswith("msg_"))
        self.assertEqual((reply.type, reply.role, reply.model), ("message", "assistant", MODEL))
        self.assertEqual([block.type for block in reply.content], ["text"])
        self.assertIn(reply.stop_reason, ("end_turn", "max_tokens"))
        self.assertGreater(reply.usage.output_tokens, 0)
        self.assertTrue(reply._request_id)

    def test_the_limit(self):
        reply = create(messages=[{"role": "user", "content": "Tell me a very long story."}], max_tokens=4)
        self.assertEqual((reply.stop_reason, reply.usage.output_tokens), ("max_tokens", 4))

    def test_blocks_and_a_string_are_the_same(self):
        blocks = [{"role": "user", "content": [{"type": "text", "text": "Say hello.", "cache_control": {"type": "ephemeral"}}]}]
        self.assertEqual(text_of(create(messages=blocks)), text_of(create()))

    def test_stop_sequence(self):
        text = text_of(create(max_tokens=40))
        stop = text[4:8]
        reply = create(max_tokens=40, stop_sequences=[stop])
        self.assertEqual((reply.stop_reason, reply.stop_sequence), ("stop_sequence", stop))
        self.assertEqual(text_of(reply), text[:text.index(stop)])

    def test_stream(self):
        events = list(create(stream=True))
        kinds = [event.type for event in events if event.type != "ping"]
        self.assertEqual(kinds[:2], ["message_start", "content_block_start"])
        self.assertEqual(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
        self.assertEqual(set(kinds[2:-3]), {"content_block_delta"})

    def test_stream_helper(self):
        whole = create()
        with client.messages.stream(**asked()) as stream:
            text = "".join(stream.text_stream)
            reply = stream.get_final_message()
        self.assertEqual((text, text_of(reply)), (text_of(whole), text_of(whole)))
        self.assertEqual(reply.stop_reason, whole.stop_reason)
        self.assertEqual(taken(reply.usage), taken(whole.usage))
        self.assertEqual(reply.usage.output_tokens, whole.usage.output_tokens)

    def test_tools(self):
        reply = create(**CALL)
        call = next(block for block in reply.content if block.type == "tool_use")
        self.assertEqual((call.name, reply.stop_reason), ("get_weather", "tool_use"))
        self.assertIn(call.input, ({"city": "Paris"}, {"city": "Rome"}))
        after = ASK + [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in reply.content]},
                       {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sunny"}]}]
        self.assertTrue(create(messages=after, tools=[WEATHER]).content)

    def test_tools_streamed(self):
        with client.messages.stream(**asked(**CALL)) as stream:
            parts = [event.partial_json for event in stream if event.type == "input_json"]
            reply = stream.get_final_message()
        call = next(block for block in reply.content if block.type == "tool_use")
        self.assertTrue(parts)
        self.assertIn(call.input, ({"city": "Paris"}, {"city": "Rome"}))
        self.assertEqual(reply.stop_reason, "tool_use")

    def test_parse(self):
        more = asked(messages=[{"role": "user", "content": "Is 2 even? JSON."}], max_tokens=100)
        reply = client.messages.parse(**more, output_format=Answer)
        self.assertIsInstance(reply.parsed_output, Answer)

    def test_count_tokens(self):
        for more in ({}, {"system": "Be brief."}, {"tools": [WEATHER]}):
            counted = client.messages.count_tokens(model=MODEL, messages=HELLO, **more)
            self.assertEqual(counted.input_tokens, taken(create(**more).usage))

    def test_errors(self):
        with self.assertRaises(anthropic.BadRequestError) as raised:
            create(extra_body={"top_k": "x"})
        self.assertEqual(raised.exception.body["error"]["type"], "invalid_request_error")
        self.assertIn("'top_k'", raised.exception.body["error"]["message"])
        with self.assertRaises(anthropic.NotFoundError):
            create(model="no/such")


if __name__ == "__main__":
    unittest.main()
