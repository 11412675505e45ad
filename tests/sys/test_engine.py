"""The engine's promises over HTTP: prefixes that outlive a worker, users who share it (issue texts; DESIGN section 6)."""
import os
import threading
import unittest

from harness import Server, Worker, fake_model

LONG = "a beginning that many requests have in common, and that is long enough to be worth keeping; "


def cached(reply):
    return reply["usage"]["prompt_tokens_details"]["cached_tokens"]


class Prefixes(unittest.TestCase):
    def test_a_prefix_outlives_an_unload_and_a_restart(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=5000")

            def ask():
                body = {"model": "m", "prompt": LONG + "|", "max_tokens": 3, "temperature": 0}
                return server.call("POST", "/v1/completions", body)[2]
            self.assertEqual(cached(ask()), 0)
            self.assertEqual(cached(ask()), len(LONG))
            self.assertEqual(server.call("POST", "/v1/models/m/unload", {})[0], 200)
            self.assertEqual(server.status("m")["status"], "unloaded")
            self.assertEqual(cached(ask()), len(LONG))
            folder = os.path.join(server.folder, "s", "kv")
            files = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
            self.assertEqual(len(files), 1)
            self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)
            self.assertEqual(os.stat(files[0]).st_mode & 0o777, 0o600)
            with open(files[0], "r+b") as file: # torn: it is found out, and the prompt is read anew
                file.truncate(os.path.getsize(files[0]) - 1)
            server.call("POST", "/v1/models/m/unload", {"force": True})
            self.assertIn(cached(ask()), (0, len(LONG))) # the unload has written it again, or not
            self.assertEqual(ask()["choices"][0]["text"], LONG[:3])

    def test_nothing_is_written_when_it_is_not_wanted(self):
        with Server(config="[backend_config]\nkv_disk_mb = 0\n") as server:
            fake_model(server.models, "m", "tokens_per_second=5000")
            server.call("POST", "/v1/completions", {"model": "m", "prompt": LONG + "|", "max_tokens": 3})
            server.call("POST", "/v1/models/m/unload", {})
            self.assertFalse(os.path.exists(os.path.join(server.folder, "s", "kv")))


class Pages(unittest.TestCase):
    def tunables(self, **options):
        with Server(**options) as server:
            fake_model(server.models, "m", "")
            self.assertEqual(server.chat("m", max_tokens=1)[0], 200)
            with open(f"/proc/{server.status('m')['pid']}/environ", encoding="utf-8") as file:
                return [entry for entry in file.read().split("\0") if entry.startswith("GLIBC_TUNABLES=")]

    def test_workers_ask_for_large_pages_unless_told_otherwise(self):
        self.assertEqual(self.tunables(), ["GLIBC_TUNABLES=glibc.malloc.hugetlb=1"])
        own = "glibc.malloc.arena_max=2"
        self.assertEqual(self.tunables(env={"GLIBC_TUNABLES": own}), ["GLIBC_TUNABLES=" + own])


class Users(unittest.TestCase):
    """Two keys; one sends thirty requests to a model with two sequences, the other one."""

    def first_of(self, server, keys):
        order = []

        def send(key, prompt):
            server.call("POST", "/v1/completions", {"model": "m", "prompt": prompt, "max_tokens": 30}, {"Authorization": f"Bearer {key}"})
            order.append(key)
        threads = [threading.Thread(target=send, args=(keys[0], f"many {i}|")) for i in range(30)]
        for thread in threads:
            thread.start()
        server.until(lambda: sum(slot["is_processing"] for slot in server.slots()) == 2)
        send(keys[1], "one|")
        place = order.index(keys[1])
        for thread in threads:
            thread.join()
        return place

    def test_one_request_does_not_stand_behind_thirty(self):
        config = '[auth]\nrequire_inference_auth = true\nmanagement_keys = ["boss"]\n'
        with Server(config=config) as server:
            fake_model(server.models, "m", "tokens_per_second=200,sequences=2")
            boss = {"Authorization": "Bearer boss"}
            keys = [server.call("POST", "/v1/auth/keys", {"name": name, "permissions": ["inference"]}, boss)[2]["api_key"] for name in "ab"]
            server.call("POST", "/v1/completions", {"model": "m", "prompt": "load|", "max_tokens": 1}, boss)
            self.assertLess(self.first_of(server, keys), 8)


class Interrupted(unittest.TestCase):
    def test_metrics_tell_of_states_and_steps(self):
        with Worker("tokens_per_second=5000") as worker:
            worker.complete(LONG + "|", max_tokens=3)
            metrics = worker.metrics()
            for name in ("preempted_total", "interrupted_total", "kv_kept_total", "kv_restored_total", "kv_memory_bytes", "cells_idle"):
                self.assertIn(name, metrics)


if __name__ == "__main__":
    unittest.main()
