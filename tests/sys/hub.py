"""A Hugging Face hub on loopback, as far as downloads need one, which misbehaves when told to.

Every request to a file takes the next fault from that file's list, if there is one:
    {"cut": n}           n bytes of what was asked for, then the connection is closed
    {"hold": n}          n bytes, then nothing until release() (held(path) waits for that point)
    {"whole": True}      200 and all bytes, whatever range was asked for
    {"range": (a, b)}    206 that claims and sends these bytes
    {"body": bytes}      these bytes instead
    {"status": n}        this status, without a body; "headers": {} adds headers
    {"redirect": url}    302
The same for the list of files, under the name "tree", and for the branches, under "refs"."""
import collections
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

DEADLINE = 30.0


def lfs_hash(data):
    return hashlib.sha256(data).hexdigest()


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    def __init__(self, files, small=(), commit="a" * 40, page=1000):
        self.files, self.small, self.commit, self.page = files, set(small), commit, page
        self.extra = []     # entries of the tree as they are
        self.hashes = {}    # path: what the tree says instead of the truth

    def hash(self, path):
        data = self.files[path]
        return self.hashes.get(path) or (git_hash(data) if path in self.small else lfs_hash(data))

    def entries(self):
        entries = []
        for path, data in sorted(self.files.items()):
            entry = {"type": "file", "path": path, "oid": git_hash(data), "size": len(data)}
            if path not in self.small:
                entry["lfs"] = {"oid": self.hash(path), "size": len(data), "pointerSize": 134}
            else:
                entry["oid"] = self.hash(path)
            entries.append(entry)
        return entries + self.extra


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *unused):
        pass

    def do_GET(self):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.answer()

    def answer(self):
        hub = self.server.hub
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        with hub.lock:
            hub.requests.append({"path": path, "query": url.query, "range": self.headers.get("Range"),
                                 "authorization": self.headers.get("Authorization"), "host": self.headers.get("Host")})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/refs", path):
            self.refs(hub, match.group(1))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([0-9a-f]+)", path):
            self.tree(hub, match.group(1), urllib.parse.parse_qs(url.query))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]+)/(.+)", path):
            self.file(hub, match.group(1), match.group(3))
        else:
            self.reply(404)

    def reply(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refused(self, fault):
        if "status" in fault:
            self.reply(fault["status"], b"no", fault.get("headers"))
        elif "redirect" in fault:
            self.reply(302, b"over there", {"Location": fault["redirect"]})
        return "status" in fault or "redirect" in fault

    def refs(self, hub, name):
        repo = hub.repos.get(name)
        if self.refused(hub.fault("refs")):
            return
        if not repo:
            self.reply(404)
            return
        branches = [{"name": "other", "ref": "refs/heads/other", "targetCommit": "f" * 40},
                    {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commit}]
        self.reply(200, json.dumps({"branches": branches}).encode())

    def tree(self, hub, name, query):
        repo, start = hub.repos[name], int(query.get("cursor", ["0"])[0])
        if self.refused(hub.fault("tree")):
            return
        entries = repo.entries()
        headers = {}
        if start + repo.page < len(entries): # of a host that nobody must follow to
            headers["Link"] = (f'<http://elsewhere.invalid/api/tree?recursive=true&cursor={start + repo.page}>; rel="next"')
        self.reply(200, json.dumps(entries[start:start + repo.page]).encode(), headers)

    def file(self, hub, name, path):
        fault = hub.fault(path)
        if self.refused(fault):
            return
        data = hub.repos[name].files[path]
        start, end, status = 0, len(data), 200
        if (asked := self.headers.get("Range")) and "whole" not in fault:
            start, status = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1)), 206
            if start >= len(data):
                self.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
        if "range" in fault:
            (start, end), status = fault["range"], 206
        body = fault["body"] if "body" in fault else data[start:end]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.send_body(hub, path, body, fault)

    def send_body(self, hub, path, body, fault):
        stop = fault.get("cut", fault.get("hold", len(body)))
        for at in range(0, stop, 65536):
            piece = body[at:min(at + 65536, stop)]
            self.wfile.write(piece)
            with hub.lock:
                hub.sent[path] += len(piece)
        self.wfile.flush()
        if "hold" in fault:
            hub.hold(path)
        if "hold" in fault or "cut" in fault:
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *unused):
        pass # clients are killed in the middle on purpose


class Hub:
    def __init__(self, repos=None, host="127.0.0.1", tls=None):
        self.repos = repos if repos is not None else {}
        self.host, self.tls = host, tls # an ssl.SSLContext
        self.lock = threading.Lock()
        self.held_changed = threading.Condition(self.lock)
        self.requests, self.sent, self.faults = [], collections.Counter(), collections.defaultdict(list)
        self.held_paths = collections.Counter()
        self.released = threading.Event()

    def __enter__(self):
        self.server = Server((self.host, 0), Handler)
        self.server.hub = self
        self.url = f"http{'s' if self.tls else ''}://{self.host}:{self.server.server_port}"
        if self.tls:
            self.server.socket = self.tls.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.release()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def fault(self, path):
        with self.lock:
            return self.faults[path].pop(0) if self.faults[path] else {}

    def hold(self, path):
        with self.held_changed:
            self.held_paths[path] += 1
            self.held_changed.notify_all()
        self.released.wait()

    def held(self, path, times=1):
        with self.held_changed:
            if not self.held_changed.wait_for(lambda: self.held_paths[path] >= times, DEADLINE):
                raise AssertionError(f"{path} was not asked for")

    def release(self):
        self.released.set()

    def asked(self, path):
        with self.lock:
            return [request for request in self.requests if request["path"].endswith("/" + path)]
