#!/usr/bin/env python3
"""The worker beside llama-server and llama-bench: same file, same threads, same run; rounds interleaved, medians, ratios.

  bench/worker.py BUILD_FOLDER LLAMA_FOLDER MODEL.gguf [--rounds N]

Rows: decode speed of one stream at two depths (llama-bench's tg), time to the first token of a prompt nobody has sent,
aggregate speed of 8 streams, and spawn to first token. Every ratio is ours / theirs; the spread is min..max of rounds."""
import argparse
import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import tempfile
import threading
import time

WORDS = ("river stone lamp winter table green paper window market bread silver garden music doctor bridge cloud "
         "engine letter forest candle").split()


def prompt_of(words):
    return " ".join(random.choice(WORDS) for _ in range(words))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A child that serves on a port; ready when /health says 200."""

    def __init__(self, command, env=None):
        self.port = free_port()
        self.began = time.monotonic()
        self.process = subprocess.Popen([a.replace("{port}", str(self.port)) for a in command], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env=env)

    def wait(self):
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    connection.close()
                    return self
                connection.close()
            except OSError:
                pass
            if self.process.poll() is not None:
                raise SystemExit("a server ended early: " + " ".join(self.process.args))
            time.sleep(0.001)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.wait()

    def stream(self, prompt, tokens, path="/v1/completions", model="m"):
        """(seconds to the first token, seconds from first to last, tokens)"""
        body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        begin = time.monotonic()
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise SystemExit(reply.read().decode())
        times = []
        for line in reply:
            if line.startswith(b"data: {") and b'"text":""' not in line and b'"choices":[]' not in line:
                times.append(time.monotonic())
        connection.close()
        return times[0] - begin, times[-1] - times[0], len(times)


def decode_rate(server, depth_words, tokens=64):
    first, rest, count = server.stream(prompt_of(depth_words), tokens)
    return (count - 1) / rest


def parallel_rate(server, streams, tokens=64):
    results = []
    threads = [threading.Thread(target=lambda: results.append(server.stream(prompt_of(48), tokens))) for _ in range(streams)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(count for _, _, count in results) / (time.monotonic() - begin)


def llama_bench(program, model, depth):
    out = subprocess.run([program, "-m", model, "-p", "0", "-n", "64", "-d", str(depth), "-t", "2", "-r", "1", "-o", "json"],
                         capture_output=True, text=True, check=True).stdout
    return json.loads(out)[0]["avg_ts"]


def cold_start(command, env=None, model="m"):
    with Server(command, env) as server:
        if "serve" in command: # takes the request while it loads
            while True:
                try:
                    socket.create_connection(("127.0.0.1", server.port)).close()
                    break
                except OSError:
                    time.sleep(0.001)
        else:
            server.wait()
        server.stream("The capital of France is", 1, model=model)
        return time.monotonic() - server.began


def row(name, ours, theirs, unit):
    ratios = [a / b for a, b in zip(ours, theirs)]
    print(f"{name:46} {statistics.median(ours):9.1f} {statistics.median(theirs):9.1f} {unit:4} ratio "
          f"{statistics.median(ours) / statistics.median(theirs):5.2f}  ({min(ratios):.2f}..{max(ratios):.2f})", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("llama")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    bin_folder = os.path.join(args.llama, "build", "bin")
    inferd, server, bench = os.path.join(args.build, "inferd"), os.path.join(bin_folder, "llama-server"), os.path.join(bin_folder, "llama-bench")
    state = tempfile.mkdtemp(prefix="bench-", dir="/tmp")
    env = dict(os.environ, HOME=state)
    worker = [inferd, "worker", "--model", args.model, "--listen", "127.0.0.1:{port}", "--alias", "m", "--threads", "2"]
    peer = [server, "-m", args.model, "--host", "127.0.0.1", "--port", "{port}", "-t", "2"]
    lean = peer + ["-np", "1", "-c", "4096", "--no-warmup", "--fit", "off"]
    serve = [inferd, "serve", "--port", "{port}", "--state-dir", state, "--model", "m=" + args.model, "--models-dir", state]
    print(f"{os.path.basename(args.model)}: medians of {args.rounds} rounds; columns: ours, theirs")

    cells = {}
    def note(name, a, b):
        cells.setdefault(name, ([], []))
        cells[name][0].append(a)
        cells[name][1].append(b)

    for _ in range(args.rounds):
        note("spawn to first token: worker | lean ms", cold_start(worker + ["--context-size", "4096"]) * 1e3, cold_start(lean) * 1e3)
        note("spawn to first token: serve | lean ms", cold_start(serve + ["--set", "backend_config.context_size=4096"], env) * 1e3, cold_start(lean) * 1e3)
        note("spawn to first token: serve, defaults | defaults ms", cold_start(serve, env) * 1e3, cold_start(peer) * 1e3)
    for _ in range(args.rounds):
        theirs = {depth: llama_bench(bench, args.model, depth) for depth in (0, 512)}
        with Server(worker) as ours:
            ours.wait()
            ours.stream("warm up", 8)
            note("decode, 1 stream, shallow | llama-bench t/s", decode_rate(ours, 1), theirs[0])
            note("decode, 1 stream, depth 512 | llama-bench t/s", decode_rate(ours, 400), theirs[512])
    for _ in range(args.rounds):
        with Server(worker) as ours:
            ours.wait()
            ours.stream("warm up", 8)
            a = [statistics.median(ours.stream(prompt_of(n), 1)[0] for _ in range(5)) for n in (20, 400)] + [parallel_rate(ours, 8)]
        with Server(peer) as other:
            other.wait()
            other.stream("warm up", 8)
            b = [statistics.median(other.stream(prompt_of(n), 1)[0] for _ in range(5)) for n in (20, 400)] + [parallel_rate(other, 8)]
        note("time to first token, ~20 words | llama-server ms", a[0] * 1e3, b[0] * 1e3)
        note("time to first token, ~400 words | llama-server ms", a[1] * 1e3, b[1] * 1e3)
        note("8 streams, aggregate | llama-server t/s", a[2], b[2])
    for name, (a, b) in cells.items():
        label, unit = re.match(r"(.*) (ms|t/s)$", name).groups()
        row(label, a, b, unit)


if __name__ == "__main__":
    main()
