#!/usr/bin/env python3
"""Starts, turns, crashes and kills of named instances, on the real binary: counts and times (part of `make bench-instances`)."""
import concurrent.futures
import json
import os
import pathlib
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "sys"))
from harness import Server, fake_model  # noqa: E402

TURNS = int(os.environ.get("TURNS", "200"))
KILLS = int(os.environ.get("KILLS", "20"))


def worker(server, name, settings=""):
    return {"backend_type": "worker", "backend_options": {"model": str(fake_model(server.folder, name, settings))}}


def instance(server, method, name, verb="", body=None):
    return server.call(method, f"/api/v1/instances/{name}{verb}", body)


def cold_start():
    with Server() as server:
        instance(server, "POST", "cold", body={**worker(server, "cold"), "start": False})
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            statuses = list(pool.map(lambda _: server.chat("cold", max_tokens=4)[0], range(100)))
        starts = server.log.count("instance starting")
    print(f"100 requests to a cold instance: {starts} start(s), {sum(s != 200 for s in statuses)} errors")


def read_stream(server, model, tokens):
    """Tokens of one streamed reply, or None when it is cut off or no 200."""
    connection = server.connection()
    connection.request("POST", "/v1/chat/completions", json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "go"}], "stream": True, "max_tokens": tokens}),
        {"Content-Type": "application/json"})
    reply = connection.getresponse()
    lines = [line for line in reply if line.startswith(b"data: ")]
    whole = reply.status == 200 and lines and lines[-1].strip() == b"data: [DONE]"
    connection.close()
    return len(lines) if whole else None


def turns():
    with Server(config="[instances]\nmax_running_instances = 1\n") as server:
        for name in ("a", "b"):
            instance(server, "POST", name, body={**worker(server, name, "tokens_per_second=400"), "start": False})
        counts, lock = {"a": [], "b": []}, threading.Lock()

        def client(first):
            for turn in range(TURNS // 2): # always the one that the other client is not asking for
                name = "ab"[(turn + first) % 2]
                lines = read_stream(server, name, 40)
                with lock:
                    counts[name].append(lines)
        began = time.monotonic()
        clients = [threading.Thread(target=client, args=(first,)) for first in (0, 1)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        all_counts = counts["a"] + counts["b"]
        cut = sum(c is None or c != max(x for x in all_counts if x) for c in all_counts)
        starts = server.log.count("instance starting")
        print(f"two models under a limit of one, {len(all_counts)} long streams: {cut} cut off or refused, {starts} starts, "
              f"{time.monotonic() - began:.1f} s")


def crash_loop():
    with Server(config="[instances]\ndefault_restart_delay = 30\n") as server:
        times = []
        for round_ in range(10):
            name = f"loop{round_}"
            instance(server, "POST", name, body={"backend_type": "command", "backend_options": {"argv": ["/bin/false"]}})
            server.until(lambda: instance(server, "GET", name)[2]["status"] == "restarting")
            began = time.monotonic()
            instance(server, "POST", name, "/stop?wait=1")
            times.append(time.monotonic() - began)
            assert instance(server, "GET", name)[2]["status"] == "stopped"
        print(f"stop during restarting: {1000 * max(times):.1f} ms at most of {len(times)}")


def hung_backend():
    """A router whose /models never answers, beside a good instance."""
    server_socket = "import socket,sys,threading\ns=socket.create_server(('127.0.0.1',int(sys.argv[1])))\nkept=[]\n" \
        "def one(c):\n  d=c.recv(65536)\n  if b'/health' in d: c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok'); one(c)\n  kept.append(c)\n" \
        "while True: threading.Thread(target=one,args=(s.accept()[0],),daemon=True).start()\n"
    with Server() as server:
        script = pathlib.Path(server.folder) / "hung.sh"
        script.write_text(f"#!/bin/sh\nexec python3 -c \"$(cat {server.folder}/hung.py)\" \"$(echo $* | sed 's/.*--port \\([0-9]*\\).*/\\1/')\"\n")
        script.chmod(0o755)
        (pathlib.Path(server.folder) / "hung.py").write_text(server_socket)
        status, _, reply = instance(server, "POST", "hung", "?wait=1", {"backend_type": "llama_cpp", "command_override": str(script)})
        assert (status, reply["status"]) == (201, "running"), reply
        instance(server, "POST", "good", "?wait=1", worker(server, "good"))
        times = []
        for _ in range(20):
            began = time.monotonic()
            ids = [m["id"] for m in server.call("GET", "/v1/models")[2]["data"]]
            times.append(time.monotonic() - began)
            assert "hung" in ids and "good" in ids
        print(f"/v1/models with a hung backend: {1000 * statistics.median(times):.1f} ms at the median, {1000 * max(times):.1f} ms at most")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False


def kills():
    with Server() as server:
        for n in range(5):
            backend = {"argv": ["python3", "-m", "http.server", "{port}", "--bind", "127.0.0.1"], "health": "/"}
            instance(server, "POST", f"i{n}", "?wait=1", {"backend_type": "command", "backend_options": backend})
        orphans = clashes = 0
        for _ in range(KILLS):
            before = [i["pid"] for i in server.call("GET", "/api/v1/instances")[2]]
            server.process.kill()
            server.process.wait()
            server.start()
            orphans += sum(alive(pid) for pid in before)
            server.until(lambda: all(i["status"] in ("running", "failed") for i in server.call("GET", "/api/v1/instances")[2]))
            clashes += sum(i["status"] == "failed" for i in server.call("GET", "/api/v1/instances")[2])
        print(f"kill -9 of the daemon with five instances, {KILLS} times: {orphans} orphans, {clashes} port clashes")


if __name__ == "__main__":
    print("== starts, turns, crashes, kills")
    cold_start()
    turns()
    crash_loop()
    hung_backend()
    kills()
