"""POST /v1/batch, files and batches, on the fake engine."""
import contextlib
import json
import pathlib
import socket
import unittest

from harness import Server, fake_model

FAST = "tokens_per_second=5000"
SLOW = "tokens_per_second=20"


def ask(text="hi"):
    return {"messages": [{"role": "user", "content": text}]}


class Together(unittest.TestCase):
    def batch(self, server, requests, **more):
        return server.call("POST", "/v1/batch", {"model": "m", "requests": requests, "max_tokens": 4, **more})

    def running(self, server):
        return server.status("m").get("active_requests", 0)

    def test_the_documents_own_example(self):
        with Server() as server:
            fake_model(server.models, "gpt2", FAST)
            status, _, body = server.call("POST", "/v1/batch", {
                "model": "gpt2", "max_tokens": 50,
                "requests": [{"id": "req1", **ask("Hello")}, {"id": "req2", **ask("Goodbye")}]})
            self.assertEqual(status, 200)
            self.assertEqual(list(body), ["object", "responses"])
            self.assertEqual(body["object"], "batch_completion")
            self.assertEqual([r["id"] for r in body["responses"]], ["req1", "req2"])
            for one in body["responses"]:
                self.assertEqual(list(one), ["id", "choices", "usage"])
                self.assertTrue(one["choices"][0]["message"]["content"])
                self.assertGreater(one["usage"]["total_tokens"], 0)

    def test_defaults_overrides_prompts_and_order(self):
        with Server(config="\n[batch]\nmax_requests = 1000\n") as server:
            fake_model(server.models, "m", FAST)
            requests = [{"prompt": "a", "max_tokens": 3, "ignore_eos": True}, {**ask(), "max_tokens": 5, "n": 2}, {},
                        *({"id": f"x{i}", **ask(str(i))} for i in range(100))]
            status, _, body = self.batch(server, requests, ignore_eos=True, messages=ask("shared")["messages"])
            self.assertEqual(status, 200, body)
            first, second, third, *rest = body["responses"]
            self.assertEqual([r["id"] for r in body["responses"]], ["req-0", "req-1", "req-2", *(f"x{i}" for i in range(100))])
            self.assertIn("text", first["choices"][0])
            self.assertEqual(first["usage"]["completion_tokens"], 3)
            self.assertEqual(len(second["choices"]), 2)
            self.assertEqual(second["usage"]["completion_tokens"], 10)
            self.assertEqual(third["usage"]["completion_tokens"], 4)
            self.assertTrue(all(r["choices"] for r in rest))

    def test_a_bad_item_fails_itself(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            bad = [7, {}, {"id": 3, **ask()}, {"prompt": "a", **ask()}, {**ask(), "temperature": 9},
                   {**ask(), "model": "none"}]
            status, _, body = self.batch(server, [ask(), *bad])
            self.assertEqual(status, 200)
            good, *failed = body["responses"]
            self.assertIn("choices", good)
            self.assertEqual([list(f) for f in failed], [["id", "error"]] * len(bad))
            self.assertEqual([f["error"]["code"] for f in failed], ["invalid_parameters"] * 5 + ["model_not_found"])
            self.assertEqual(failed[4]["error"]["param"], "temperature")
            alone = server.call("POST", "/v1/chat/completions", {"model": "m", **bad[4]})[2]["error"]
            self.assertEqual(failed[4]["error"], alone)
            self.assertEqual(self.batch(server, [{}, 1])[0], 200)

    def test_the_whole_call_is_refused(self):
        with Server(config="\n[server]\nmax_body_mb = 1\n") as server:
            for requests, param in (([ask()] * 257, "requests"), ([], "requests"), (None, "requests"), (4, "requests"),
                                    ([{"id": "a", **ask()}] * 2, "requests[1].id"),
                                    ([{"id": "req-1", **ask()}, ask()], "requests[1].id"),
                                    ([ask(), {**ask(), "stream": True}], "requests[1].stream")):
                status, _, body = self.batch(server, requests)
                self.assertEqual((status, body["error"]["param"]), (400, param))
            self.assertEqual(self.batch(server, [ask()], stream=True)[2]["error"]["param"], "stream")
            self.assertEqual(server.call("POST", "/v1/batch", b"{")[0], 400)
            self.assertEqual(server.call("POST", "/v1/batch", b"[1]")[0], 400)
            self.assertEqual(self.batch(server, [ask("x" * (2 << 20))])[0], 413)

    def test_concurrency_is_bounded_and_a_client_that_leaves_cancels(self):
        with Server(config="\n[batch]\nconcurrency = 3\n") as server:
            fake_model(server.models, "m", SLOW)
            server.chat("m", max_tokens=1)
            data = json.dumps({"model": "m", "max_tokens": 2000, "ignore_eos": True, "requests": [ask()] * 50}).encode()
            with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as client:
                client.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
                server.until(lambda: sum(s["is_processing"] for s in server.slots()) == 3)
                self.assertEqual(self.running(server), 3)
            server.until(lambda: self.running(server) == 0)
            server.until(lambda: sum(s["is_processing"] for s in server.slots()) == 0)

    def test_items_are_charged_and_limits_are_waited_out(self):
        with Server(config="\n[security]\nrate_limit = 6000\nburst_limit = 3\n") as server:
            fake_model(server.models, "m", FAST)
            status, _, body = self.batch(server, [ask()] * 12, max_tokens=1)
            self.assertEqual(status, 200)
            self.assertTrue(all("choices" in r for r in body["responses"]), body)
            self.assertIn('inferno_rate_limited_total{limit="burst"}', server.call("GET", "/metrics")[2])


if __name__ == "__main__":
    unittest.main()
