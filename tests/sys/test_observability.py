"""Traces at a collector of our own, the measurements' other forms, health, the board and the alerts."""
import contextlib
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "ws"))
from client import Client  # noqa: E402
from harness import DEADLINE, Server, fake_model  # noqa: E402

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


OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
PACKAGING = pathlib.Path(__file__).resolve().parents[2] / "packaging"
SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)(\{((?:\w+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')


def openmetrics(text):
    """{family: (type, {sample line without its value: value})}, after checks that OpenMetrics asks for."""
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""], lines[-3:]
    families, current = {}, None
    for line in lines[:-2]:
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in families, f"{name} comes twice"
            current = name
            families[current] = [None, {}]
        elif line.startswith("# TYPE "):
            assert line.split()[2] == current
            families[current][0] = line.split()[3]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            kind = families[current][0]
            suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[kind]
            assert match[1] in [current + suffix for suffix in suffixes], f"{line} in {kind} {current}"
            assert match[1] + (match[2] or "") not in families[current][1], line
            bound = re.search(r'[{,]le="([^"]*)"', line)
            assert not bound or bound[1] == "+Inf" or "." in bound[1], line
            families[current][1][match[1] + (match[2] or "")] = float(match[4])
    return families


def promtool(*args, text=None):
    done = subprocess.run(["promtool", *args], input=text, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


class Measurements(unittest.TestCase):
    def test_openmetrics_when_accept_asks_for_it(self):
        with Server() as server:
            fake_model(server.models, 'a "strange\\" name', FAST)
            self.assertEqual(server.chat('a "strange\\" name', max_tokens=3)[0], 200)
            server.chat("nobody")
            status, headers, text = server.call("GET", "/metrics", headers={"Accept": OPENMETRICS})
            self.assertEqual((status, headers["Content-Type"]),
                             (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
            families = openmetrics(text)
            self.assertEqual(families["inferno_requests"][0], "counter")
            label = 'model="a \\"strange\\\\\\" name"'
            self.assertEqual(families["inferno_requests"][1][
                'inferno_requests_total{' + label + ',endpoint="chat",status="200"}'], 1)
            self.assertIn('inferno_request_duration_seconds_bucket{endpoint="chat",le="1.0"}',
                          families["inferno_request_duration_seconds"][1])
            for accept in (None, "*/*", "text/plain", "application/openmetrics-text;q=0", "application/json",
                           "application/openmetrics-text;q=0.3,text/plain;q=0.5", "application/openmetrics-text;q=x"):
                reply = server.call("GET", "/metrics", headers={"Accept": accept} if accept else {})
                self.assertEqual(reply[1]["Content-Type"], "text/plain; version=0.0.4; charset=utf-8", accept)
                self.assertNotIn("# EOF", reply[2])
            self.assertEqual(promtool("check", "metrics", text=reply[2]), (0, ""))

    def test_other_boards_names_tell_the_same(self):
        with Server(config="\n[metrics]\nold_names = true\n") as server:
            fake_model(server.models, "m", FAST)
            used = sum(server.chat("m", max_tokens=4, ignore_eos=True)[2]["usage"]["completion_tokens"]
                       for _ in range(3))
            server.chat("nobody")
            seen = {k: v for f in openmetrics(metrics(server, OPENMETRICS)).values() for k, v in f[1].items()}
            self.assertEqual(seen["inferno_inference_requests_total"], 4)
            self.assertEqual(seen["inferno_inference_requests_successful_total"], 3)
            self.assertEqual(seen["inferno_inference_requests_failed_total"], 1)
            self.assertEqual(seen["inferno_inference_tokens_total"], used)
            self.assertEqual(seen["inferno_loaded_models_count"], 1)
            self.assertGreater(seen["inferno_tokens_per_second"], 0)
            self.assertAlmostEqual(seen["inferno_latency_ms"] * 4, seen["inferno_inference_duration_ms_total"], 3)
        with Server() as server:
            text = metrics(server)
            self.assertNotIn("inferno_latency_ms", text)
            self.assertNotRegex(text, "(?m)^inferno_tokens_per_second ")

    def test_names_of_models_that_are_not_there_make_no_series(self):
        with Server() as server:
            for i in range(200):
                self.assertEqual(server.chat(f'no"such\\{i}')[0], 404)
            series = [line for line in metrics(server).splitlines() if line.startswith("inferno_requests_total{")]
            self.assertEqual(series, ['inferno_requests_total{model="other",endpoint="chat",status="404"} 200'])

    def test_snapshot_and_status(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            for path in ("/metrics/json", "/metrics/snapshot"):
                status, _, body = server.call("GET", path)
                self.assertEqual((status, body["inference"]["total_requests"]), (200, 0))
                self.assertIsNone(body["inference"]["avg_latency_ms"])
                self.assertIsNone(body["inference"]["tokens_per_second"])
                self.assertIsNone(body["system"]["gpu_usage_percent"])
                self.assertEqual(body["models"], [])
            usage = server.chat("m", max_tokens=5, ignore_eos=True)[2]["usage"]
            server.chat("nobody")
            body = server.call("GET", "/metrics/json")[2]
            inference = body["inference"]
            self.assertEqual((inference["total_requests"], inference["successful_requests"],
                              inference["failed_requests"]), (2, 1, 1))
            self.assertEqual(inference["tokens_generated"], usage["completion_tokens"])
            self.assertGreater(inference["avg_latency_ms"], 0)
            self.assertEqual(body["counters"]["inferno_requests_total"], 2)
            (model,) = body["models"]
            self.assertEqual((model["id"], model["status"], model["total_requests"]), ("m", "loaded", 1))
            status, _, body = server.call("GET", "/v1/status")
            self.assertEqual((status, body["running"], body["status"]), (200, True, "running"))
            self.assertRegex(body["uptime"], r"^0h \d+m \d+s$")
            self.assertEqual([m["id"] for m in body["models"]], ["m"])
            server.call("POST", "/v1/models/m/unload", {})
            self.assertEqual(server.call("GET", "/v1/status")[2]["models"], [])

    def test_switches(self):
        with Server(config="\n[metrics]\nenabled = false\n") as server:
            for path in ("/metrics", "/metrics/json", "/metrics/snapshot"):
                self.assertEqual(server.call("GET", path)[0], 404)
            self.assertEqual(server.call("GET", "/v1/status")[0], 200)
        with Server(config='\n[metrics]\npath = "/telemetry"\n') as server:
            self.assertEqual(server.call("GET", "/metrics")[0], 404)
            self.assertIn("inferno_build_info", server.call("GET", "/telemetry")[2])
        for path in ("/health", "metrics", "/a{b}", "/v1/status", ""):
            with Server(config=f'\n[metrics]\npath = "{path}"\n', wait=False) as server:
                self.assertEqual(server.process.wait(20), 3, path)
                self.assertIn("metrics.path", server.log.text())

    def test_a_listener_of_their_own(self):
        with Server(config='\n[metrics]\nbind = "127.0.0.1:0"\n') as server:
            url = re.search(r"url=(\S+)", server.log.wait("listening for measurements"))[1]
            with urllib.request.urlopen(url, timeout=DEADLINE) as reply:
                self.assertIn(b"inferno_build_info", reply.read())
            for path in ("/health", "/v1/models", "/v1/status", "/"):
                with self.assertRaises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(url.replace("/metrics", path), timeout=DEADLINE)
                self.assertEqual(refused.exception.code, 404)
                refused.exception.close()
            self.assertEqual(server.call("GET", "/metrics")[0], 404)
            self.assertEqual(server.call("GET", "/metrics/json")[0], 404)
            self.assertEqual(server.call("GET", "/health")[0], 200)
        for bind, why in (("9090", "ADDRESS:PORT"), ("127.0.0.1:x", "ADDRESS:PORT"), ("0.0.0.0:0", "other machines")):
            with Server(config=f'\n[metrics]\nbind = "{bind}"\n', wait=False) as server:
                self.assertIn(server.process.wait(20), (3,))
                self.assertIn(why, server.log.text())

    def test_failed_credentials_are_counted_by_reason(self):
        config = '\n[auth]\nmanagement_keys = ["sk-man-1"]\ninference_keys = ["sk-inf-1"]\n'
        with Server(config=config) as server:
            self.assertEqual(server.call("GET", "/api/v1/instances")[0], 401)
            self.assertEqual(server.call("GET", "/api/v1/instances", headers={"X-API-Key": "sk-wrong"})[0], 401)
            self.assertEqual(server.call("GET", "/api/v1/instances", headers={"X-API-Key": "sk-inf-1"})[0], 403)
            text = server.call("GET", "/metrics", headers={"X-API-Key": "sk-man-1"})[2]
            for reason in ("missing", "unknown", "forbidden"):
                self.assertIn(f'inferno_auth_failures_total{{reason="{reason}"}} 1\n', text)


class Health(unittest.TestCase):
    def test_healthy_as_the_document_has_it(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            server.chat("m")
            status, _, body = server.call("GET", "/health")
            self.assertEqual((status, body["status"], body["models_loaded"], body["problems"]),
                             (200, "healthy", ["m"], []))
            self.assertRegex(body["system"]["uptime"], r"^0h \d+m \d+s$")
            self.assertRegex(body["system"]["memory_usage"], r"^\d+\.\dGB$")
            self.assertIsNone(body["system"]["gpu_usage"])
            self.assertEqual(server.call("GET", "/health/ready")[2], {"status": "ready"})

    def test_a_model_that_does_not_load_or_crashes_degrades(self):
        with Server() as server:
            fake_model(server.models, "broken", "no such setting")
            fake_model(server.models, "m", FAST)
            self.assertEqual(server.chat("broken")[0], 503)
            status, _, body = server.call("GET", "/health")
            self.assertEqual((status, body["status"]), (200, "degraded"))
            self.assertEqual([(p["component"], p["name"]) for p in body["problems"]], [("model", "broken")])
            self.assertIn("does not understand", body["problems"][0]["message"])
            server.chat("m")
            os.kill(server.status("m")["pid"], signal.SIGKILL)
            server.until(lambda: {p["name"] for p in server.call("GET", "/health")[2]["problems"]} == {"broken", "m"})
            self.assertEqual(server.call("GET", "/health/ready")[0], 200)

    def test_without_its_folder_it_is_unhealthy_until_that_is_back(self):
        with Server() as server:
            here, away = pathlib.Path(server.folder, "s"), pathlib.Path(server.folder, "away")
            here.rename(away)
            server.until(lambda: server.call("GET", "/health")[0] == 503)
            body = server.call("GET", "/health")[2]
            self.assertEqual((body["status"], body["problems"][0]["component"]), ("unhealthy", "state_dir"))
            self.assertEqual(server.call("GET", "/health/ready")[::2], (503, {"status": "unhealthy"}))
            self.assertEqual(server.call("GET", "/health/live")[0], 200)
            away.rename(here)
            server.until(lambda: server.call("GET", "/health")[2]["status"] == "healthy")

    def test_strangers_learn_the_status_only(self):
        with Server(config='\n[auth]\ninference_keys = ["sk-inf-1"]\n') as server:
            for headers in ({}, {"X-API-Key": "sk-wrong"}):
                status, _, body = server.call("GET", "/health", headers=headers)
                self.assertEqual((status, set(body)), (200, {"status", "version"}))
            body = server.call("GET", "/health", headers={"X-API-Key": "sk-inf-1"})[2]
            self.assertIn("system", body)


class Packaging(unittest.TestCase):
    """The board and the alerts ask for what there is."""
    # up is Prometheus' own; exported_instance is what it makes of our label "instance".
    FOREIGN_LABELS = {"job", "instance", "exported_instance"}

    def queries(self):
        board = json.loads((PACKAGING / "grafana" / "inferd.json").read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield re.search(r"\((.*), \w+\)", variable["definition"])[1]
        yield from re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n +(?:for|labels):",
                              (PACKAGING / "prometheus" / "alerts.yml").read_text())

    def test_every_name_and_label_is_exported(self):
        with Server(config="\n[response_cache]\nenabled = true\n") as server:
            fake_model(server.models, "m", FAST)
            with contextlib.closing(server.stream("m", max_tokens=3)) as stream:
                list(stream.events())
            text = metrics(server)
        families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        samples = {n + s for n, kind in families.items() for s in
                   (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
        labels = set(re.findall(r'[{,](\w+)="', text)) | {"limit", "reason"} | self.FOREIGN_LABELS
        queries = list(self.queries())
        self.assertGreater(len(queries), 50)
        for query in queries:
            names = re.findall(r"\b(?:inferno|inferd)_\w+", query)
            self.assertTrue(names or "up{" in query, query)
            self.assertLessEqual(set(names), samples, query)
            used = re.findall(r'(\w+)=~?"', query)
            for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
                used += [label.strip() for label in group.split(",")]
            self.assertLessEqual(set(used), labels, query)

    def test_the_boards_queries_are_promql(self):
        rules = "groups:\n  - name: board\n    rules:\n"
        for i, query in enumerate(self.queries()):
            query = " ".join(query.replace("$__rate_interval", "5m").split())
            rules += f"      - record: query_{i}\n        expr: {json.dumps(query)}\n"
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            file.write(rules)
            file.flush()
            code, text = promtool("check", "rules", file.name)
        self.assertEqual(code, 0, text)

    def test_alerts(self):
        folder = PACKAGING / "prometheus"
        self.assertEqual(promtool("check", "rules", str(folder / "alerts.yml"))[0], 0)
        code, text = promtool("test", "rules", str(folder / "alerts.test.yml"))
        self.assertEqual(code, 0, text)


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

    def test_chats_of_a_websocket(self):
        with Collector() as collector, Server(config=collector.config()) as server:
            fake_model(server.models, "m", FAST)
            chat = {"type": "chat", "id": "1", "data": {"model": "m", "max_tokens": 3, "messages": [
                {"role": "user", "content": "hi"}]}}
            for headers, parent in (({"traceparent": REMOTE}, REMOTE[36:52]), ({}, None)):
                with Client(server.port, "/ws", headers) as socket:
                    socket.send(json.dumps(chat))
                    while json.loads(socket.receive()[1])["type"] != "chat_done":
                        pass
                seen = 1 if parent else 2
                spans = collector.wait(lambda all: sum(s["name"] == "chat m" for s in all) == seen)
                call = [s for s in spans if s["name"] == "chat m"][-1]
                self.assertEqual(call.get("parentSpanId"), parent)

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
