"""POST /v1/batch, files and batches, on the fake engine."""
import contextlib
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest

from harness import INFERD, Server, fake_model, run_cli

FAST = "tokens_per_second=5000"
SLOW = "tokens_per_second=20"


def ask(text="hi"):
    return {"messages": [{"role": "user", "content": text}]}


class Together(unittest.TestCase):
    def batch(self, server, requests, **more):
        return server.call("POST", "/v1/batch", {"model": "m", "requests": requests, "max_tokens": 4, **more})

    def running(self, server):
        return server.status("m").get("active_requests", 0)

    def test_the_documents_own_example(self):
        with Server() as server:
            fake_model(server.models, "gpt2", FAST)
            status, _, body = server.call("POST", "/v1/batch", {
                "model": "gpt2", "max_tokens": 50,
                "requests": [{"id": "req1", **ask("Hello")}, {"id": "req2", **ask("Goodbye")}]})
            self.assertEqual(status, 200)
            self.assertEqual(list(body), ["object", "responses"])
            self.assertEqual(body["object"], "batch_completion")
            self.assertEqual([r["id"] for r in body["responses"]], ["req1", "req2"])
            for one in body["responses"]:
                self.assertEqual(list(one), ["id", "choices", "usage"])
                self.assertTrue(one["choices"][0]["message"]["content"])
                self.assertGreater(one["usage"]["total_tokens"], 0)

    def test_defaults_overrides_prompts_and_order(self):
        with Server(config="\n[batch]\nmax_requests = 1000\n") as server:
            fake_model(server.models, "m", FAST)
            requests = [{"prompt": "a", "max_tokens": 3, "ignore_eos": True}, {**ask(), "max_tokens": 5, "n": 2}, {},
                        *({"id": f"x{i}", **ask(str(i))} for i in range(100))]
            status, _, body = self.batch(server, requests, ignore_eos=True, messages=ask("shared")["messages"])
            self.assertEqual(status, 200, body)
            first, second, third, *rest = body["responses"]
            self.assertEqual([r["id"] for r in body["responses"]], ["req-0", "req-1", "req-2", *(f"x{i}" for i in range(100))])
            self.assertIn("text", first["choices"][0])
            self.assertEqual(first["usage"]["completion_tokens"], 3)
            self.assertEqual(len(second["choices"]), 2)
            self.assertEqual(second["usage"]["completion_tokens"], 10)
            self.assertEqual(third["usage"]["completion_tokens"], 4)
            self.assertTrue(all(r["choices"] for r in rest))

    def test_a_bad_item_fails_itself(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            bad = [7, {}, {"id": 3, **ask()}, {"prompt": "a", **ask()}, {**ask(), "temperature": 9},
                   {**ask(), "model": "none"}]
            status, _, body = self.batch(server, [ask(), *bad])
            self.assertEqual(status, 200)
            good, *failed = body["responses"]
            self.assertIn("choices", good)
            self.assertEqual([list(f) for f in failed], [["id", "error"]] * len(bad))
            self.assertEqual([f["error"]["code"] for f in failed], ["invalid_parameters"] * 5 + ["model_not_found"])
            self.assertEqual(failed[4]["error"]["param"], "temperature")
            alone = server.call("POST", "/v1/chat/completions", {"model": "m", **bad[4]})[2]["error"]
            self.assertEqual(failed[4]["error"], alone)
            self.assertEqual(self.batch(server, [{}, 1])[0], 200)

    def test_the_whole_call_is_refused(self):
        with Server() as server:
            for requests, param in (([ask()] * 257, "requests"), ([], "requests"), (None, "requests"), (4, "requests"),
                                    ([{"id": "a", **ask()}] * 2, "requests[1].id"),
                                    ([{"id": "req-1", **ask()}, ask()], "requests[1].id"),
                                    ([ask(), {**ask(), "stream": True}], "requests[1].stream")):
                status, _, body = self.batch(server, requests)
                self.assertEqual((status, body["error"]["param"]), (400, param))
            self.assertEqual(self.batch(server, [ask()], stream=True)[2]["error"]["param"], "stream")
            self.assertEqual(server.call("POST", "/v1/batch", b"{")[0], 400)
            self.assertEqual(server.call("POST", "/v1/batch", b"[1]")[0], 400)

    def test_concurrency_is_bounded_and_a_client_that_leaves_cancels(self):
        with Server(config="\n[batch]\nconcurrency = 3\n") as server:
            fake_model(server.models, "m", SLOW)
            server.chat("m", max_tokens=1)
            data = json.dumps({"model": "m", "max_tokens": 2000, "ignore_eos": True, "requests": [ask()] * 50}).encode()
            with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as client:
                client.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
                server.until(lambda: sum(s["is_processing"] for s in server.slots()) == 3)
                self.assertEqual(self.running(server), 3)
            server.until(lambda: self.running(server) == 0)
            server.until(lambda: sum(s["is_processing"] for s in server.slots()) == 0)

    def test_items_are_charged_and_limits_are_waited_out(self):
        with Server(config="\n[security]\nrate_limit = 6000\nburst_limit = 3\n") as server:
            fake_model(server.models, "m", FAST)
            status, _, body = self.batch(server, [ask()] * 12, max_tokens=1)
            self.assertEqual(status, 200)
            self.assertTrue(all("choices" in r for r in body["responses"]), body)
            self.assertIn('inferno_rate_limited_total{limit="burst"}', server.call("GET", "/metrics")[2])


def line(i, **body):
    return {"custom_id": f"c{i}", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "m", "max_tokens": 4, "ignore_eos": True, **ask(f"number {i}"), **body}}


def jsonl(lines):
    return "".join(json.dumps(one) + "\n" for one in lines).encode()


ENDED = ("completed", "failed", "expired", "cancelled")


class Client:
    """OpenAI's calls on one server, with one key."""

    def __init__(self, server, key=None):
        self.server, self.headers = server, {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, method, path, body=None, headers=None):
        status, _, reply = self.server.call(method, path, body, {**self.headers, **(headers or {})})
        return status, reply

    def good(self, method, path, body=None):
        status, reply = self.call(method, path, body)
        assert status == 200, (status, reply)
        return reply

    def upload(self, data, purpose="batch", name="in.jsonl"):
        form = (f'--X\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n--X\r\n'
                f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n').encode() + data + b"\r\n--X--\r\n"
        return self.call("POST", "/v1/files", form, {"Content-Type": "multipart/form-data; boundary=X"})

    def create(self, data, endpoint="/v1/chat/completions", **more):
        status, file = self.upload(data)
        assert status == 200, file
        return self.good("POST", "/v1/batches", {"input_file_id": file["id"], "endpoint": endpoint,
                                                 "completion_window": "24h", **more})["id"]

    def batch(self, number):
        return self.good("GET", f"/v1/batches/{number}")

    def end(self, number, deadline=60):
        self.server.until(lambda: self.batch(number)["status"] in ENDED, deadline)
        return self.batch(number)

    def lines(self, file):
        status, _, text = self.server.call("GET", f"/v1/files/{file}/content", headers=self.headers)
        assert status == 200
        return [json.loads(one) for one in text.splitlines()] if isinstance(text, str) else [text]


def files_dir(server):
    return pathlib.Path(server.folder) / "s" / "files"


class Files(unittest.TestCase):
    def test_the_life_of_a_file(self):
        with Server() as server:
            client = Client(server)
            data = bytes(range(256)) * 9000 + b"\r\n--Y--X\r\n--"
            status, file = client.upload(data, name="a b.jsonl")
            self.assertEqual(status, 200, file)
            self.assertEqual((file["object"], file["bytes"], file["filename"], file["purpose"], file["status"]),
                             ("file", len(data), "a b.jsonl", "batch", "processed"))
            self.assertEqual(file["sha256"], hashlib.sha256(data).hexdigest())
            self.assertEqual(file["expires_at"] - file["created_at"], 72 * 3600)
            self.assertEqual(client.good("GET", f"/v1/files/{file['id']}"), file)
            connection = server.connection()
            connection.request("GET", f"/v1/files/{file['id']}/content")
            self.assertEqual(connection.getresponse().read(), data)
            connection.close()
            ids = [file["id"], *(client.upload(b"x")[1]["id"] for _ in range(3))]
            listed = client.good("GET", "/v1/files?order=asc")
            self.assertEqual({f["id"] for f in listed["data"]}, set(ids))
            first = client.good("GET", "/v1/files?limit=3")
            self.assertTrue(first["has_more"])
            rest = client.good("GET", f"/v1/files?limit=3&after={first['last_id']}")
            self.assertEqual([f["id"] for f in first["data"] + rest["data"]],
                             [f["id"] for f in reversed(listed["data"])])
            self.assertEqual(client.good("GET", "/v1/files?purpose=other")["data"], [])
            self.assertEqual(client.good("DELETE", f"/v1/files/{file['id']}"),
                             {"id": file["id"], "object": "file", "deleted": True})
            for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
                self.assertEqual(client.call(method, f"/v1/files/{file['id']}{path}")[0], 404)
            server.until(lambda: not (files_dir(server) / file["id"]).exists())

    def test_refused(self):
        with Server(config="\n[batch]\nmax_file_mb = 1\n") as server:
            client = Client(server)
            self.assertEqual(client.upload(b"x" * (1 << 20))[0], 200)
            status, reply = client.upload(b"x" * ((1 << 20) + 1))
            self.assertEqual((status, reply["error"]["param"]), (413, "file"))
            status, reply = client.upload(b"x", purpose="fine-tune")
            self.assertEqual((status, reply["error"]["param"]), (400, "purpose"))
            self.assertEqual(client.call("POST", "/v1/files", {"purpose": "batch"})[0], 415)
            form = {"Content-Type": "multipart/form-data; boundary=X"}
            for body in (b"", b"--X\r\n", b"--X\r\n\r\n\r\n--X--", b"--Y--",
                         b'--X\r\nContent-Disposition: form-data; name=file\r\n\r\nhalf'):
                self.assertEqual(client.call("POST", "/v1/files", body, form)[0], 400, body)
            self.assertEqual(len(list(files_dir(server).iterdir())), 1)

    def test_an_upload_that_breaks_off_leaves_nothing(self):
        with Server() as server:
            with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as sender:
                sender.sendall(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nContent-Type: "
                               b"multipart/form-data; boundary=X\r\n\r\n--X\r\nContent-Disposition: form-data; name=file\r\n\r\n"
                               + b"x" * 3000000)
                server.until(lambda: list(files_dir(server).glob("*.part")))
            server.until(lambda: not list(files_dir(server).iterdir()))
            self.assertEqual(Client(server).good("GET", "/v1/files")["data"], [])


class Background(unittest.TestCase):
    def check_whole(self, client, done, count):
        """Every custom_id is in the output once."""
        self.assertEqual((done["status"], done["request_counts"]),
                         ("completed", {"total": count, "completed": count, "failed": 0}), done)
        lines = client.lines(done["output_file_id"])
        self.assertEqual(sorted(l["custom_id"] for l in lines), sorted(f"c{i}" for i in range(count)))
        self.assertEqual(len({l["id"] for l in lines}), count)
        return lines

    def test_the_life_of_a_batch(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            client = Client(server)
            number = client.create(jsonl([*(line(i) for i in range(100)), line(100, temperature=9)]) + b"\n \n",
                                   metadata={"a": "b"})
            done = client.end(number)
            self.assertEqual(done["status"], "completed", done)
            self.assertEqual(done["request_counts"], {"total": 101, "completed": 100, "failed": 1})
            self.assertEqual(done["metadata"], {"a": "b"})
            self.assertLessEqual(done["created_at"], done["in_progress_at"])
            self.assertLessEqual(done["in_progress_at"], done["completed_at"])
            lines = client.lines(done["output_file_id"])
            self.assertEqual({l["custom_id"] for l in lines}, {f"c{i}" for i in range(100)})
            for one in lines:
                self.assertEqual((one["response"]["status_code"], one["error"]), (200, None))
                self.assertEqual(one["response"]["body"]["usage"]["completion_tokens"], 4)
            failed, = client.lines(done["error_file_id"])
            self.assertEqual((failed["custom_id"], failed["response"]["status_code"]), ("c100", 400))
            self.assertEqual(failed["response"]["body"]["error"]["param"], "temperature")
            files = {f["id"]: f for f in client.good("GET", "/v1/files")["data"]}
            self.assertEqual(files[done["output_file_id"]]["purpose"], "batch_output")
            self.assertEqual(files[done["output_file_id"]]["bytes"],
                             (files_dir(server) / done["output_file_id"]).stat().st_size)
            self.assertEqual(client.call("POST", f"/v1/batches/{number}/cancel")[0], 409)
            self.assertEqual([b["id"] for b in client.good("GET", "/v1/batches")["data"]], [number])
            server.process.terminate()
            server.process.wait()
            server.start()
            self.assertEqual(client.batch(number), done)

    def test_completions_and_embeddings(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            client = Client(server)
            for url, body in (("/v1/completions", {"prompt": "a"}), ("/v1/embeddings", {"input": "a"})):
                one = {"custom_id": "a", "method": "POST", "url": url, "body": {"model": "m", **body}}
                done = client.end(client.create(jsonl([one]), url))
                self.assertEqual(done["request_counts"]["completed"], 1, done)

    def test_a_bad_input_says_which_lines(self):
        with Server(config="\n[batch]\nmax_lines = 20\n") as server:
            client = Client(server)
            bad = [json.dumps(line(0)), "{", "[1]", json.dumps(line(0)), json.dumps({**line(1), "method": "GET"}),
                   json.dumps({**line(2), "url": "/v1/completions"}), json.dumps({**line(3), "custom_id": ""}),
                   json.dumps(line(4, stream=True)), json.dumps({**line(5), "body": 3}), json.dumps(line(6, model=""))]
            done = client.end(client.create("\n".join(bad).encode()))
            self.assertEqual(done["status"], "failed")
            self.assertIsNone(done["output_file_id"])
            self.assertEqual([(e["line"], e["code"], e["param"]) for e in done["errors"]["data"]], [
                (2, "invalid_json_line", None), (3, "invalid_json_line", None), (4, "duplicate_custom_id", "custom_id"),
                (5, "invalid_request", "method"), (6, "invalid_request", "url"), (7, "invalid_request", "custom_id"),
                (8, "invalid_request", "body.stream"), (9, "invalid_request", "body"),
                (10, "invalid_request", "body.model")])
            for data, code in ((b"", "empty_file"), (b"\n\n", "empty_file"),
                               (jsonl(line(i) for i in range(21)), "too_many_requests"),
                               (b"x" * (17 << 20) + b"\n" + jsonl([line(1)]), "line_too_long")):
                done = client.end(client.create(data))
                self.assertEqual([e["code"] for e in done["errors"]["data"]], [code])

    def test_what_cannot_be_created(self):
        with Server() as server:
            client = Client(server)
            _, file = client.upload(b"{}")
            good = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
            for change, status, param in (({"input_file_id": "file-x"}, 404, "input_file_id"),
                                          ({"endpoint": "/v1/models"}, 400, "endpoint"), ({"endpoint": 1}, 400, "endpoint"),
                                          ({"completion_window": "8d"}, 400, "completion_window"),
                                          ({"completion_window": "x"}, 400, "completion_window"),
                                          ({"metadata": {"a": 1}}, 400, "metadata")):
                answer = client.call("POST", "/v1/batches", {**good, **change})
                self.assertEqual((answer[0], answer[1]["error"]["param"]), (status, param))
            self.assertEqual(client.call("GET", "/v1/batches/batch_x")[0], 404)
            self.assertEqual(client.call("POST", "/v1/batches/batch_x/cancel")[0], 404)

    def test_killed_again_and_again(self):
        with Server(config="\n[batch]\nconcurrency = 8\n") as server:
            fake_model(server.models, "m", "tokens_per_second=400")
            client = Client(server)
            number = client.create(jsonl(line(i) for i in range(400)))
            for kill in range(1, 5):
                server.until(lambda: client.batch(number)["request_counts"]["completed"] >= 50 * kill)
                server.process.kill()
                server.process.wait()
                if kill == 2:  # as if the power had failed within a line
                    output = max(files_dir(server).iterdir(), key=lambda f: f.stat().st_size if f.read_bytes()[:6] == b'{"id":' else 0)
                    with open(output, "ab") as f:
                        f.write(b'{"id":"batch_req_x","custom_id":"c399","resp')
                server.start()
            self.check_whole(client, client.end(number), 400)

    def test_a_shutdown_is_no_end(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=400")
            client = Client(server)
            number = client.create(jsonl(line(i) for i in range(200)))
            server.until(lambda: client.batch(number)["request_counts"]["completed"] >= 20)
            server.process.terminate()
            self.assertEqual(server.process.wait(20), 0)
            server.start()
            self.check_whole(client, client.end(number), 200)

    def test_cancel_keeps_what_is_done(self):
        with Server(config="\n[batch]\nconcurrency = 2\n") as server:
            fake_model(server.models, "m", "tokens_per_second=100")
            client = Client(server)
            number = client.create(jsonl(line(i) for i in range(500)))
            file = client.batch(number)["input_file_id"]
            server.until(lambda: client.batch(number)["request_counts"]["completed"] >= 3)
            self.assertEqual(client.call("DELETE", f"/v1/files/{file}")[0], 409)
            self.assertIn(client.good("POST", f"/v1/batches/{number}/cancel")["status"], ("cancelling", "cancelled"))
            done = client.end(number)
            self.assertEqual(done["status"], "cancelled")
            self.assertTrue(done["cancelling_at"] and done["cancelled_at"])
            self.assertEqual(len(client.lines(done["output_file_id"])), done["request_counts"]["completed"])
            server.until(lambda: sum(s["is_processing"] for s in server.slots()) == 0)
            self.assertEqual(client.call("DELETE", f"/v1/files/{file}")[0], 200)

    def test_expiry(self):
        with Server(config="\n[batch]\nconcurrency = 2\n") as server:
            fake_model(server.models, "m", "tokens_per_second=20")
            client = Client(server)
            number = client.create(jsonl(line(i) for i in range(500)), completion_window="2s")
            done = client.end(number)
            self.assertEqual((done["status"], done["expires_at"]), ("expired", done["created_at"] + 2))
            self.assertTrue(done["expired_at"])
            counts = done["request_counts"]
            self.assertLess(counts["completed"], 500)
            self.assertEqual(counts["completed"] + counts["failed"], 500)
            answered = {l["custom_id"] for l in client.lines(done["output_file_id"])} if done["output_file_id"] else set()
            late = client.lines(done["error_file_id"])
            self.assertEqual({l["error"]["code"] for l in late}, {"batch_expired"})
            self.assertEqual(sorted(answered | {l["custom_id"] for l in late}), sorted(f"c{i}" for i in range(500)))
            self.assertEqual(len(answered) + len(late), 500)

    def test_interactive_requests_do_not_feel_a_batch(self):
        def median_ms(server):
            times = []
            for _ in range(15):
                began = time.monotonic()
                self.assertEqual(server.chat("m", "quick", max_tokens=20, ignore_eos=True)[0], 200)
                times.append((time.monotonic() - began) * 1000)
            return sorted(times)[len(times) // 2]

        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=500,sequences=4")
            client = Client(server)
            alone = median_ms(server)
            number = client.create(jsonl(line(i, max_tokens=100) for i in range(2000)))
            server.until(lambda: sum(s["is_processing"] for s in server.slots()) == 4)
            beside = median_ms(server)
            self.assertEqual(client.batch(number)["status"], "in_progress")
            self.assertLess(beside, alone * 2 + 20)  # side by side it would be four times as slow
            self.assertEqual(client.batch(number)["request_counts"]["failed"], 0)
            client.good("POST", f"/v1/batches/{number}/cancel")

    def test_batches_share(self):
        with Server(config="\n[batch]\nconcurrency = 4\n") as server:
            fake_model(server.models, "m", "tokens_per_second=200")
            client = Client(server)
            large = client.create(jsonl(line(i) for i in range(1000)))
            server.until(lambda: client.batch(large)["request_counts"]["completed"] >= 1)
            small = client.create(jsonl(line(i) for i in range(40)))
            client.end(small)
            self.assertEqual(client.batch(large)["status"], "in_progress")
            client.good("POST", f"/v1/batches/{large}/cancel")

    def test_only_the_owner_sees_it_and_a_revoked_key_ends_it(self):
        with Server(config="\n[security]\nauth_enabled = true\n") as server:
            fake_model(server.models, "m", "tokens_per_second=50")
            admin = server.log.wait(r"^ +llamactl-").strip()
            def key(name):
                return Client(server, admin).call("POST", "/v1/auth/keys", {"name": name, "permissions": ["inference"]})
            status, made = key("one")
            self.assertIn(status, (200, 201), made)
            one, two = Client(server, made.get("key") or made["api_key"]), key("two")[1]
            two = Client(server, two.get("key") or two["api_key"])
            number = one.create(jsonl(line(i) for i in range(500)))
            file = one.batch(number)["input_file_id"]
            for method, path in (("GET", f"/v1/batches/{number}"), ("POST", f"/v1/batches/{number}/cancel"),
                                 ("GET", f"/v1/files/{file}"), ("GET", f"/v1/files/{file}/content"),
                                 ("DELETE", f"/v1/files/{file}")):
                self.assertEqual(two.call(method, path)[0], 404)
            self.assertEqual(two.good("GET", "/v1/batches")["data"], [])
            self.assertEqual(two.good("GET", "/v1/files")["data"], [])
            self.assertEqual(two.call("POST", "/v1/batches", {"input_file_id": file, "endpoint": "/v1/chat/completions",
                                                              "completion_window": "24h"})[0], 404)
            server.until(lambda: one.batch(number)["request_counts"]["completed"] >= 1)
            self.assertIn(Client(server, admin).call("DELETE", f"/v1/auth/keys/{made['id'] if 'id' in made else made['key_id']}")[0],
                          (200, 204))
            server.log.wait(rf"batch ended  id={number} status=failed")

    def test_a_full_disk_fails_the_batch_and_nothing_else(self):
        folder = tempfile.mkdtemp(prefix="inferd-full-")
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True).returncode:
            self.skipTest("no tmpfs may be mounted here")
        try:
            with Server(config=f"\n[batch]\nfiles_dir = \"{folder}\"\n") as server:
                fake_model(server.models, "m", FAST)
                client = Client(server)
                self.assertEqual(client.upload(b"x" * 300000)[0], 503)
                done = client.end(client.create(jsonl(line(i, max_tokens=200) for i in range(500))))
                self.assertEqual(done["status"], "failed")
                self.assertEqual(done["errors"]["data"][0]["code"], "insufficient_storage")
                self.assertEqual(len(client.lines(done["output_file_id"])), done["request_counts"]["completed"])
                self.assertEqual(server.chat("m", max_tokens=1)[0], 200)
        finally:
            subprocess.run(["umount", folder], check=False)
            os.rmdir(folder)


class Command(unittest.TestCase):
    def test_prompts_and_requests(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            file = pathlib.Path(server.folder) / "prompts"
            file.write_text('one\n\n{"messages": [{"role": "user", "content": "two"}], "max_tokens": 3}\n'
                            + json.dumps(line(7)) + "\n")
            status, out, err = run_cli("batch", str(file), "--model", "m", url=server.url)
            self.assertEqual(status, 0, err)
            self.assertEqual({json.loads(l)["custom_id"] for l in out.splitlines()}, {"line-1", "line-3", "c7"})
            self.assertIn("completed: 3 of 3 answered, 0 failed", err)
            number = err.split()[1]
            status, out, err = run_cli("batch", "--resume", number, "--json", "--output", str(file) + ".out", url=server.url)
            self.assertEqual((status, err), (0, ""))
            self.assertEqual(json.loads(out)["request_counts"]["completed"], 3)
            self.assertEqual(len(pathlib.Path(str(file) + ".out").read_text().splitlines()), 3)
            for endpoint in ("completions", "/v1/embeddings"):
                self.assertEqual(run_cli("batch", "-", "-m", "m", "--endpoint", endpoint, url=server.url, stdin="a\nb")[0], 0)

    def test_what_goes_wrong(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            for args, stdin, status, words in (
                    (("-",), "x", 2, "line 1: it names no model"), (("-", "-m", "m"), "{x", 2, "line 1"),
                    (("-", "-m", "m"), "\n", 2, "no lines"), (("/none", "-m", "m"), "", 2, "/none"), ((), "", 2, "one file"),
                    (("-", "--endpoint", "x"), "", 2, "endpoint"), (("--resume", "batch_x"), "", 1, "No such batch"),
                    (("-", "-m", "none"), "x", 1, "1 failed")):
                result = run_cli("batch", *args, url=server.url, stdin=stdin)
                self.assertEqual(result[0], status, result)
                self.assertIn(words, result[2])

    def test_interrupted_it_goes_on(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=20")
            with subprocess.Popen([INFERD, "batch", "-", "-m", "m"], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL, text=True, env=dict(os.environ, INFERD_URL=server.url)) as command:
                command.stdin.write("\n".join("abcdefgh" * 9 for _ in range(400)))
                command.stdin.close()
                number = command.stderr.readline().split()[1]
                command.stderr.readline() # the first report: it watches
                command.send_signal(2)
                self.assertEqual(command.wait(10), 130)
                self.assertIn(f"inferd batch --resume {number}", command.stderr.read())
            server.until(lambda: Client(server).batch(number)["status"] == "in_progress")


if __name__ == "__main__":
    unittest.main()
