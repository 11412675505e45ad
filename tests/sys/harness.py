"""The real binary, started in a folder of its own on a free port, and the few tools that system tests need.

Nothing here sleeps to synchronise: tests wait for a line in the log, an event, or a state, each with a deadline."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

INFERD = os.environ.get("INFERD", str(pathlib.Path(__file__).resolve().parents[2] / "build" / "inferd"))
DEADLINE = 30.0


def gguf_text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def fake_model(folder, name, settings="", architecture="fake"):
    """A GGUF file without weights: the server runs it on its fake engine, whose settings stand in general.name."""
    pairs = [gguf_text(key) + struct.pack("<I", 8) + gguf_text(value) for key, value in
             (("general.architecture", architecture), ("general.name", "fake:" + settings))]
    path = pathlib.Path(folder) / f"{name}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs) + b"\0" * 64)
    return path


class Log:
    """Lines of a child's stderr, kept and waited for."""

    def __init__(self, stream):
        self.lines, self.changed = [], threading.Condition()
        self.ended = False
        self.thread = threading.Thread(target=self.read, args=(stream,), daemon=True)
        self.thread.start()

    def read(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def count(self, pattern):
        with self.changed:
            return sum(1 for line in self.lines if re.search(pattern, line))

    def wait(self, pattern, times=1, deadline=DEADLINE):
        end = time.monotonic() + deadline
        with self.changed:
            while True:
                found = [line for line in self.lines if re.search(pattern, line)]
                if len(found) >= times:
                    return found[times - 1]
                left = end - time.monotonic()
                if left <= 0 or self.ended:
                    raise AssertionError(f"no {times}x /{pattern}/ in the log:\n" + "\n".join(self.lines[-40:]))
                self.changed.wait(left)

    def text(self):
        with self.changed:
            return "\n".join(self.lines)


class Program:
    """A running inferd with its log, and how to talk to it."""

    def launch(self, args, env=None):
        self.process = subprocess.Popen([INFERD, *args], stderr=subprocess.PIPE, env=env, cwd=self.folder)
        self.log = Log(self.process.stderr)

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.thread.join(5)
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if "Sanitizer" in self.log.text(): # the binary of `make asan`, or one of its workers
            raise AssertionError(self.log.text()[-6000:])

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def call(self, method, path, body=None, headers=None):
        """(status, headers, parsed body or text)"""
        connection = self.connection()
        data = body if isinstance(body, (bytes, str)) else None if body is None else json.dumps(body)
        with contextlib.suppress(BrokenPipeError):  # answered before all of a large body was sent
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        with contextlib.suppress(ValueError):
            return reply.status, dict(reply.getheaders()), json.loads(text)
        return reply.status, dict(reply.getheaders()), text.decode(errors="replace")

    def until(self, what, deadline=DEADLINE):
        """Asks again until what() is true: for states that no event announces."""
        end = time.monotonic() + deadline
        while not what():
            if time.monotonic() > end:
                raise AssertionError("it did not come true\n" + self.log.text()[-3000:])
            select_nothing()


class Server(Program):
    def __init__(self, models_dir=None, config="", args=(), env=None, wait=True):
        self.folder = tempfile.mkdtemp(prefix="inferd-", dir="/tmp")
        self.models = pathlib.Path(models_dir or os.path.join(self.folder, "models"))
        self.models.mkdir(exist_ok=True)
        self.config = os.path.join(self.folder, "inferd.toml")
        pathlib.Path(self.config).write_text(config)
        self.args = ["serve", "--config", self.config, "--port", "0", "--models-dir", str(self.models), "--state-dir",
                     os.path.join(self.folder, "s"), *args]
        self.env = {**os.environ, "HOME": self.folder, "INFERNO_LOCAL__ENABLED": "false", **(env or {})}
        self.wait_for_start = wait
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def start(self):
        self.launch(self.args, self.env)
        if self.wait_for_start:
            self.port = int(re.search(r"url=http://[^:]+:(\d+)", self.log.wait(r"listening  version=")).group(1))
            self.url = f"http://127.0.0.1:{self.port}"
            self.log.wait("models found")

    def chat(self, model, content="hi", **more):
        return self.call("POST", "/v1/chat/completions",
                         {"model": model, "messages": [{"role": "user", "content": content}], **more})

    def stream(self, model, content="hi", path="/v1/chat/completions", **more):
        return Stream(self.port, path, {"model": model, "messages": [{"role": "user", "content": content}], "stream": True, **more})

    def status(self, model):
        return self.call("GET", f"/v1/models/{model}/status")[2]

    def worker(self, index=1):
        """A connection to the worker's own socket."""
        return UnixConnection(os.path.join(self.folder, "s", f"run-{self.process.pid}", f"w{index}.sock"))

    def slots(self, index=1):
        connection = self.worker(index)
        connection.request("GET", "/slots")
        return json.loads(connection.getresponse().read())


class Shared(unittest.TestCase):
    """Tests of one server, started once for the class, with the fake model "m"."""
    settings, config = "tokens_per_second=5000", ""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(config=cls.config)
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__, None, None, None)
        fake_model(cls.server.models, "m", cls.settings)


class Worker(Program):
    """`inferd worker` on the fake engine, over TCP. settings: see the head of src/worker/engine_fake.c."""

    def __init__(self, settings="", args=(), wait=True):
        self.folder = tempfile.mkdtemp(prefix="inferd-", dir="/tmp")
        self.args = ["worker", "--engine", "fake", "--model", "fake:" + settings, "--alias", "m", "--listen",
                     "127.0.0.1:0", *args]
        self.wait_for_model = wait

    def __enter__(self):
        self.launch(self.args)
        self.port = int(re.search(r"port=(\d+)", self.log.wait(r"listening  address=")).group(1))
        if self.wait_for_model:
            self.log.wait("model loaded")
        return self

    def call(self, method, path, body=None, headers=None):
        if isinstance(body, dict) and path.startswith("/v1/"):
            body = {"model": "m", **body}
        return super().call(method, path, body, headers)

    def complete(self, prompt, **more):
        return self.call("POST", "/v1/completions", {"prompt": prompt, "temperature": 0, **more})

    def stream(self, prompt, path="/v1/completions", **more):
        return Stream(self.port, path, {"model": "m", "prompt": prompt, "temperature": 0, "stream": True, **more})

    def slots(self):
        return self.call("GET", "/slots")[2]

    def busy(self):
        return sum(slot["is_processing"] for slot in self.slots())

    def metrics(self):
        """Every family's value by its name without the prefix."""
        return {line.split()[0].removeprefix("inferd_worker_"): float(line.split()[1])
                for line in self.call("GET", "/metrics")[2].splitlines() if not line.startswith("#")}


def select_nothing():
    """A short pause between two looks at a state."""
    threading.Event().wait(0.005)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self.path)


class Stream:
    """An SSE reply read event by event from a raw socket, so that a test can walk away in the middle."""

    def __init__(self, port, path, body):
        data = json.dumps(body).encode()
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.socket.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
                            f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        self.file = self.socket.makefile("rb")
        self.status = None
        self.headers = {}

    def head(self):
        if self.status is None:
            self.status = int(self.file.readline().split()[1])
            while (line := self.file.readline().strip()):
                name, value = line.decode().split(":", 1)
                self.headers[name.lower()] = value.strip()
        return self.status

    def body(self):
        """Bytes as they come, chunked framing undone; ends at the last chunk; raises when the reply is cut off."""
        self.head()
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            yield self.file.read(int(self.headers.get("content-length", 0)))
            return
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError("the reply was cut off")
            size = int(line, 16)
            data = self.file.read(size)
            self.file.readline()
            if size == 0:
                return
            yield data

    def events(self):
        rest = b""
        for data in self.body():
            rest += data
            while b"\n\n" in rest:
                event, rest = rest.split(b"\n\n", 1)
                for line in event.split(b"\n"):
                    if line.startswith(b"data: "):
                        yield line[6:].decode()

    def first_text(self):
        for event in self.events():
            if event != "[DONE]" and (json.loads(event)["choices"] or [{}])[0].get("delta", {}).get("content"):
                return event
        raise AssertionError("no text came")

    def close(self):
        self.file.close()
        self.socket.close()


def run_cli(*args, url=None, stdin=None, env=None):
    """(exit status, stdout, stderr) of one command."""
    environment = dict(os.environ, **(env or {}))
    if url:
        environment["INFERD_URL"] = url
    done = subprocess.run([INFERD, *args], input=stdin or "", capture_output=True, text=True, env=environment, timeout=120,
                          check=False)
    return done.returncode, done.stdout, done.stderr
