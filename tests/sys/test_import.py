"""inferd import llamactl: its database and its configuration (specs/llamactl.md 2.7 and 3)."""
import contextlib
import json
import os
import pathlib
import sqlite3
import subprocess
import tempfile
import unittest

from harness import INFERD, Server, fake_model, run_cli

ARGON2_PHC = os.environ.get("ARGON2_PHC", str(pathlib.Path(INFERD).parent / "tests" / "argon2_phc"))
SCHEMA = """
CREATE TABLE instances (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, status TEXT NOT NULL
  CHECK (status IN ('stopped', 'running', 'failed', 'restarting', 'shutting_down')), created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, options_json TEXT NOT NULL, owner_user_id TEXT);
CREATE TABLE api_keys (id INTEGER PRIMARY KEY AUTOINCREMENT, key_hash TEXT NOT NULL, name TEXT NOT NULL, user_id TEXT NOT
  NULL, permission_mode TEXT NOT NULL, expires_at INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
  last_used_at INTEGER);
CREATE TABLE key_permissions (key_id INTEGER NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE, instance_id INTEGER NOT
  NULL REFERENCES instances (id) ON DELETE CASCADE, PRIMARY KEY (key_id, instance_id));
"""
ONE, ALL, OLD = ("llamactl-" + digit * 64 for digit in "1af")


def phc(key):
    return subprocess.run([ARGON2_PHC, key], capture_output=True, text=True, check=True).stdout.strip()


def make_database(path, models):
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executescript("PRAGMA journal_mode = WAL;" + SCHEMA)
        for number, name in ((3, "mine"), (7, "other")):
            options = {"backend_type": "worker", "backend_options": {"model": str(fake_model(models, name))}}
            db.execute("INSERT INTO instances VALUES (?, ?, 'stopped', 1, 2, ?, NULL)", (number, name, json.dumps(options)))
        for number, key, mode, expires in ((4, ONE, "per_instance", None), (5, ALL, "allow_all", None),
                                           (6, OLD, "allow_all", 1000)):
            db.execute("INSERT INTO api_keys VALUES (?, ?, ?, 'system', ?, ?, 1, 1, NULL)",
                       (number, phc(key), f"key {number}", mode, expires))
        db.execute("INSERT INTO key_permissions VALUES (4, 7)")


class Database(unittest.TestCase):
    def test_instances_and_keys_go_on(self):
        with Server(config='[auth]\nmanagement_keys = ["boss"]\n', wait=False) as server:
            server.process.terminate() # the store is made; the import needs it for itself
            server.process.wait()
            server.log.thread.join(5)
            server.process.stderr.close()
            old = os.path.join(server.folder, "llamactl.db")
            make_database(old, server.folder)
            before = pathlib.Path(old).read_bytes()
            environment = {"HOME": server.folder, "INFERNO_STATE_DIR": os.path.join(server.folder, "s")}
            status, out, error = run_cli("import", "llamactl", old, "--config", server.config, env=environment)
            self.assertEqual((status, out), (0, "imported 2 of 2 instances and 3 of 3 keys\n"), error)
            status, out, error = run_cli("import", "llamactl", old, "--config", server.config, env=environment)
            self.assertEqual((status, out), (0, "imported 0 of 2 instances and 0 of 3 keys\n"), error)
            self.assertEqual(pathlib.Path(old).read_bytes(), before)
            server.wait_for_start = True
            server.start()
            boss = {"Authorization": "Bearer boss"}
            found = {i["name"]: i["status"] for i in server.call("GET", "/api/v1/instances", headers=boss)[2]}
            self.assertEqual(found, {"mine": "stopped", "other": "stopped"})

            def chat(key, model):
                return server.call("POST", "/v1/chat/completions",
                                   {"model": model, "messages": [{"role": "user", "content": "hi"}]},
                                   {"Authorization": "Bearer " + key})[0]
            for _ in range(2): # by the old hash, then by the new one
                self.assertEqual((chat(ONE, "other"), chat(ONE, "mine")), (200, 403))
                self.assertEqual((chat(ALL, "other"), chat(ALL, "mine")), (200, 200))
                self.assertEqual(chat(OLD, "mine"), 401)
            self.assertEqual(server.call("GET", "/api/v1/instances", headers={"Authorization": "Bearer " + ALL})[0], 403)


YAML = """
server:
  host: 127.0.0.1
  port: ${LLAMACTL_TEST_PORT:-8123}
  allowed_origins: ["https://a.example", "https://b.example"]
  allowed_headers: ["*"]
  enable_swagger: true
data_dir: /tmp/${LLAMACTL_TEST_NAME}
backends:
  llama-cpp:
    command: /opt/llama-server
    args: ["--verbose"]
    environment: {CUDA_VISIBLE_DEVICES: "0"}
    response_headers: {X-Accel-Buffering: "no"}
    cache_dir: /tmp/cache
    download_timeout: 1800s
    docker: {enabled: true, image: "img:1", args: [run, --rm], environment: {A: b}}
  vllm: {command: vllm, args: [serve]}
  mlx: {command: mlx_lm.server}
instances:
  port_range: [8200, 8300]
  auto_create_dirs: true
  max_instances: 7
  max_running_instances: 3
  group_limits: {big: 1}
  enable_lru_eviction: false
  default_idle_timeout: 11
  default_auto_restart: false
  default_max_restarts: 4
  default_restart_delay: 6
  default_on_demand_start: false
  on_demand_start_timeout: 99
  timeout_check_interval: 5
  logs_dir: /tmp/logs
  instances_dir: /tmp/instances
  log_rotation_enabled: false
  log_rotation_max_size: 33
  log_rotation_compress: true
database: {path: /tmp/llamactl.db, max_open_connections: 25, max_idle_connections: 5, connection_max_lifetime: 5m}
auth:
  require_inference_auth: true
  require_management_auth: true
  management_keys: [boss-key]
  inference_keys: [guest-key]
local_node: here
nodes:
  here: {}
  there: {address: "http://10.0.0.2:8080", api_key: secret}
"""
SAID = ('bind_address = "127.0.0.1"', "port = 8123", 'cors_origins = ["https://a.example", "https://b.example"]',
        "enable_swagger = true", 'state_dir = "/tmp/named"', 'command = "/opt/llama-server"', 'args = ["--verbose"]',
        "download_timeout = 1800", "docker_enabled = true", 'docker_args = ["run", "--rm"]', "port_range = [8200, 8300]",
        "max_instances = 7", "max_running_instances = 3", "enable_lru_eviction = false", "default_idle_timeout = 11",
        "default_auto_restart = false", "default_max_restarts = 4", "default_restart_delay = 6",
        "default_on_demand_start = false", "on_demand_start_timeout = 99", 'logs_dir = "/tmp/logs"',
        "log_rotation_enabled = false", "log_rotation_max_size = 33", "log_rotation_compress = true",
        "require_inference_auth = true", 'local_node = "here"')


class Configuration(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="inferd-", dir="/tmp")
        self.addCleanup(folder.cleanup)
        self.old = os.path.join(folder.name, "llamactl.yaml")
        self.new = os.path.join(folder.name, "inferd.toml")

    def convert(self, text, *more):
        pathlib.Path(self.old).write_text(text)
        return run_cli("import", "llamactl", self.old, *more, env={"LLAMACTL_TEST_NAME": "named"})

    def test_every_key(self):
        status, _, error = self.convert(YAML, "-o", self.new)
        self.assertEqual(status, 0, error)
        self.assertEqual(os.stat(self.new).st_mode & 0o777, 0o600)
        text = pathlib.Path(self.new).read_text()
        self.assertIn("boss-key", text)
        self.assertNotIn("/tmp/llamactl.db", text)
        status, out, error = run_cli("config", "check", "--config", self.new)
        self.assertEqual(status, 0, out + error)
        status, out, error = run_cli("config", "show", "--config", self.new)
        self.assertEqual(status, 0, error)
        for line in SAID:
            with self.subTest(line):
                self.assertIn(line, out)

    def test_words_that_toml_does_not_know(self):
        status, out, error = self.convert("server: {port: 1024}\nauth: {require_management_auth: yes, management_keys: }\n"
                                          "backends: {llama-cpp: {download_timeout: 1h30m}}\n"
                                          "instances: {enable_lru_eviction: Off, logs_dir: ~}\ntelemetry: {on: true}\n")
        self.assertEqual(status, 0, error)
        for line in ("require_management_auth = true", "download_timeout = 5400", "enable_lru_eviction = false", "# llamactl's telemetry"):
            self.assertIn(line, out)
        self.assertNotIn("logs_dir", out)

    def test_an_existing_file_is_kept(self):
        pathlib.Path(self.new).write_text("mine")
        self.assertNotEqual(self.convert(YAML, "-o", self.new)[0], 0)
        self.assertEqual(pathlib.Path(self.new).read_text(), "mine")

    def test_broken_yaml_names_the_line(self):
        status, _, error = self.convert("server:\n  port: 1\n  host: [unclosed\nauth: {}\n")
        self.assertNotEqual(status, 0)
        self.assertRegex(error, r"llamactl\.yaml:[345]: ")


if __name__ == "__main__":
    unittest.main()
