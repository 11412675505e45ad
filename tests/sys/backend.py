#!/usr/bin/env python3
"""A small HTTP server that behaves as badly as its switches say: what stands behind instances in system tests.

Standard output and standard error are its log. Words that it does not know are kept (see /argv) and ignored, so that it
can stand in for llama-server as well.
  GET  /health               200, or 503 until it is healthy
  GET  /argv, /env?name=X    how it was started
  POST /exit?code=N          ends at once
  POST /print?mb=N           N MiB of numbered lines of 64 bytes, then "PRINTED"
  POST /line?bytes=N         one line of N bytes between '<' and '>'
  any other                  the request itself: method, path, headers in order, body, number of its connection
A JSON body with "stream": true is answered with "events" numbered server-sent events, "interval" seconds apart, and
[DONE]; one with "exit": N ends the server before it answers."""
import argparse
import http.server
import json
import os
import signal
import socketserver
import sys
import threading
import time
import urllib.parse

connections = 0


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--healthy-after", type=float, default=0, help="seconds")
    parser.add_argument("--never-healthy", action="store_true")
    parser.add_argument("--say", default="", help="printed at once")
    parser.add_argument("--die-after", type=float, help="seconds until it ends with --code")
    parser.add_argument("--die-if", help="ends with --code at once when this file exists")
    parser.add_argument("--code", type=int, default=7)
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--children", type=int, default=0, help="processes that ignore SIGTERM and hold the port")
    parser.add_argument("--print-mb", type=int, default=0, help="before it is healthy")
    return parser.parse_known_args()[0]


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_lines(mb):
    for start in range(0, mb << 14, 1024):
        sys.stdout.write("".join(f"{start + n:063d}\n" for n in range(1024)))
    say("PRINTED")


def end(code):
    sys.stdout.flush()
    os._exit(code)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self):
        global connections
        super().setup()
        connections += 1
        self.number = connections

    def log_message(self, *unused):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while (size := int(self.rfile.readline(), 16)):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def reply(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events, interval):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pieces = [json.dumps({"n": n, "choices": [{"index": 0, "delta": {"content": str(n)}}]}) for n in range(events)]
        for piece in [*pieces, "[DONE]"]:
            data = f"data: {piece}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(interval)
        self.wfile.write(b"0\r\n\r\n")

    def answer(self):
        url = urllib.parse.urlsplit(self.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        body = self.body()
        if url.path == "/health":
            healthy = not self.server.options.never_healthy and time.monotonic() >= self.server.healthy_at
            return self.reply(200 if healthy else 503, {"status": "ok" if healthy else "loading"})
        if url.path == "/argv":
            return self.reply(200, sys.argv)
        if url.path == "/env":
            return self.reply(200, os.environ.get(query["name"]))
        if url.path == "/exit":
            say(f"leaving with {query['code']}")
            end(int(query["code"]))
        if url.path == "/print":
            print_lines(int(query["mb"]))
            return self.reply(200, {})
        if url.path == "/line":
            say("<" + "x" * int(query["bytes"]) + ">")
            return self.reply(200, {})
        wanted = json.loads(body) if body.startswith(b"{") else {}
        if "exit" in wanted:
            end(wanted["exit"])
        if wanted.get("stream"):
            return self.stream(wanted.get("events", 10), wanted.get("interval", 0.01))
        return self.reply(200, {"method": self.command, "path": self.path, "headers": self.headers.items(),
                                "body": body.decode("latin-1"), "connection": self.number})

    def do_POST(self):
        try:
            self.answer()
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_PUT = do_DELETE = do_PATCH = do_POST


class Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 256
    daemon_threads = True


def child():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def main():
    chosen = options()
    if chosen.say:
        say(chosen.say)
    if chosen.die_if and os.path.exists(chosen.die_if):
        end(chosen.code)
    if chosen.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = Listener((chosen.host, chosen.port), Handler)
    server.options = chosen
    for _ in range(chosen.children):
        if os.fork() == 0:
            child()
    if chosen.die_after is not None:
        threading.Timer(chosen.die_after, end, (chosen.code,)).start()
    print_lines(chosen.print_mb)
    server.healthy_at = time.monotonic() + chosen.healthy_after
    server.serve_forever()


if __name__ == "__main__":
    main()
