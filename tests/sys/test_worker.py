"""One worker on the fake engine: disconnects, limits, faults, ends, and the shape of every route.

INFERD may name a build with sanitizers: each test then also fails when one of them had something to say."""
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import unittest

from harness import DEADLINE, INFERD, Stream, Worker as PlainWorker

SEED = int(os.environ.get("SEED", "1"))
FAST = "tokens_per_second=50000"


class Worker(PlainWorker):
    """Ends in good order: exit status 0 on SIGTERM when it still runs, and nothing from a sanitizer in its log."""

    def __exit__(self, kind, *rest):
        running = self.process.poll() is None
        super().__exit__(kind, *rest)
        if kind is None:
            log = self.log.text()
            assert not re.search("Sanitizer|runtime error:", log), log
            assert not running or self.process.returncode == 0, (self.process.returncode, log)


def repeated(prompt, count):
    """What the fake engine makes of a prompt that ends with its '|'."""
    return (prompt * (count // len(prompt) + 1))[:count]


def text_of(events):
    return "".join(choice["text"] for event in events if event != "[DONE]" for choice in json.loads(event)["choices"])


def in_threads(count, work):
    failures = []

    def run(index):
        try:
            work(index)
        except BaseException as failure: # pylint: disable=broad-except
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Leaver:
    """A client that sends one request and walks away at some point of its life."""

    WAYS = ("at once", "half a request", "reset", "after the head", "in the middle of an event", "after some events",
            "plain", "while it is read", "stays")

    def __init__(self, worker, rng):
        self.worker, self.rng = worker, rng
        self.stayed = self.may_have_counted = 0

    def request(self, stream, prompt, max_tokens):
        data = json.dumps({"model": "m", "prompt": prompt, "temperature": 0, "stream": stream, "max_tokens": max_tokens}).encode()
        return (f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(data)}\r\n\r\n").encode() + data

    def leave(self):
        way, rng = self.rng.choice(self.WAYS), self.rng
        prompt = f"{rng.random()}|"
        if way == "while it is read" or rng.random() < 0.2: # a prompt that takes its time
            prompt = f"{rng.random()}" + "p" * rng.randrange(500, 3000) + "|"
        if way == "stays":
            count = rng.randrange(1, 30)
            status, _, body = self.worker.complete(prompt, max_tokens=count)
            assert (status, body["choices"][0]["text"]) == (200, repeated(prompt, count)), (status, body)
            self.stayed += 1
            return
        with socket.create_connection(("127.0.0.1", self.worker.port), DEADLINE) as sock:
            data = self.request(way not in ("plain", "while it is read"), prompt, 1000000)
            if way == "half a request":
                sock.sendall(data[:rng.randrange(1, len(data))])
                return
            sock.sendall(data)
            self.may_have_counted += 1
            if way == "after the head":
                self.read_until(sock, b"\r\n\r\n", 1)
            elif way == "in the middle of an event":
                self.read_until(sock, b"data: ", 1)
            elif way == "after some events":
                self.read_until(sock, b"\n\n", rng.randrange(2, 20))
            elif way in ("plain", "while it is read"): # no byte comes: the moment is left to chance
                sock.settimeout(rng.random() * 0.02)
                try:
                    sock.recv(1)
                except TimeoutError:
                    pass
            if way == "reset" or rng.random() < 0.3:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def read_until(self, sock, mark, times):
        data = b""
        while data.count(mark) < times:
            more = sock.recv(4096)
            assert more, f"the worker closed after {data!r}"
            data += more


class Disconnects(unittest.TestCase):
    LEAVERS, ROUNDS, WITNESSES = 20, 50, 3

    def test_a_thousand_clients_leave_and_nobody_notices(self):
        with Worker("tokens_per_second=4000,prefill=200000,context=400000,sequences=8") as worker:
            over = threading.Event()
            texts, clients = {}, [Leaver(worker, random.Random(SEED * 1000 + i)) for i in range(self.LEAVERS)]
            asked = [0] * self.WITNESSES

            def witness(index):
                prompt, count = f"witness {index} saw it all |", 500
                while not over.is_set():
                    stream = worker.stream(prompt, max_tokens=count)
                    events = list(stream.events())
                    stream.close()
                    asked[index] += 1
                    self.assertEqual(events[-1], "[DONE]")
                    texts.setdefault(prompt, set()).add(text_of(events))

            def leave(index):
                for _ in range(self.ROUNDS):
                    clients[index].leave()

            def everybody(index):
                if index < self.WITNESSES:
                    witness(index)
                else:
                    try:
                        in_threads(self.LEAVERS, leave)
                    finally:
                        over.set()

            in_threads(self.WITNESSES + 1, everybody)
            worker.until(lambda: worker.busy() == 0)
            self.assertEqual(texts, {prompt: {repeated(prompt, 500)} for prompt in texts})
            self.assertEqual(len(texts), self.WITNESSES)
            metrics = worker.metrics()
            self.assertEqual((metrics["queued"], metrics["running"]), (0, 0))
            self.assertEqual(metrics["requests_total"], sum(asked) + sum(client.stayed for client in clients))
            self.assertLessEqual(metrics["cancelled_total"], sum(client.may_have_counted for client in clients))
            self.assertGreater(metrics["cancelled_total"], 400)
            steps = metrics["steps_total"]
            self.assertEqual(worker.complete("and after all that|", max_tokens=40)[2]["choices"][0]["text"],
                             repeated("and after all that|", 40))
            self.assertLess(worker.metrics()["steps_total"] - steps, 45) # nobody else is in the batch

    def test_a_slot_is_free_one_step_after_its_client_left(self):
        with Worker("tokens_per_second=20,sequences=2") as worker:
            stream = worker.stream("a|", max_tokens=4000)
            next(stream.events())
            other = worker.stream("b|", max_tokens=40)
            events = other.events()
            next(events)
            stream.close()
            worker.until(lambda: worker.metrics()["cancelled_total"] == 1)
            self.assertLessEqual(worker.busy(), 1)
            self.assertEqual(text_of(list(events)), repeated("b|", 40)[1:])
            other.close()

    def test_a_slow_reader_is_parked_while_others_go_on(self):
        with Worker("tokens_per_second=1000000,context=400000") as worker:
            slow = worker.stream("slow|", max_tokens=70000) # more bytes than sockets hold
            slow.head()

            def is_parked():
                before = worker.metrics()["generated_tokens_total"]
                self.assertEqual(worker.complete("quick|", max_tokens=50)[0], 200)
                return worker.metrics()["generated_tokens_total"] - before == 50

            worker.until(is_parked)
            self.assertEqual(worker.busy(), 1)
            events = list(slow.events())
            self.assertEqual(events[-1], "[DONE]")
            self.assertEqual(text_of(events), repeated("slow|", 70000))
            slow.close()


class Refusals(unittest.TestCase):
    def test_a_full_queue_is_503_with_retry_after(self):
        with Worker("tokens_per_second=100,sequences=1", ["--queue-size", "2"]) as worker:
            streams = [worker.stream("a|", max_tokens=4000)]
            next(streams[0].events())
            streams += [worker.stream("b|", max_tokens=1) for _ in range(2)]
            worker.until(lambda: worker.metrics()["queued"] == 2)
            for path, body in (("/v1/completions", {"prompt": "c|"}), ("/completion", {"prompt": "c|", "stream": True}),
                               ("/v1/chat/completions", {"messages": [{"role": "user", "content": "c"}], "stream": True})):
                status, headers, reply = worker.call("POST", path, body)
                self.assertEqual((status, reply["error"]["code"]), (503, "server_overloaded"), path)
                self.assertEqual(headers["Retry-After"], "1")
            streams[0].close()
            for stream in streams[1:]:
                self.assertEqual(list(stream.events())[-1], "[DONE]")
                stream.close()

    def test_a_timeout_is_504_before_the_first_token_and_an_event_after_it(self):
        with Worker("prefill=100,tokens_per_second=50,batch=16", ["--request-timeout", "1"]) as worker:
            for stream in (False, True):
                status, _, body = worker.complete("long " * 60 + "|", stream=stream)
                self.assertEqual((status, body["error"]["code"]), (504, "timeout"))
            stream = worker.stream("a|", max_tokens=4000)
            events = list(stream.events())
            stream.close()
            self.assertEqual(stream.status, 200)
            self.assertEqual(json.loads(events[-1])["error"]["code"], "timeout")
            self.assertNotIn("[DONE]", events)
            self.assertTrue(text_of(events[:1]))
            worker.until(lambda: worker.busy() == 0)

    def test_a_timeout_while_queued(self):
        with Worker("tokens_per_second=100,sequences=1", ["--request-timeout", "1"]) as worker:
            stream = worker.stream("a|", max_tokens=4000)
            next(stream.events())
            status, _, body = worker.complete("b|", max_tokens=4000)
            self.assertEqual((status, body["error"]["code"]), (504, "timeout"))
            stream.close()

    def test_a_prompt_longer_than_the_context(self):
        with Worker(FAST + ",context=100") as worker:
            for path, body, param in (
                    ("/v1/completions", {"prompt": "x" * 101}, "prompt"), ("/v1/completions", {"prompt": "x" * 100}, "prompt"),
                    ("/v1/completions", {"prompt": [7] * 101}, "prompt"), ("/completion", {"prompt": "x" * 101}, "prompt"),
                    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 101}]}, "messages"),
                    ("/v1/embeddings", {"input": "x" * 101}, "input"),
                    ("/v1/embeddings", {"input": ["y", "x" * 101]}, "input[1]")):
                status, _, reply = worker.call("POST", path, body)
                self.assertEqual((status, reply["error"]["code"]), (400, "context_length_exceeded"), reply)
                self.assertEqual(reply["error"]["param"], param, (path, reply))
                self.assertRegex(reply["error"]["message"], "100 tokens")

    def test_max_tokens_is_clamped_to_the_room_left(self):
        with Worker(FAST + ",context=100") as worker:
            for more in ({"max_tokens": 5000}, {}):
                body = worker.complete("abc|", **more)[2]
                self.assertEqual(body["usage"]["completion_tokens"], 96)
                self.assertEqual(body["choices"][0]["finish_reason"], "length")
                self.assertEqual(body["choices"][0]["text"], repeated("abc|", 96))

    def test_bad_bodies(self):
        user = [{"role": "user", "content": "x"}]
        cases = (
            ("/v1/completions", b'{"prompt":"\xff\xfe"}', "invalid_json", None),
            ("/v1/completions", '{"prompt":"a\\ud800b"}', "invalid_json", None), # half a surrogate pair
            ("/v1/completions", "", "invalid_json", None),
            ("/v1/completions", "[" * 100000, "invalid_json", None),
            ("/v1/chat/completions", '{"messages":' + "[" * 80 + "]" * 80 + "}", "invalid_json", None),
            ("/v1/chat/completions", '{"messages":' + '{"a":' * 80 + "1" + "}" * 80 + "}", "invalid_json", None),
            ("/v1/completions", {"prompt": 5}, "invalid_parameters", "prompt"),
            ("/v1/completions", {"prompt": [1, "a"]}, "invalid_parameters", "prompt[1]"),
            ("/v1/completions", {"prompt": [260]}, "invalid_parameters", "prompt"),
            ("/v1/completions", {"prompt": "x", "temperature": "hot"}, "invalid_parameters", "temperature"),
            ("/v1/completions", {"prompt": "x", "n": 0}, "invalid_parameters", "n"),
            ("/v1/completions", {"prompt": "x", "logit_bias": {"260": 1}}, "invalid_parameters", "logit_bias"),
            ("/v1/chat/completions", {}, "invalid_parameters", "messages"),
            ("/v1/chat/completions", {"messages": [{"role": "nobody", "content": ""}]}, "invalid_parameters", "messages[0].role"),
            ("/v1/chat/completions", {"messages": user, "max_tokens": "many"}, "invalid_parameters", "max_tokens"),
            ("/v1/embeddings", {"input": {}}, "invalid_parameters", "input"),
            ("/v1/embeddings", {"input": "x", "dimensions": 5}, "invalid_parameters", "dimensions"),
            ("/completion", {"prompt": {}}, "invalid_parameters", "prompt"),
            ("/completion", {"prompt": "x", "grammar": "root ::= \"a\""}, "not_supported", "grammar"),
            ("/tokenize", {"content": 5}, "invalid_parameters", "content"),
            ("/detokenize", {"tokens": [1, 260]}, "invalid_parameters", "tokens[1]"),
            ("/infill", {"input_prefix": "a", "input_suffix": "b"}, "not_supported", "input_suffix"),
            ("/apply-template", {"messages": "x"}, "invalid_parameters", "messages"))
        with Worker(FAST) as worker:
            for path, body, code, param in cases:
                status, _, reply = worker.call("POST", path, body)
                error = reply["error"]
                self.assertEqual((status, error["code"], error["param"]), (400, code, param), (path, body, reply))
                self.assertEqual(error["type"], "invalid_request_error")
            self.assertEqual(worker.metrics()["requests_total"], 0)
            self.assertEqual(worker.call("POST", "/v1/completions", "{}", {"Content-Type": "text/plain"})[0], 415)
            self.assertEqual(worker.call("GET", "/completion")[0], 405)
            self.assertEqual(worker.call("GET", "/nowhere")[0], 404)

    def test_members_that_nobody_knows_are_ignored(self):
        with Worker(FAST) as worker:
            self.assertEqual(worker.complete("a|", max_tokens=2, frobnicate={"a": [1]})[0], 200)


class Failures(unittest.TestCase):
    def test_an_engine_failure_tells_everyone_and_ends_the_process(self):
        with Worker("tokens_per_second=200,fail_after=60") as worker:
            replies = []
            stream = worker.stream("a|", max_tokens=4000)
            events = stream.events()
            first = next(events)
            plain = threading.Thread(target=lambda: replies.append(worker.complete("b|", max_tokens=4000)))
            plain.start()
            rest = list(events)
            plain.join()
            stream.close()
            self.assertTrue(text_of([first]))
            self.assertEqual(json.loads(rest[-1])["error"]["code"], "model_crashed")
            self.assertNotIn("[DONE]", rest)
            status, headers, body = replies[0]
            self.assertEqual((status, body["error"]["code"]), (503, "model_crashed"))
            self.assertEqual(headers["x-should-retry"], "true")
            self.assertNotEqual(worker.process.wait(DEADLINE), 0)

    def test_a_model_that_cannot_be_loaded(self):
        with Worker("nonsense=1", wait=False) as worker:
            self.assertEqual(worker.process.wait(DEADLINE), 4)
            worker.log.thread.join(DEADLINE)
            self.assertIn("nonsense", worker.log.text())


class Ends(unittest.TestCase):
    def test_the_first_signal_lets_replies_end(self):
        with Worker("tokens_per_second=200") as worker:
            stream = worker.stream("a|", max_tokens=100)
            events = stream.events()
            next(events)
            worker.process.send_signal(signal.SIGTERM)
            worker.log.wait("draining")
            with self.assertRaises(OSError):
                socket.create_connection(("127.0.0.1", worker.port), 2).close()
            rest = list(events)
            stream.close()
            self.assertEqual(rest[-1], "[DONE]")
            self.assertEqual(text_of(rest), repeated("a|", 100)[1:])
            self.assertEqual(worker.process.wait(DEADLINE), 0)

    def test_the_second_signal_ends_at_once(self):
        with Worker("tokens_per_second=50,context=100000") as worker:
            stream = worker.stream("a|", max_tokens=90000)
            next(stream.events())
            for number, line in ((signal.SIGINT, "draining"), (signal.SIGTERM, "ending now")):
                worker.process.send_signal(number)
                worker.log.wait(line)
            self.assertEqual(worker.process.wait(DEADLINE), 0)
            stream.close()

    def test_a_signal_while_loading(self):
        with Worker("load_ms=60000", wait=False) as worker:
            worker.process.send_signal(signal.SIGTERM)
            self.assertEqual(worker.process.wait(DEADLINE), 0)

    def test_a_supervised_worker_ends_with_its_parent(self):
        script = ("import os, subprocess, sys\n"
                  "subprocess.Popen(sys.argv[1:] + ['--supervised', str(os.getpid())])\n"
                  "sys.stdin.read()\n")
        command = [INFERD, "worker", "--engine", "fake", "--model", "fake:" + FAST, "--listen", "127.0.0.1:0"]
        parent = subprocess.Popen([sys.executable, "-c", script, *command], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        lines = iter(parent.stderr.readline, b"")
        self.assertTrue(any(b"model loaded" in line for line in lines))
        parent.kill()
        parent.wait()
        self.assertTrue(any(b"draining" in line for line in lines)) # and the log's end: nobody holds it any more
        self.assertEqual(parent.stderr.read().count(b"Sanitizer"), 0)
        parent.stdin.close()
        parent.stderr.close()


class Views(unittest.TestCase):
    def test_health_while_loading_then_ready(self):
        with Worker("load_ms=1500", wait=False) as worker:
            seen = set()

            def is_ready():
                status, _, body = worker.call("GET", "/health")
                if status == 503:
                    self.assertEqual(body["status"], "loading")
                    self.assertTrue(0 <= body["progress"] <= 1)
                    seen.add(body["progress"])
                return status == 200 and body == {"status": "ok"}

            status, headers, body = worker.complete("a|")
            self.assertEqual((status, body["error"]["code"], headers["Retry-After"]), (503, "model_not_loaded", "1"))
            for path in ("/props", "/slots", "/metrics", "/v1/models"):
                self.assertEqual(worker.call("GET", path)[0], 503, path)
            worker.until(is_ready)
            self.assertGreater(len(seen), 3)
            self.assertEqual(worker.complete("a|", max_tokens=1)[0], 200)

    def test_props_slots_models(self):
        with Worker(FAST + ",sequences=3,context=500") as worker:
            props = worker.call("GET", "/props")[2]
            self.assertEqual((props["total_slots"], props["model_alias"], props["bos_token"]), (3, "m", "<bos>"))
            self.assertEqual(props["default_generation_settings"]["n_ctx"], 500)
            defaults = props["default_generation_settings"]["params"]
            self.assertEqual((defaults["temperature"], defaults["mirostat"], defaults["dry_base"]), (0.7, 0, 1.75))
            self.assertEqual(defaults["dry_sequence_breakers"], ["\n", ":", '"', "*"])
            slots = worker.slots()
            self.assertEqual([slot["id"] for slot in slots], [0, 1, 2])
            self.assertEqual({slot["is_processing"] for slot in slots}, {False})
            models = worker.call("GET", "/v1/models")[2]
            self.assertEqual([model["id"] for model in models["data"]], ["m"])
            self.assertEqual(worker.call("GET", "/v1/models/m")[2], models["data"][0])
            self.assertEqual(worker.call("GET", "/v1/models/other")[0], 404)

    def test_every_route_samples_alike(self):
        wanted = {"top_n_sigma": 1.5, "xtc_probability": 0.5, "xtc_threshold": 0.25, "dynatemp_range": 0.5, "dynatemp_exponent": 2,
                  "mirostat": 2, "mirostat_tau": 4, "mirostat_eta": 0.25, "dry_multiplier": 0.75, "dry_base": 2,
                  "dry_allowed_length": 3, "dry_penalty_last_n": -1, "dry_sequence_breakers": ["x"], "repeat_last_n": -1}
        routes = (("/completion", {"prompt": "abc|"}), ("/v1/completions", {"prompt": "abc|"}),
                  ("/v1/chat/completions", {"messages": [{"role": "user", "content": "abc|"}]}))
        with Worker(FAST) as worker:
            settings = worker.call("POST", "/completion", {"prompt": "abc|", "n_predict": 4, **wanted})[2]["generation_settings"]
            self.assertEqual({name: settings[name] for name in wanted}, wanted)
            for path, body in routes:
                for name, value in {**wanted, "mirostat": 1}.items():
                    status = worker.call("POST", path, {"model": "m", **body, "max_tokens": 3, "n_predict": 3, name: value})[0]
                    self.assertEqual(status, 200, (path, name))
                    status, _, reply = worker.call("POST", path, {"model": "m", **body, name: "x"})
                    self.assertEqual((status, reply["error"]["param"]), (400, name), path)

    def test_slots_while_at_work(self):
        with Worker("tokens_per_second=50,prefill=50,batch=8,sequences=2") as worker:
            stream = worker.stream("0123456789" * 10 + "|", max_tokens=4000)
            worker.until(lambda: any(slot["is_prefilling"] for slot in worker.slots()))
            worker.until(lambda: any(slot["n_decoded"] > 3 for slot in worker.slots()))
            slot = next(slot for slot in worker.slots() if slot["is_processing"])
            self.assertEqual((slot["n_prompt"], slot["is_prefilling"]), (101, False))
            self.assertGreater(slot["n_past"], 101)
            stream.close()

    def test_metrics_are_prometheus_text_and_exact(self):
        with Worker(FAST + ",sequences=2") as worker:
            self.assertEqual(worker.complete("abc|", max_tokens=10)[0], 200)          # 4 in, 10 out
            self.assertEqual(worker.complete("abc|", max_tokens=5)[0], 200)           # 3 of 4 cached, 5 out
            self.assertEqual(worker.complete("hi\x03|", max_tokens=100)[0], 200)      # 4 in, 2 out
            self.assertEqual(worker.complete("xyz|", max_tokens=6, n=2)[0], 200)      # 4 in, 12 out
            self.assertEqual(worker.call("POST", "/embedding", {"content": ["abc", "de"]})[0], 200) # 5 in
            self.assertEqual(worker.complete("x" * 5000)[0], 400)
            status, headers, text = worker.call("GET", "/metrics")
            self.assertEqual(status, 200)
            self.assertEqual(headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            lines = text.splitlines()
            self.assertEqual(len(lines) % 3, 0)
            names = set()
            for about, kind, sample in zip(lines[::3], lines[1::3], lines[2::3]):
                name = re.fullmatch(r"# HELP ([a-z_]+) \S.*", about).group(1)
                self.assertRegex(kind, rf"^# TYPE {name} (counter|gauge)$")
                self.assertRegex(sample, rf"^{name} [0-9.e+-]+$")
                self.assertEqual(kind.endswith("counter"), name.endswith("_total"))
                self.assertNotIn(name, names)
                names.add(name)
            metrics = worker.metrics()
            exact = {"requests_total": 6, "cancelled_total": 0, "prompt_tokens_total": 21, "cached_tokens_total": 3,
                     "generated_tokens_total": 29, "queued": 0, "running": 0, "sequences": 2, "cells": 4096}
            self.assertEqual({name: metrics[name] for name in exact}, exact)


class Surfaces(unittest.TestCase):
    """What each route answers. One worker serves them all."""

    @classmethod
    def setUpClass(cls):
        cls.worker = Worker(FAST + ",emoji=1,context=20000")
        cls.worker.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.worker.__exit__(None, None, None)

    def post(self, path, **body):
        status, _, reply = self.worker.call("POST", path, body)
        self.assertEqual(status, 200, reply)
        return reply

    def events(self, path, **body):
        stream = Stream(self.worker.port, path, {"model": "m", "temperature": 0, "stream": True, **body})
        events = list(stream.events())
        stream.close()
        return events

    def test_tokens_there_and_back(self):
        text = "héllo 😀 <bos>\n\"\\"
        tokens = self.post("/tokenize", content=text)["tokens"]
        self.assertEqual(self.post("/detokenize", tokens=tokens)["content"], text)
        self.assertIn(256, tokens)
        pieces = self.post("/tokenize", content="hé<eos>", with_pieces=True)["tokens"]
        self.assertEqual([piece["piece"] for piece in pieces], ["h", [195], [169], "<eos>"])
        self.assertEqual(self.post("/tokenize", content="")["tokens"], [])

    def test_templates(self):
        prompt = self.post("/apply-template", messages=[{"role": "user", "content": "hi there"}])["prompt"]
        self.assertIn("hi there", prompt)
        self.assertTrue(prompt.rstrip().endswith("assistant"))

    def test_native_completion(self):
        body = self.post("/completion", prompt="abc|", n_predict=6, temperature=0)
        self.assertEqual((body["content"], body["stop"], body["stop_type"]), ("abc|ab", True, "limit"))
        self.assertEqual((body["tokens_predicted"], body["tokens_evaluated"]), (6, 4))
        self.assertEqual(self.post("/completion", prompt="hi\x03|", temperature=0)["stop_type"], "eos")
        body = self.post("/completion", prompt="one two|", temperature=0, stop=["two"])
        self.assertEqual((body["content"], body["stop_type"], body["stopping_word"]), ("one ", "word", "two"))
        events = [json.loads(event) for event in self.events("/completion", prompt="abc|", n_predict=6)]
        self.assertEqual("".join(event["content"] for event in events), "abc|ab")
        self.assertEqual([event["stop"] for event in events], [False] * 6 + [True])
        self.assertEqual(events[-1]["stop_type"], "limit")

    def test_embeddings(self):
        native = self.post("/embedding", content=["abc", "d"])
        body = self.post("/v1/embeddings", input=["abc", "d"])
        self.assertEqual([item["embedding"][0] for item in native], [item["embedding"] for item in body["data"]])
        self.assertEqual([item["index"] for item in body["data"]], [0, 1])
        self.assertEqual(body["usage"], {"prompt_tokens": 4, "total_tokens": 4})
        for item in body["data"]:
            self.assertAlmostEqual(sum(x * x for x in item["embedding"]), 1, places=4)
        many = self.post("/v1/embeddings", input=[f"text {i}" for i in range(2048)])["data"]
        self.assertEqual(many[1234]["embedding"], self.post("/v1/embeddings", input="text 1234")["data"][0]["embedding"])

    def test_stop_strings_split_over_tokens(self):
        for stops, wanted in ((["END", "xyz"], "one ENx "), ("two", "one ENx END "), (["END two"], "one ENx ")):
            body = self.post("/v1/completions", prompt="one ENx END two|", temperature=0, stop=stops)
            self.assertEqual((body["choices"][0]["text"], body["choices"][0]["finish_reason"]), (wanted, "stop"))
            events = self.events("/v1/completions", prompt="one ENx END two|", stop=stops)
            self.assertEqual(text_of(events), wanted)
            self.assertEqual(json.loads(events[-2])["choices"][0]["finish_reason"], "stop")

    def test_no_event_holds_half_a_character(self):
        plain = self.post("/v1/completions", prompt="smile", temperature=0, max_tokens=600)["choices"][0]["text"]
        stream = Stream(self.worker.port, "/v1/completions",
                        {"model": "m", "prompt": "smile", "temperature": 0, "stream": True, "max_tokens": 600})
        pieces = [data.decode() for data in stream.body()] # strict: a torn character raises
        stream.close()
        events = [line[6:] for line in "".join(pieces).splitlines() if line.startswith("data: ")]
        self.assertEqual(text_of(events), plain)
        self.assertGreater(plain.count("😀"), 5)
        self.assertEqual(plain.replace("😀", "").strip("abcdefghijklmnopqrstuvwxyz\ufffd"), "")
        self.assertLessEqual(plain.count("\ufffd"), 1) # where the length cut one
        for event in events[:-2]:
            self.assertNotIn("\ufffd", text_of([event]))

    def test_choices(self):
        body = self.post("/v1/completions", prompt="abc|", max_tokens=9, n=4, temperature=0)
        self.assertEqual([choice["index"] for choice in body["choices"]], [0, 1, 2, 3])
        self.assertEqual({choice["text"] for choice in body["choices"]}, {"abc|abc|a"})
        self.assertEqual(body["usage"]["completion_tokens"], 36)
        texts = ["", "", ""]
        for event in self.events("/v1/completions", prompt="abc|", max_tokens=9, n=3)[:-1]:
            for choice in json.loads(event)["choices"]:
                texts[choice["index"]] += choice["text"]
        self.assertEqual(texts, ["abc|abc|a"] * 3)

    def test_log_probabilities(self):
        body = self.post("/v1/completions", prompt="abc|", max_tokens=5, temperature=0, logprobs=2)
        logprobs = body["choices"][0]["logprobs"]
        self.assertEqual(logprobs["tokens"], list("abc|a"))
        self.assertEqual(logprobs["text_offset"], [0, 1, 2, 3, 4])
        self.assertEqual([len(top) for top in logprobs["top_logprobs"]], [2] * 5)
        self.assertTrue(all(value < 0 for value in logprobs["token_logprobs"]))
        self.assertEqual([top[token] for top, token in zip(logprobs["top_logprobs"], "abc|a")], logprobs["token_logprobs"])
        body = self.post("/v1/completions", prompt="abc|", max_tokens=2, temperature=0, logprobs=0, echo=True)
        logprobs = body["choices"][0]["logprobs"]
        self.assertEqual((logprobs["tokens"], logprobs["token_logprobs"][0]), (list("abc|ab"), None))
        chat = self.post("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], max_tokens=4,
                         logprobs=True, top_logprobs=3)["choices"][0]
        self.assertEqual(len(chat["logprobs"]["content"]), 4)
        for entry in chat["logprobs"]["content"]:
            self.assertEqual(entry["bytes"], list(entry["token"].encode()))
            self.assertEqual(len(entry["top_logprobs"]), 3)

    def test_chat(self):
        body = self.post("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], temperature=0, max_tokens=7)
        choice = body["choices"][0]
        self.assertEqual((choice["message"]["role"], choice["finish_reason"]), ("assistant", "length"))
        self.assertEqual(body["usage"]["completion_tokens"], 7)
        events = self.events("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], max_tokens=7,
                             stream_options={"include_usage": True})
        self.assertEqual(events[-1], "[DONE]")
        chunks = [json.loads(event) for event in events[:-1]]
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
        self.assertEqual(text, choice["message"]["content"])
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 7)
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertEqual(len({chunk["id"] for chunk in chunks}), 1)

    def test_usage_in_every_chunk(self):
        def usages(**options):
            events = self.events("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], max_tokens=7, n=2,
                                 stream_options=options)
            return [json.loads(event).get("usage", "absent") for event in events[:-1]]
        running = usages(include_usage=True, continuous_usage_stats=True)
        counts = [usage["completion_tokens"] for usage in running]
        self.assertEqual(counts, sorted(counts))
        self.assertEqual((counts[-1], set(counts)), (14, set(range(min(counts), 15))))
        self.assertEqual(len({usage["prompt_tokens"] for usage in running}), 1)
        self.assertTrue(all(u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] for u in running))
        self.assertEqual(set(map(str, usages(include_usage=True)[:-1])), {"None"})
        self.assertEqual(set(map(str, usages(continuous_usage_stats=True))), {"absent"})


if __name__ == "__main__":
    unittest.main()
