"""openai-python, unmodified, against a running server: one test a row of the conformance list (specs 8.4).

The model is small, so the tests look at structure, counts and repeatability, not at wisdom.
"""

import base64
import json
import os
import struct
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
from openai import OpenAI
from pydantic import BaseModel

URL = os.environ["INFERD_URL"]
MODEL = os.environ["INFERD_MODEL"]
TEXT_MODEL = os.environ.get("INFERD_COMPLETION_MODEL", MODEL)
EMBEDDING_MODEL = os.environ.get("INFERD_EMBEDDING_MODEL", MODEL)
KEY = os.environ.get("INFERD_KEY", "not-needed")

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=300)
HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def chat(messages=HELLO, **options):
    options = {"model": MODEL, "temperature": 0, "max_tokens": 12, **options}
    return client.chat.completions.create(messages=messages, **options)


def complete(prompt="Once upon a time", **options):
    options = {"model": TEXT_MODEL, "temperature": 0, "max_tokens": 8, **options}
    return client.completions.create(prompt=prompt, **options)


class Chat(unittest.TestCase):
    def check_usage(self, usage):
        self.assertGreater(usage.prompt_tokens, 0)
        self.assertGreaterEqual(usage.completion_tokens, 0)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertIsNotNone(usage.prompt_tokens_details.cached_tokens)
        self.assertIsNotNone(usage.completion_tokens_details.reasoning_tokens)

    def test_create(self):
        reply = chat()
        self.assertEqual(reply.object, "chat.completion")
        self.assertRegex(reply.id, r"^chatcmpl-[0-9A-Za-z]{29}$")
        self.assertEqual(reply.model, MODEL)
        self.assertRegex(reply.system_fingerprint, r"^fp_[0-9a-f]{10}$")
        choice = reply.choices[0]
        self.assertEqual(choice.message.role, "assistant")
        self.assertTrue(choice.message.content)
        self.assertIsNone(choice.message.refusal)
        self.assertIsNone(choice.logprobs)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertLessEqual(reply.usage.completion_tokens, 12)
        self.check_usage(reply.usage)

    def test_length_is_told(self):
        reply = chat([{"role": "user", "content": "Count from one to one hundred."}], max_completion_tokens=3, max_tokens=9)
        self.assertEqual(reply.choices[0].finish_reason, "length")
        self.assertEqual(reply.usage.completion_tokens, 3)

    def test_stream(self):
        chunks = list(chat(stream=True))
        self.assertEqual({c.id for c in chunks}, {chunks[0].id})
        self.assertEqual({c.created for c in chunks}, {chunks[0].created})
        self.assertEqual({c.object for c in chunks}, {"chat.completion.chunk"})
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[0].choices[0].delta.content, "")
        self.assertEqual(chunks[-1].choices[0].delta.model_dump(exclude_none=True), {})
        self.assertIn(chunks[-1].choices[0].finish_reason, ("stop", "length"))
        self.assertTrue(all(c.choices[0].finish_reason is None for c in chunks[:-1]))
        self.assertTrue(all(c.usage is None for c in chunks))
        self.assert_agree(chat, lambda: chat(stream=True))

    def test_stream_include_usage(self):
        chunks = list(chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].choices, [])
        self.check_usage(chunks[-1].usage)
        self.assertTrue(all(c.usage is None for c in chunks[:-1]))
        self.assertEqual(chunks[-1].usage.completion_tokens, chat().usage.completion_tokens)

    def test_three_choices(self):
        reply = chat(n=3, temperature=1, seed=1)
        self.assertEqual([c.index for c in reply.choices], [0, 1, 2])
        self.assertTrue(all(c.finish_reason for c in reply.choices))
        self.assertGreater(reply.usage.completion_tokens, 3)
        seen, done = set(), set()
        for chunk in chat(n=3, temperature=1, seed=1, stream=True):
            seen.add(chunk.choices[0].index)
            if chunk.choices[0].finish_reason:
                done.add(chunk.choices[0].index)
        self.assertEqual((seen, done), ({0, 1, 2}, {0, 1, 2}))

    def test_stop_string_and_list(self):
        count = [{"role": "user", "content": "Write: 1, 2, 3, 4, 5, 6"}]
        whole = chat(count, max_tokens=40).choices[0].message.content
        stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
        for value in (stop, ["@@never@@", stop]):
            reply = chat(count, max_tokens=40, stop=value)
            self.assertEqual(reply.choices[0].message.content, whole[: whole.index(stop)])
            self.assertEqual(reply.choices[0].finish_reason, "stop")
        text = "".join(c.choices[0].delta.content or "" for c in chat(count, max_tokens=40, stop=stop, stream=True))
        self.assertEqual(text, whole[: whole.index(stop)])

    def test_logprobs(self):
        reply = chat(logprobs=True, top_logprobs=3)
        entries = reply.choices[0].logprobs.content
        self.assertIsNone(reply.choices[0].logprobs.refusal)
        self.assertLessEqual(abs(len(entries) - reply.usage.completion_tokens), 1)
        for entry in entries:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertEqual(entry.top_logprobs[0].token, entry.token)  # argmax
            self.assertEqual(bytes(entry.bytes).decode("utf-8", "replace"), entry.token)
        streamed = []
        for chunk in chat(logprobs=True, top_logprobs=3, stream=True):
            if chunk.choices[0].logprobs:
                streamed += chunk.choices[0].logprobs.content
        self.assertEqual([e.token for e in streamed], [e.token for e in entries])

    def assert_agree(self, *asks):
        """The same prompt twice: equal in length, and in its greedy text in one of three tries (see test_seed_repeats)."""
        for attempt in range(3):
            texts = []
            counts = set()
            for ask in asks:
                reply = ask()
                if isinstance(reply, openai.Stream):
                    texts.append("".join(c.choices[0].delta.content or "" for c in reply))
                else:
                    texts.append(reply.choices[0].message.content)
                    counts.add(reply.usage.prompt_tokens)
            self.assertEqual(len(counts), 1)
            if len(set(texts)) == 1:
                return
        self.fail(" and ".join(map(repr, texts)))

    def test_seed_repeats(self):
        options = {"temperature": 1.5, "max_tokens": 16}
        # A prompt that is cold, or whose cells lie elsewhere in the cache, is computed in another order, and rounding
        # then differs (log probabilities by up to 0.1 on this quantization): now and then another token is picked.
        # Without the seed all five would differ.
        replies = [chat(seed=42, **options).choices[0].message.content for _ in range(5)]
        same = max(set(replies), key=replies.count)
        self.assertGreaterEqual(replies.count(same), 3, replies)
        self.assertNotEqual(chat(seed=43, **options).choices[0].message.content, same)

    def test_logit_bias(self):
        entry = chat(logprobs=True, max_tokens=1).choices[0].logprobs.content[0]
        import urllib.request

        root = os.environ.get("INFERD_NATIVE_URL", URL.rsplit("/v1", 1)[0])
        data = json.dumps({"content": entry.token, "model": MODEL}).encode()
        request = urllib.request.Request(root + "/tokenize", data, {"Content-Type": "application/json"})
        tokens = json.load(urllib.request.urlopen(request))["tokens"]
        other = chat(logit_bias={str(t): -100 for t in tokens}, logprobs=True, max_tokens=1)
        self.assertNotEqual(other.choices[0].logprobs.content[0].token, entry.token)

    def check_call(self, message):
        call = message.tool_calls[0]
        self.assertEqual(call.type, "function")
        self.assertTrue(call.id)
        self.assertEqual(call.function.name, "get_weather")
        self.assertIn(json.loads(call.function.arguments)["city"], ("Paris", "Rome"))

    def test_tools_required_and_named(self):
        ask = [{"role": "user", "content": "What is the weather in Paris?"}]
        named = {"type": "function", "function": {"name": "get_weather"}}
        for choice in ("required", named):
            reply = chat(ask, tools=[WEATHER], tool_choice=choice, max_tokens=100)
            self.assertEqual(reply.choices[0].finish_reason, "tool_calls")
            self.check_call(reply.choices[0].message)

    def test_tools_auto_and_none(self):
        auto = chat(tools=[WEATHER], max_tokens=60)
        self.assertIn(auto.choices[0].finish_reason, ("stop", "length", "tool_calls"))
        none = chat(tools=[WEATHER], tool_choice="none")
        self.assertIsNone(none.choices[0].message.tool_calls)

    def test_tools_streamed(self):
        ask = [{"role": "user", "content": "What is the weather in Rome?"}]
        pieces, ids, finish = {}, {}, None
        for chunk in chat(ask, tools=[WEATHER], tool_choice="required", max_tokens=100, stream=True):
            finish = chunk.choices[0].finish_reason or finish
            for call in chunk.choices[0].delta.tool_calls or []:
                if call.id:
                    self.assertNotIn(call.index, ids)
                    ids[call.index] = call.id
                    self.assertEqual((call.type, call.function.name, call.function.arguments), ("function", "get_weather", ""))
                pieces[call.index] = pieces.get(call.index, "") + (call.function.arguments or "")
        self.assertEqual(finish, "tool_calls")
        self.assertIn(json.loads(pieces[0])["city"], ("Paris", "Rome"))

    def test_tool_result_round_trip(self):
        messages = [
            {"role": "user", "content": "Weather in Paris?"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ]
        self.assertTrue(chat(messages, tools=[WEATHER]).choices[0].finish_reason)

    def test_legacy_functions(self):
        reply = chat(functions=[WEATHER["function"]], function_call={"name": "get_weather"}, max_tokens=100)
        self.assertEqual(reply.choices[0].finish_reason, "function_call")
        self.assertEqual(reply.choices[0].message.function_call.name, "get_weather")
        json.loads(reply.choices[0].message.function_call.arguments)

    def test_parse_pydantic(self):
        class Answer(BaseModel):
            yes: bool
            count: int

        reply = client.chat.completions.parse(model=MODEL, temperature=0, max_tokens=100, response_format=Answer,
                                              messages=[{"role": "user", "content": "Is 2 even? JSON."}])
        self.assertIsInstance(reply.choices[0].message.parsed, Answer)

    def test_json_object(self):
        reply = chat([{"role": "user", "content": "Give me JSON with a name."}], response_format={"type": "json_object"},
                     max_tokens=400)
        if reply.choices[0].finish_reason == "stop":
            self.assertIsInstance(json.loads(reply.choices[0].message.content), dict)
        else:
            self.assertTrue(reply.choices[0].message.content.lstrip().startswith("{"))

    def test_developer_role_is_system(self):
        ask = {"role": "user", "content": "Hi"}
        as_system = chat([{"role": "system", "content": "Be brief."}, ask])
        as_developer = chat([{"role": "developer", "content": "Be brief."}, ask])
        self.assert_agree(lambda: chat([{"role": "developer", "content": "Be brief."}, ask]),
                          lambda: chat([{"role": "system", "content": "Be brief."}, ask]))
        self.assertEqual(as_developer.usage.prompt_tokens, as_system.usage.prompt_tokens)

    def test_content_parts(self):
        self.assert_agree(lambda: chat([{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]), chat)
        with self.assertRaises(openai.BadRequestError) as caught:
            chat([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}])
        self.assertEqual(caught.exception.param, "messages[0].content[0].image_url")

    def test_nulls_are_defaults(self):
        self.assert_agree(chat, lambda: chat(
            top_p=None, n=None, stop=None, stream=None, presence_penalty=None, frequency_penalty=None, seed=None,
            logit_bias=None, logprobs=None, tools=None, tool_choice=None, response_format=None, user=None))

    def test_prefix_is_cached(self):
        messages = [{"role": "system", "content": "You are a helpful assistant. " * 30}, *HELLO]
        chat(messages)
        self.assertGreater(chat(messages).usage.prompt_tokens_details.cached_tokens, 0)

    def test_abort_frees_the_server(self):
        stream = chat([{"role": "user", "content": "Write a very long story."}], stream=True, max_tokens=2000)
        next(iter(stream))
        stream.close()
        self.assertTrue(chat().choices[0].message.content)

    def test_timeout(self):
        with self.assertRaises(openai.APITimeoutError):
            chat([{"role": "user", "content": "Write a very long story."}], max_tokens=2000, timeout=0.05)


class Completions(unittest.TestCase):
    def test_string_array_and_tokens(self):
        one = complete()
        self.assertEqual(one.object, "text_completion")
        self.assertRegex(one.id, "^cmpl-")
        two = complete(["Once upon a time", "The capital of France is"], n=2)
        self.assertEqual([c.index for c in two.choices], [0, 1, 2, 3])
        self.assertTrue(one.choices[0].text)
        self.assertEqual(two.choices[0].text, two.choices[1].text)  # one prompt, argmax
        self.assertNotEqual(two.choices[1].text, two.choices[2].text)
        self.assertEqual(complete([1, 2, 3]).choices[0].index, 0)
        self.assertEqual(len(complete([[1, 2, 3], [4, 5]]).choices), 2)

    def test_stream(self):
        complete()  # both of the next find the same in the cache
        chunks = list(complete(stream=True, stream_options={"include_usage": True}))
        self.assertEqual({c.object for c in chunks}, {"text_completion"})
        self.assertEqual("".join(c.choices[0].text for c in chunks if c.choices), complete().choices[0].text)
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.total_tokens, 0)
        self.assertIn(chunks[-2].choices[0].finish_reason, ("stop", "length"))

    def test_echo_and_logprobs(self):
        reply = complete("The capital of France is", echo=True, logprobs=2, max_tokens=2)
        choice = reply.choices[0]
        self.assertTrue(choice.text.startswith("The capital of France is"))
        self.assertEqual("".join(choice.logprobs.tokens), choice.text)
        self.assertIsNone(choice.logprobs.token_logprobs[0])
        self.assertTrue(all(p <= 0 for p in choice.logprobs.token_logprobs[1:]))
        self.assertEqual(len(choice.logprobs.text_offset), len(choice.logprobs.tokens))

    def test_scoring(self):
        reply = complete("The capital of France is", echo=True, logprobs=1, max_tokens=0)
        self.assertEqual(reply.choices[0].text, "The capital of France is")
        self.assertEqual(reply.choices[0].finish_reason, "length")
        self.assertEqual(reply.usage.completion_tokens, 0)
        self.assertEqual(len(reply.choices[0].logprobs.tokens), reply.usage.prompt_tokens)

    def test_best_of(self):
        reply = complete(best_of=3, n=1, temperature=1, seed=3)
        self.assertEqual(len(reply.choices), 1)
        self.assertGreater(reply.usage.completion_tokens, 8)
        with self.assertRaises(openai.BadRequestError):
            complete(best_of=1, n=2)

    def test_suffix(self):
        try:
            self.assertIsNotNone(complete("def f(", suffix="return x").choices[0].text)
        except openai.BadRequestError as refusal:
            self.assertEqual((refusal.param, refusal.code), ("suffix", "not_supported"))


class Embeddings(unittest.TestCase):
    def embed(self, value, **options):
        return client.embeddings.create(model=EMBEDDING_MODEL, input=value, **options)

    def test_default_encoding_equals_float(self):
        default = self.embed("Hello world")  # the SDK asks for base64 and decodes
        plain = self.embed("Hello world", encoding_format="float")
        self.assertEqual(len(default.data[0].embedding), len(plain.data[0].embedding))
        for a, b in zip(default.data[0].embedding, plain.data[0].embedding):
            self.assertAlmostEqual(a, b, places=5)
        self.assertAlmostEqual(sum(x * x for x in plain.data[0].embedding), 1, places=4)
        self.assertEqual(default.usage.prompt_tokens, default.usage.total_tokens)
        raw = self.embed("Hello world", encoding_format="base64").data[0].embedding
        self.assertEqual(len(struct.unpack(f"<{len(plain.data[0].embedding)}f", base64.b64decode(raw))),
                         len(plain.data[0].embedding))

    def test_dimensions(self):
        size = len(self.embed("a").data[0].embedding)
        self.assertEqual(len(self.embed("a", dimensions=size).data[0].embedding), size)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.embed("a", dimensions=size - 1)
        self.assertEqual(caught.exception.param, "dimensions")

    def test_token_arrays_and_empty(self):
        self.assertEqual(len(self.embed([1, 2, 3]).data), 1)
        self.assertEqual([d.index for d in self.embed([[1, 2], [3]]).data], [0, 1])
        for empty in ("", [], ["a", ""]):
            with self.assertRaises(openai.BadRequestError):
                self.embed(empty)

    def test_2048_inputs(self):
        reply = self.embed([f"n{i % 50}" for i in range(2048)])
        self.assertEqual([d.index for d in reply.data], list(range(2048)))
        for a, b in zip(reply.data[0].embedding, reply.data[50].embedding):
            self.assertAlmostEqual(a, b, places=3)
        with self.assertRaises(openai.BadRequestError):
            self.embed(["a"] * 2049)


class Models(unittest.TestCase):
    def test_list_and_retrieve(self):
        ids = [m.id for m in client.models.list()]
        self.assertIn(MODEL, ids)
        model = client.models.retrieve(MODEL)  # the SDK escapes '/' and ':'
        self.assertEqual((model.id, model.object), (MODEL, "model"))
        self.assertTrue(model.owned_by and model.created)

    def test_unknown(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            client.models.retrieve("no/such:model")
        self.assertEqual(caught.exception.code, "model_not_found")


class Errors(unittest.TestCase):
    def test_bad_request(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(temperature=9)
        e = caught.exception
        self.assertEqual((e.status_code, e.code, e.param, e.type), (400, "invalid_parameters", "temperature", "invalid_request_error"))
        self.assertTrue(e.request_id)
        self.assertIn("between 0 and 2", e.message)

    def test_too_long(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat([{"role": "user", "content": "word " * 200000}])
        self.assertEqual(caught.exception.code, "context_length_exceeded")

    def test_not_found(self):
        with self.assertRaises(openai.NotFoundError):
            client.post("/nothing", cast_to=object)

    def test_unreachable(self):
        with self.assertRaises(openai.APIConnectionError):
            OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=0).models.list()

    def test_retry_follows_retry_after_ms(self):
        """A 429 in our dialect, then what the real server says: the SDK's side of the contract."""
        real = URL.rstrip("/")
        seen = []

        class Flaky(BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append(self.path)
                body = b'{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}'
                status = 429
                if len(seen) > 1:
                    import urllib.request

                    request = urllib.request.Request(real + "/models", headers={"Authorization": f"Bearer {KEY}"})
                    body, status = urllib.request.urlopen(request).read(), 200
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if status == 429:
                    self.send_header("retry-after-ms", "10")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/v1"
            self.assertTrue(list(OpenAI(base_url=url, api_key=KEY, max_retries=2).models.list()))
            self.assertEqual(len(seen), 2)
        finally:
            server.shutdown()
            server.server_close()


if __name__ == "__main__":
    unittest.main()
