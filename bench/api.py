#!/usr/bin/env python3
"""`make bench-api`: what the API around the models costs. Each figure is a ratio or a difference of two things measured in
one run, in interleaved rounds, medians with their spread. Nothing else should use the machine.
   bench/api.py [BUILD_FOLDER] [tls guard ws batch ...]
Environment: ROUNDS (5); MODEL, a real GGUF file for the chats; BASELINE, an older binary to compare the guard with."""
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "sys"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
BASE = int(os.environ.get("BENCH_PORT", "18860"))
SERVER_CORE, LOAD_CORE = ["taskset", "-c", "0"], ["taskset", "-c", "1"]
LONG = "1000000000"


def spread(values, digits=2):
    ordered = sorted(values)
    return f"{statistics.median(ordered):.{digits}f} ({ordered[0]:.{digits}f} to {ordered[-1]:.{digits}f})"


def until_open(port):
    import socket
    for _ in range(400):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


class Running:
    """Programs that end with the block."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="inferd-bench-"))
        self.all = []

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for process in reversed(self.all):
            process.terminate()
        for process in self.all:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *command, port=None, core=SERVER_CORE):
        process = subprocess.Popen([*core, *map(str, command)], stderr=subprocess.DEVNULL,
                                   env=dict(os.environ, HOME=str(self.folder), INFERNO_LOCAL__ENABLED="false"))
        self.all.append(process)
        if port:
            until_open(port)
        return process.pid

    def inferd(self, binary, port, config, models=None, core=SERVER_CORE):
        state = self.folder / f"state-{port}"
        file = self.folder / f"{port}.toml"
        file.write_text(config)
        return self.start(binary, "serve", "--config", file, "--port", port, "--models-dir", models or self.folder,
                          "--state-dir", state, "--log-level", "warn", port=port, core=core)


UPSTREAM = '[models.bench]\nupstream = "http://127.0.0.1:{port}"\n'


# ---- TLS ----

def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    folder / "key.pem", "-out", folder / "cert.pem", "-days", "2", "-subj", "/CN=localhost"],
                   check=True, capture_output=True)


NGINX = """daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_body_buffer_size 64k;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; tcp_nodelay on;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_buffering off; }} }} }}
"""
WRK = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model": "bench", "messages": [{"role": "user", "content": "%s"}]}'
"""


def wrk(folder, port, connections):
    done = subprocess.run([*LOAD_CORE, "wrk", "-t1", f"-c{connections}", "-d3s", "-s", folder / "post.lua",
                           f"https://127.0.0.1:{port}/v1/chat/completions"], check=True, capture_output=True, text=True)
    if "Non-2xx" in done.stdout:
        raise SystemExit(done.stdout)
    return float(done.stdout.split("Requests/sec:")[1].split()[0])


def tls(build):
    with Running() as run:
        certificate(run.folder)
        (run.folder / "nginx.conf").write_text(NGINX.format(folder=run.folder, upstream=BASE, port=BASE + 2))
        (run.folder / "post.lua").write_text(WRK % ("x" * 200))
        run.start(build / "bench" / "bench_upstream", BASE, port=BASE, core=LOAD_CORE)
        run.start("nginx", "-p", run.folder, "-c", run.folder / "nginx.conf", port=BASE + 2)
        run.inferd(build / "inferd", BASE + 1, f'[server]\ntls_cert = "{run.folder}/cert.pem"\ntls_key = '
                   f'"{run.folder}/key.pem"\n' + UPSTREAM.format(port=BASE))
        for connections in (1, 64):
            ratios, ours, theirs = [], [], []
            for _ in range(ROUNDS):
                theirs.append(wrk(run.folder, BASE + 2, connections))
                ours.append(wrk(run.folder, BASE + 1, connections))
                ratios.append(ours[-1] / theirs[-1])
            print(f"TLS, {connections:3} connections: requests/s of nginx's proxied TLS x {spread(ratios)}; "
                  f"ours {statistics.median(ours):.0f}, nginx {statistics.median(theirs):.0f}")


# ---- keys, limits, measurements ----

def cpu_ns(pid):
    """Nanoseconds that the process' threads have run."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def cost(build, port, pid, key):
    """CPU microseconds of the gateway for one request, and the median latency."""
    env = dict(os.environ, **({"BENCH_KEY": key} if key else {}))
    before = cpu_ns(pid)
    done = subprocess.run([*LOAD_CORE, build / "bench" / "bench_load", "post", str(port), "1", "200", "2",
                           "/v1/chat/completions"], check=True, capture_output=True, text=True, env=env)
    rate, median, _ = map(float, done.stdout.split()[:3])
    return (cpu_ns(pid) - before) / 1000 / (rate * 2), median


def guard(build):
    limits = f"[security]\nrate_limit = {LONG}\nburst_limit = {LONG}\ntokens_per_minute = {LONG}\n"
    keys = '[auth]\nrequire_inference_auth = true\ninference_keys = ["key-1"]\n'
    variants = {"nothing": ("", None), "keys": (keys, "key-1"), "keys and limits": (keys + limits, "key-1")}
    with Running() as run:
        run.start(build / "bench" / "bench_upstream", BASE, port=BASE, core=LOAD_CORE)
        pids = {}
        for i, (name, (config, _)) in enumerate(variants.items()):
            pids[name] = run.inferd(build / "inferd", BASE + 10 + i, UPSTREAM.format(port=BASE) + config)
        if os.environ.get("BASELINE"):
            variants["older binary"] = ("", None)
            pids["older binary"] = run.inferd(os.environ["BASELINE"], BASE + 10 + len(variants) - 1,
                                              UPSTREAM.format(port=BASE))
        seen = {name: [] for name in variants}
        for _ in range(ROUNDS):
            for i, (name, (_, key)) in enumerate(variants.items()):
                seen[name].append(cost(build, BASE + 10 + i, pids[name], key))
        first = "older binary" if "older binary" in seen else "nothing"
        for name, rows in seen.items():
            added = [row[0] - other[0] for row, other in zip(rows, seen[first])]
            latency = [row[1] - other[1] for row, other in zip(rows, seen[first])]
            print(f"{name:16}: {statistics.median(r[0] for r in rows):6.2f} us of CPU a request; beside '{first}' "
                  f"{spread(added)} us of CPU, {spread(latency, 1)} us of latency")


# ---- WebSockets ----

def ws(build):
    sockets = int(os.environ.get("SOCKETS", "10000"))
    with Running() as run:
        pid = run.inferd(build / "inferd", BASE + 1, f"[server]\nmax_connections = 20000\n[websocket]\n"
                         f"max_connections = {2 * sockets + 100}\n")
        done = subprocess.run([*LOAD_CORE, build / "bench" / "bench_ws", "idle", str(BASE + 1), str(sockets), str(pid)],
                              check=True, capture_output=True, text=True)
        print(f"{sockets} idle WebSockets: {float(done.stdout):.0f} bytes of our memory each")
    model = os.environ.get("MODEL")
    with Running() as run:
        if model:
            os.symlink(model, run.folder / "bench.gguf")
        else:
            from harness import fake_model
            fake_model(run.folder, "bench", "tokens_per_second=100000,sequences=8")
        pid = run.inferd(build / "inferd", BASE + 1, "")
        chat = {"model": "bench", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        subprocess.run(["curl", "-sf", "-o", "/dev/null", "-H", "Content-Type: application/json", "-d", json.dumps(chat),
                        f"http://127.0.0.1:{BASE + 1}/v1/chat/completions"], check=True)
        worker = int(subprocess.run(["pgrep", "-P", str(pid)], check=True, capture_output=True, text=True).stdout.split()[0])
        for what, pids in (("gateway and worker", [pid, worker]), ("gateway alone", [pid])):
            ratios = []
            for _ in range(ROUNDS):
                pair = []
                for mode in ("sse", "chat"):
                    done = subprocess.run([*LOAD_CORE, build / "bench" / "bench_ws", mode, str(BASE + 1), "4", "400",
                                           *map(str, pids)], check=True, capture_output=True, text=True)
                    pair.append(float(done.stdout))
                ratios.append(pair[1] / pair[0])
            print(f"CPU of a chat over WebSocket, of one over SSE, {what}"
                  f"{' (' + pathlib.Path(model).name + ')' if model else ' (fake engine)'}: x {spread(ratios)}")


# ---- batches beside interactive requests ----

def post(port, path, body, content_type="application/json"):
    import urllib.request
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": content_type})
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read())


def chat_of(content, tokens):
    return {"model": "bench", "messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0,
            "ignore_eos": True}


def latencies(port, count):
    """Milliseconds of short chats, one after another."""
    times = []
    for i in range(count):
        begin = time.monotonic()
        post(port, "/v1/chat/completions", chat_of(f"Say something about the number {i}.", 16))
        times.append((time.monotonic() - begin) * 1000)
    return times


def start_batch(port, lines):
    text = "\n".join(json.dumps({"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions",
                                 "body": chat_of(f"Tell me a story about {i} birds.", 64)}) for i in range(lines))
    form = ('--X\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--X\r\nContent-Disposition: form-data; '
            f'name="file"; filename="b"\r\n\r\n{text}\r\n--X--\r\n').encode()
    file = post(port, "/v1/files", form, "multipart/form-data; boundary=X")
    return post(port, "/v1/batches", {"input_file_id": file["id"], "endpoint": "/v1/chat/completions",
                                      "completion_window": "24h"})["id"]


def batch(build):
    model, port = os.environ.get("MODEL"), BASE + 1
    if not model:
        print("set MODEL to a GGUF file")
        return
    with Running() as run:
        os.symlink(model, run.folder / "bench.gguf")
        run.inferd(build / "inferd", port, "", core=[])
        latencies(port, 5)
        alone, beside, medians = [], [], []
        for _ in range(ROUNDS):
            quiet = latencies(port, 25)
            number = start_batch(port, 2000)
            time.sleep(1)
            busy = latencies(port, 25)
            post(port, f"/v1/batches/{number}/cancel", {})
            time.sleep(1)
            alone += quiet
            beside += busy
            medians.append(statistics.median(busy) / statistics.median(quiet))
        p99 = [sorted(times)[int(len(times) * 0.99) - 1] for times in (alone, beside)]
        print(f"interactive chats beside a batch, of the same alone ({len(alone)} each): median x {spread(medians)}, "
              f"p99 x {p99[1] / p99[0]:.2f} ({p99[0]:.0f} and {p99[1]:.0f} ms)")


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
    parts = {"tls": tls, "guard": guard, "ws": ws, "batch": batch}
    for name in sys.argv[2:] or parts:
        print(f"== {name}", flush=True)
        parts[name](build)


if __name__ == "__main__":
    main()
