"""Ollama's API over workers on the fake engine: its forms, bad input, faults, how long a model stays, downloads, rights; and
reranking by our own worker."""
import json
import os
import pathlib
import re
import signal
import unittest

from harness import DEADLINE, Server, Shared, Stream, fake_model
from hub import Hub, Repo

FAST = "tokens_per_second=5000"
SLOW = "tokens_per_second=50"
KEYS = '[auth]\nmanagement_keys = ["boss"]\nrequire_inference_auth = true\n'
LOCAL = {"INFERNO_LOCAL__ENABLED": "true", "INFERNO_LOCAL__PORT": "0"}
HELLO = [{"role": "user", "content": "hi"}]


def bearer(key):
    return {"Authorization": "Bearer " + key}


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def chat(server, **more):
    return server.call("POST", "/api/chat", {"model": "m", "messages": HELLO, "stream": False, "options": {"temperature": 0, "num_predict": 8}, **more})


def generate(server, **more):
    return server.call("POST", "/api/generate", {"model": "m", "prompt": "hi", "stream": False, "options": {"temperature": 0, "num_predict": 8}, **more})


def loaded(server):
    return {model["name"]: model for model in server.call("GET", "/api/ps")[2]["models"]}


def busy(server):
    return any(slot["is_processing"] for slot in server.slots())


class NDJSON(Stream):
    def lines(self):
        rest = b""
        for data in self.body():
            rest += data
            while b"\n" in rest:
                line, rest = rest.split(b"\n", 1)
                yield json.loads(line)


class Forms(Shared):
    def test_chat_is_chat_s_text(self):
        said = self.server.chat("m", max_tokens=8, temperature=0)[2]["choices"][0]["message"]["content"]
        status, headers, reply = chat(self.server)
        self.assertEqual(status, 200, reply)
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(reply["message"], {"role": "assistant", "content": said})
        self.assertEqual((reply["model"], reply["done"], reply["done_reason"], reply["eval_count"]), ("m", True, "length", 8))
        for name in ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_duration"):
            self.assertIsInstance(reply[name], int, name)

    def test_a_stream_is_the_default(self):
        status, headers, text = self.server.call("POST", "/api/chat", {"model": "m:latest", "messages": HELLO, "options": {"temperature": 0, "num_predict": 8}})
        self.assertEqual((status, headers["Content-Type"]), (200, "application/x-ndjson"))
        parts = lines(text)
        self.assertEqual([part["done"] for part in parts], [False] * (len(parts) - 1) + [True])
        self.assertEqual({part["model"] for part in parts}, {"m:latest"})
        self.assertEqual("".join(part["message"]["content"] for part in parts), chat(self.server)[2]["message"]["content"])
        self.assertEqual((parts[-1]["done_reason"], parts[-1]["eval_count"]), ("length", 8))
        self.assertIn("eval_duration", parts[-1])

    def test_generate(self):
        whole = generate(self.server)[2]
        self.assertEqual(whole["response"], chat(self.server)[2]["message"]["content"])
        parts = lines(generate(self.server, stream=True)[2])
        self.assertEqual("".join(part["response"] for part in parts), whole["response"])
        raw = self.server.call("POST", "/v1/completions", {"model": "m", "prompt": "hi", "temperature": 0, "max_tokens": 8})[2]
        self.assertEqual(generate(self.server, raw=True)[2]["response"], raw["choices"][0]["text"])

    def test_embed(self):
        both = self.server.call("POST", "/api/embed", {"model": "m", "input": ["a", "b"]})[2]
        one = self.server.call("POST", "/api/embed", {"model": "m", "input": "a"})[2]
        self.assertEqual((len(both["embeddings"]), both["embeddings"][0]), (2, one["embeddings"][0]))
        old = self.server.call("POST", "/api/embeddings", {"model": "m", "prompt": "a"})[2]
        self.assertEqual(old, {"embedding": one["embeddings"][0]})

    def test_tags_show_version(self):
        tags = self.server.call("GET", "/api/tags")[2]["models"]
        self.assertEqual([(tag["name"], tag["details"]["family"]) for tag in tags], [("m", "fake")])
        shown = self.server.call("POST", "/api/show", {"name": "m:latest"})[2]
        self.assertEqual(shown["model_info"]["general.architecture"], "fake")
        self.assertEqual(shown["details"]["format"], "gguf")
        self.assertRegex(self.server.call("GET", "/api/version")[2]["version"], r"^\d+\.\d+")

    def test_what_is_not_here_says_so(self):
        for path in ("/api/copy", "/api/create"):
            status, _, reply = self.server.call("POST", path, {})
            self.assertEqual((status, list(reply)), (501, ["error"]))


class BadInput(Shared):
    def check(self, path, body, status, word):
        got, _, reply = self.server.call("POST", path, body)
        self.assertEqual((got, list(reply)), (status, ["error"]), (body, reply))
        self.assertIn(word, reply["error"], body)

    def test_fields(self):
        more = {"model": "m", "messages": HELLO}
        for wrong, word in (
                ({"model": 1}, "'model'"), ({"messages": "x"}, "'messages'"), ({"messages": [1]}, "'messages[0]'"),
                ({"messages": [{"role": "robot"}]}, "'messages[0].role'"),
                ({"messages": [{"role": "user", "content": 1}]}, "'messages[0].content'"),
                ({"messages": [{"role": "user", "content": "x", "images": ["????"]}]}, "'messages[0].images[0]'"),
                ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}, "'messages[0].tool_calls'"),
                ({"messages": [{"role": "tool", "content": "x"}]}, "'messages[0].tool_name'"),
                ({"tools": {}}, "'tools'"), ({"stream": 1}, "'stream'"), ({"format": "xml"}, "'format'"),
                ({"think": 3}, "'think'"), ({"keep_alive": "soon"}, "'keep_alive'"), ({"keep_alive": []}, "'keep_alive'"),
                ({"options": []}, "'options'"), ({"options": {"temperature": 9}}, "'options.temperature'"),
                ({"options": {"num_predict": "x"}}, "'options.num_predict'"), ({"options": {"stop": 1}}, "'options.stop'"),
                ({"options": {"mirostat": 3}}, "'options.mirostat'")):
            self.check("/api/chat", {**more, **wrong}, 400, word)
        for wrong, word in (({"prompt": 1}, "'prompt'"), ({"template": "{{x}}"}, "'template'"), ({"raw": 1}, "'raw'"),
                            ({"raw": True, "system": "x"}, "'system'"), ({"context": 1}, "'context'")):
            self.check("/api/generate", {"model": "m", "prompt": "x", **wrong}, 400, word)
        self.check("/api/embed", {"model": "m", "input": 1}, 400, "'input'")
        self.check("/api/embed", {"model": "m", "input": "x", "dimensions": 0}, 400, "'dimensions'")
        for path in ("/api/show", "/api/pull"):
            self.check(path, {}, 400, "'model'")
            self.check(path, "{", 400, "JSON")
        self.check("/api/pull", {"model": "llama3"}, 400, "hf.co/")

    def test_unknown_models(self):
        for path, more in (("/api/chat", {"messages": HELLO}), ("/api/generate", {"prompt": "x"}), ("/api/embed", {"input": "x"}),
                           ("/api/show", {}), ("/api/generate", {"keep_alive": 0})):
            self.check(path, {"model": "none", **more}, 404, "none")


class Faults(Shared):
    settings = SLOW

    def stream(self):
        return NDJSON(self.server.port, "/api/chat", {"model": "m", "messages": HELLO, "options": {"num_predict": 5000}})

    def test_a_client_that_leaves_frees_the_slot(self):
        stream = self.stream()
        next(stream.lines())
        self.assertTrue(busy(self.server))
        stream.close()
        self.server.until(lambda: not busy(self.server))

    def test_a_worker_that_dies_is_the_last_line(self):
        with Server() as server:
            fake_model(server.models, "m", SLOW)
            stream = NDJSON(server.port, "/api/chat", {"model": "m", "messages": HELLO, "options": {"num_predict": 5000}})
            told = stream.lines()
            self.assertFalse(next(told)["done"])
            os.kill(next(i["pid"] for i in [server.status("m")]), signal.SIGKILL)
            last = list(told)[-1]
            self.assertEqual(list(last), ["error"])
            stream.close()


class Life(unittest.TestCase):
    def test_keep_alive(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            self.assertEqual(generate(server, prompt="")[2]["done_reason"], "load")
            self.assertIn("m", loaded(server))
            chat(server, keep_alive="5m")
            self.assertIn("expires_at", loaded(server)["m"])
            chat(server, keep_alive=-1)
            self.assertNotIn("expires_at", loaded(server)["m"])
            chat(server, keep_alive="90s")
            self.assertIn("expires_at", loaded(server)["m"])
            chat(server, keep_alive=0)
            server.until(lambda: not loaded(server))
            chat(server)
            self.assertEqual(generate(server, prompt="", keep_alive=0)[2]["done_reason"], "unload")
            server.until(lambda: not loaded(server))

    def test_others_are_not_cut_off(self):
        with Server() as server:
            fake_model(server.models, "m", SLOW)
            stream = NDJSON(server.port, "/api/chat", {"model": "m", "messages": HELLO, "options": {"num_predict": 40}})
            told = stream.lines()
            next(told)
            self.assertEqual(generate(server, prompt="", keep_alive=0)[0], 200)
            self.assertEqual(list(told)[-1]["done_reason"], "length")
            stream.close()
            server.until(lambda: not loaded(server))


class Store(unittest.TestCase):
    def server(self, hub, **more):
        return Server(env={"HF_ENDPOINT": hub.url, **more})

    def repo(self, server_folder):
        data = fake_model(server_folder, "tiny-Q8_0", FAST).read_bytes()
        (pathlib.Path(server_folder) / "tiny-Q8_0.gguf").unlink()
        return Repo({"tiny-Q8_0.gguf": data})

    def test_pull_use_delete(self):
        repos = {}
        with Hub(repos) as hub, self.server(hub) as server:
            repos["org/tiny-GGUF"] = self.repo(server.folder)
            status, headers, text = server.call("POST", "/api/pull", {"model": "hf.co/org/tiny-GGUF:Q8_0"})
            self.assertEqual((status, headers["Content-Type"]), (200, "application/x-ndjson"))
            told = [line["status"] for line in lines(text)]
            self.assertEqual((told[0], told[-1]), ("pulling manifest", "success"), text)
            for name in ("hf.co/org/tiny-GGUF:Q8_0", "tiny-Q8_0"):
                self.assertEqual(chat(server, model=name)[0], 200, name)
            self.assertEqual(server.call("POST", "/api/pull", {"model": "org/tiny-GGUF:Q8_0", "stream": False})[2], {"status": "success"})
            self.assertEqual(server.call("DELETE", "/api/delete", {"model": "tiny-Q8_0"})[0], 200)
            self.assertEqual(server.call("GET", "/api/tags")[2]["models"], [])
            self.assertEqual(server.call("DELETE", "/api/delete", {"model": "tiny-Q8_0"})[0], 404)

    def test_a_pull_that_fails_says_so(self):
        with Hub({}) as hub, self.server(hub) as server:
            last = lines(server.call("POST", "/api/pull", {"model": "org/none"})[2])[-1]
            self.assertEqual(list(last), ["error"])
            status, _, reply = server.call("POST", "/api/pull", {"model": "org/none", "stream": False})
            self.assertEqual((status, list(reply)), (502, ["error"]))

    def test_leaving_cancels(self):
        repos = {}
        with Hub(repos) as hub, self.server(hub) as server:
            repos["org/tiny-GGUF"] = self.repo(server.folder)
            hub.faults["tiny-Q8_0.gguf"] = [{"hold": 10}]
            stream = NDJSON(server.port, "/api/pull", {"model": "org/tiny-GGUF"})
            self.assertEqual(next(stream.lines())["status"], "pulling manifest")
            hub.held("tiny-Q8_0.gguf")
            progress = next(line for line in stream.lines() if "total" in line)
            self.assertEqual(progress["status"], "pulling tiny-Q8_0.gguf")
            self.assertEqual(progress["digest"], "sha256:" + repos["org/tiny-GGUF"].hash("tiny-Q8_0.gguf"))
            self.assertEqual(progress["total"], len(repos["org/tiny-GGUF"].files["tiny-Q8_0.gguf"]))
            stream.close()
            server.until(lambda: server.call("GET", "/api/v1/models/jobs")[2]["jobs"][0]["status"] == "cancelled")

    def test_a_server_that_ends_says_so(self):
        repos = {}
        with Hub(repos) as hub, self.server(hub) as server:
            repos["org/tiny-GGUF"] = self.repo(server.folder)
            hub.faults["tiny-Q8_0.gguf"] = [{"hold": 10}]
            stream = NDJSON(server.port, "/api/pull", {"model": "org/tiny-GGUF"})
            told = stream.lines()
            next(told)
            hub.held("tiny-Q8_0.gguf")
            server.process.send_signal(signal.SIGTERM)
            self.assertIn("shutting down", list(told)[-1]["error"])
            stream.close()
            hub.release()
            self.assertEqual(server.process.wait(DEADLINE), 0)

    def test_leaving_spares_a_download_of_others(self):
        repos = {}
        with Hub(repos) as hub, self.server(hub) as server:
            repos["org/tiny-GGUF"] = self.repo(server.folder)
            hub.faults["tiny-Q8_0.gguf"] = [{"hold": 10}]
            self.assertEqual(server.call("POST", "/api/v1/models/download", {"repo": "org/tiny-GGUF"})[0], 202)
            stream = NDJSON(server.port, "/api/pull", {"model": "org/tiny-GGUF"})
            self.assertEqual(next(stream.lines())["status"], "pulling manifest")
            hub.held("tiny-Q8_0.gguf")
            stream.close()
            server.call("GET", "/health") # a turn of the loop, which has seen the client leave
            hub.release()
            server.until(lambda: server.call("GET", "/api/v1/models/jobs")[2]["jobs"][0]["status"] == "completed")

    def test_delete_stays_below_models_dir(self):
        with Server() as server:
            outside = fake_model(os.path.join(server.folder, "outside"), "far", FAST)
            (server.models / "below").symlink_to(outside.parent)
            status, _, reply = server.call("DELETE", "/api/delete", {"model": "far"})
            self.assertEqual((status, outside.exists()), (400, True), reply)


class Rerank(unittest.TestCase):
    def test_a_cross_encoder_and_others(self):
        with Server() as server:
            fake_model(server.models, "ranker", FAST + ",rank=1")
            fake_model(server.models, "m", FAST)
            body = {"query": "abc", "documents": ["xyz", {"text": "cab"}, "axyz"]}
            for path in ("/v1/rerank", "/v1/reranking", "/rerank"):
                status, _, reply = server.call("POST", path, {"model": "ranker", **body})
                self.assertEqual(status, 200, reply)
                self.assertEqual(reply["results"], [{"index": 1, "relevance_score": 1}, {"index": 2, "relevance_score": 0.25},
                                                    {"index": 0, "relevance_score": 0}])
                self.assertEqual(reply["usage"], {"prompt_tokens": 28, "total_tokens": 28})
            reply = server.call("POST", "/v1/rerank", {"model": "ranker", "top_n": 1, "return_documents": True, **body})[2]
            self.assertEqual(reply["results"], [{"index": 1, "relevance_score": 1, "document": {"text": "cab"}}])
            status, _, reply = server.call("POST", "/v1/rerank", {"model": "m", **body})
            self.assertEqual((status, reply["error"]["code"], reply["error"]["param"]), (400, "not_supported", "model"))
            status, _, reply = server.call("POST", "/v1/rerank", {"model": "ranker", "query": "q", "documents": ["x" * 5000]})
            self.assertEqual((status, reply["error"]["param"]), (400, "documents[0]"))
            self.assertEqual(server.call("POST", "/v1/embeddings", {"model": "ranker", "input": "x"})[0], 400)


class Rights(unittest.TestCase):
    def test_on_both_listeners(self):
        with Server(config=KEYS, env=LOCAL) as server:
            fake_model(server.models, "m", FAST)
            reader = server.call("POST", "/api/v1/auth/keys", {"name": "reader", "permission_mode": "allow_all"}, bearer("boss"))[2]
            local = int(re.search(r"clients  url=http://127.0.0.1:(\d+)", server.log.wait("listening for local clients")).group(1))
            main = server.port
            body = {"model": "m", "messages": HELLO, "stream": False, "options": {"num_predict": 2}}
            for port, key, chats in ((main, None, 401), (local, None, 401), (local, "anything", 200), (main, reader["key"], 200), (main, "boss", 200)):
                server.port = port
                headers = bearer(key) if key else None
                self.assertEqual(server.call("POST", "/api/chat", body, headers)[0], chats, (port, key))
                self.assertEqual(server.call("GET", "/api/tags", None, headers)[0], chats, (port, key))
                self.assertEqual(server.call("GET", "/api/version", None, headers)[0], 200)
                manages = key == "boss"
                for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/copy")):
                    status, _, reply = server.call(method, path, {"model": "none"}, headers)
                    self.assertEqual(status in (401, 403), not manages, (port, key, path, reply))
                    self.assertEqual(list(reply), ["error"])


if __name__ == "__main__":
    unittest.main()
