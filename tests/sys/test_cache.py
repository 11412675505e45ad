"""The cache of replies (specs/inferno.md 7.1) on the fake engine."""
import concurrent.futures
import contextlib
import json
import os
import signal
import unittest

from harness import Server, fake_model

ON = "\n[response_cache]\nenabled = true\n"
FAST = "tokens_per_second=5000"


def answer(reply):
    return reply[1].get("X-Inferno-Cache"), reply[2]


class Cache(unittest.TestCase):
    def test_off_unless_asked_for(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            self.assertIsNone(answer(server.chat("m", temperature=0))[0])

    def test_the_same_reply_from_the_cache(self):
        with Server(config=ON) as server:
            fake_model(server.models, "m", FAST)
            first, again = (server.chat("m", temperature=0, max_tokens=9) for _ in range(2))
            self.assertEqual((answer(first)[0], answer(again)[0]), ("MISS", "HIT"))
            self.assertEqual(first[2], again[2])
            self.assertIn("Age", again[1])
            self.assertEqual(answer(server.chat("m.gguf", temperature=0, max_tokens=9, user="u"))[0], "HIT")
            self.assertEqual(answer(server.chat("m", temperature=0, max_tokens=8))[0], "MISS")
            self.assertEqual(answer(server.chat("m", max_tokens=9))[0], "BYPASS")
            metrics = server.call("GET", "/metrics")[2]
            self.assertIn("inferno_cache_hits_total 2\n", metrics)
            self.assertIn("inferno_cache_misses_total 2\n", metrics)

    def test_streams_are_replayed_event_by_event(self):
        with Server(config=ON) as server:
            fake_model(server.models, "m", FAST)
            seen = []
            for _ in range(2):
                with contextlib.closing(server.stream("m", temperature=0, max_tokens=9,
                                                      stream_options={"include_usage": True})) as stream:
                    seen.append((list(stream.events()), stream.headers.get("x-inferno-cache"),
                                 stream.headers["content-type"]))
            self.assertEqual(seen[0][0], seen[1][0])
            self.assertEqual([s[1] for s in seen], ["MISS", "HIT"])
            self.assertEqual(seen[1][2], "text/event-stream")
            self.assertIn("usage", seen[1][0][-2])

    def test_headers_go_around_it(self):
        with Server(config=ON) as server:
            fake_model(server.models, "m", FAST)
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}

            def ask(**headers):
                return server.call("POST", "/v1/chat/completions", body, headers)[1]["X-Inferno-Cache"]
            self.assertEqual(ask(), "MISS")
            self.assertEqual(ask(**{"Cache-Control": "no-store"}), "BYPASS")
            self.assertEqual(ask(**{"X-Inferno-Cache": "off"}), "BYPASS")
            self.assertEqual(ask(**{"Cache-Control": "no-cache"}), "MISS")
            self.assertEqual(ask(), "HIT")

    def test_requests_at_once_are_computed_once(self):
        with Server(config=ON) as server:
            fake_model(server.models, "m", "tokens_per_second=100")
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                replies = list(pool.map(lambda _: server.chat("m", temperature=0, max_tokens=30), range(8)))
            self.assertEqual(len({r[2]["id"] for r in replies}), 1)
            self.assertIn('inferd_instance_requests_total{instance="m"} 1\n', server.call("GET", "/metrics")[2])

    def test_a_leader_that_leaves_or_fails_hands_over(self):
        with Server(config=ON) as server:
            fake_model(server.models, "m", "tokens_per_second=100")
            ask = {"temperature": 0, "max_tokens": 60, "ignore_eos": True}
            leader = server.connection()
            leader.request("POST", "/v1/chat/completions", json.dumps(
                {"model": "m", "messages": [{"role": "user", "content": "hi"}], **ask}),
                {"Content-Type": "application/json"})
            server.until(lambda: server.status("m")["active_requests"] == 1)
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                followers = [pool.submit(server.chat, "m", **ask) for _ in range(2)]
                server.until(lambda: 'inferno_cache_misses_total 3\n' in server.call("GET", "/metrics")[2])
                leader.sock.close()
                self.assertEqual([f.result()[0] for f in followers], [200, 200])

    def test_a_new_process_answers_anew_and_errors_are_not_kept(self):
        with Server(config=ON) as server:
            fake_model(server.models, "m", FAST)
            self.assertEqual(answer(server.chat("m", temperature=0))[0], "MISS")
            self.assertEqual(answer(server.chat("m", temperature=0))[0], "HIT")
            server.call("POST", "/v1/models/m/unload")
            self.assertEqual(answer(server.chat("m", temperature=0))[0], "HIT")
            server.call("POST", "/v1/models/m/load")
            self.assertEqual(answer(server.chat("m", temperature=0))[0], "MISS")
            for _ in range(2):
                reply = server.chat("m", temperature=0, top_p=7)
                self.assertEqual((reply[0], answer(reply)[0]), (400, "MISS"))

    def test_a_stream_that_broke_off_is_not_kept(self):
        with Server(config=ON) as server:
            fake_model(server.models, "m", "tokens_per_second=50")
            with contextlib.closing(server.stream("m", temperature=0, max_tokens=300)) as stream:
                stream.first_text()
                killed = server.status("m")["pid"]
                os.kill(killed, signal.SIGKILL)
                with self.assertRaises((EOFError, OSError)):
                    list(stream.events())
            server.until(lambda: server.status("m").get("pid") != killed)
            with contextlib.closing(server.stream("m", temperature=0, max_tokens=300)) as stream:
                stream.first_text()
                self.assertEqual(stream.headers["x-inferno-cache"], "MISS")

    def test_embeddings(self):
        with Server(config=ON) as server:
            fake_model(server.models, "m", FAST)
            body = {"model": "m", "input": "hello"}
            self.assertEqual([server.call("POST", "/v1/embeddings", body)[1]["X-Inferno-Cache"] for _ in range(2)],
                             ["MISS", "HIT"])


if __name__ == "__main__":
    unittest.main()
