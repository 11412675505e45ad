"""Limits at the door and the counters behind it, on the fake engine."""
import contextlib
import json
import os
import re
import signal
import subprocess
import unittest

from harness import Server, fake_model

FAST = "tokens_per_second=5000"


def headers(reply):
    return {k.lower(): v for k, v in reply[1].items()}


class Limits(unittest.TestCase):
    def ask(self, server, **more):
        return server.call("POST", "/v1/chat/completions",
                           {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, **more})

    def test_the_101st_of_a_burst_is_refused_and_says_when_to_come_back(self):
        with Server(config="\n[security]\nrate_limit = 1000\nburst_limit = 100\n") as server:
            fake_model(server.models, "m", FAST)
            replies = [server.call("GET", "/v1/models") for _ in range(100)]
            self.assertEqual({r[0] for r in replies}, {200})
            self.assertEqual([int(headers(r)["x-ratelimit-remaining"]) for r in replies],
                             list(range(999, 899, -1)))
            self.assertEqual(headers(replies[0])["x-ratelimit-limit"], "1000")
            self.assertEqual(headers(replies[0])["x-ratelimit-limit-requests"], "1000")
            self.assertRegex(headers(replies[0])["x-ratelimit-reset-requests"], r"^(1m0s|\d+s)$")
            reset = int(headers(replies[0])["x-ratelimit-reset"])
            self.assertEqual(server.call("GET", "/health")[0], 200)
            refused = self.refused(server)
            self.assertEqual(refused[2]["error"]["code"], "rate_limit_exceeded")
            self.assertEqual(refused[2]["error"]["type"], "rate_limit_error")
            self.assertEqual(refused[2]["error"]["details"]["kind"], "burst")
            self.assertIn("retry-after", headers(refused))
            self.assertLessEqual(abs(int(headers(refused)["x-ratelimit-reset"]) - reset), 1)
            self.assertIn('inferno_rate_limited_total{limit="burst"}', server.call("GET", "/metrics")[2])

    def refused(self, server):
        for _ in range(200):  # the bucket refills one request in 60 ms
            reply = server.call("GET", "/v1/models")
            if reply[0] == 429:
                return reply
        raise AssertionError("nothing was refused")

    def test_tokens_are_charged_once_they_are_known(self):
        with Server(config="\n[security]\ntokens_per_minute = 20\n") as server:
            fake_model(server.models, "m", FAST)
            first = self.ask(server, max_tokens=30, ignore_eos=True)
            self.assertEqual(first[0], 200)
            self.assertEqual(headers(first)["x-ratelimit-remaining-tokens"], "20")
            second = self.ask(server)
            self.assertEqual(second[0], 429)
            self.assertEqual(second[2]["error"]["details"]["kind"], "tokens")

    def test_streams_are_charged_without_asking_for_usage(self):
        with Server(config="\n[security]\ntokens_per_minute = 20\n") as server:
            fake_model(server.models, "m", FAST)
            with contextlib.closing(server.stream("m", max_tokens=30, ignore_eos=True)) as stream:
                events = list(stream.events())
            self.assertFalse(any("usage" in e for e in events))
            self.assertEqual(self.ask(server)[0], 429)

    def test_requests_at_once(self):
        with Server(config="\n[security]\nconcurrent_requests = 1\n") as server:
            fake_model(server.models, "m", "tokens_per_second=20")
            with contextlib.closing(server.stream("m", max_tokens=2000)) as stream:
                stream.first_text()
                refused = server.call("GET", "/v1/models")
                self.assertEqual(refused[0], 429)
                self.assertEqual(refused[2]["error"]["details"]["kind"], "concurrent")
            server.until(lambda: server.call("GET", "/v1/models")[0] == 200)

    def test_behind_a_trusted_proxy_each_client_counts_for_itself(self):
        config = "\n[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n[security]\nrate_limit = 2\n"
        with Server(config=config) as server:
            def status(client):
                return server.call("GET", "/v1/models", headers={"X-Forwarded-For": client})[0]
            self.assertEqual([status("203.0.113.1") for _ in range(3)], [200, 200, 429])
            self.assertEqual(status("203.0.113.2"), 200)

    def test_forwarded_headers_of_strangers_are_not_believed(self):
        with Server(config="\n[security]\nrate_limit = 2\n") as server:
            replies = [server.call("GET", "/v1/models", headers={"X-Forwarded-For": f"203.0.113.{i}"})[0]
                       for i in range(3)]
            self.assertEqual(replies, [200, 200, 429])

    def test_a_wrong_proxy_is_named_at_the_start(self):
        with Server(config="\n[server]\ntrusted_proxies = [\"lo\"]\n", wait=False) as server:
            self.assertEqual(server.process.wait(20), 3)
            self.assertIn("trusted_proxies: 'lo'", server.log.text())


class Counters(unittest.TestCase):
    @staticmethod
    def values(server):
        text = server.call("GET", "/metrics")[2]
        return {m[1]: float(m[2]) for m in re.finditer(r"^(\S+(?:\{.*\})?) (\S+)$", text, re.M)}

    def test_counters_equal_a_scripted_workload(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            prompt = completion = 0
            for i in range(5):
                usage = server.chat("m", content="word " * (i + 1), max_tokens=i + 1)[2]["usage"]
                prompt += usage["prompt_tokens"]
                completion += usage["completion_tokens"]
            with contextlib.closing(server.stream("m", max_tokens=3, stream_options={"include_usage": True})) as stream:
                usage = json.loads(list(stream.events())[-2])["usage"]
            prompt += usage["prompt_tokens"]
            completion += usage["completion_tokens"]
            self.assertEqual(server.chat("nobody")[0], 404)
            self.assertEqual(server.chat("m", max_tokens=-1)[0], 400)
            seen = self.values(server)
            self.assertEqual(seen['inferno_requests_total{model="m",endpoint="chat",status="200"}'], 6)
            self.assertEqual(seen['inferno_requests_total{model="m",endpoint="chat",status="400"}'], 1)
            self.assertEqual(seen['inferno_requests_total{model="other",endpoint="chat",status="404"}'], 1)
            self.assertEqual(seen['inferno_prompt_tokens_total{model="m"}'], prompt)
            self.assertEqual(seen['inferno_tokens_generated_total{model="m"}'], completion)
            self.assertEqual(seen['inferno_time_to_first_token_seconds_count{model="m"}'], 1)
            self.assertEqual(seen['inferno_request_duration_seconds_count{endpoint="chat"}'], 8)
            self.assertEqual(seen['inferno_request_duration_seconds_bucket{endpoint="chat",le="+Inf"}'], 8)

    def test_promtool_finds_nothing_to_say(self):
        with Server(config="\n[response_cache]\nenabled = true\n[security]\nrate_limit = 1000\n") as server:
            fake_model(server.models, "m", FAST)
            fake_model(server.models, 'a "strange" name', FAST)
            for name in ("m", 'a "strange" name', "nobody"):
                server.chat(name, temperature=0)
            text = server.call("GET", "/metrics")[2]
            done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True,
                                  timeout=30, check=False)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
            values = self.values(server)
            self.assertEqual(values['inferno_model_loaded{model="m"}'], 1)
            self.assertGreater(values['inferno_model_memory_bytes{model="m"}'], 0)
            server.until(lambda: self.values(server)["inferno_worker_tokens_generated"] > 0)

    def test_a_client_that_left_and_a_worker_that_died_are_told_apart(self):
        with Server() as server:
            fake_model(server.models, "slow", "tokens_per_second=20")
            with contextlib.closing(server.stream("slow", max_tokens=500)) as stream:
                stream.first_text()
            server.until(lambda: 'inferno_requests_total{model="slow",endpoint="chat",status="200"}'
                         in self.values(server))
            with contextlib.closing(server.stream("slow", max_tokens=500)) as stream:
                stream.first_text()
                os.kill(server.status("slow")["pid"], signal.SIGKILL)
                with self.assertRaises((EOFError, OSError)):
                    list(stream.events())
            server.until(lambda: self.values(server).get('inferno_inference_errors_total{model="slow"}') == 1)


if __name__ == "__main__":
    unittest.main()
