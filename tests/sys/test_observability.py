"""Traces at a collector of our own, the measurements' other forms, health, the board and the alerts."""
import contextlib
import http.server
import json
import os
import signal
import threading
import unittest

from harness import DEADLINE, Server, fake_model

FAST = "tokens_per_second=5000"
REMOTE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the spans; the first answers may be others than 200."""
    daemon_threads = True

    def __init__(self, answers=()):
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.answers, self.requests, self.changed = list(answers), [], threading.Condition()
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.shutdown()
        self.server_close()

    def config(self, more=""):
        return (f'\n[observability]\notlp_endpoint = "http://127.0.0.1:{self.server_port}"\n'
                f'export_interval_ms = 20\n{more}\n')

    def spans(self):
        with self.changed:
            return [s for path, headers, status, body in self.requests if status == 200
                    for r in body["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]]

    def wait(self, what):
        """The spans, once what(spans) holds."""
        with self.changed:
            if not self.changed.wait_for(lambda: what(self.spans()), DEADLINE):
                raise AssertionError(f"the spans did not come: {self.spans()}")
            return self.spans()


class CollectorHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.changed:
            status = self.server.answers.pop(0) if self.server.answers else 200
            self.server.requests.append((self.path, dict(self.headers), status, body))
            self.server.changed.notify_all()
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *unused):
        pass


def attributes(span):
    return {a["key"]: a["value"].get("stringValue", a["value"].get("intValue")) for a in span["attributes"]}


def metrics(server, accept=None):
    return server.call("GET", "/metrics", headers={"Accept": accept} if accept else {})[2]


class Traces(unittest.TestCase):
    def complete(self, spans):
        return any(s["kind"] == 2 for s in spans) and any(s["name"] == "decode" for s in spans)

    def test_a_chat_is_a_tree_of_spans_under_the_clients(self):
        config = 'otlp_headers = ["x-api-key=s3cret"]\nservice_name = "here"'
        with Collector() as collector, Server(config=collector.config(config)) as server:
            fake_model(server.models, "m", FAST + ",prefill=2000")
            reply = server.call("POST", "/v1/chat/completions",
                                {"model": "m", "messages": [{"role": "user", "content": "hidden words"}],
                                 "max_tokens": 5}, {"traceparent": REMOTE, "tracestate": "a=b"})
            self.assertEqual(reply[0], 200, reply[2])
            usage = reply[2]["usage"]
            spans = {s["name"]: s for s in collector.wait(self.complete)}
            top, call = spans["POST /v1/chat/completions"], spans["chat m"]
            self.assertEqual({s["traceId"] for s in spans.values()}, {REMOTE[3:35]})
            self.assertEqual(top["parentSpanId"], REMOTE[36:52])
            self.assertEqual((top["kind"], call["kind"], call["parentSpanId"]), (2, 3, top["spanId"]))
            for part in ("prefill", "decode"):
                self.assertEqual(spans[part]["parentSpanId"], call["spanId"])
                self.assertLessEqual(int(spans[part]["endTimeUnixNano"]), int(call["endTimeUnixNano"]))
                self.assertGreater(int(spans[part]["endTimeUnixNano"]), int(spans[part]["startTimeUnixNano"]))
            told = attributes(call)
            self.assertEqual(told["gen_ai.operation.name"], "chat")
            self.assertEqual(told["gen_ai.request.model"], "m")
            self.assertEqual(int(told["gen_ai.usage.input_tokens"]), usage["prompt_tokens"])
            self.assertEqual(int(told["gen_ai.usage.output_tokens"]), usage["completion_tokens"])
            self.assertEqual(told["http.response.status_code"], "200")
            self.assertEqual(attributes(top)["http.request.method"], "POST")
            self.assertEqual(attributes(top)["http.response.status_code"], "200")
            self.assertEqual(attributes(top)["server.port"], str(server.port))
            path, headers, _, body = collector.requests[0]
            self.assertEqual((path, headers["x-api-key"]), ("/v1/traces", "s3cret"))
            resource = {a["key"]: a["value"]["stringValue"] for a in body["resourceSpans"][0]["resource"]["attributes"]}
            self.assertEqual(resource["service.name"], "here")
            self.assertNotIn("hidden", json.dumps(collector.requests))
            self.assertNotIn("s3cret", server.log.text())
            server.until(lambda: "inferno_trace_spans_exported_total 5" in metrics(server)
                         or "inferno_trace_spans_exported_total 4" in metrics(server))

    def test_streams_failures_and_other_ways_in(self):
        with Collector() as collector, Server(config=collector.config()) as server:
            fake_model(server.models, "m", FAST)
            with contextlib.closing(server.stream("m", max_tokens=4)) as stream:
                list(stream.events())
            self.assertEqual(server.chat("nobody")[0], 404)
            reply = server.call("POST", "/v1/messages", {"model": "m", "max_tokens": 3, "messages": [
                {"role": "user", "content": "hi"}]})
            self.assertEqual(reply[0], 200)
            spans = collector.wait(lambda all: sum(s["kind"] == 2 for s in all) == 3
                                   and sum(s["kind"] == 3 for s in all) == 3)
            tops = {s["spanId"]: s for s in spans if s["kind"] == 2}
            self.assertTrue(all("parentSpanId" not in s for s in tops.values()))
            self.assertEqual(len({s["traceId"] for s in tops.values()}), 3)
            calls = {tops[s["parentSpanId"]]["name"]: s for s in spans if s["kind"] == 3 and s["name"] == "chat m"}
            self.assertEqual(set(calls), {"POST /v1/chat/completions", "POST /v1/messages"})
            missing = next(s for s in spans if s["name"] == "chat")
            self.assertEqual(attributes(missing)["http.response.status_code"], "404")
            self.assertNotIn("gen_ai.request.model", attributes(missing))
            collector.wait(lambda all: sum(s["name"] == "decode" for s in all) == 2)

    def test_the_backend_gets_the_context(self):
        class Echo(http.server.BaseHTTPRequestHandler):
            seen = []

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.seen.append((self.headers.get_all("traceparent"), self.headers.get("tracestate")))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *unused):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as backend, Collector() as collector:
            threading.Thread(target=backend.serve_forever, daemon=True).start()
            model = f'[models."far"]\nupstream = "http://127.0.0.1:{backend.server_port}"\n'
            with Server(config=collector.config("sampling = 0.0") + model) as server:
                for headers in ({"traceparent": REMOTE, "tracestate": "a=b"}, {"traceparent": "00-nonsense", "tracestate": "a=b"}):
                    reply = server.call("POST", "/v1/chat/completions", {"model": "far", "messages": []}, headers)
                    self.assertEqual(reply[0], 200)
                (first,), state = Echo.seen[0]
                self.assertEqual((first[:36], first[-3:], state), (REMOTE[:36], "-01", "a=b"))
                (fresh,), state = Echo.seen[1]
                self.assertNotEqual(fresh[3:35], REMOTE[3:35])
                self.assertEqual((fresh[-3:], state), ("-00", None))
                spans = collector.wait(lambda all: len([s for s in all if s["kind"] != 1]) == 2)
                self.assertEqual({s["traceId"] for s in spans}, {REMOTE[3:35]})
                call = next(s for s in spans if s["kind"] == 3)
                self.assertEqual(call["spanId"], first[36:52])
                self.assertEqual(attributes(call)["server.port"], str(backend.server_port))
            with Server(config=model) as server:
                server.call("POST", "/v1/chat/completions", {"model": "far", "messages": []}, {"traceparent": "as it is"})
                self.assertEqual(Echo.seen[-1], (["as it is"], None))
            backend.shutdown()

    def test_a_busy_collector_is_asked_again_and_one_that_refuses_is_not(self):
        with Collector(answers=[503]) as collector, Server(config=collector.config()) as server:
            fake_model(server.models, "m", FAST)
            server.chat("m", max_tokens=2)
            collector.wait(self.complete)
            self.assertEqual([r[2] for r in collector.requests][:2], [503, 200])
            server.log.wait("traces are taken again")
            with collector.changed:
                collector.answers = [400] * 8
            server.chat("m", max_tokens=2)
            server.until(lambda: 'inferno_trace_spans_dropped_total{reason="refused"}' in metrics(server))

    def test_what_waits_is_sent_at_the_end_and_no_collector_delays_it_long(self):
        with Collector() as collector:
            late = collector.config().replace("= 20", "= 600000")
            with Server(config=late) as server:
                fake_model(server.models, "m", FAST)
                server.chat("m", max_tokens=2)
                self.assertEqual(collector.requests, [])
                server.process.send_signal(signal.SIGTERM)
                self.assertEqual(server.process.wait(10), 0)
            self.assertTrue(self.complete(collector.spans()))
        with Server(config=late) as server:
            fake_model(server.models, "m", FAST)
            self.assertEqual(server.chat("m", max_tokens=2)[0], 200)
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(10), 0)

    def test_https_is_refused_at_the_start(self):
        with Server(config='\n[observability]\notlp_endpoint = "https://127.0.0.1:4318"\n', wait=False) as server:
            self.assertEqual(server.process.wait(20), 3)
            self.assertIn("https is not supported", server.log.text())


if __name__ == "__main__":
    unittest.main()
