"""ollama-python, unmodified, against the listener for local clients (INFERD_LOCAL_URL) or a running server."""

import os
import unittest

import ollama

URL = os.environ.get("INFERD_LOCAL_URL") or os.environ["INFERD_URL"].removesuffix("/").removesuffix("/v1")
MODEL = os.environ["INFERD_MODEL"]
EMBEDDING_MODEL = os.environ.get("INFERD_EMBEDDING_MODEL", MODEL)
KEY = os.environ.get("INFERD_KEY", "not-needed")

client = ollama.Client(host=URL, headers={"Authorization": "Bearer " + KEY}, timeout=300)
HELLO = [{"role": "user", "content": "Say hello."}]
SHORT = {"temperature": 0, "num_predict": 12}
ANSWER = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}


def get_weather(city: str) -> str:
    """Current weather of a city.

    Args:
        city: its name
    """
    return "Sunny in " + city


def chat(**more):
    return client.chat(**{"model": MODEL, "messages": HELLO, "options": SHORT, **more})


def generate(**more):
    return client.generate(**{"model": MODEL, "prompt": "Say hello.", "options": SHORT, **more})


class Chat(unittest.TestCase):
    def test_whole(self):
        reply = chat()
        self.assertEqual((reply.model, reply.message.role, reply.done), (MODEL, "assistant", True))
        self.assertTrue(reply.message.content)
        self.assertIn(reply.done_reason, ("stop", "length"))
        self.assertGreater(reply.prompt_eval_count, 0)
        self.assertGreater(reply.eval_count, 0)
        self.assertGreater(reply.total_duration, reply.eval_duration)

    def test_streamed(self):
        parts = list(chat(stream=True))
        self.assertEqual("".join(part.message.content for part in parts), chat().message.content)
        self.assertEqual([part.done for part in parts], [False] * (len(parts) - 1) + [True])
        self.assertGreater(parts[-1].eval_count, 0)

    def test_latest_is_the_model_itself(self):
        self.assertEqual(chat(model=MODEL + ":latest").message.content, chat().message.content)

    def test_tools(self):
        reply = chat(messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[get_weather],
                     options={"temperature": 0, "num_predict": 100})
        for call in reply.message.tool_calls or []:
            self.assertEqual(call.function.name, "get_weather")
            self.assertIsInstance(call.function.arguments, dict)
        after = [
            {"role": "user", "content": "What is the weather in Paris?"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]},
            {"role": "tool", "tool_name": "get_weather", "content": get_weather("Paris")},
        ]
        self.assertTrue(chat(messages=after, tools=[get_weather]).done)

    def test_a_schema(self):
        reply = chat(format=ANSWER, options={"temperature": 0, "num_predict": 100})
        self.assertRegex(reply.message.content, r'^\s*\{\s*"yes"\s*:\s*(true|false)\s*\}\s*$')

    def test_an_error(self):
        with self.assertRaises(ollama.ResponseError) as raised:
            chat(model="no-such-model")
        self.assertEqual(raised.exception.status_code, 404)
        self.assertIn("no-such-model", raised.exception.error)

    def test_an_error_of_a_stream(self):
        with self.assertRaises(ollama.ResponseError) as raised:
            list(chat(options={"temperature": -1}, stream=True))
        self.assertEqual(raised.exception.status_code, 400)
        self.assertIn("options.temperature", raised.exception.error)


class Generate(unittest.TestCase):
    def test_whole_and_streamed(self):
        reply = generate()
        self.assertTrue(reply.response and reply.done)
        self.assertEqual("".join(part.response for part in generate(stream=True)), reply.response)

    def test_raw(self):
        self.assertTrue(generate(prompt="One, two,", raw=True).response)

    def test_load(self):
        self.assertEqual(generate(prompt="").done_reason, "load")


class Models(unittest.TestCase):
    def test_embed(self):
        one, two = client.embed(EMBEDDING_MODEL, ["a", "b"]).embeddings
        self.assertEqual(len(one), len(two))
        self.assertNotEqual(one, two)
        self.assertEqual(client.embed(EMBEDDING_MODEL, "a").embeddings[0], one)
        self.assertEqual(list(client.embeddings(EMBEDDING_MODEL, "a").embedding), list(one))

    def test_list(self):
        found = next(m for m in client.list().models if m.model == MODEL)
        self.assertGreater(found.size, 0)
        self.assertEqual(found.details.format, "gguf")

    def test_show(self):
        shown = client.show(MODEL)
        self.assertIn("completion", shown.capabilities)
        self.assertEqual(shown.modelinfo["general.architecture"], shown.details.family)
        self.assertTrue(shown.template)

    def test_ps(self):
        chat(keep_alive="10m")
        loaded = next(m for m in client.ps().models if m.model == MODEL)
        self.assertGreater(loaded.size, 0)
        self.assertIsNotNone(loaded.expires_at)

    def test_pull_says_what_can_be_pulled(self):
        with self.assertRaises(ollama.ResponseError) as raised:
            client.pull("llama3")
        self.assertIn("hf.co/", raised.exception.error)

    @unittest.skipUnless("INFERD_LOCAL_URL" in os.environ, "deletes a file")
    def test_delete(self):
        self.assertEqual(client.delete("unwanted-python").status, "success")
        self.assertNotIn("unwanted-python", [m.model for m in client.list().models])
        with self.assertRaises(ollama.ResponseError) as raised:
            client.delete("unwanted-python")
        self.assertEqual(raised.exception.status_code, 404)


if __name__ == "__main__":
    unittest.main()
