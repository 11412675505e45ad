"""Loading, unloading and watching models by hand (specs/inferno.md 1.5), on the fake engine."""
import concurrent.futures
import contextlib
import re
import unittest

from harness import Server, fake_model

FAST = "tokens_per_second=5000"


def load(server, model="m", **body):
    return server.call("POST", f"/v1/models/{model}/load", body or None)


def unload(server, model="m", **body):
    return server.call("POST", f"/v1/models/{model}/unload", body or None)


class Management(unittest.TestCase):
    def test_load_status_unload_as_the_document_prints_them(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            self.assertEqual(server.status("m")["status"], "unloaded")
            status, _, reply = load(server)
            self.assertEqual(status, 200)
            self.assertEqual({k: reply[k] for k in ("status", "message", "model_id", "backend")},
                             {"status": "success", "message": "Model loaded successfully", "model_id": "m",
                              "backend": "gguf"})
            self.assertRegex(reply["memory_usage"], r"^\d+(\.\d)?[GM]B$")
            self.assertEqual(reply["progress"], 100)
            server.chat("m", max_tokens=20, ignore_eos=True)
            seen = server.status("m")
            self.assertEqual(seen["status"], "loaded")
            self.assertEqual(seen["metrics"]["total_requests"], 2)
            self.assertGreater(seen["metrics"]["tokens_per_second"], 100)
            self.assertRegex(seen["metrics"]["last_used"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
            status, _, reply = unload(server)
            self.assertEqual((status, reply["status"], reply["model_id"]), (200, "success", "m"))
            self.assertGreater(reply["memory_freed_bytes"], 0)
            after = server.status("m")
            self.assertEqual(after["status"], "unloaded")
            self.assertEqual(after["metrics"]["total_requests"], 2)
            self.assertEqual(after["metrics"]["tokens_per_second"], seen["metrics"]["tokens_per_second"])
            self.assertEqual(unload(server)[2]["memory_freed_bytes"], 0)

    def test_loads_at_once_are_one_start(self):
        with Server() as server:
            fake_model(server.models, "m", FAST + ",load_ms=300")
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                replies = list(pool.map(lambda _: load(server)[0], range(8)))
            self.assertEqual(set(replies), {200})
            self.assertIn('inferd_instance_starts_total{instance="m"} 1\n', server.call("GET", "/metrics")[2])

    def test_without_waiting_progress_is_seen(self):
        with Server() as server:
            fake_model(server.models, "m", FAST + ",load_ms=1000")
            status, _, reply = load(server, wait=False)
            self.assertEqual((status, reply["status"]), (200, "loading"))
            seen = []
            server.until(lambda: seen.append(server.status("m")) or seen[-1]["status"] == "loaded")
            loading = [s for s in seen if s["status"] == "loading"]
            self.assertTrue(loading)
            self.assertEqual([s["progress"] for s in seen], sorted(s["progress"] for s in seen))
            self.assertTrue(any(s["eta"] and re.match(r"^\d+s$", s["eta"]) for s in loading), loading)
            self.assertEqual(load(server, wait=False)[2]["status"], "success")

    def test_other_settings_need_force(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            self.assertEqual(load(server, context_size=512)[0], 200)
            pid = server.status("m")["pid"]
            self.assertEqual(load(server)[0], 200)
            self.assertEqual(load(server, context_size=512)[0], 200)
            self.assertEqual(server.status("m")["pid"], pid)
            refused = load(server, context_size=1024)
            self.assertEqual((refused[0], refused[2]["error"]["code"]), (409, "conflict"))
            self.assertEqual(load(server, ttl=5, pin=True)[0], 200)  # of its life, not of its process
            self.assertEqual(server.status("m")["pid"], pid)
            self.assertEqual(load(server, context_size=1024, force=True)[0], 200)
            self.assertNotEqual(server.status("m")["pid"], pid)
            long = server.chat("m", content="word " * 120)
            self.assertEqual(long[0], 200, long)
            unload(server)
            self.assertEqual(load(server)[0], 200)

    def test_a_pinned_model_stays_when_others_need_room(self):
        with Server(config="\n[cache]\nmax_cached_models = 1\n") as server:
            fake_model(server.models, "m", FAST)
            fake_model(server.models, "other", FAST)
            load(server, pin=True)
            refused = server.chat("other")
            self.assertEqual(refused[0], 409)
            load(server, pin=False)
            self.assertEqual(server.chat("other")[0], 200)
            self.assertEqual(server.status("m")["status"], "unloaded")

    def test_an_idle_model_goes_after_its_own_time(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            load(server, ttl=1)
            server.log.wait("instance idle, stopping")
            server.until(lambda: server.status("m")["status"] == "unloaded")

    def test_unload_drains_and_force_cuts(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=100")
            with contextlib.closing(server.stream("m", max_tokens=30, ignore_eos=True)) as stream:
                stream.first_text()
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    ending = pool.submit(unload, server)
                    server.until(lambda: server.status("m")["status"] == "unloading")
                    self.assertEqual(list(stream.events())[-1], "[DONE]")
                    self.assertEqual(ending.result()[0], 200)
            with contextlib.closing(server.stream("m", max_tokens=3000, ignore_eos=True)) as stream:
                stream.first_text()
                self.assertEqual(unload(server, force=True)[0], 200)
                with self.assertRaises((EOFError, OSError)):
                    list(stream.events())

    def test_what_cannot_be(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            for path in ("load", "unload"):
                self.assertEqual(server.call("POST", f"/v1/models/nobody/{path}")[0], 404)
            self.assertEqual(server.call("GET", "/v1/models/nobody/status")[2]["error"]["code"], "model_not_found")
            for name in ("..%2f..%2fetc%2fpasswd", "../m", "%2e%2e/m", "/etc/passwd"):
                self.assertEqual(server.call("POST", f"/v1/models/{name}/load")[0], 404, name)
            for body, param in (({"context_size": "many"}, "context_size"), ({"context_size": -1}, "context_size"),
                                ({"pin": 1}, "pin"), ({"wait": "no"}, "wait"), ({"threads": 1.5}, "threads")):
                status, _, reply = load(server, **body)
                self.assertEqual((status, reply["error"]["param"]), (400, param))
            self.assertEqual(server.call("POST", "/v1/models/m/load", "{")[0], 400)
            self.assertEqual(server.call("POST", "/v1/models/m/load", "[]")[0], 400)


if __name__ == "__main__":
    unittest.main()
