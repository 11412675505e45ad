"""What went wrong in a program that does the same job, one test a defect (specs/llamactl.md 8.2), and what users,
backends and disks do wrong. The real binary; backends are backend.py, or workers on the fake engine where a program of
somebody else's is not needed."""
import concurrent.futures
import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from harness import DEADLINE, INFERD, Server, Stream, fake_model
from hub import Hub, Repo

BACKEND = str(pathlib.Path(__file__).resolve().parent / "backend.py")
SANITIZED = "asan" in INFERD
PORTS = 24 # of one server
ranges = itertools.count(os.getpid() * 7919)


class Manager(Server):
    """A server with a port range of its own. instances: lines of [instances]; before: tables that stand before it."""

    def __init__(self, instances="", before="", **more):
        self.low = 10000 + next(ranges) * PORTS % 20000
        super().__init__(config=f"{before}\n[instances]\nport_range = [{self.low}, {self.low + PORTS - 1}]\n{instances}\n",
                         **more)

    def create(self, name, body):
        reply = self.call("POST", f"/api/v1/instances/{name}", {"start": False, **body})
        if reply[0] != 201:
            raise AssertionError(reply)
        return reply[2]

    def command(self, name, *words, backend_options=None, **options):
        """An instance of backend.py, stopped."""
        argv = [sys.executable, "-S", BACKEND, "--port", "{port}", *words]
        return self.create(name, {"backend_type": "command", "backend_options": {"argv": argv, **(backend_options or {})},
                                  **options})

    def worker_instance(self, name, settings="tokens_per_second=5000", **options):
        path = fake_model(self.models / "of-instances", name, settings)
        return self.create(name, {"backend_type": "worker", "backend_options": {"model": str(path)}, **options})

    def look(self, name):
        return self.call("GET", f"/api/v1/instances/{name}")[2]

    def state(self, name):
        return self.look(name)["status"]

    def act(self, name, verb, wait=True):
        return self.call("POST", f"/api/v1/instances/{name}/{verb}" + ("?wait=1" if wait else ""))

    def run(self, name):
        status, _, body = self.act(name, "start")
        if (status, body.get("status")) != (200, "running"):
            raise AssertionError((status, body))
        return body

    def proxy(self, name, path, method="POST", body=None, headers=None):
        return self.call(method, f"/api/v1/instances/{name}/proxy{path}", body, headers)

    def crash(self, name, code=9):
        with contextlib.suppress(OSError):
            self.proxy(name, f"/exit?code={code}")

    def logs(self, name, query=""):
        return self.call("GET", f"/api/v1/instances/{name}/logs{query}")[2]

    def metric(self, name, metric):
        text = self.call("GET", "/metrics")[2]
        return float(re.search(rf'^inferd_instance_{metric}{{[^}}]*"{name}"[^}}]*}} (\S+)$', text, re.M).group(1))

    def processes(self):
        """Of this server's instances: whatever carries their mark, however it came to be."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != self.process.pid:
                    words = (entry / "environ").read_bytes().split(b"\0")
                    if f"HOME={self.folder}".encode() in words and any(w.startswith(b"INFERD_INSTANCE=") for w in words):
                        found.append(int(entry.name))
        return found

    def memory(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text()).group(1)) << 10

    def kill(self):
        self.process.kill()
        self.process.wait()

    def numbered(self, name, events=20, interval=0.01, **more):
        return Stream(self.port, "/v1/chat/completions",
                      {"model": name, "stream": True, "events": events, "interval": interval, **more})


class Events:
    """/api/v1/events as it comes."""

    def __init__(self, server, query=""):
        self.connection = server.connection()
        self.connection.request("GET", "/api/v1/events" + query)
        self.reply = self.connection.getresponse()
        self.seen, self.changed = [], threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        name = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for line in self.reply:
                if line.startswith(b"event: "):
                    name = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    with self.changed:
                        self.seen.append((time.monotonic(), name, json.loads(line[6:])))
                        self.changed.notify_all()

    def wait(self, what, deadline=DEADLINE):
        """(when, data) of the first event that what(name, data) is true for."""
        end = time.monotonic() + deadline
        with self.changed:
            looked = 0
            while True:
                for when, name, data in self.seen[looked:]:
                    if what(name, data):
                        return when, data
                looked = len(self.seen)
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no such event: {self.seen[-8:]}")
                self.changed.wait(left)

    def state(self, instance, state, deadline=DEADLINE):
        return self.wait(lambda name, data: name == "instance" and (data["name"], data["status"]) == (instance, state), deadline)

    def states(self, instance):
        with self.changed:
            all_states = [data["status"] for _, name, data in self.seen if name == "instance" and data["name"] == instance]
        return [state for state, _ in itertools.groupby(all_states)]

    def close(self):
        self.connection.sock and self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.connection.close()


def at_once(count, what):
    """what(0) ... what(count - 1), side by side; their results."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(what, range(count)))


class Later:
    """what() on a thread; result() waits for it."""

    def __init__(self, what):
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.future = self.pool.submit(what)
        self.pool.shutdown(wait=False)

    def done(self):
        return self.future.done()

    def result(self):
        return self.future.result(DEADLINE)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listener(port):
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stranger.bind(("127.0.0.1", port))
    stranger.listen()
    return stranger


class Case(unittest.TestCase):
    def manager(self, *args, **more):
        return self.enterContext(Manager(*args, **more))

    def events(self, server, query=""):
        events = Events(server, query)
        self.addCleanup(events.close)
        return events

    def check_whole(self, stream, count):
        """Every numbered event, once, in order, and the end."""
        self.assertEqual(stream.head(), 200)
        events = list(stream.events())
        self.assertEqual(events[-1], "[DONE]")
        self.assertEqual([json.loads(event)["n"] for event in events[:-1]], list(range(count)))
        stream.close()

    def announce(self, server, path, length):
        """The status for a body of that length, of which nothing is sent."""
        connection = server.connection()
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        status = connection.getresponse().status
        connection.close()
        return status

    def check_error(self, reply, status, *words, param=None):
        code, _, body = reply
        self.assertEqual(code, status, body)
        self.assertIsInstance(body["error"], str)
        for word in words:
            self.assertIn(word, body["error"])
        if param:
            self.assertEqual(body.get("param"), param, body)

    def check_within(self, seconds, what):
        begun = time.monotonic()
        result = what()
        self.assertLess(time.monotonic() - begun, seconds)
        return result


class Defects(Case):
    def test_01_running_means_ready_and_all_wait_for_one_start(self):
        with Manager() as server:
            server.command("cold", "--healthy-after", "0.6")
            events = self.events(server)
            first = Later(lambda: server.chat("cold"))
            events.state("cold", "starting")
            self.assertEqual(server.state("cold"), "starting")
            self.assertEqual(server.proxy("cold", "/echo")[0], 503) # the proxy starts nothing and waits for nothing
            others = at_once(20, lambda n: server.chat("cold")[0])
            self.assertEqual((first.result()[0], set(others)), (200, {200}))
            self.assertEqual(events.states("cold"), ["stopped", "starting", "running"])
            self.assertEqual(server.metric("cold", "starts_total"), 1)

    def test_02_on_demand_works_without_lru_eviction(self):
        with Manager("enable_lru_eviction = false\nmax_running_instances = 1\non_demand_start_timeout = 5") as server:
            server.worker_instance("a")
            server.worker_instance("b")
            self.assertEqual(server.chat("a", max_tokens=1)[0], 200)
            status, _, body = self.check_within(2, lambda: server.chat("b", max_tokens=1))
            self.assertEqual((status, body["error"]["code"]), (409, "conflict"))
            self.assertIn("enable_lru_eviction", body["error"]["message"])
            self.assertEqual((server.state("a"), server.state("b")), ("running", "stopped"))
            server.act("a", "stop")
            self.assertEqual(server.chat("b", max_tokens=1)[0], 200)

    def test_03_limits_hold_however_an_instance_is_started(self):
        with Manager("max_running_instances = 2") as server:
            names = [f"i{n}" for n in range(6)]
            for name in names:
                server.worker_instance(name, "load_ms=100")
            replies = at_once(6, lambda n: server.act(names[n], "start")[0])
            self.assertEqual(sorted(replies), [200, 200, 409, 409, 409, 409])
            self.assertEqual([server.state(n) for n in names].count("running"), 2)
            down = next(name for name in names if server.state(name) == "stopped")
            self.check_error(server.act(down, "start"), 409, "max_running_instances")
            self.check_error(server.act(down, "restart"), 409, "max_running_instances")
            events = self.events(server)
            self.assertEqual(set(at_once(12, lambda n: server.chat(names[n % 6], max_tokens=2)[0])), {200})
            up, most = set(), 0
            for _, name, data in events.seen:
                if name == "instance":
                    (up.add if data["status"] in ("running", "stopping", "restarting") else up.discard)(data["name"])
                    most = max(most, len(up))
            self.assertLessEqual(most, 2)

    def test_03_limits_hold_when_the_daemon_starts_again(self):
        with Manager() as server:
            for name in ("a", "b", "c"):
                server.worker_instance(name)
                server.run(name)
            server.kill()
            with open(server.config, "a", encoding="utf-8") as config:
                config.write("max_running_instances = 1\n")
            server.start()
            server.until(lambda: server.state("a") == "running")
            self.assertEqual([server.state(name) for name in ("b", "c")].count("running"), 0)
            self.assertEqual(len(server.processes()), 1)

    def test_03_starting_one_that_queues_does_not_jump_the_queue(self):
        with Manager("max_running_instances = 1") as server:
            server.command("busy")
            server.worker_instance("next")
            server.run("busy")
            stream = server.numbered("busy", 60, 0.02)
            self.assertEqual(stream.head(), 200)
            waiting = Later(lambda: server.chat("next", max_tokens=1))
            server.until(lambda: server.look("next").get("queue_position") == 1)
            status, _, body = server.act("next", "start", wait=False)
            self.assertEqual((status, body["status"], body.get("queue_position")), (200, "starting", 1))
            self.assertEqual(server.act("next", "restart", wait=False)[2].get("queue_position"), 1)
            self.assertEqual(len(server.processes()), 1)
            self.check_whole(stream, 60)
            self.assertEqual(waiting.result()[0], 200)
            self.assertEqual((server.state("busy"), server.state("next")), ("stopped", "running"))

    def test_04_a_load_crash_is_told_at_once_with_its_last_lines(self):
        with Manager("default_auto_restart = false") as server:
            server.command("dies", "--say", "CUDA error: out of memory", "--healthy-after", "60", "--die-after", "0.7", "--code", "42")
            events = self.events(server)
            first = Later(lambda: server.chat("dies"))
            events.state("dies", "starting")
            others = self.check_within(10, lambda: at_once(8, lambda n: server.chat("dies")))
            for status, _, body in [first.result(), *others]:
                self.assertEqual((status, body["error"]["code"]), (500, "start_failed"), body)
                self.assertIn("status 42", body["error"]["message"])
                self.assertIn("CUDA error: out of memory", body["error"]["message"])
            look = server.look("dies")
            self.assertEqual(look["status"], "failed")
            self.assertIn("CUDA error", look["error"])
            self.assertEqual(server.metric("dies", "starts_total"), 1)
            self.check_error(server.act("dies", "start"), 500, "status 42", "CUDA error")

    def test_05_after_a_restart_of_its_own_a_stop_still_waits_and_kills(self):
        with Manager("stop_timeout = 1\ndefault_restart_delay = 0") as server:
            server.command("i", "--ignore-term", "--children", "1")
            events = self.events(server)
            old = server.run("i")["pid"]
            server.crash("i")
            events.wait(lambda name, data: data.get("name") == "i" and data.get("status") == "running" and
                        data["pid"] != old)
            pid = server.look("i")["pid"]
            self.assertEqual(server.act("i", "stop")[2]["status"], "stopped")
            self.assertFalse(os.path.exists(f"/proc/{pid}"))
            self.assertEqual(server.processes(), [])

    def test_05_quick_restarts_leave_one_process(self):
        with Manager("default_restart_delay = 0") as server:
            server.command("i", "--children", "1")
            server.run("i")
            server.crash("i")
            for reply in at_once(6, lambda n: server.act("i", ("restart", "start")[n % 2])):
                self.assertEqual(reply[0], 200, reply)
            server.until(lambda: server.state("i") == "running")
            self.assertEqual(len(server.processes()), 2) # it and its child

    def test_06_restarting_can_be_stopped_in_under_a_second_and_deleted(self):
        with Manager("default_restart_delay = 60\ndefault_max_restarts = 1000") as server:
            for name in ("stopped", "deleted"):
                server.command(name)
                server.run(name)
                events = self.events(server)
                server.crash(name)
                events.state(name, "restarting")
            reply = self.check_within(1, lambda: server.act("stopped", "stop"))
            self.assertEqual((reply[0], reply[2]["status"]), (200, "stopped"))
            self.assertEqual(server.processes(), [])
            self.assertEqual(self.check_within(1, lambda: server.call("DELETE", "/api/v1/instances/deleted"))[0], 204)
            self.assertEqual(server.call("GET", "/api/v1/instances/deleted")[0], 404)

    def test_06_a_crash_loop_backs_off_and_ends(self):
        with Manager("default_restart_delay = 0\ndefault_max_restarts = 3") as server:
            server.command("loop", "--code", "3", "--die-after", "0", "--healthy-after", "60", "--say", "no luck")
            events = self.events(server)
            self.check_error(server.act("loop", "start"), 500, "status 3", "no luck")
            events.state("loop", "failed")
            pauses = [int(p) for p in re.findall(r"instance=loop crashes=\d pause_ms=(\d+)", server.log.text())]
            self.assertEqual(pauses, [100, 200, 400])
            self.assertEqual(server.metric("loop", "starts_total"), 4)
            self.assertEqual(server.look("loop")["restarts"], 3)

    def test_06_a_restart_that_cannot_be_executed_fails_and_does_not_hang(self):
        with Manager("default_restart_delay = 0") as server:
            program = pathlib.Path(server.folder, "program")
            program.symlink_to(sys.executable)
            server.command("i", backend_options={"argv": [str(program), BACKEND, "--port", "{port}"]})
            server.run("i")
            events = self.events(server)
            program.unlink()
            server.crash("i")
            _, look = events.state("i", "failed")
            self.assertEqual(server.act("i", "stop")[2]["status"], "stopped")
            self.assertIn("cannot be started", server.log.wait("instance failed"))

    def test_07_a_changed_port_is_used_at_once(self):
        with Manager() as server:
            one, two = server.low + 3, server.low + 7
            server.command("i", backend_options={"port": one})
            self.assertEqual(server.run("i")["port"], one)
            status, _, body = server.call("PUT", "/api/v1/instances/i?wait=1", {"backend_options": {"port": two}})
            self.assertEqual((status, body["status"], body["port"]), (200, "running", two))
            self.assertIn(str(two), server.proxy("i", "/argv", "GET")[2])
            self.assertEqual(server.chat("i")[0], 200)
            self.assertFalse(listens(one))

    def test_07_a_changed_preset_is_written(self):
        with Manager() as server:
            server.create("router", {"backend_type": "llama_cpp", "command_override": BACKEND, "preset_ini": "[a]\n"})
            server.run("router")
            argv = server.proxy("router", "/argv", "GET")[2]
            preset = pathlib.Path(argv[argv.index("--models-preset") + 1])
            self.assertEqual(preset.read_text(), "[a]\n")
            server.call("PUT", "/api/v1/instances/router?wait=1", {"preset_ini": "[b]\n"})
            self.assertEqual(preset.read_text(), "[b]\n")

    def test_08_idleness_counts_from_the_last_byte(self):
        # The unit of a named instance's idle_timeout is a minute, see Waits; a model's is a second, on the same path.
        with Manager(before="[cache]\nmodel_ttl_seconds = 1") as server:
            fake_model(server.models, "m", "tokens_per_second=40")
            stream = server.stream("m", max_tokens=80)
            begun = time.monotonic()
            self.assertEqual(list(stream.events())[-1], "[DONE]")
            ended = time.monotonic()
            self.assertGreater(ended - begun, 1.5)
            server.log.wait("instance idle, stopping  instance=m")
            self.assertGreaterEqual(time.monotonic() - ended, 0.9)

    def test_08_eviction_never_takes_a_busy_one(self):
        with Manager("max_running_instances = 2") as server:
            for name in ("busy", "idle", "third"):
                server.command(name) if name == "busy" else server.worker_instance(name)
            server.run("busy")
            server.run("idle") # used after the busy one began
            stream = server.numbered("busy", 40, 0.02)
            self.assertEqual(stream.head(), 200)
            self.assertEqual(server.chat("idle", max_tokens=1)[0], 200)
            self.assertEqual(server.chat("third", max_tokens=1)[0], 200)
            self.assertEqual((server.state("busy"), server.state("idle")), ("running", "stopped"))
            self.check_whole(stream, 40)

    def test_09_a_line_of_200_kib_is_whole_and_logging_goes_on(self):
        with Manager() as server:
            server.command("i")
            server.run("i")
            following = server.connection()
            following.request("GET", "/api/v1/instances/i/logs?follow=1")
            reply = following.getresponse()
            self.assertEqual(reply.getheader("Content-Type"), "text/event-stream")
            line = "<" + "x" * (200 << 10) + ">"
            server.proxy("i", f"/line?bytes={200 << 10}")
            server.proxy("i", "/line?bytes=3")
            live = []
            while not live or live[-1] != "<xxx>":
                text = reply.readline()
                if text.startswith(b"data: "):
                    live.append(json.loads(text[6:])["line"])
            following.close()
            self.assertEqual(live[-2], line)
            self.assertEqual(server.logs("i", "?lines=2"), f"{line}\n<xxx>\n")
            self.assertIn(f"\n{line}\n<xxx>\n", server.logs("i"))

    def test_09_the_last_words_are_kept_and_logs_outlive_the_daemon(self):
        with Manager("default_auto_restart = false") as server:
            server.command("i")
            server.run("i")
            events = self.events(server)
            server.crash("i", 5)
            events.state("i", "failed")
            before = server.logs("i")
            self.assertIn("leaving with 5\n", before)
            server.kill()
            server.start()
            self.assertEqual(server.logs("i"), before)
            for count in (1, 2, 50):
                self.assertLessEqual(server.logs("i", f"?lines={count}").count("\n"), count)
            self.check_error(server.call("GET", "/api/v1/instances/i/logs?lines=x"), 400, param="lines")

    def test_10_the_whole_group_ends_with_its_leader(self):
        with Manager("stop_timeout = 1\ndefault_auto_restart = false") as server:
            server.command("i", "--children", "3")
            port = server.run("i")["port"]
            self.assertEqual(len(server.processes()), 4)
            server.act("i", "stop")
            self.assertEqual((server.processes(), listens(port)), ([], False))
            server.run("i")
            server.crash("i")
            server.until(lambda: server.state("i") == "failed")
            self.assertEqual(server.processes(), [])

    def test_10_a_killed_daemon_leaves_nothing_behind(self):
        with Manager() as server:
            self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in server.processes()])
            names = [f"i{n}" for n in range(5)]
            for n, name in enumerate(names):
                server.command(name, "--children", "2", backend_options={"port": server.low + n} if n % 2 else None)
            at_once(5, lambda n: server.run(names[n]))
            for _ in range(3):
                old = set(server.processes())
                self.assertEqual(len(old), 15)
                server.kill()
                self.assertEqual(set(server.processes()), old)
                server.start()
                server.until(lambda: {server.state(name) for name in names} == {"running"})
                self.assertEqual(old & set(server.processes()), set())
                self.assertEqual(len(server.processes()), 15)
                self.assertEqual(set(at_once(5, lambda n: server.chat(names[n])[0])), {200})
                self.assertEqual(len({server.look(name)["port"] for name in names}), 5)

    def test_11_bodies_arrive_byte_for_byte(self):
        with Manager() as server:
            server.command("i")
            body = b'{ "z":9007199254740993,"a" : 1e400, "model" :\t"i", "k":"\\u00e9\xc3\xa9", "a":[0.10, -0] }'
            status, _, seen = server.call("POST", "/v1/chat/completions", body)
            self.assertEqual((status, seen["body"].encode("latin-1")), (200, body))
            body = body.replace(b'"i"', b'"i/inner"')
            seen = server.call("POST", "/v1/chat/completions", body)[2]
            self.assertEqual(seen["body"].encode("latin-1"), body.replace(b'"i/inner"', b'"inner"'))
            form = (b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(range(256)) +
                    b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ni\r\n--b--\r\n')
            status, _, seen = server.call("POST", "/v1/audio/transcriptions", form,
                                          {"Content-Type": "multipart/form-data; boundary=b"})
            self.assertEqual((status, seen["body"].encode("latin-1")), (200, form))
            self.assertEqual(self.announce(server, "/v1/chat/completions", 33 << 20), 413)

    def test_12_connections_are_kept_keys_are_cheap_and_hang_ups_are_noticed(self):
        keys = [f"inference-key-{n:04d}" for n in range(200)]
        with Manager("max_running_instances = 1",
                     before=f'[auth]\nmanagement_keys = ["manager-key"]\ninference_keys = {json.dumps(keys)}') as server:
            manager = {"Authorization": "Bearer manager-key"}
            call = server.call
            server.call = lambda method, path, body=None, headers=None: call(method, path, body, {**manager, **(headers or {})})
            server.command("i")
            server.command("other")
            server.run("i")
            connection = server.connection()
            begun, used = time.monotonic(), set()
            for n in range(200):
                connection.request("POST", "/v1/chat/completions", '{"model":"i"}',
                                   {"Content-Type": "application/json", "Authorization": "Bearer " + keys[n]})
                used.add(json.loads(connection.getresponse().read())["connection"])
            connection.close()
            self.assertLess(time.monotonic() - begun, 5)
            self.assertLessEqual(len(used), 3)
            stream = Stream(server.port, "/v1/chat/completions?api_key=manager-key",
                            {"model": "i", "stream": True, "events": 500, "interval": 0.02})
            self.assertEqual(stream.head(), 200)
            waiting = Stream(server.port, "/v1/chat/completions?api_key=manager-key", {"model": "other"})
            server.until(lambda: server.metric("other", "waiting_requests") == 1)
            waiting.close()
            server.until(lambda: server.metric("other", "waiting_requests") == 0)
            self.assertEqual(server.state("other"), "stopped") # left the queue
            stream.close()
            server.until(lambda: server.metric("i", "active_requests") == 0) # long before its last event
            self.assertEqual(server.state("i"), "running")

    def test_13_keys_reach_neither_logs_nor_backends(self):
        with Manager(before='log_level = "debug"\n[auth]\nmanagement_keys = ["boss-key-1"]\ninference_keys = ["user-key-1"]') as server:
            boss = {"Authorization": "Bearer boss-key-1"}
            argv = [sys.executable, BACKEND, "--port", "{port}"]
            for name, body in (("plain", {"backend_type": "command", "backend_options": {"argv": argv}}),
                               ("keyed", {"backend_type": "llama_cpp", "command_override": BACKEND,
                                          "backend_options": {"api_key": "backend-key-1"}})):
                self.assertEqual(server.call("POST", f"/api/v1/instances/{name}?wait=1", body, boss)[0], 201)
            shown = server.call("GET", "/api/v1/instances/keyed", None, boss)[2]
            self.assertEqual(shown["options"]["backend_options"]["api_key"], "***")
            for headers, query in (({"Authorization": "Bearer user-key-1"}, ""), ({"X-API-Key": "user-key-1"}, ""),
                                   ({}, "?api_key=user-key-1&keep=1")):
                for name in ("plain", "keyed"):
                    status, _, seen = server.call("POST", "/v1/chat/completions" + query, {"model": name}, headers)
                    self.assertEqual(status, 200, seen)
                    self.assertNotIn("user-key-1", json.dumps(seen))
                    self.assertEqual(seen["path"], "/v1/chat/completions" + ("?keep=1" if query else ""))
                    sent = [value for key, value in seen["headers"] if key.lower() == "authorization"]
                    self.assertEqual(sent, ["Bearer backend-key-1"] if name == "keyed" else [])
            seen = server.call("POST", "/api/v1/instances/plain/proxy/x?api_key=boss-key-1", {}, {})[2]
            self.assertEqual(seen["path"], "/x")
            for wrong in ({}, {"Authorization": "Bearer user-key-2"}):
                self.assertEqual(server.call("POST", "/v1/chat/completions", {"model": "plain"}, wrong)[0], 401)
            self.assertEqual(server.call("GET", "/api/v1/instances?api_key=user-key-1")[0], 403)
            server.log.wait("request .*path=/v1/chat/completions")
            for key in ("boss-key-1", "user-key-1", "user-key-2", "backend-key-1"):
                self.assertNotIn(key, server.log.text())

    def test_14_a_cut_download_goes_on_and_a_cancelled_one_is_cancelled(self):
        weights = fake_model(tempfile.mkdtemp(prefix="inferd-", dir="/tmp"), "m").read_bytes() + os.urandom(3 << 20)
        with Hub({"org/one": Repo({"m-Q4_K_M.gguf": weights}), "org/two": Repo({"m-Q4_K_M.gguf": weights})}) as hub:
            hub.faults["m-Q4_K_M.gguf"] = [{"cut": 1 << 20}, {"whole": True}]
            with Manager(env={"HF_ENDPOINT": hub.url}) as server:
                job = server.call("POST", "/api/v1/models/download", {"repo": "org/one:Q4_K_M"})
                self.assertEqual(job[0], 202, job)
                look = lambda number: server.call("GET", f"/api/v1/models/jobs/{number}")[2]
                server.until(lambda: look(job[2]["job_id"])["status"] not in ("queued", "downloading"))
                done = look(job[2]["job_id"])
                self.assertEqual((done["status"], done["progress"]["bytes_downloaded"], done["progress"]["total_bytes"]),
                                 ("completed", len(weights), len(weights)), done)
                self.assertEqual(pathlib.Path(done["model_path"]).read_bytes(), weights)
                self.assertEqual(hub.asked("m-Q4_K_M.gguf")[1]["range"], f"bytes={1 << 20}-")
                hub.faults["m-Q4_K_M.gguf"] = [{"hold": 1000}]
                hub.repos["org/two"].files["m-Q4_K_M.gguf"] = os.urandom(1 << 20)
                job = server.call("POST", "/api/v1/models/download", {"repo": "org/two"})[2]["job_id"]
                hub.held("m-Q4_K_M.gguf")
                self.assertIn(server.call("DELETE", f"/api/v1/models/jobs/{job}")[0], (200, 204))
                server.until(lambda: look(job)["status"] == "cancelled")

    def test_15_a_wrong_key_is_named_with_its_line(self):
        for text, said in (("max_runing_instances = 1", "max_runing_instances"), ("idle_timeout = 1", "idle_timeout"),
                           ("max_instances = \"many\"", "max_instances"), ("stop_timeout = -1", "stop_timeout")):
            with Manager(text, wait=False) as server:
                self.assertEqual(server.process.wait(DEADLINE), 3)
                self.assertRegex(server.log.text(), rf"inferd\.toml:4: .*{said}")
                self.assertNotIn("database", server.log.text())

    def test_16_the_daemon_ends_in_bounded_time_and_takes_all_along(self):
        with Manager("stop_timeout = 1", before="[server]\nshutdown_grace_seconds = 1") as server:
            names = ("a", "b", "c")
            for name in names:
                server.command(name, "--ignore-term", "--children", "1")
            at_once(3, lambda n: server.run(names[n]))
            stream = server.numbered("a", 1000, 0.05)
            self.assertEqual(stream.head(), 200)
            server.process.send_signal(signal.SIGTERM)
            self.check_within(6, lambda: server.process.wait(DEADLINE))
            self.assertEqual(server.processes(), [])
            stream.close()
            server.start() # what ran runs again
            server.until(lambda: {server.state(name) for name in names} == {"running"})

    def test_16_those_who_only_watch_do_not_hold_up_the_end(self):
        with Manager() as server:
            server.worker_instance("i")
            server.run("i")
            replies = []
            for path in ("/api/v1/events?logs=*", "/api/v1/instances/i/logs?follow=1"):
                connection = server.connection()
                connection.request("GET", path)
                replies.append(connection.getresponse())
                self.assertTrue(replies[-1].readline())
            server.process.send_signal(signal.SIGTERM)
            self.check_within(4, lambda: server.process.wait(DEADLINE))
            for reply in replies:
                reply.read() # ends as a reply does, and is not cut off

    def test_17_flag_names_reach_the_command_line_as_the_program_spells_them(self):
        with Manager() as server:
            server.create("i", {"backend_type": "llama_cpp", "command_override": BACKEND,
                                "backend_options": {"fim_qwen_1_5b_default": True, "a_flag_of_tomorrow": 3}})
            server.run("i")
            argv = server.proxy("i", "/argv", "GET")[2]
            self.assertIn("--fim-qwen-1.5b-default", argv)
            self.assertEqual(argv[argv.index("--a-flag-of-tomorrow") + 1], "3")
            parsed = server.call("POST", "/api/v1/backends/llama-cpp/parse-command",
                                 {"command": "llama-server --fim-qwen-1.5b-default"})
            self.assertEqual((parsed[0], parsed[2]["backend_options"]), (200, {"fim_qwen_1_5b_default": True}))

    def test_18_the_listener_is_local_patient_only_so_long_and_its_key_stays(self):
        with Manager(before="[server]\nheader_timeout_seconds = 1\n[auth]\nrequire_management_auth = true") as server:
            self.assertIn("url=http://127.0.0.1:", server.log.wait("listening  version="))
            with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as slow:
                slow.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
                self.assertRegex(self.check_within(4, lambda: slow.recv(4096)), rb"^HTTP/1\.1 408 |^$")
            text = server.log.text()
            key = text[text.index("keep it:") + 8:].split()[0]
            headers = {"Authorization": "Bearer " + key}
            self.assertEqual(server.call("GET", "/api/v1/instances")[0], 401)
            self.assertEqual(server.call("GET", "/api/v1/instances", None, headers)[0], 200)
            server.kill()
            server.start()
            self.assertNotIn("keep it", server.log.text())
            self.assertEqual(server.call("GET", "/api/v1/instances", None, headers)[0], 200)


class Many(Case):
    """Many clients, few places."""

    def test_a_hundred_requests_to_a_cold_instance_are_one_start(self):
        with Manager() as server:
            server.command("cold", "--healthy-after", "0.3")
            self.assertEqual(set(at_once(100, lambda n: server.chat("cold")[0])), {200})
            self.assertEqual(server.metric("cold", "starts_total"), 1)
            self.assertEqual(server.metric("cold", "requests_total"), 100)

    def text_of(self, server, name, tokens):
        """The text that a whole stream carried."""
        stream = Stream(server.port, "/v1/completions", {"model": name, "prompt": name + " |", "temperature": 0,
                                                         "max_tokens": tokens, "stream": True})
        self.assertEqual(stream.head(), 200)
        events = list(stream.events())
        stream.close()
        self.assertEqual(events[-1], "[DONE]")
        choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
        self.assertEqual(choices[-1]["finish_reason"], "length")
        return "".join(choice["text"] for choice in choices)

    def test_two_models_take_turns_and_nothing_is_cut_off(self):
        rounds, clients, tokens = 20, 3, 40
        with Manager("max_running_instances = 1") as server:
            for name in ("one", "two"):
                server.worker_instance(name, "tokens_per_second=400")
            barriers = {name: threading.Barrier(clients) for name in ("one", "two")}

            def client(number):
                name = ("one", "two")[number % 2]
                for _ in range(rounds):
                    self.assertEqual(self.text_of(server, name, tokens), (f"{name} |" * tokens)[:tokens])
                    barriers[name].wait(DEADLINE)

            at_once(2 * clients, client)
            starts = [server.metric(name, "starts_total") for name in ("one", "two")]
            self.assertGreaterEqual(sum(starts), 2 * rounds - 4, starts)
            self.assertEqual([server.metric(name, "failures_total") for name in ("one", "two")], [0, 0])

    def test_models_that_are_never_idle_take_turns_too(self):
        with Manager("max_running_instances = 1") as server:
            for name in ("one", "two"):
                server.worker_instance(name, "tokens_per_second=400")
            both = threading.Event()

            def client(number):
                name = ("one", "two")[number % 2]
                while not both.is_set():
                    self.assertEqual(self.text_of(server, name, 40 + number), (f"{name} |" * 50)[:40 + number])
                    if min(server.metric(n, "starts_total") for n in ("one", "two")) >= 2:
                        both.set()

            at_once(6, client)
            self.assertEqual([server.metric(name, "failures_total") for name in ("one", "two")], [0, 0])

    def test_groups_have_limits_of_their_own_and_pinned_ones_stay(self):
        with Manager('group_limits = { small = 1 }\nmax_running_instances = 3') as server:
            server.worker_instance("s1", group="small")
            server.worker_instance("s2", group="small")
            server.worker_instance("pin", pinned=True)
            server.worker_instance("free")
            for name in ("pin", "free", "s1"):
                self.assertEqual(server.chat(name, max_tokens=1)[0], 200)
            self.check_error(server.act("s2", "start"), 409, "group_limits")
            self.assertEqual(server.chat("s2", max_tokens=1)[0], 200) # the group's other one goes, nobody else
            self.assertEqual([server.state(n) for n in ("s1", "s2", "pin", "free")], ["stopped", "running", "running", "running"])
            server.worker_instance("last")
            self.assertEqual(server.chat("last", max_tokens=1)[0], 200) # the pinned one was used longest ago
            self.assertEqual((server.state("pin"), server.state("free")), ("running", "stopped"))

    def test_room_that_pinned_ones_hold_is_refused_at_once(self):
        with Manager("max_running_instances = 1") as server:
            server.worker_instance("pin", pinned=True)
            server.worker_instance("other")
            server.run("pin")
            status, _, body = self.check_within(2, lambda: server.chat("other"))
            self.assertEqual(status, 409, body)
            self.assertIn("pinned", body["error"]["message"])


class Bad(Case):
    """Input, programs and disks that are wrong."""

    def test_names(self):
        with Manager() as server:
            body = {"backend_type": "worker", "backend_options": {"model": "/m.gguf"}, "start": False}
            for name in ("%2e%2e", "%2E", "a%2Fb", "a%20b", "a" * 51, "%00", "caf%C3%A9", "..", "."):
                for method, given in (("POST", body), ("GET", None), ("PUT", {}), ("DELETE", None)):
                    status = server.call(method, f"/api/v1/instances/{name}", given)[0]
                    self.assertIn(status, (400, 404, 405), (method, name))
            self.check_error(server.call("POST", "/api/v1/instances/%2e%2e", body), 400, "name")
            self.assertEqual(server.call("GET", "/api/v1/instances")[2], [])
            for name in ("...", "a.b", "-", "a" * 50):
                self.assertEqual(server.call("POST", f"/api/v1/instances/{name}", body)[0], 201, name)

    def test_bodies(self):
        wrong = [({"backend_type": "nonsense"}, "backend_type"), ({"backend_type": 5}, "backend_type"),
                 ({"backend_type": "command", "backend_options": []}, "backend_options"),
                 ({"backend_type": "command", "backend_options": {}}, "backend_options.argv"),
                 ({"backend_type": "command", "backend_options": {"argv": "sh"}}, "backend_options.argv"),
                 ({"backend_type": "command", "backend_options": {"argv": [1]}}, "backend_options.argv"),
                 ({"backend_type": "command", "backend_options": {"argv": ["a"], "port": 70000}}, "backend_options.port"),
                 ({"backend_type": "command", "backend_options": {"argv": ["a"], "prot": 1}}, "backend_options.prot"),
                 ({"backend_type": "worker", "backend_options": {}}, "backend_options.model"),
                 ({"backend_type": "llama_cpp", "backend_options": {"port": "x"}}, "backend_options.port"),
                 ({"auto_restart": "yes"}, "auto_restart"), ({"idle_timeout": 1.5}, "idle_timeout"),
                 ({"max_restarts": "3"}, "max_restarts"), ({"environment": ["A=1"]}, "environment"),
                 ({"environment": {"A": 1}}, "environment"), ({"environment": {"A=B": "1"}}, "environment"),
                 ({"nodes": "main"}, "nodes"), ({"nodes": ["nowhere"]}, "nodes"), ({"group": "a b"}, "group"),
                 ({"group": 1}, "group"), ({"pinned": 1}, "pinned"), ({"preset_ini": 1}, "preset_ini"),
                 ({"command_override": []}, "command_override")]
        with Manager() as server:
            server.worker_instance("there")
            before = server.look("there")
            for body, param in wrong:
                self.check_error(server.call("POST", "/api/v1/instances/i", body), 400, param=param)
                if param != "backend_options.model":
                    self.check_error(server.call("PUT", "/api/v1/instances/there", body), 400, param=param)
            for text in ("{", "[]", "5", '"x"', "null", '{"a":1}x', "\xff", "[" * 5000):
                self.check_error(server.call("POST", "/api/v1/instances/i", text.encode("latin-1")), 400)
                self.check_error(server.call("PUT", "/api/v1/instances/there", text.encode("latin-1")), 400)
            self.assertEqual(self.announce(server, "/api/v1/instances/i", 2 << 20), 413)
            self.assertEqual(server.call("GET", "/api/v1/instances/i")[0], 404)
            self.assertEqual(server.look("there"), before)
            for verb in ("start", "stop", "restart"):
                self.check_error(server.act("nobody", verb), 404, "nobody")
            self.check_error(server.call("PUT", "/api/v1/instances/nobody", {}), 404, "nobody")
            self.check_error(server.call("POST", "/api/v1/instances/there", {"backend_type": "worker", "backend_options":
                                                                             {"model": "/m"}}), 409, "there")

    def test_max_instances(self):
        with Manager("max_instances = 2") as server:
            body = {"backend_type": "worker", "backend_options": {"model": "/m.gguf"}, "start": False}
            statuses = at_once(6, lambda n: server.call("POST", f"/api/v1/instances/i{n}", body)[0])
            self.assertEqual(sorted(statuses), [201, 201, 409, 409, 409, 409])
            name = server.call("GET", "/api/v1/instances")[2][0]["name"]
            self.assertEqual(server.call("DELETE", f"/api/v1/instances/{name}")[0], 204)
            self.assertEqual(server.call("POST", "/api/v1/instances/new", body)[0], 201)

    def test_one_name_and_one_port_for_one_of_many_at_once(self):
        with Manager() as server:
            argv = {"argv": ["/bin/true"], "port": server.low}
            body = {"backend_type": "command", "start": False}
            self.assertEqual(sorted(at_once(5, lambda n: server.call("POST", "/api/v1/instances/same", {
                **body, "backend_options": {"argv": ["/bin/true"]}})[0])), [201, 409, 409, 409, 409])
            self.assertEqual(sorted(at_once(5, lambda n: server.call("POST", f"/api/v1/instances/p{n}", {
                **body, "backend_options": argv})[0])), [201, 409, 409, 409, 409])

    def test_a_port_that_a_stranger_has(self):
        with Manager() as server:
            stranger = listener(server.low)
            self.addCleanup(stranger.close)
            server.command("fixed", backend_options={"port": server.low})
            server.command("free")
            self.check_error(server.act("fixed", "start"), 500, str(server.low), "another program")
            self.assertNotEqual(server.run("free")["port"], server.low)
            stranger.close()
            self.assertEqual(server.run("fixed")["port"], server.low)

    def test_a_port_that_another_instance_has(self):
        with Manager() as server:
            server.command("a", backend_options={"port": server.low})
            server.command("b")
            argv = [sys.executable, BACKEND, "--port", "{port}"]
            self.check_error(server.call("POST", "/api/v1/instances/c", {"backend_type": "command", "backend_options":
                             {"argv": argv, "port": server.low}}), 409, "'a'", param="backend_options.port")
            self.check_error(server.call("PUT", "/api/v1/instances/b", {"backend_options": {"port": server.low}}), 409, "'a'")
            taken = server.run("b")["port"]
            self.check_error(server.call("PUT", "/api/v1/instances/a", {"backend_options": {"port": taken}}), 409, "'b'")

    def test_a_program_that_is_missing_or_none(self):
        with Manager() as server:
            data = pathlib.Path(server.folder, "data")
            data.write_text("no program")
            for n, (program, reason) in enumerate((("/nowhere/server", "no such file"), (str(data), "permission denied"),
                                                   (server.folder, "permission denied"))):
                server.create(f"i{n}", {"backend_type": "command", "backend_options": {"argv": [program]}})
                for wait in (False, True):
                    reply = self.check_within(2, lambda: server.act(f"i{n}", "start", wait))
                    self.check_error(reply, 500, program, reason)
                self.assertEqual(server.state(f"i{n}"), "failed")
                self.assertIn(program, server.logs(f"i{n}"))
            server.command("cwd", backend_options={"cwd": "/nowhere"})
            self.check_error(server.act("cwd", "start"), 500, "/nowhere")

    def test_a_backend_that_never_gets_healthy(self):
        with Manager("start_timeout = 1\nstop_timeout = 1") as server:
            server.command("sick", "--never-healthy", "--ignore-term", "--say", "waiting for godot", "--children", "1")
            replies = self.check_within(5, lambda: at_once(3, lambda n: server.chat("sick")))
            for status, _, body in replies:
                self.assertEqual((status, body["error"]["code"]), (500, "start_failed"), body)
                self.assertIn("not ready after 1 s", body["error"]["message"])
                self.assertIn("waiting for godot", body["error"]["message"])
            self.assertEqual((server.state("sick"), server.processes()), ("failed", []))

    def test_a_flood_of_output_loses_nothing_and_costs_no_memory(self):
        with Manager() as server:
            server.command("i")
            server.run("i")
            before, most = server.memory(), 0
            flood = Later(lambda: server.proxy("i", "/print?mb=50"))
            while not flood.done():
                most = max(most, server.memory())
                self.assertLess(self.check_within(1, lambda: server.call("GET", "/health"))[0], 300)
            self.assertEqual(flood.result()[0], 200)
            text = server.logs("i", f"?lines={(50 << 14) + 1}")
            self.assertEqual(len(text), (50 << 20) + len("PRINTED\n"))
            self.assertTrue(all(line == f"{n:063d}" for n, line in enumerate(text.split("\n")[:-2])))
            if not SANITIZED:
                self.assertLess(most - before, 24 << 20)

    def test_a_backend_that_dies_under_its_requests(self):
        with Manager("default_restart_delay = 0") as server:
            server.command("i")
            events = self.events(server)
            server.run("i")
            streams = [server.numbered("i", 1000, 0.02) for _ in range(3)]
            for stream in streams:
                self.assertEqual(stream.head(), 200)
            status, _, body = server.chat("i", exit=11)
            self.assertEqual((status, body["error"]["code"]), (502, "bad_gateway"), body)
            for stream in streams: # cut off visibly, not ended as if it were whole
                with self.assertRaises((EOFError, ValueError, OSError)):
                    list(stream.body())
                stream.close()
            events.state("i", "restarting") # until it is known, a request meets a closed port
            self.assertEqual(server.chat("i")[0], 200) # waits for the new process

    def test_put_merges_and_keeps_what_it_was_not_told(self):
        with Manager() as server:
            server.command("i", "--say", "one", environment={"TOKEN": "first", "KEEP": "kept"}, idle_timeout=7)
            put = lambda body: server.call("PUT", "/api/v1/instances/i?wait=1", body)
            server.run("i")
            pid = server.look("i")["pid"]
            self.assertEqual(put({"idle_timeout": 5, "pinned": True})[2]["options"]["idle_timeout"], 5)
            self.assertEqual(server.look("i")["pid"], pid) # nothing that its process would notice
            shown = put({"environment": {"TOKEN": "***", "NEW": "2"}})[2]
            self.assertNotEqual(shown["pid"], pid)
            self.assertEqual(shown["options"]["environment"], {"TOKEN": "***", "KEEP": "***", "NEW": "***"})
            env = lambda name: server.proxy("i", f"/env?name={name}", "GET")[2]
            self.assertEqual([env(name) for name in ("TOKEN", "KEEP", "NEW")], ["first", "kept", "2"])
            whole = server.look("i") # what was got can be put back
            self.assertEqual(put(whole["options"])[0], 200)
            self.assertEqual(server.look("i")["pid"], shown["pid"])
            put({"environment": {"KEEP": None, "TOKEN": "second"}, "idle_timeout": None})
            self.assertEqual([env(name) for name in ("TOKEN", "KEEP", "NEW")], ["second", None, "2"])
            self.assertEqual(server.look("i")["options"]["idle_timeout"], 30)
            server.kill()
            server.start()
            server.until(lambda: server.state("i") == "running")
            self.assertEqual([env(name) for name in ("TOKEN", "KEEP", "NEW")], ["second", None, "2"])

    def test_environments_are_never_shown(self):
        secret, common = "s3cr3t-of-instance", "s3cr3t-of-backend"
        before = f'log_level = "trace"\n[backends.command.environment]\nCOMMON = "{common}"'
        with Manager("default_auto_restart = false", before=before) as server:
            server.command("i", environment={"TOKEN": secret})
            events = self.events(server, "?logs=*")
            server.run("i")
            self.assertEqual(server.proxy("i", "/env?name=TOKEN", "GET")[2], secret)
            self.assertEqual(server.proxy("i", "/env?name=COMMON", "GET")[2], common)
            shown = [server.call("GET", path)[2] for path in ("/api/v1/instances", "/api/v1/instances?all=1",
                     "/api/v1/instances/i", "/api/v1/config", "/metrics", "/v1/models", "/api/v1/instances/i/logs")]
            shown.append(server.call("PUT", "/api/v1/instances/i", {"environment": {"TOKEN": secret}}))
            shown.append(server.call("PUT", "/api/v1/instances/i", {"environment": {"TOKEN": [secret]}}))
            server.crash("i")
            events.state("i", "failed")
            server.create("gone", {"backend_type": "command", "environment": {"TOKEN": secret},
                                   "backend_options": {"argv": ["/nowhere"]}})
            shown += [server.act("gone", "start"), server.look("i"), events.seen, server.log.text()]
            for text in map(repr, shown):
                self.assertNotIn(secret, text)
                self.assertNotIn(common, text)

    def test_a_damaged_database_is_refused_and_not_touched(self):
        with Manager() as server:
            for n in range(60):
                server.command(f"i{n}", "--say", "x" * 500)
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(DEADLINE)
            path = pathlib.Path(server.folder, "s", "inferd.db")
            good = path.read_bytes()
            damaged = (b"this is no database\n" * 500, good[:5000], good[:4096] + os.urandom(len(good) - 4096),
                       b"SQLite format 3\0" + os.urandom(8176))
            for number, data in enumerate(damaged):
                path.write_bytes(data)
                server.launch(server.args, server.env)
                self.assertEqual(server.process.wait(DEADLINE), 3, (number, server.log.text()))
                server.log.thread.join(DEADLINE)
                self.assertIn(str(path), server.log.text(), number)
                self.assertRegex(server.log.text(), "database.path|backup", number)
                self.assertEqual(path.read_bytes(), data, number)
                journal = path.with_name("inferd.db-wal")
                self.assertFalse(journal.exists() and journal.stat().st_size, number)
            path.write_bytes(good)
            server.start()
            self.assertEqual(len(server.call("GET", "/api/v1/instances")[2]), 60)

    def test_a_second_daemon_on_the_same_state_is_refused_and_harms_nobody(self):
        with Manager() as server:
            server.command("i")
            pid = server.run("i")["pid"]
            second = subprocess.run([INFERD, *server.args], env=server.env, capture_output=True, text=True, timeout=DEADLINE,
                                    check=False)
            self.assertEqual(second.returncode, 3, second.stderr)
            self.assertEqual((server.look("i")["pid"], server.chat("i")[0]), (pid, 200))


@unittest.skipUnless(os.geteuid() == 0, "needs to mount a small file system")
class FullDisk(Case):
    def disk(self, size):
        folder = tempfile.mkdtemp(prefix="inferd-disk-", dir="/tmp")
        self.addCleanup(os.rmdir, folder)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False).returncode:
            self.skipTest("may not mount")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=False)
        return folder

    def fill(self, folder):
        path = pathlib.Path(folder, "ballast")
        with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass
        return path

    def test_changes_are_refused_and_the_server_goes_on(self):
        folder = self.disk("3m")
        with Manager(args=["--state-dir", folder]) as server:
            server.command("i")
            server.run("i")
            ballast = self.fill(folder)
            made, refused = [], None
            for n in range(400): # the database's own file may have room left
                body = {"backend_type": "command", "start": False,
                        "backend_options": {"argv": ["/bin/true", "x" * 3000]}}
                reply = server.call("POST", f"/api/v1/instances/n{n}", body)
                if reply[0] != 201:
                    refused = reply
                    break
                made.append(f"n{n}")
            self.check_error(refused, 503, "room")
            self.assertEqual(refused[2]["code"], "insufficient_storage")
            self.check_error(server.call("PUT", "/api/v1/instances/i", {"backend_options": {"argv": ["/x", "y" * 90000]}}), 503)
            self.assertEqual((server.chat("i")[0], server.call("GET", "/health")[0]), (200, 200))
            self.assertEqual(server.proxy("i", "/print?mb=2")[0], 200) # nobody stops it for that
            self.assertNotIn("/x", json.dumps(server.look("i")))
            listed = {i["name"] for i in server.call("GET", "/api/v1/instances")[2]}
            self.assertEqual(listed, {"i", *made})
            ballast.unlink()
            pathlib.Path(folder, "logs", "i.log").write_bytes(b"")
            self.assertEqual(server.call("POST", "/api/v1/instances/after", {**body, "start": False})[0], 201)
            server.proxy("i", "/line?bytes=5")
            self.assertTrue(server.logs("i", "?lines=1").endswith("<xxxxx>\n"))
            server.kill()
            server.start()
            self.assertEqual({i["name"] for i in server.call("GET", "/api/v1/instances")[2]}, {"i", "after", *made})

    def test_a_start_is_not_lost_to_a_disk_without_room(self):
        folder = self.disk("3m")
        with Manager(args=["--state-dir", folder]) as server:
            server.worker_instance("w")
            server.command("c")
            ballast = self.fill(folder)
            for name in ("w", "c"):
                self.assertIn(server.act(name, "start")[0], (200, 503))
            self.assertEqual((server.chat("w", max_tokens=1)[0], server.chat("c")[0]), (200, 200))
            ballast.unlink()
            for name in ("w", "c"):
                self.assertEqual(server.act(name, "stop")[2]["status"], "stopped")


class Waits(Case):
    """What takes a minute: begun with the first test, looked at by the last one."""

    @classmethod
    def begin(cls):
        cls.server = Manager("default_restart_delay = 0").__enter__()
        cls.watch = Events(cls.server)
        server = cls.server
        server.worker_instance("idle", "tokens_per_second=50", idle_timeout=1)
        server.command("steady", idle_timeout=0)
        server.run("steady")
        for crashes in (1, 2):
            server.crash("steady")
            server.log.wait(f"instance=steady crashes={crashes} pause_ms={crashes * 100}")
            server.until(lambda: server.state("steady") == "running")
        list(server.stream("idle", max_tokens=100).events())
        cls.last_byte = time.monotonic()

    @classmethod
    def end(cls):
        cls.watch.close()
        cls.server.__exit__()

    def test_15_an_idle_minute_is_a_minute(self):
        when, _ = self.watch.wait(lambda name, data: data.get("name") == "idle" and data["status"] == "stopped" and "last_used" in data,
                                  80)
        self.assertTrue(59 < when - self.last_byte < 64, when - self.last_byte)

    def test_16_a_minute_without_a_crash_clears_the_count(self):
        server = self.server
        left = self.last_byte + 61 - time.monotonic()
        server.until(lambda: time.monotonic() > self.last_byte + 61, left + 5 if left > 0 else 5)
        server.crash("steady")
        server.log.wait("instance=steady crashes=1 pause_ms=100 ", times=2)


def setUpModule():
    Waits.begin()


def tearDownModule():
    Waits.end()


def load_tests(loader, tests, pattern):
    """Waits last."""
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (Defects, Many, Bad, FullDisk, Waits))


if __name__ == "__main__":
    unittest.main()
