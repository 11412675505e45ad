"""llamactl's document, row by row (specs/llamactl.md 8.5), on our own worker and on the real llama-server.

Each row is one test; the numbers in the names are the document's. The curl examples of the document run as printed."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

from harness import INFERD, Server, Stream, fake_model
from hub import Hub, Repo

MODEL = os.path.join(os.environ.get("INFERD_MODELS", "."), "SmolLM2-135M-Instruct.Q4_1.gguf")
MANAGE, INFER = "manage-key", "infer-key"
AUTH = f"""
[auth]
management_keys = ["{MANAGE}"]
inference_keys = ["{INFER}"]
"""


class Managed(Server):
    """A server with both kinds of keys; calls carry the one that fits their path."""

    def __init__(self, config="", **more):
        super().__init__(config=AUTH + config, **more)

    def call(self, method, path, body=None, headers=None):
        key = INFER if path.startswith("/v1") else MANAGE
        return super().call(method, path, body, {"Authorization": "Bearer " + key, **(headers or {})})

    def instance(self, method, name, verb="", body=None):
        return self.call(method, f"/api/v1/instances/{name}{verb}", body)

    def state(self, name):
        return self.instance("GET", name)[2]["status"]


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().split()[2] == "Z"
    except OSError:
        return True


@unittest.skipUnless(os.path.exists(MODEL), "needs INFERD_MODELS")
class Suite:
    """What every backend must do. A subclass says how an instance of it is made."""

    body = {}
    native = "/completion"

    @classmethod
    def setUpClass(cls):
        cls.server = Managed("[instances]\ndefault_restart_delay = 0\n").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def make(self, name, **more):
        self.addCleanup(self.server.instance, "DELETE", name)
        status, _, reply = self.server.instance("POST", name, "?wait=1", {**self.body, **more})
        self.assertEqual(status, 201, reply)
        return reply

    def test_04_create_starts_it(self):
        reply = self.make("made")
        self.assertIsInstance(reply["created"], int)
        self.assertEqual((reply["name"], reply["status"]), ("made", "running"))

    def test_05_a_second_one_of_the_name_is_409(self):
        self.make("twice")
        status, _, reply = self.server.instance("POST", "twice", body=self.body)
        self.assertEqual(status, 409)
        self.assertIn("twice", reply["error"])

    def test_08_put_merges(self):
        self.make("merged")
        before = self.server.instance("GET", "merged")[2]
        status, _, reply = self.server.instance("PUT", "merged", body={"idle_timeout": 5})
        self.assertEqual((status, reply["options"]["idle_timeout"]), (200, 5))
        self.assertEqual(reply["options"]["backend_options"], before["options"]["backend_options"])
        self.assertEqual(reply["pid"], before["pid"], "what its process does not see restarts nothing")

    def test_09_10_start_stop_restart_answer_at_once(self):
        self.make("moved", start=False)
        self.assertEqual(self.server.state("moved"), "stopped")
        status, _, reply = self.server.instance("POST", "moved", "/start")
        self.assertEqual((status, reply["status"]), (200, "starting"))
        self.server.until(lambda: self.server.state("moved") == "running")
        first = self.server.instance("GET", "moved")[2]["pid"]
        status, _, reply = self.server.instance("POST", "moved", "/restart")
        self.assertEqual((status, reply["status"]), (200, "restarting"))
        self.server.until(lambda: self.server.state("moved") == "running")
        self.assertNotEqual(self.server.instance("GET", "moved")[2]["pid"], first)
        status, _, reply = self.server.instance("POST", "moved", "/stop")
        self.assertEqual((status, reply["status"]), (200, "stopping"))
        self.server.until(lambda: self.server.state("moved") == "stopped")
        self.assertTrue(gone(first))
        for verb in ("/stop", "/start?wait=1", "/start"): # again changes nothing
            self.assertEqual(self.server.instance("POST", "moved", verb)[0], 200)
        self.assertEqual(self.server.state("moved"), "running")

    def test_11_logs(self):
        self.make("logged")
        status, headers, whole = self.server.instance("GET", "logged", "/logs")
        self.assertEqual((status, headers["Content-Type"].split(";")[0]), (200, "text/plain"))
        self.assertIn("=== Instance logged started at ", whole)
        self.assertEqual(self.server.instance("GET", "logged", "/logs?lines=-1")[2].splitlines()[:2], whole.splitlines()[:2])
        self.assertEqual(len(self.server.instance("GET", "logged", "/logs?lines=2")[2].splitlines()), 2)
        self.assertLessEqual(len(self.server.instance("GET", "logged", "/logs?lines=50")[2].splitlines()), 50)
        status, _, reply = self.server.instance("GET", "logged", "/logs?lines=x")
        self.assertEqual((status, reply["param"]), (400, "lines"))
        self.server.instance("POST", "logged", "/stop?wait=1")
        self.assertIn("stopped at", self.server.instance("GET", "logged", "/logs?lines=1")[2], "also without a process")

    def test_12_proxy(self):
        self.make("direct")
        status, _, reply = self.server.instance("GET", "direct", "/proxy/health")
        self.assertEqual((status, reply["status"]), (200, "ok"))
        status, _, reply = self.server.instance("POST", "direct", "/proxy" + self.native,
                                                {"prompt": "Hello, world!", "n_predict": 5})
        self.assertEqual(status, 200, reply)
        self.assertIsInstance(reply["content"], str)
        stream = Stream(self.server.port, f"/api/v1/instances/direct/proxy{self.native}?api_key={MANAGE}",
                        {"prompt": "Hi", "n_predict": 5, "stream": True})
        self.assertGreaterEqual(len(list(stream.events())), 2)
        self.server.instance("POST", "direct", "/stop?wait=1")
        self.assertEqual(self.server.instance("GET", "direct", "/proxy/health")[0], 503)

    def test_13_models_lists_it(self):
        self.make("listed")
        status, _, reply = self.server.call("GET", "/v1/models")
        entry = {e["id"]: e for e in reply["data"]}["listed"]
        self.assertEqual((status, reply["object"], entry["object"], entry["owned_by"]), (200, "list", "model", "llamactl"))
        self.assertIsInstance(entry["created"], int)

    def test_14_chat_is_routed_by_model_and_starts_it(self):
        self.make("asked")
        self.server.instance("POST", "asked", "/stop?wait=1")
        status, _, reply = self.server.chat("asked", max_tokens=8)
        self.assertEqual(status, 200, reply)
        self.assertTrue(reply["choices"][0]["message"]["content"])
        stream = self.server_stream("asked", max_tokens=8)
        self.assertEqual(stream[-1], "[DONE]")
        self.server.instance("PUT", "asked", body={"on_demand_start": False})
        self.server.instance("POST", "asked", "/stop?wait=1")
        status, _, reply = self.server.chat("asked")
        self.assertEqual(status, 503, reply)

    def server_stream(self, model, **more):
        connection = self.server.connection()
        connection.request("POST", "/v1/chat/completions", json.dumps(
            {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": True, **more}),
            {"Authorization": "Bearer " + INFER, "Content-Type": "application/json"})
        reply = connection.getresponse()
        self.assertEqual(reply.status, 200)
        return [line[6:].strip().decode() for line in reply if line.startswith(b"data: ")]

    def test_17_delete_stops_and_forgets(self):
        pid = self.make("deleted")["pid"]
        self.assertEqual(self.server.instance("DELETE", "deleted")[0], 204)
        self.assertTrue(gone(pid))
        self.assertEqual(self.server.instance("GET", "deleted")[0], 404)
        self.assertEqual(self.server.instance("DELETE", "deleted")[0], 404)

    def test_a_crash_is_restarted(self):
        pid = self.make("crashing")["pid"]
        os.kill(pid, 9)
        self.server.until(lambda: self.server.instance("GET", "crashing")[2].get("pid", pid) != pid)
        self.server.until(lambda: self.server.state("crashing") == "running")
        self.assertEqual(self.server.instance("GET", "crashing")[2]["restarts"], 1)


class OnWorker(Suite, unittest.TestCase):
    body = {"backend_type": "worker", "backend_options": {"model": MODEL, "context_size": 512}}


class OnLlamaServer(Suite, unittest.TestCase):
    body = {"model": MODEL, "ctx_size": 512, "fit": "off", "warmup": False, "parallel": 1} # the document's flat form

    def test_native_llama_paths_start_it(self):
        self.make("native", start=False)
        headers = {"Authorization": "Bearer " + INFER}
        status, _, reply = self.server.call("GET", "/llama-cpp/native/props", headers=headers)
        self.assertEqual(status, 200, reply)
        status, _, reply = self.server.call("POST", "/llama-cpp/native/tokenize", {"content": "Hello"}, headers)
        self.assertEqual((status, len(reply["tokens"]) > 0), (200, True))

    def test_unknown_flags_go_through_with_a_warning(self):
        self.addCleanup(self.server.instance, "DELETE", "warned")
        status, _, reply = self.server.instance("POST", "warned", "?wait=1", {**self.body, "extra_args": {"ctx-sise": "9"}})
        self.assertEqual((status, reply["status"]), (201, "restarting"), reply)
        self.server.until(lambda: "warnings" in self.server.instance("GET", "warned")[2])
        self.assertIn("--ctx-size", self.server.instance("GET", "warned")[2]["warnings"][0])
        self.assertIn("ctx-sise", reply["error"], "its own last words")

    def test_router_mode_lists_the_models_inside(self):
        self.addCleanup(self.server.instance, "DELETE", "router")
        body = {"backend_type": "llama_cpp", "backend_options": {"models_dir": os.path.dirname(MODEL), "models_max": 1}}
        status, _, reply = self.server.instance("POST", "router", "?wait=1", body)
        self.assertEqual((status, reply["status"]), (201, "running"), reply)
        inner = self.server.call("GET", "/api/v1/llama-cpp/router/models")[2]["data"]
        ids = [e["id"] for e in self.server.call("GET", "/v1/models")[2]["data"]]
        for model in inner:
            self.assertIn("router/" + model["id"], ids)


class Surface(unittest.TestCase):
    """Rows that need no backend of a kind."""

    def test_01_02_version_and_what_llama_server_says(self):
        with Managed() as server:
            self.assertEqual(Server.call(server, "GET", "/api/v1/version")[0], 401)
            status, headers, text = server.call("GET", "/api/v1/version")
            self.assertEqual((status, headers["Content-Type"].split(";")[0]), (200, "text/plain"))
            self.assertEqual([line.split(": ")[0] for line in text.splitlines()], ["Version", "Commit", "Build Time"])
            for path in ("server", "backends/llama-cpp"):
                self.assertIn("--ctx-size", server.call("GET", f"/api/v1/{path}/help")[2])
                self.assertIn("version", server.call("GET", f"/api/v1/{path}/version")[2])
                self.assertIn("evices", server.call("GET", f"/api/v1/{path}/devices")[2])

    def test_03_the_list_is_empty_and_then_not(self):
        with Managed() as server:
            self.assertEqual(server.call("GET", "/api/v1/instances")[2], [])
            model = str(fake_model(server.folder, "m"))
            server.instance("POST", "one", body={"backend_type": "worker", "backend_options": {"model": model}})
            for path in ("/api/v1/instances", "/api/v1/instances/"):
                (entry,) = server.call("GET", path)[2]
                self.assertEqual((entry["name"], type(entry["created"])), ("one", int))

    def test_06_07_bad_names_bad_bodies_unknown_ones(self):
        with Managed() as server:
            for name in ("..", ".", "a%2Fb", "a%20b", "x" * 51, "%C3%A4"):
                self.assertEqual(server.instance("POST", name, body={})[0], 400, name)
            for body in ("{", "[]", "7", '{"backend_type": 1}', '{"backend_type": "nonsense"}', '{"backend_options": []}',
                         '{"idle_timeout": "soon"}', '{"environment": {"A": 1}}', '{"port": 70000}'):
                status, _, reply = server.instance("POST", "bad", body=body)
                self.assertEqual((status, type(reply["error"])), (400, str), body)
            for method, verb in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/start"), ("GET", "/logs"), ("GET", "/proxy/x")):
                status, _, reply = server.instance(method, "nobody", verb, body={} if method == "PUT" else None)
                self.assertEqual((status, type(reply["error"])), (404, str), method + verb)

    def test_09_limits_and_missing_programs(self):
        with Managed("[instances]\nmax_running_instances = 1\nenable_lru_eviction = false\n") as server:
            worker = {"backend_type": "worker", "backend_options": {"model": str(fake_model(server.folder, "m"))}}
            server.instance("POST", "one", "?wait=1", worker)
            self.assertEqual(server.instance("POST", "two", body={**worker, "start": False})[0], 201)
            self.assertEqual(server.instance("POST", "two", "/start")[0], 409)
            self.assertEqual(server.chat("two")[0], 409)
            server.instance("POST", "one", "/stop?wait=1")
            server.instance("POST", "gone", body={"backend_type": "command", "start": False,
                                                  "backend_options": {"argv": ["/no/such/program"]}})
            status, _, reply = server.instance("POST", "gone", "/start")
            self.assertEqual(status, 500)
            self.assertIn("/no/such/program", reply["error"])

    def test_14_the_five_posts_need_a_model(self):
        with Managed() as server:
            for path in ("chat/completions", "completions", "embeddings", "rerank", "reranking"):
                status, _, reply = server.call("POST", "/v1/" + path, {"messages": []})
                self.assertEqual((status, reply["error"]["param"]), (400, "model"))
                self.assertEqual(server.call("POST", "/v1/" + path, {"model": "nobody"})[0], 404)

    def test_15_16_who_may_what(self):
        with Managed() as server:
            def status(path, key):
                return Server.call(server, "GET", path, headers={"Authorization": "Bearer " + key} if key else {})[0]
            self.assertEqual([status("/api/v1/instances", key) for key in (None, "wrong", INFER, MANAGE)], [401, 401, 403, 200])
            self.assertEqual([status("/v1/models", key) for key in (None, "wrong", INFER, MANAGE)], [401, 401, 200, 200])
            self.assertEqual(Server.call(server, "GET", "/v1/models", headers={"X-API-Key": INFER})[0], 200)
            self.assertEqual(Server.call(server, "GET", f"/v1/models?api_key={INFER}")[0], 200)
            self.assertIsInstance(Server.call(server, "GET", "/api/v1/instances")[2]["error"], str)
            self.assertIn("message", Server.call(server, "GET", "/v1/models")[2]["error"])

    def test_unknown_paths_speak_their_neighbours_dialect(self):
        with Managed() as server:
            self.assertIsInstance(server.call("GET", "/api/v1/nothing")[2]["error"], str)
            self.assertIn("message", server.call("GET", "/v1/nothing")[2]["error"])

    def test_errors_under_v1_are_flat_when_asked_for(self):
        with Server(config=AUTH + "flat_errors = true\n") as server:
            for key, status in ((None, 401), (INFER, 404)):
                reply = server.call("POST", "/v1/completions", {"model": "nobody"},
                                    {"Authorization": "Bearer " + key} if key else {})
                self.assertEqual((reply[0], type(reply[2]["error"])), (status, str))

    def test_the_documents_curl_examples_run_as_printed(self):
        document = open(os.path.join(os.path.dirname(__file__), "llamactl_curl.sh"), encoding="utf-8").read()
        with Server(config='[auth]\nmanagement_keys = ["your-api-key"]\ninference_keys = ["your-inference-api-key"]\n') as server:
            script = document.replace("localhost:8080", f"localhost:{server.port}").replace("/models/llama-2-7b.gguf", MODEL)
            replies = subprocess.run(["bash", "-e", "-c", script], capture_output=True, text=True, check=True, timeout=120).stdout
            self.assertIn('"name":"my-model"', replies)
            self.assertIn('"role":"assistant"', replies)
            self.assertEqual(Server.call(server, "GET", "/api/v1/instances/my-model", headers={"X-API-Key": "your-api-key"})[0], 404)


class Keys(unittest.TestCase):
    def test_a_key_for_one_instance_opens_only_that(self):
        with Managed() as server:
            ids = {}
            for name in ("mine", "theirs"):
                body = {"backend_type": "worker", "backend_options": {"model": str(fake_model(server.folder, name))}}
                ids[name] = server.instance("POST", name, "?wait=1", body)[2]["id"]
            status, _, made = server.call("POST", "/api/v1/auth/keys",
                                          {"name": "k", "permission_mode": "per_instance", "instance_ids": [ids["mine"]]})
            self.assertEqual(status, 201, made)
            self.assertRegex(made["key"], "^llamactl-[0-9a-f]{64}$")
            mine = {"Authorization": "Bearer " + made["key"]}
            ask = {"messages": [{"role": "user", "content": "hi"}]}
            self.assertEqual(server.call("POST", "/v1/chat/completions", {"model": "mine", **ask}, mine)[0], 200)
            self.assertEqual(server.call("POST", "/v1/chat/completions", {"model": "theirs", **ask}, mine)[0], 403)
            self.assertEqual([m["id"] for m in server.call("GET", "/v1/models", headers=mine)[2]["data"]], ["mine"])
            path = f"/api/v1/auth/keys/{made['id']}"
            self.assertEqual(server.call("GET", path + "/permissions")[2],
                             [{"instance_id": ids["mine"], "instance_name": "mine"}])
            self.assertNotIn("key", server.call("GET", path)[2])
            self.assertNotIn(made["key"], server.log.text())
            self.assertEqual(server.call("DELETE", path)[0], 204)
            self.assertEqual(server.call("POST", "/v1/chat/completions", {"model": "mine", **ask}, mine)[0], 401)
            self.assertEqual(server.call("GET", path)[0], 404)

    def test_requests_for_keys_are_checked(self):
        with Managed() as server:
            for body in ({}, {"name": ""}, {"name": "x" * 101}, {"name": "a", "permission_mode": "some"},
                         {"name": "a", "permission_mode": "per_instance"}, {"name": "a", "expires_at": 1},
                         {"name": "a", "permission_mode": "per_instance", "instance_ids": [99]}):
                self.assertEqual(server.call("POST", "/api/v1/auth/keys", body)[0], 400, body)
            self.assertEqual(server.call("GET", "/api/v1/auth/keys/x")[0], 400)


class Lasting(unittest.TestCase):
    def test_what_was_acknowledged_survives_kill_9_and_what_ran_runs_again(self):
        with Managed() as server:
            body = {"backend_type": "worker", "backend_options": {"model": str(fake_model(server.folder, "m"))}}
            server.instance("POST", "running", "?wait=1", body)
            server.instance("POST", "stopped", body={**body, "start": False})
            server.instance("PUT", "stopped", body={"idle_timeout": 7})
            server.process.kill()
            server.process.wait()
            server.start()
            server.until(lambda: server.state("running") == "running")
            reply = server.instance("GET", "stopped")[2]
            self.assertEqual((reply["status"], reply["options"]["idle_timeout"]), ("stopped", 7))

    def test_preloaded_ones_start_with_the_daemon(self):
        with Managed() as server:
            body = {"backend_type": "worker", "preload": True, "start": False,
                    "backend_options": {"model": str(fake_model(server.folder, "m"))}}
            server.instance("POST", "early", body=body)
            server.process.terminate()
            server.process.wait()
            server.start()
            server.until(lambda: server.state("early") == "running")


class Ending(unittest.TestCase):
    STUBBORN = ("import http.server,signal,sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                "class H(http.server.BaseHTTPRequestHandler):\n"
                " def do_GET(self): self.send_response(200); self.end_headers()\n"
                "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()")

    def test_a_second_signal_while_processes_end_harms_nothing(self):
        with Managed("[instances]\nstop_timeout = 1\n") as server:
            body = {"backend_type": "command", "backend_options": {"argv": ["python3", "-c", self.STUBBORN, "{port}"]}}
            pid = server.instance("POST", "stubborn", "?wait=1", body)[2]["pid"]
            server.process.terminate()
            server.log.wait("draining")
            server.process.terminate()
            server.log.wait("ending now")
            self.assertEqual(server.process.wait(10), 0)
            self.assertTrue(gone(pid))


class Live(unittest.TestCase):
    def test_events_tell_states_and_logs(self):
        with Managed() as server:
            connection = server.connection()
            connection.request("GET", "/api/v1/events?logs=*", headers={"Authorization": "Bearer " + MANAGE})
            events, seen = connection.getresponse(), []

            def read():
                for line in events:
                    if line.startswith(b"event: "):
                        kind = line[7:].strip().decode()
                    elif line.startswith(b"data: "):
                        data = json.loads(line[6:])
                        seen.append((kind, data.get("status"), data.get("name")))
                        if kind == "instance_deleted":
                            return
            reader = threading.Thread(target=read)
            reader.start()
            body = {"backend_type": "worker", "backend_options": {"model": str(fake_model(server.folder, "m"))}}
            server.instance("POST", "seen", "?wait=1", body)
            server.instance("POST", "seen", "/stop?wait=1")
            server.instance("DELETE", "seen")
            reader.join(30)
            self.assertFalse(reader.is_alive())
            states = [status for kind, status, _ in seen if kind == "instance"]
            order = [s for n, s in enumerate(states) if n == 0 or states[n - 1] != s]
            self.assertEqual(order, ["stopped", "starting", "running", "stopping", "stopped"])

    def test_a_followed_log_shows_new_lines(self):
        with Managed() as server:
            body = {"backend_type": "command", "backend_options": {
                "argv": ["python3", "-u", "-c", "import http.server,sys\nclass H(http.server.BaseHTTPRequestHandler):\n"
                         " def do_GET(self):\n  print('asked for', self.path)\n  self.send_response(200)\n  self.end_headers()\n"
                         "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()", "{port}"]}}
            server.instance("POST", "talker", "?wait=1", body)
            connection = server.connection()
            connection.request("GET", "/api/v1/instances/talker/logs?follow=1", headers={"Authorization": "Bearer " + MANAGE})
            reply = connection.getresponse()
            server.instance("GET", "talker", "/proxy/marker-7")
            for line in reply:
                if line.startswith(b"data: ") and "asked for /marker-7" in json.loads(line[6:])["line"]:
                    break
            else:
                self.fail("the line never came")

    def test_endless_streams_end_when_the_server_does(self):
        with Managed() as server:
            connection = server.connection()
            connection.request("GET", "/api/v1/events", headers={"Authorization": "Bearer " + MANAGE})
            reply = connection.getresponse()
            server.process.terminate()
            reply.read()
            self.assertEqual(server.process.wait(5), 0)

    def test_metrics_count_per_instance(self):
        with Managed() as server:
            body = {"backend_type": "worker", "backend_options": {"model": str(fake_model(server.folder, "m"))}}
            server.instance("POST", "counted", "?wait=1", body)
            server.chat("counted")
            text = server.call("GET", "/metrics", headers={"Authorization": "Bearer " + INFER})[2]
            self.assertIn('inferd_instance_state{instance="counted",state="running"} 1', text)
            self.assertIn('inferd_instance_requests_total{instance="counted"} 1', text)
            self.assertIn('inferd_instance_request_seconds_count{instance="counted"} 1', text)


class Upgrades(unittest.TestCase):
    ECHO = ("import base64,hashlib,socketserver,sys\n"
            "class H(socketserver.StreamRequestHandler):\n"
            " def handle(self):\n"
            "  head={}\n"
            "  first=self.rfile.readline()\n"
            "  while (line:=self.rfile.readline().strip()): k,_,v=line.decode().partition(': '); head[k.lower()]=v\n"
            "  if 'upgrade' not in head: self.wfile.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok'); return\n"
            "  mark=base64.b64encode(hashlib.sha1((head['sec-websocket-key']+'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest())\n"
            "  self.wfile.write(b'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: '+mark+b'\\r\\n\\r\\n'+first)\n"
            "  while (data:=self.connection.recv(65536)): self.connection.sendall(data)\n"
            "class S(socketserver.ThreadingTCPServer): allow_reuse_address=True; daemon_threads=True\n"
            "S(('127.0.0.1',int(sys.argv[1])),H).serve_forever()")

    def test_a_websocket_passes_through_proxy(self):
        with Managed() as server:
            body = {"backend_type": "command", "backend_options": {"argv": ["python3", "-c", self.ECHO, "{port}"]}}
            self.assertEqual(server.instance("POST", "echo", "?wait=1", body)[2]["status"], "running")
            with socket.create_connection(("127.0.0.1", server.port), 10) as peer:
                peer.sendall(f"GET /api/v1/instances/echo/proxy/live?room=1&api_key={MANAGE} HTTP/1.1\r\n"
                             f"Host: localhost:{server.port}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
                file = peer.makefile("rb")
                head = [line.strip().lower() for line in iter(file.readline, b"\r\n")]
                self.assertIn(b"101", head[0])
                self.assertIn(b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", head)
                self.assertEqual(file.readline(), b"GET /live?room=1 HTTP/1.1\r\n", "without our prefix and without the key")
                for message in (b"\x81\x05hello", os.urandom(200_000)):
                    peer.sendall(message)
                    self.assertEqual(file.read(len(message)), message)
                self.assertEqual(server.instance("GET", "echo")[2]["active_requests"], 1, "busy as long as it is open")
                file.close()
            server.until(lambda: server.instance("GET", "echo")[2]["active_requests"] == 0)


class Downloads(unittest.TestCase):
    """The API over the transfer that test_fetch.py tests; the hub is one on loopback."""

    def setUp(self):
        folder = tempfile.mkdtemp(prefix="inferd-", dir="/tmp")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        weights = fake_model(folder, "small-Q4_K_M").read_bytes()
        self.hub = Hub({"org/small": Repo({"small-Q4_K_M.gguf": weights})})
        self.hub.__enter__()
        self.addCleanup(self.hub.__exit__)
        self.server = Managed(env={"HF_ENDPOINT": self.hub.url, "LLAMA_CACHE": os.path.join(folder, "cache")})
        self.server.__enter__()
        self.addCleanup(self.server.__exit__)

    def test_a_model_is_downloaded_listed_run_and_removed(self):
        status, _, reply = self.server.call("POST", "/api/v1/models/download", {"repo": "org/small:Q4_K_M"})
        self.assertEqual((status, reply["repo"], reply["tag"]), (202, "org/small", "Q4_K_M"))
        path = f"/api/v1/models/jobs/{reply['job_id']}"
        self.server.until(lambda: self.server.call("GET", path)[2]["status"] == "completed")
        job = self.server.call("GET", path)[2]
        self.assertEqual(job["progress"]["bytes_downloaded"], job["progress"]["total_bytes"])
        self.assertEqual([j["id"] for j in self.server.call("GET", "/api/v1/models/jobs")[2]["jobs"]], [job["id"]])
        (model,) = self.server.call("GET", "/api/v1/models/files")[2]
        self.assertEqual((model["repo"], model["node"], model["files"][0]["type"]), ("org/small", "main", "gguf"))
        body = {"backend_type": "worker", "backend_options": {"model": job["model_path"]}}
        self.assertEqual(self.server.instance("POST", "small", "?wait=1", body)[2]["status"], "running")
        self.assertEqual(self.server.call("DELETE", "/api/v1/models?repo=org/small")[0], 204)
        self.assertEqual(self.server.call("GET", "/api/v1/models/files")[2], [])
        self.assertEqual(self.server.call("DELETE", "/api/v1/models/files?repo=org/small")[0], 404)
        self.assertEqual(self.server.call("DELETE", path)[0], 204)
        self.assertEqual(self.server.call("GET", path)[0], 404)

    def test_what_cannot_be_downloaded_says_why(self):
        for body in ({}, {"repo": ""}, {"repo": "no-slash"}, {"repo": "a/b", "format": "zip"}, {"repo": "../.."}):
            self.assertEqual(self.server.call("POST", "/api/v1/models/download", body)[0], 400, body)
        job = self.server.call("POST", "/api/v1/models/download", {"repo": "org/nothing"})[2]["job_id"]
        path = f"/api/v1/models/jobs/{job}"
        self.server.until(lambda: self.server.call("GET", path)[2]["status"] == "failed")
        self.assertIn("org/nothing", self.server.call("GET", path)[2]["error"])
        self.assertEqual(self.server.call("GET", "/api/v1/models/files?node=nowhere")[0], 404)


class Cli(unittest.TestCase):
    def run_cli(self, server, *args, key=MANAGE, **more):
        return subprocess.run([INFERD, "instance", *args], capture_output=True, text=True, timeout=30,
                              check=False, env=dict(os.environ, INFERD_API_KEY=key, INFERD_URL=server.url), **more)

    def test_the_whole_life_of_an_instance(self):
        with Managed() as server:
            model = str(fake_model(server.folder, "m"))
            made = self.run_cli(server, "create", "one", "-b", "worker", "-o", f"model={model}", "-w")
            self.assertEqual((made.returncode, made.stdout), (0, "one: running\n"), made.stderr)
            self.assertRegex(self.run_cli(server, "list").stdout, r"(?m)^one +running +worker ")
            self.assertEqual(json.loads(self.run_cli(server, "list", "--json").stdout)[0]["name"], "one")
            self.assertEqual(self.run_cli(server, "stop", "one", "-w").stdout, "one: stopped\n")
            self.assertEqual(self.run_cli(server, "start", "one", "-w").stdout, "one: running\n")
            self.assertEqual(self.run_cli(server, "restart", "one").stdout, "one: restarting\n")
            self.run_cli(server, "edit", "one", "-o", "idle_timeout=3", "-o", "context_size=256", "-w")
            options = json.loads(self.run_cli(server, "show", "one").stdout)["options"]
            self.assertEqual((options["idle_timeout"], options["backend_options"]["context_size"]), (3, 256))
            self.assertIn("started at", self.run_cli(server, "logs", "one").stdout)
            self.assertEqual(len(self.run_cli(server, "logs", "one", "-n", "1").stdout.splitlines()), 1)
            self.assertEqual(self.run_cli(server, "rm", "one").stdout, "one: removed\n")
            gone_now = self.run_cli(server, "show", "one")
            self.assertEqual(gone_now.returncode != 0 and "there is no instance 'one'" in gone_now.stderr, True, gone_now)
            self.assertEqual(self.run_cli(server, "list", key="wrong").returncode, 6)
            self.assertEqual(self.run_cli(server, "frobnicate").returncode, 2)

    def test_create_from_a_command_line_and_edit_in_an_editor(self):
        with Managed() as server:
            self.run_cli(server, "create", "line", "--no-start", "--", "llama-server", "-m", "/a b.gguf", "-ngl", "7")
            options = json.loads(self.run_cli(server, "show", "line").stdout)["options"]["backend_options"]
            self.assertEqual(options, {"model": "/a b.gguf", "gpu_layers": 7})
            editor = os.path.join(server.folder, "edit.sh")
            with open(editor, "w", encoding="ascii") as file:
                file.write("#!/bin/sh\nsed -i 's/\"gpu_layers\": 7/\"gpu_layers\": 8/' \"$1\"\n")
            os.chmod(editor, 0o755)
            os.environ["VISUAL"] = editor
            self.addCleanup(os.environ.pop, "VISUAL")
            edited = self.run_cli(server, "edit", "line")
            self.assertEqual((edited.returncode, edited.stdout), (0, "line: stopped\n"), edited.stderr)
            options = json.loads(self.run_cli(server, "show", "line").stdout)["options"]["backend_options"]
            self.assertEqual(options["gpu_layers"], 8)


class Config(unittest.TestCase):
    def test_the_configuration_shows_no_secret(self):
        with Managed('[backends.vllm.environment]\nTOKEN = "very-secret"\n[nodes.far]\naddress = "http://127.0.0.1:1"\n'
                     'api_key = "node-secret"\n') as server:
            status, _, reply = server.call("GET", "/api/v1/config")
            self.assertEqual((status, reply["auth"]["management_keys"]), (200, []))
            self.assertEqual(reply["backends"]["vllm"]["environment"], {"TOKEN": "***"})
            for secret in ("very-secret", "node-secret", MANAGE, INFER):
                self.assertNotIn(secret, json.dumps(reply))
            nodes = server.call("GET", "/api/v1/nodes")[2]
            self.assertEqual(nodes["far"]["address"], "http://127.0.0.1:1")
            self.assertEqual(server.call("GET", "/api/v1/nodes/nobody")[0], 404)

    def test_commands_become_options(self):
        with Managed() as server:
            status, _, reply = server.call("POST", "/api/v1/backends/llama-cpp/parse-command",
                                           {"command": "llama-server -m '/my models/m.gguf' -ngl 16 --custom-arg test"})
            self.assertEqual((status, reply["backend_type"]), (200, "llama_cpp"))
            self.assertEqual(reply["backend_options"], {"model": "/my models/m.gguf", "gpu_layers": 16,
                                                       "extra_args": {"custom-arg": "test"}})
            for command in ("", '"unterminated', "---x"):
                self.assertEqual(server.call("POST", "/api/v1/backends/llama-cpp/parse-command", {"command": command})[0], 400)


if __name__ == "__main__":
    unittest.main()
