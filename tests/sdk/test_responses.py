"""openai-python's responses, unmodified, against a running server: shapes, order of events, chains; not wisdom."""

import json
import os
import unittest

import openai
from openai import OpenAI
from pydantic import BaseModel

URL = os.environ["INFERD_URL"]
MODEL = os.environ["INFERD_MODEL"]
KEY = os.environ.get("INFERD_KEY", "not-needed")

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=300)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Current weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
CALL = {"tools": [WEATHER], "tool_choice": "required", "max_output_tokens": 200, "input": "What is the weather in Paris?"}


class Answer(BaseModel):
    yes: bool
    count: int


def create(**options):
    return client.responses.create(**{"model": MODEL, "temperature": 0, "max_output_tokens": 12, "input": "Say hello.", **options})


def stream(**options):
    return client.responses.stream(**{"model": MODEL, "temperature": 0, "max_output_tokens": 12, "input": "Say hello.", **options})


class Responses(unittest.TestCase):
    def check_usage(self, usage):
        self.assertGreater(usage.input_tokens, 0)
        self.assertEqual(usage.total_tokens, usage.input_tokens + usage.output_tokens)
        self.assertLessEqual(usage.input_tokens_details.cached_tokens, usage.input_tokens)
        self.assertIsNotNone(usage.output_tokens_details.reasoning_tokens)

    def test_create(self):
        reply = create(metadata={"k": "v"}, instructions="Be brief.")
        self.assertTrue(reply.id.startswith("resp_"))
        self.assertEqual((reply.object, reply.model, reply.metadata), ("response", MODEL, {"k": "v"}))
        self.assertIn(reply.status, ("completed", "incomplete"))
        self.assertEqual([item.type for item in reply.output], ["message"])
        self.assertTrue(reply.output_text)
        self.assertEqual(reply.output[0].content[0].annotations, [])
        self.check_usage(reply.usage)

    def test_the_limit_makes_it_incomplete(self):
        reply = create(input="Tell me a very long story.", max_output_tokens=4)
        self.assertEqual((reply.status, reply.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        self.assertEqual(reply.usage.output_tokens, 4)

    def test_items_and_a_string_are_the_same(self):
        text = create().output_text
        self.assertEqual(create(input=[{"role": "user", "content": "Say hello."}]).output_text, text)
        self.assertEqual(create(input=[{"type": "message", "role": "user",
                                        "content": [{"type": "input_text", "text": "Say hello."}]}]).output_text, text)

    def test_stream(self):
        events = list(client.responses.create(model=MODEL, input="Say hello.", temperature=0, max_output_tokens=12, stream=True))
        kinds = [event.type for event in events]
        self.assertEqual(kinds[:4], ["response.created", "response.in_progress", "response.output_item.added",
                                     "response.content_part.added"])
        self.assertEqual(kinds[-4:-1], ["response.output_text.done", "response.content_part.done", "response.output_item.done"])
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        last = events[-1].response
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual((text, last.output_text), (last.output_text, create().output_text))
        self.check_usage(last.usage)

    def test_stream_helper(self):
        with stream(max_output_tokens=400) as events:
            texts = [event.snapshot for event in events if event.type == "response.output_text.delta"]
            reply = events.get_final_response()
        self.assertEqual((texts[-1], reply.status), (reply.output_text, "completed"))

    def test_tools(self):
        reply = create(**CALL)
        call = next(item for item in reply.output if item.type == "function_call")
        self.assertEqual(call.name, "get_weather")
        self.assertIn(json.loads(call.arguments), ({"city": "Paris"}, {"city": "Rome"}))
        after = [{"role": "user", "content": CALL["input"]}, *[item.model_dump(exclude_none=True) for item in reply.output],
                 {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 20 degrees"}]
        self.assertTrue(create(input=after, tools=[WEATHER]).output_text)
        by_id = create(input=after[-1:], previous_response_id=reply.id, tools=[WEATHER])
        self.assertEqual(by_id.previous_response_id, reply.id)

    def test_tools_streamed(self):
        with stream(**CALL) as events:
            seen = list(events)
            reply = events.get_final_response()
        call = next(item for item in reply.output if item.type == "function_call")
        deltas = [event for event in seen if event.type == "response.function_call_arguments.delta"]
        done = next(event for event in seen if event.type == "response.function_call_arguments.done")
        self.assertEqual("".join(event.delta for event in deltas), call.arguments)
        self.assertEqual((done.arguments, done.item_id), (call.arguments, call.id))

    def test_parse(self):
        reply = client.responses.parse(model=MODEL, input="Is 2 even? JSON.", temperature=0, max_output_tokens=100, text_format=Answer)
        self.assertIsInstance(reply.output_parsed, Answer)

    def test_chain(self):
        first = create(input="My name is Ada.")
        second = create(input="What is my name?", previous_response_id=first.id)
        spelt = create(input=[{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": first.output_text},
                              {"role": "user", "content": "What is my name?"}])
        self.assertEqual(second.usage.input_tokens, spelt.usage.input_tokens)
        self.assertEqual(second.output_text, spelt.output_text)
        self.assertEqual(client.responses.retrieve(second.id).output_text, second.output_text)
        self.assertEqual([item.content[0].text for item in client.responses.input_items.list(first.id)], ["My name is Ada."])
        client.responses.delete(first.id)
        with self.assertRaises(openai.NotFoundError):
            client.responses.retrieve(first.id)
        with self.assertRaises(openai.BadRequestError) as raised:
            create(previous_response_id=second.id)
        self.assertEqual(raised.exception.code, "previous_response_not_found")

    def test_errors(self):
        for options, param in (({"temperature": 9}, "temperature"), ({"background": True}, "background"),
                               ({"tools": [{"type": "web_search"}]}, "tools[0].type")):
            with self.assertRaises(openai.BadRequestError) as raised:
                create(**options)
            self.assertEqual(raised.exception.param, param)
        with self.assertRaises(openai.NotFoundError):
            create(model="no/such")
        with self.assertRaises(openai.BadRequestError):
            client.responses.cancel(create().id)


if __name__ == "__main__":
    unittest.main()
