"""The gateway over workers on the fake engine: life cycle, faults, disconnects, drain."""
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import DEADLINE, INFERD, Server, Stream, fake_model

SLOW = "tokens_per_second=50"
FAST = "tokens_per_second=5000"


class Starting(unittest.TestCase):
    def test_health_answers_within_moments_of_the_start(self):
        with Server(wait=False) as server:
            begin = time.monotonic()
            port = int(server.log.wait("listening  version=").rsplit(":", 1)[1])
            server.port = port
            self.assertEqual(server.call("GET", "/health")[0], 200)
            self.assertLess(time.monotonic() - begin, 2.0)

    def test_a_busy_port_is_an_error_that_names_it(self):
        with Server() as server:
            done = subprocess.run([INFERD, "serve", "--port", str(server.port), "--state-dir", server.folder + "/t"],
                                  capture_output=True, text=True, timeout=DEADLINE, check=False)
            self.assertEqual(done.returncode, 5)
            self.assertIn(str(server.port), done.stderr)
            self.assertIn("in use", done.stderr)

    def test_a_wide_bind_without_authentication_is_refused(self):
        with Server(args=["--bind", "0.0.0.0"], wait=False) as server:
            self.assertEqual(server.process.wait(DEADLINE), 3)
            self.assertIn("--insecure", server.log.text())

    def test_a_wrong_configuration_is_refused_with_line_and_name(self):
        with Server(config="\n[server]\nprot = 1\n", wait=False) as server:
            self.assertEqual(server.process.wait(DEADLINE), 3)
            self.assertIn("inferd.toml:3: unknown key 'prot' in [server]; did you mean 'port'?", server.log.text())

    def test_a_state_folder_that_cannot_be_made_is_named(self):
        with Server(args=["--state-dir", "/proc/nowhere"], wait=False) as server:
            self.assertEqual(server.process.wait(DEADLINE), 3)
            self.assertIn("/proc/nowhere", server.log.text())


class Models(unittest.TestCase):
    def test_names_find_their_model(self):
        with Server() as server:
            fake_model(server.models, "Tiny.Q4_1", FAST)
            fake_model(server.models / "org", "other", FAST)
            listed = [m["id"] for m in server.call("GET", "/v1/models")[2]["data"]]
            self.assertEqual(listed, ["Tiny.Q4_1", "other"])
            for name in ("Tiny.Q4_1", "Tiny.Q4_1.gguf", "tiny:q4_1", "tiny-q4-1"):
                self.assertEqual(server.call("GET", "/v1/models/" + name)[2]["id"], "Tiny.Q4_1", name)

    def test_an_unknown_name_is_404_with_the_nearest(self):
        with Server() as server:
            fake_model(server.models, "llama-small", FAST)
            for status, headers, body in (server.chat("lama-small"), server.call("GET", "/v1/models/lama-small")):
                self.assertEqual(status, 404)
                self.assertEqual(body["error"]["code"], "model_not_found")
                self.assertEqual(body["error"]["param"], "model")
                self.assertIn("did you mean 'llama-small'?", body["error"]["message"])
                self.assertEqual(body["error"]["details"]["available_models"], ["llama-small"])
                self.assertIn("x-request-id", headers)

    def test_names_are_never_paths(self):
        with Server() as server:
            fake_model(server.folder, "outside", FAST)
            for name in ("../outside", "../outside.gguf", f"{server.folder}/outside.gguf", "..%2Foutside", "/etc/passwd", "."):
                self.assertEqual(server.chat(name)[0], 404, name)

    def test_two_files_of_one_name_are_told_apart_by_folder(self):
        with Server() as server:
            fake_model(server.models / "a", "same", FAST)
            fake_model(server.models / "b", "same", FAST)
            ids = sorted(m["id"] for m in server.call("GET", "/v1/models")[2]["data"])
            self.assertEqual(ids, ["b/same", "same"])
            self.assertEqual(server.chat("b/same", max_tokens=1)[0], 200)
            self.assertEqual(server.call("GET", "/v1/models/b%2Fsame")[2]["id"], "b/same")
            self.assertEqual(server.call("GET", "/v1/models/b/same/status")[2]["status"], "loaded")

    def test_a_file_that_changes_is_read_again_and_one_that_goes_is_gone(self):
        with Server() as server:
            architecture = lambda: [m["inferno"]["arch"] for m in server.call("GET", "/v1/models")[2]["data"]]
            fake_model(server.models, "m", FAST, "aaaa")
            self.assertEqual(architecture(), ["aaaa"])
            fake_model(server.models, "m", FAST, "bbbb") # as large as before
            self.assertEqual(architecture(), ["bbbb"])
            (server.models / "m.gguf").unlink()
            self.assertEqual(architecture(), [])

    def test_a_broken_file_says_why_and_harms_nobody(self):
        with Server() as server:
            good = fake_model(server.models, "good", FAST).read_bytes()
            (server.models / "cut.gguf").write_bytes(good[:40])
            (server.models / "noise.gguf").write_bytes(os.urandom(5000))
            (server.models / "empty.gguf").write_bytes(b"")
            for name in ("cut", "noise", "empty"):
                status, headers, body = server.chat(name)
                self.assertEqual(status, 503, body)
                self.assertEqual(body["error"]["code"], "model_load_failed")
                self.assertIn(name + ".gguf", body["error"]["message"])
                self.assertEqual(headers["x-should-retry"], "false")
            self.assertEqual(server.chat("good", max_tokens=1)[0], 200)

    def test_a_body_must_name_a_model(self):
        with Server() as server:
            for body, param in (({}, "model"), ({"model": None}, "model"), ({"model": 5}, "model"), ({"model": ""}, "model"),
                                ({"model": "x" * 513}, "model"), ("{", None), ("[]", None), ("", None)):
                status, _, reply = server.call("POST", "/v1/chat/completions", body)
                self.assertEqual((status, reply["error"]["param"]), (400, param), reply)


class Shards(unittest.TestCase):
    def test_shards_are_one_model_and_a_missing_one_is_named(self):
        with Server() as server:
            whole = fake_model(server.models, "big", FAST).read_bytes()
            for number in (1, 2):
                (server.models / f"big-0000{number}-of-00002.gguf").write_bytes(whole)
                (server.models / f"torn-0000{number}-of-00003.gguf").write_bytes(whole)
            (server.models / "big.gguf").unlink()
            listed = {m["id"]: m["inferno"] for m in server.call("GET", "/v1/models")[2]["data"]}
            self.assertEqual(sorted(listed), ["big", "torn"])
            self.assertEqual(listed["big"]["size_bytes"], 2 * len(whole))
            self.assertEqual(server.chat("big", max_tokens=1)[0], 200)
            status, _, body = server.chat("torn")
            self.assertEqual(status, 503)
            self.assertIn("torn-00003-of-00003.gguf", body["error"]["message"])


class Upstream(unittest.TestCase):
    """A model that is somebody else's server."""

    def test_bodies_and_replies_pass_byte_for_byte(self):
        seen = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                seen["body"] = self.rfile.read(int(self.headers["Content-Length"]))
                seen["headers"], seen["path"] = dict(self.headers), self.path
                reply = b'{ "odd" :\t"\xc3\xa9" }\r\n'
                self.send_response(200)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(reply)))
                self.send_header("X-Backend", "yes")
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *unused):
                pass

        backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        config = f'[models."org/x:y"]\nupstream = "http://127.0.0.1:{backend.server_port}"\n'
        with Server(config=config) as server:
            body = b' {"unknown":[1e2, {"model":"no"}],"m\\u006fdel" : "org\\/x:y",  "messages":[]}\n'
            connection = server.connection()
            connection.request("POST", "/v1/chat/completions?a=b", body,
                               {"Content-Type": "application/json", "Authorization": "Bearer secret", "X-Request-Id": "mine-1"})
            reply = connection.getresponse()
            self.assertEqual(reply.read(), b'{ "odd" :\t"\xc3\xa9" }\r\n')
            self.assertEqual((reply.getheader("X-Backend"), reply.getheader("x-request-id")), ("yes", "mine-1"))
            connection.close()
            self.assertEqual(seen["body"], body)
            self.assertEqual(seen["path"], "/v1/chat/completions?a=b")
            self.assertNotIn("Authorization", seen["headers"])
            self.assertNotIn("secret", server.log.text())
            backend.shutdown()
            backend.server_close()
            status, _, reply = server.call("POST", "/v1/chat/completions", {"model": "org/x:y"})
            self.assertEqual((status, reply["error"]["code"]), (502, "bad_gateway"))


class Life(unittest.TestCase):
    def test_concurrent_first_requests_share_one_load(self):
        with Server() as server:
            fake_model(server.models, "m", FAST + ",load_ms=300")
            statuses = []
            threads = [threading.Thread(target=lambda: statuses.append(server.chat("m", max_tokens=2)[0])) for _ in range(40)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(statuses, [200] * 40)
            self.assertEqual(server.log.count("instance starting"), 1)

    def test_a_failed_load_is_told_at_once_to_all_who_wait(self):
        with Server() as server:
            fake_model(server.models, "m", "nonsense=1")
            status, headers, body = server.chat("m")
            self.assertEqual(status, 503, body)
            self.assertEqual(body["error"]["code"], "model_load_failed")
            self.assertIn("nonsense", body["error"]["message"])
            self.assertEqual(server.status("m")["status"], "error")

    def test_a_crash_is_a_retryable_error_and_the_model_comes_back(self):
        with Server() as server:
            fake_model(server.models, "m", SLOW)
            stream = server.stream("m", max_tokens=1000)
            stream.first_text()
            os.kill(server.status("m")["pid"], signal.SIGKILL)
            with self.assertRaises((EOFError, ConnectionError, ValueError)):
                for _ in stream.events():
                    pass
            stream.close()
            server.log.wait("will be started again")
            status, _, body = server.chat("m", max_tokens=2)
            self.assertEqual(status, 200, body)
            self.assertEqual(server.log.count("instance starting"), 2)

    def test_a_crash_before_the_first_byte_is_503_with_retry(self):
        with Server() as server:
            fake_model(server.models, "m", FAST + ",prefill=100")
            self.assertEqual(server.chat("m", max_tokens=1)[0], 200)
            replies = []
            thread = threading.Thread(target=lambda: replies.append(server.chat("m", "long " * 200, max_tokens=5)))
            thread.start()
            server.until(lambda: server.status("m")["active_requests"] == 1)
            os.kill(server.status("m")["pid"], signal.SIGKILL)
            thread.join()
            status, headers, body = replies[0]
            self.assertEqual((status, body["error"]["code"]), (503, "model_crashed"))
            self.assertEqual(headers["x-should-retry"], "true")
            self.assertIn("Retry-After", headers)

    def test_an_idle_model_is_unloaded_and_comes_back(self):
        with Server(config="[cache]\nmodel_ttl_seconds = 1\n") as server:
            fake_model(server.models, "m", FAST)
            self.assertEqual(server.chat("m", max_tokens=1)[0], 200)
            server.log.wait("instance stopped")
            self.assertEqual(server.status("m")["status"], "unloaded")
            self.assertEqual(server.chat("m", max_tokens=1)[0], 200)

    def test_two_models_take_turns_under_a_limit_of_one(self):
        with Server(config="[cache]\nmax_cached_models = 1\n") as server:
            fake_model(server.models, "a", FAST)
            fake_model(server.models, "b", FAST)
            for _ in range(5):
                for name in ("a", "b"):
                    status, _, body = server.chat(name, max_tokens=3)
                    self.assertEqual(status, 200, body)

    def test_a_busy_model_is_never_unloaded_for_another(self):
        with Server(config="[cache]\nmax_cached_models = 1\n") as server:
            fake_model(server.models, "a", "tokens_per_second=100")
            fake_model(server.models, "b", FAST)
            stream = server.stream("a", max_tokens=60)
            stream.first_text()
            replies = []
            thread = threading.Thread(target=lambda: replies.append(server.chat("b", max_tokens=1)[0]))
            thread.start()
            server.until(lambda: server.status("b")["queued_requests"] == 1)
            events = list(stream.events())
            self.assertEqual(events[-1], "[DONE]")
            self.assertEqual(json.loads(events[-2])["choices"][0]["finish_reason"], "length")
            stream.close()
            thread.join()
            self.assertEqual(replies, [200])

    def test_what_cannot_fit_is_refused_before_anything_is_unloaded(self):
        with Server(config="[cache]\nmax_memory_mb = 8\n") as server:
            fake_model(server.models, "m", FAST)
            status, headers, body = server.chat("m")
            self.assertEqual((status, body["error"]["code"]), (503, "insufficient_memory"))
            self.assertEqual(headers["x-should-retry"], "false")
            self.assertEqual(server.log.count("instance starting"), 0)

    def test_loading_and_unloading_by_hand(self):
        with Server(config="[cache]\nauto_load = false\n") as server:
            fake_model(server.models, "m", FAST)
            status, _, body = server.chat("m")
            self.assertEqual((status, body["error"]["code"]), (400, "model_not_loaded"))
            status, _, body = server.call("POST", "/v1/models/m/load")
            self.assertEqual((status, body["status"], body["message"]), (200, "success", "Model loaded successfully"))
            self.assertEqual(server.chat("m", max_tokens=1)[0], 200)
            status, _, body = server.call("POST", "/v1/models/m/unload")
            self.assertEqual((status, body["status"]), (200, "success"))
            self.assertGreater(body["memory_freed_bytes"], 0)
            status, _, body = server.call("POST", "/v1/models/m/unload")
            self.assertEqual((status, body["memory_freed_bytes"]), (200, 0))

    def test_workers_do_not_outlive_a_killed_server(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            server.chat("m", max_tokens=1)
            pid = server.status("m")["pid"]
            server.process.kill()
            server.process.wait()
            server.until(lambda: not pathlib.Path(f"/proc/{pid}").exists() or
                         "Z" in pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0])


class Streams(unittest.TestCase):
    def test_a_client_that_leaves_frees_its_sequence(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=200,prefill=500")
            server.chat("m", max_tokens=1)
            for content, wait in (("hi", True), ("word " * 100, False)): # while decoding, while prefilling
                stream = server.stream("m", content, max_tokens=100000)
                if wait:
                    stream.first_text()
                server.until(lambda: any(slot["is_processing"] for slot in server.slots()))
                stream.close()
                server.until(lambda: not any(slot["is_processing"] for slot in server.slots()), 5)

    def test_a_slow_reader_stops_its_own_sequence_only(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=20000,context=200000")
            slow = Stream(server.port, "/v1/completions", {"model": "m", "prompt": "x", "stream": True, "max_tokens": 100000})
            slow.head()
            for _ in range(3):
                self.assertEqual(server.chat("m", max_tokens=50)[0], 200)
            slow.close()
            server.until(lambda: not any(slot["is_processing"] for slot in server.slots()), 5)

    def test_headers_of_a_stream(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            stream = server.stream("m", max_tokens=2)
            stream.head()
            self.assertTrue(stream.headers["content-type"].startswith("text/event-stream"))
            self.assertIn("no-cache", stream.headers["cache-control"])
            self.assertEqual(stream.headers["x-accel-buffering"], "no")
            self.assertEqual(list(stream.events())[-1], "[DONE]")
            stream.close()


class Ending(unittest.TestCase):
    def test_running_streams_end_properly_new_work_is_refused(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=100")
            stream = server.stream("m", max_tokens=100)
            stream.first_text()
            kept = server.connection()
            kept.request("GET", "/health")
            kept.getresponse().read()
            server.process.send_signal(signal.SIGTERM)
            server.log.wait("draining")
            with self.assertRaises(OSError):
                socket.create_connection(("127.0.0.1", server.port), 2).close()
            events = list(stream.events())
            self.assertEqual(events[-1], "[DONE]")
            stream.close()
            self.assertEqual(server.process.wait(DEADLINE), 0)

    def test_the_second_signal_ends_at_once(self):
        with Server() as server:
            fake_model(server.models, "m", SLOW)
            stream = server.stream("m", max_tokens=100000)
            stream.first_text()
            server.process.send_signal(signal.SIGTERM)
            server.log.wait("draining")
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(10), 0)
            stream.close()


if __name__ == "__main__":
    unittest.main()
