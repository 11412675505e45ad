"""The whole server on PostgreSQL: what was acknowledged is there after kill -9."""
import os
import pathlib
import signal
import subprocess
import unittest

from harness import Server, fake_model
from test_batch import Client, jsonl, line

PG = str(pathlib.Path(__file__).resolve().parents[1] / "pg.sh")


class Postgres(unittest.TestCase):
    def setUp(self):
        # env says where it is, cat keeps it until its input ends
        self.cluster = subprocess.Popen([PG, "env", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.cluster.communicate)
        self.url = next(line.strip().partition("=")[2] for line in self.cluster.stdout if line.startswith("INFERD_TEST_PG="))

    def test_instances_and_keys_survive_kill(self):
        config = f'[database]\npath = "{self.url}"\n[auth]\nmanagement_keys = ["boss"]\n'
        boss = {"Authorization": "Bearer boss"}
        with Server(config=config) as server:
            model = str(fake_model(server.folder, "m"))
            options = {"backend_type": "worker", "backend_options": {"model": model}}
            status, _, made = server.call("POST", "/api/v1/instances/kept", options, boss)
            self.assertEqual(status, 201, made)
            status, _, key = server.call("POST", "/api/v1/auth/keys",
                                         {"name": "k", "permission_mode": "per_instance", "instance_ids": [made["id"]]},
                                         boss)
            self.assertEqual(status, 201, key)
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            server.log.thread.join(5)
            server.process.stderr.close()
            server.start()
            status, _, kept = server.call("GET", "/api/v1/instances/kept", headers=boss)
            self.assertEqual((status, kept["id"]), (200, made["id"]))
            self.assertEqual(server.call("GET", "/v1/models", headers={"Authorization": "Bearer " + key["key"]})[0], 200)
            self.assertEqual(server.call("GET", "/v1/models", headers={"Authorization": "Bearer nobody"})[0], 401)
            self.assertFalse(os.path.exists(os.path.join(server.folder, "s", "inferd.db")))

    def test_a_conversation_goes_on_from_what_is_kept(self):
        with Server(config=f'[database]\npath = "{self.url}"\n') as server:
            fake_model(server.models, "m")
            ask = lambda **more: server.call("POST", "/v1/responses", {"model": "m", "input": "hi", "max_output_tokens": 4, **more})
            turns = [ask()[2]]
            for _ in range(3):
                status, _, body = ask(previous_response_id=turns[-1]["id"])
                self.assertEqual(status, 200, body)
                self.assertGreater(body["usage"]["input_tokens"], turns[-1]["usage"]["input_tokens"])
                turns.append(body)
            self.assertEqual(server.call("GET", "/v1/responses/" + turns[1]["id"])[2], turns[1])
            self.assertEqual(server.call("DELETE", "/v1/responses/" + turns[1]["id"])[0], 200)
            self.assertEqual(ask(previous_response_id=turns[0]["id"])[0], 200)
            status, _, body = ask(previous_response_id=turns[3]["id"])
            self.assertEqual((status, body["error"]["code"]), (400, "previous_response_not_found"))

    def test_a_batch_goes_on_after_a_kill(self):
        with Server(config=f'[database]\npath = "{self.url}"\n[batch]\nconcurrency = 4\n') as server:
            fake_model(server.models, "m", "tokens_per_second=400")
            client = Client(server)
            number = client.create(jsonl(line(i) for i in range(100)))
            server.until(lambda: client.batch(number)["request_counts"]["completed"] >= 20)
            server.process.kill()
            server.process.wait()
            server.start()
            done = client.end(number)
            self.assertEqual(done["request_counts"], {"total": 100, "completed": 100, "failed": 0})
            self.assertEqual(len({l["custom_id"] for l in client.lines(done["output_file_id"])}), 100)
            files = client.good("GET", "/v1/files?limit=1")
            self.assertEqual(client.good("GET", f"/v1/files?limit=1&after={files['last_id']}")["has_more"], False)
            self.assertEqual([b["id"] for b in client.good("GET", "/v1/batches?order=asc")["data"]], [number])
            self.assertEqual(client.good("DELETE", f"/v1/files/{done['input_file_id']}")["deleted"], True)


if __name__ == "__main__":
    unittest.main()
