"""Downloads against a hub on loopback that cuts, lies, stalls and refuses. The program under test is the driver of
tests/tools/fetch_driver.c, one process a hub."""
import contextlib
import json
import os
import pathlib
import queue
import random
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

from hub import Hub, Repo, lfs_hash

DRIVER = os.environ.get("FETCH_DRIVER", str(pathlib.Path(__file__).resolve().parents[2] / "build/tests/fetch_driver"))
DEADLINE = 30.0
MIB = 1 << 20
ENVIRONMENT = ("LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_TOKEN", "http_proxy",
               "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


class Driver:
    def __init__(self, endpoint, cache, env=None):
        environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
        environment.update({"HF_ENDPOINT": endpoint, "LLAMA_CACHE": str(cache), **(env or {})})
        self.process = subprocess.Popen([DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=environment)
        self.events, self.seen, self.errors = queue.Queue(), [], []
        self.threads = [threading.Thread(target=self.read_events), threading.Thread(target=self.read_errors)]
        for thread in self.threads:
            thread.start()

    def read_events(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put(None)

    def read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line.decode(errors="replace"))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.close()
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            for thread in self.threads:
                thread.join()
            self.process.stdout.close()
            self.process.stderr.close()
        log = "".join(self.errors)
        if "Sanitizer" in log or self.process.returncode not in (0, -9):
            raise AssertionError(f"exit {self.process.returncode}\n{log[-4000:]}")

    def wait(self, wanted, deadline=DEADLINE):
        """The next event that wanted(event) accepts; all are kept in seen."""
        end = time.monotonic() + deadline
        while True:
            event = self.events.get(timeout=max(0.001, end - time.monotonic()))
            if event is None:
                raise AssertionError("the driver ended\n" + "".join(self.errors))
            self.seen.append(event)
            if wanted(event):
                return event

    def say(self, text, *answers):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return self.wait(lambda event: event["event"] in answers)

    def start(self, repo="org/model", tag="-", format="gguf"):
        return self.say(f"start {repo} {tag} {format}", "started", "refused")

    def ended(self, job, deadline=DEADLINE):
        return self.wait(lambda event: event["event"] == "change" and event["id"] == job["id"] and
                         event["status"] not in ("queued", "downloading"), deadline)

    def fetch(self, *args, **kwargs):
        return self.ended(self.start(*args, **kwargs))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def cached(self):
        return self.say("cached", "cached")["models"]

    def log(self):
        return "".join(self.errors)


class Downloads(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="inferd-fetch-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.cache = self.folder / "cache"
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def hub(self, repo=None, **repos):
        return self.stack.enter_context(Hub({"org/model": repo, **repos}))

    def driver(self, hub, env=None, cache=None):
        return self.stack.enter_context(Driver(hub.url, cache or self.cache, env))

    def blob(self, data):
        return self.cache / "models--org--model/blobs" / lfs_hash(data)

    def part(self, data):
        return self.blob(data).with_name(lfs_hash(data) + ".incomplete")

    def check_progress(self, driver):
        for event in driver.seen:
            if "total" in event and event["total"]:
                self.assertLessEqual(event["done"], event["total"])

    # ---- the good case ----

    def test_a_repository_arrives_in_the_layout_of_the_hub_tools(self):
        weights, template = noise(3 * MIB + 17), b"{{ x }}"
        repo = Repo({"sub/model-Q4_K_M.gguf": weights, "model-Q8_0.gguf": noise(99, 2), "mmproj-F16.gguf": noise(70000, 3),
                     "chat.jinja": template, "preset.ini": b"[*]\n", "README.md": b"read me"},
                    small=("chat.jinja", "preset.ini", "README.md"), page=2)
        hub = self.hub(repo)
        driver = self.driver(hub, {"HF_TOKEN": "hf_secret"})
        job = driver.fetch()
        self.assertEqual((job["status"], job["problem"]), ("completed", ""))
        total = len(weights) + 70000 + len(template) + 4
        self.assertEqual((job["done"], job["total"]), (total, total))
        root = self.cache / "models--org--model"
        path = pathlib.Path(job["model_path"])
        self.assertEqual(path, root / "snapshots" / repo.commit / "sub/model-Q4_K_M.gguf")
        self.assertEqual(os.readlink(path), f"../../../blobs/{lfs_hash(weights)}")
        self.assertEqual(path.read_bytes(), weights)
        self.assertEqual((root / "refs/main").read_text(), repo.commit)
        self.assertEqual((root / "snapshots" / repo.commit / "chat.jinja").read_bytes(), template)
        self.assertFalse((root / "snapshots" / repo.commit / "README.md").exists())
        self.assertEqual(hub.asked("model-Q8_0.gguf"), [])
        self.assertEqual([p.name for p in (root / "blobs").glob("*.incomplete")], [])
        self.assertTrue(all(r["authorization"] == "Bearer hf_secret" for r in hub.requests))
        self.assertGreater(len(hub.asked(repo.commit)), 2) # pages
        self.check_progress(driver)
        [model] = driver.cached()
        self.assertEqual((model["repo"], model["tag"], model["bytes"]), ("org/model", "", total))
        self.assertEqual({f["name"]: f["kind"] for f in model["files"]},
                         {"sub/model-Q4_K_M.gguf": "gguf", "mmproj-F16.gguf": "mmproj", "chat.jinja": "other",
                          "preset.ini": "preset"})
        self.assertNotIn("hf_secret", driver.log())
        sent = sum(hub.sent.values())
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual(sum(hub.sent.values()), sent) # nothing comes twice

    def test_many_files_come_five_at_a_time(self):
        files = {f"m-{i:05}-of-00012.gguf": noise(2000 + i, i) for i in range(1, 13)}
        hub = self.hub(Repo(files))
        for name in list(files)[:6]:
            hub.faults[name] = [{"hold": 100}]
        driver = self.driver(hub)
        job = driver.start()
        for name in list(files)[:5]:
            hub.held(name)
        self.assertEqual(hub.held_paths["m-00006-of-00012.gguf"], 0)
        hub.release()
        self.assertEqual(driver.ended(job)["status"], "completed")
        self.assertEqual(driver.cached()[0]["bytes"], sum(map(len, files.values())))

    def test_safetensors_take_what_stands_beside_them(self):
        hub = self.hub(Repo({"model.safetensors": b"s" * 100, "pytorch_model.bin": b"b", "config.json": b"{}", "x.gguf": b"g"},
                            small=("config.json",)))
        driver = self.driver(hub)
        job = driver.fetch(format="safetensors")
        self.assertEqual((job["status"], job["total"]), ("completed", 102))
        self.assertEqual(driver.start(tag="Q4_0", format="safetensors")["code"], "invalid_parameters")

    def test_the_same_job_is_not_made_twice_and_two_jobs_share_a_blob(self):
        weights = noise(2 * MIB)
        hub = self.hub(Repo({"a-Q4_0.gguf": weights, "b-Q8_0.gguf": weights}))
        hub.faults["a-Q4_0.gguf"] = [{"hold": MIB}]
        driver = self.driver(hub)
        first = driver.start(tag="Q4_0")
        hub.held("a-Q4_0.gguf")
        self.assertEqual(driver.start("org/model:q4_0")["id"], first["id"])
        second = driver.start(tag="Q8_0")
        self.assertNotEqual(second["id"], first["id"])
        hub.release()
        ends = {}
        while len(ends) < 2:
            event = driver.wait(lambda e: e["event"] == "change" and e["status"] in ("completed", "failed"))
            ends[event["id"]] = event
        self.assertEqual([e["status"] for e in ends.values()], ["completed", "completed"])
        self.assertLessEqual(sum(hub.sent.values()), len(weights)) # one of them fetched, the other found
        self.assertEqual({m["tag"] for m in driver.cached()}, {"Q4_0", "Q8_0"})
        self.assertEqual(driver.say("remove org/model Q4_0", "removed", "refused")["event"], "removed")
        self.assertTrue(self.blob(weights).exists()) # the other still links to it
        self.assertEqual([m["tag"] for m in driver.cached()], ["Q8_0"])
        self.assertEqual(driver.say("remove org/model Q8_0", "removed", "refused")["event"], "removed")
        self.assertFalse((self.cache / "models--org--model").exists())
        self.assertEqual(driver.say("remove org/model -", "removed", "refused")["code"], "not_found")

    def test_more_jobs_than_may_run_wait_their_turn(self):
        repos = {f"org/m{i}": Repo({"m.gguf": noise(1000, i)}) for i in range(6)}
        hub = self.stack.enter_context(Hub(repos))
        hub.faults["m.gguf"] = [{"hold": 10}] * 4
        driver = self.driver(hub)
        jobs = [driver.start(name) for name in repos]
        hub.held("m.gguf", 4)
        listed = driver.say("list", "list")["jobs"]
        self.assertEqual([j["id"] for j in listed], [j["id"] for j in reversed(jobs)])
        self.assertEqual([j["status"] for j in listed], ["queued"] * 2 + ["downloading"] * 4)
        driver.say(f"cancel {jobs[5]['id']}", "cancel")
        self.assertEqual(driver.say("list", "list")["jobs"][0]["status"], "cancelled")
        hub.release()
        done = set()
        while len(done) < 5:
            event = driver.wait(lambda e: e["event"] == "change" and e["status"] != "downloading")
            self.assertEqual(event["status"], "completed")
            done.add(event["id"])

    # ---- breaks ----

    def test_a_cut_connection_is_taken_up_where_it_broke(self):
        weights = noise(4 * MIB)
        hub = self.hub(Repo({"m.gguf": weights}))
        hub.faults["m.gguf"] = [{"cut": 3 * MIB}]
        driver = self.driver(hub)
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual(hub.sent["m.gguf"], len(weights))
        self.assertEqual([r["range"] for r in hub.asked("m.gguf")], [None, f"bytes={3 * MIB}-"])
        self.assertEqual(self.blob(weights).read_bytes(), weights)
        self.check_progress(driver)

    def test_a_cancelled_job_leaves_its_part_and_the_next_one_goes_on(self):
        weights = noise(3 * MIB)
        hub = self.hub(Repo({"m.gguf": weights}))
        hub.faults["m.gguf"] = [{"hold": 2 * MIB}]
        driver = self.driver(hub)
        job = driver.start()
        hub.held("m.gguf")
        driver.wait(lambda event: event.get("done") == 2 * MIB)
        begun = time.monotonic()
        driver.say(f"cancel {job['id']}", "cancel")
        end = driver.ended(job)
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual((end["status"], end["problem"]), ("cancelled", ""))
        self.assertFalse(self.blob(weights).exists())
        self.assertEqual(self.part(weights).stat().st_size, 2 * MIB)
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual(hub.asked("m.gguf")[1]["range"], f"bytes={2 * MIB}-")
        self.assertEqual(hub.sent["m.gguf"], 3 * MIB)
        self.assertTrue(driver.say(f"cancel {job['id']}", "cancel")["found"]) # forgotten now
        self.assertFalse(driver.say(f"cancel {job['id']}", "cancel")["found"])

    def test_kill_in_the_middle_and_start_again(self):
        weights = noise(3 * MIB)
        hub = self.hub(Repo({"m.gguf": weights}))
        hub.faults["m.gguf"] = [{"hold": 2 * MIB}]
        driver = self.driver(hub)
        driver.start()
        hub.held("m.gguf")
        driver.wait(lambda event: event.get("done") == 2 * MIB)
        driver.kill()
        again = self.driver(hub)
        self.assertEqual(again.fetch()["status"], "completed")
        self.assertEqual(hub.sent["m.gguf"], 3 * MIB)
        self.assertEqual(self.blob(weights).read_bytes(), weights)

    def test_the_program_may_end_in_the_middle(self):
        hub = self.hub(Repo({"m.gguf": noise(MIB)}))
        hub.faults["m.gguf"] = [{"hold": 1000}]
        with Driver(hub.url, self.cache) as driver:
            driver.start()
            hub.held("m.gguf")
            driver.process.stdin.close()
            driver.wait(lambda event: event["event"] == "freed", 5)

    def test_a_whole_file_in_answer_to_a_range_is_not_appended(self):
        weights = noise(2 * MIB)
        hub = self.hub(Repo({"m.gguf": weights}))
        hub.faults["m.gguf"] = [{"cut": MIB}, {"whole": True}]
        driver = self.driver(hub)
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual(len(hub.asked("m.gguf")), 2)
        self.assertEqual(self.blob(weights).read_bytes(), weights)
        self.check_progress(driver)

    def test_a_wrong_range_empties_the_part(self):
        weights = noise(2 * MIB)
        hub = self.hub(Repo({"m.gguf": weights}))
        hub.faults["m.gguf"] = [{"cut": MIB}, {"range": (100, MIB)}]
        driver = self.driver(hub)
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual([r["range"] for r in hub.asked("m.gguf")], [None, f"bytes={MIB}-", None])
        self.assertEqual(self.blob(weights).read_bytes(), weights)

    def test_a_stall_is_given_up_and_taken_up_again(self):
        weights = noise(2 * MIB)
        hub = self.hub(Repo({"m.gguf": weights}))
        hub.faults["m.gguf"] = [{"hold": MIB}]
        driver = self.driver(hub)
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual(hub.sent["m.gguf"], len(weights))

    def test_passing_trouble_is_waited_for_and_lasting_trouble_is_told(self):
        hub = self.hub(Repo({"m.gguf": b"w" * 100}))
        hub.faults["refs"] = [{"status": 503}]
        hub.faults["tree"] = [{"status": 429, "headers": {"Retry-After": "1"}}]
        hub.faults["m.gguf"] = [{"status": 503}, {"status": 503}]
        driver = self.driver(hub)
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual(len(hub.asked("m.gguf")), 3)
        hub.faults["refs"] = [{"status": 500}] * 6
        end = driver.fetch(tag="q1")
        self.assertEqual(end["status"], "failed")
        self.assertIn("answered 500", end["problem"])

    # ---- lies ----

    def test_a_wrong_hash_never_lands(self):
        weights = noise(MIB)
        hub = self.hub(Repo({"m.gguf": weights}), **{"org/small": Repo({"s.gguf": b"right"}, small=("s.gguf",))})
        hub.faults["m.gguf"] = [{"body": noise(MIB, 2)}]
        driver = self.driver(hub)
        end = driver.fetch()
        self.assertEqual(end["status"], "failed")
        self.assertIn("announced hash", end["problem"])
        self.assertFalse(self.blob(weights).exists())
        self.assertFalse(self.part(weights).exists())
        self.assertEqual(driver.fetch()["status"], "completed")
        hub.faults["s.gguf"] = [{"body": b"wrong"}] # git's hash counts too
        self.assertIn("announced hash", driver.fetch("org/small")["problem"])
        self.assertEqual(driver.fetch("org/small")["status"], "completed")

    def test_a_damaged_part_is_fetched_anew(self):
        weights = noise(2 * MIB)
        hub = self.hub(Repo({"m.gguf": weights}))
        for damaged in (b"\0" * MIB, b"\0" * len(weights), weights + b"more"):
            self.part(weights).parent.mkdir(parents=True, exist_ok=True)
            self.part(weights).write_bytes(damaged)
            driver = self.driver(hub)
            self.assertEqual(driver.fetch()["status"], "completed")
            self.assertEqual(self.blob(weights).read_bytes(), weights)
            self.check_progress(driver)
            self.blob(weights).unlink()

    def test_a_finished_part_needs_no_request(self):
        weights = noise(MIB)
        hub = self.hub(Repo({"m.gguf": weights}))
        self.part(weights).parent.mkdir(parents=True)
        self.part(weights).write_bytes(weights)
        self.assertEqual(self.driver(hub).fetch()["status"], "completed")
        self.assertEqual(hub.asked("m.gguf"), [])

    def test_more_bytes_than_announced_are_refused(self):
        hub = self.hub(Repo({"m.gguf": b"w" * 1000}))
        hub.faults["m.gguf"] = [{"body": b"w" * 2000}]
        self.assertIn("longer than", self.driver(hub).fetch()["problem"])

    def test_hostile_paths_are_refused(self):
        repo = Repo({"m.gguf": b"w"})
        hub = self.hub(repo)
        driver = self.driver(hub)
        for path in ("../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "a\\evil.gguf", "a\nb.gguf", "a//b.gguf",
                     "./a.gguf", "x" * 256 + ".gguf", "a/", "", "d/" * 20 + "x.gguf"):
            repo.extra = [{"type": "file", "path": path, "oid": "0" * 40, "size": 1}]
            end = driver.fetch()
            self.assertEqual(end["status"], "failed", path)
            self.assertIn("path is not allowed", end["problem"])
        repo.extra = [{"type": "file", "path": "a\0b", "oid": "0" * 40, "size": 1}]
        self.assertEqual(driver.fetch()["status"], "failed")
        for bad in ({"oid": "../../../x", "size": 1}, {"oid": "0" * 40, "size": -1}, {"oid": "0" * 40, "size": 1 << 62}):
            repo.extra = [{"type": "file", "path": "b.gguf", **bad}]
            self.assertIn("without a usable", driver.fetch()["problem"])
        repo.extra, repo.commit = [], "../../x"
        self.assertIn("no commit", driver.fetch()["problem"])
        self.assertEqual([p.name for p in self.folder.rglob("*evil*")], [])

    def test_a_file_is_not_written_through_the_link_of_another(self):
        repo = Repo({"a.gguf": b"w" * 10, "a.gguf/b.jinja": b"t"})
        end = self.driver(self.hub(repo)).fetch()
        self.assertEqual(end["status"], "failed")
        self.assertIn("cannot be linked", end["problem"])

    def test_names_are_checked_before_a_job_exists(self):
        driver = self.driver(self.hub(Repo({"m.gguf": b"w"})))
        for repo in ("model", "org/", "/model", "org/a/b", "../model", "org/..", "org/a--b", "org/.a", "a/b?c", "o/" + "m" * 97):
            self.assertEqual(driver.start(repo).get("code"), "invalid_parameters", repo)
        self.assertEqual(driver.start("org/model:../x").get("code"), "invalid_parameters")
        self.assertEqual(driver.start("org/model:Q4_0", "Q8_0").get("code"), "invalid_parameters")
        self.assertEqual(driver.say("list", "list")["jobs"], [])

    # ---- rights ----

    def test_refusals_are_not_repeated_and_say_what_to_do(self):
        hub = self.hub(Repo({"m.gguf": b"w"}))
        driver = self.driver(hub)
        for status, text in ((401, "set HF_TOKEN"), (403, "set HF_TOKEN"), (404, "no repository")):
            hub.faults["m.gguf"] = [{"status": status}]
            before = len(hub.asked("m.gguf"))
            self.assertIn(text, driver.fetch()["problem"])
            self.assertEqual(len(hub.asked("m.gguf")), before + 1)
        hub.faults["refs"] = [{"status": 401}]
        self.assertIn("set HF_TOKEN", driver.fetch()["problem"])
        self.assertIn("no repository org/none", driver.fetch("org/none")["problem"])

    def test_the_token_does_not_go_to_another_host(self):
        weights = noise(MIB)
        other = self.stack.enter_context(Hub({"org/model": Repo({"m.gguf": weights})}, host="localhost"))
        hub = self.hub(Repo({"m.gguf": weights}))
        driver = self.driver(hub, {"HF_TOKEN": "hf_secret"})
        there = f"{other.url}/org/model/resolve/{'a' * 40}/m.gguf"
        hub.faults["m.gguf"] = [{"redirect": there}, {"redirect": there}]
        other.faults["m.gguf"] = [{"cut": 5000}]
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual([r["authorization"] for r in other.requests], [None, None])
        self.assertEqual([r["range"] for r in other.requests], [None, "bytes=5000-"])
        self.assertEqual({r["authorization"] for r in hub.requests}, {"Bearer hf_secret"})
        self.assertEqual(self.blob(weights).read_bytes(), weights)

    def test_a_token_of_another_kind_is_ignored(self):
        for token in ("sk-secret", "hf_a b", "hf_"):
            hub = self.hub(Repo({"m.gguf": b"w"}))
            driver = self.driver(hub, {"HF_TOKEN": token})
            self.assertEqual(driver.fetch()["status"], "completed")
            self.assertEqual({r["authorization"] for r in hub.requests}, {None})
            self.assertIn("token is ignored", driver.log())
            self.assertNotIn("secret", driver.log())

    def test_a_proxy_of_the_environment_is_used(self):
        hub = self.hub(Repo({"m.gguf": b"w" * 100}))
        driver = self.stack.enter_context(Driver("http://hub.invalid", self.cache, {"http_proxy": hub.url}))
        self.assertEqual(driver.fetch()["status"], "completed")
        self.assertEqual({r["host"] for r in hub.requests}, {"hub.invalid"})

    def test_a_certificate_that_nobody_vouches_for_ends_it_at_once(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.folder / "key",
                        "-out", self.folder / "cert"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "cert", self.folder / "key")
        hub = self.stack.enter_context(Hub({"org/model": Repo({"m.gguf": b"w"})}, tls=context))
        end = self.driver(hub, {"HF_TOKEN": "hf_secret"}).fetch()
        self.assertEqual((end["status"], hub.requests), ("failed", []))
        self.assertIn("certificate", end["problem"])

    # ---- the disk ----

    @unittest.skipUnless(os.geteuid() == 0, "mounting needs root")
    def test_a_full_disk_is_told_before_anything_is_fetched(self):
        disk = self.folder / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, capture_output=True).returncode:
            self.skipTest("no tmpfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], check=False)
        hub = self.hub(Repo({"m.gguf": noise(2 * MIB), "n-Q8_0.gguf": noise(800000, 2), "o-Q2_K.gguf": noise(800000, 3)}))
        driver = self.driver(hub, cache=disk)
        end = driver.fetch(tag="m")
        self.assertEqual(end["status"], "failed")
        self.assertRegex(end["problem"], r"2\.0 MiB more are needed in .* MiB are free")
        self.assertEqual(hub.asked("m.gguf"), [])
        hub.faults["n-Q8_0.gguf"] = [{"hold": 10}] # both fit alone: the disk fills in the middle
        first = driver.start(tag="Q8_0")
        hub.held("n-Q8_0.gguf")
        self.assertEqual(driver.fetch(tag="Q2_K")["status"], "completed")
        hub.release()
        end = driver.ended(first)
        self.assertEqual(end["status"], "failed")
        self.assertIn("No space left", end["problem"])

    def test_places_of_the_cache(self):
        hub = self.hub(Repo({"m.gguf": b"w"}))
        home = {"HOME": str(self.folder)}
        for env, place in (({"HF_HUB_CACHE": "{}/a", "HF_HOME": "{}/x"}, "a"), ({"HUGGINGFACE_HUB_CACHE": "{}/b"}, "b"),
                           ({"HF_HOME": "{}/c", "XDG_CACHE_HOME": "{}/x"}, "c/hub"), ({"XDG_CACHE_HOME": "{}/d"},
                           "d/huggingface/hub"), ({}, ".cache/huggingface/hub")):
            env = {name: value.format(self.folder) for name, value in env.items()}
            driver = self.driver(hub, {"LLAMA_CACHE": "", **home, **env})
            self.assertTrue(driver.fetch()["model_path"].startswith(str(self.folder / place) + "/models--"), place)

    def test_the_hub_may_be_down(self):
        with Hub({}) as hub:
            url = hub.url
        driver = self.stack.enter_context(Driver(url, self.cache))
        job = driver.start()
        self.assertEqual(job["status"], "downloading")
        driver.say(f"cancel {job['id']}", "cancel") # in a try, or in the pause between two
        self.assertEqual(driver.ended(job, 3)["status"], "cancelled")
        wrong = self.stack.enter_context(Driver("ftp://127.0.0.1", self.cache))
        self.assertIn("no http or https URL", wrong.fetch()["problem"])


if __name__ == "__main__":
    unittest.main()
