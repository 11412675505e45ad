"""The server against its own description: schemathesis makes requests from /openapi.json and compares the answers.

Starts a server of its own, on a fake model, in a folder of its own: the requests create, change and delete things."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import jsonschema_rs

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "sys"))
from harness import Server, fake_model  # noqa: E402

SECONDS = 300  # enough for a slow machine; half a minute is usual

KEY = "sk-management-test"

# What is made here must not start anything that lasts: a backend that says what it is and ends.
BACKEND = """#!/bin/sh
case "$*" in
--help | --version | --list-devices) echo "a backend" ;;
*) exit 1 ;;
esac
"""

CONFIG = """
[auth]
management_keys = ["{key}"]
[instances]
max_instances = 50
default_max_restarts = 0
[backends.llama-cpp]
command = "{backend}"
[backends.mlx]
command = "{backend}"
[backends.vllm]
command = "{backend}"
"""

# Names that exist, so that not every answer is 404; what makes and removes instances has one of its own.
PARAMETERS = """
[parameters]
"path.name" = "one"
"path.id" = "tiny"
"path.backend" = "llama-cpp"
"path.file" = "start.js"

[[operations]]
include-operation-id = "get_nodes_by_name"
[operations.parameters]
"path.name" = "main"

[[operations]]
include-operation-id = ["post_instances_by_name", "delete_instances_by_name"]
[operations.parameters]
"path.name" = "two"

[[operations]]
include-path-regex = "^/api/v1/(auth/keys|models/jobs)/"
[operations.parameters]
"path.id" = 1
"""

EXCLUDED = [
    "post_models_download",  # from the Internet
    "get_events",  # does not end
]


def arguments(url):
    excluded = [part for name in EXCLUDED for part in ("--exclude-operation-id", name)]
    return ["run", f"{url}/openapi.json", "--checks",
            "status_code_conformance,content_type_conformance,response_schema_conformance", "--phases",
            "examples,coverage,fuzzing", "--max-examples", "12", "--seed", "1", "--request-timeout", "15",
            "--suppress-health-check", "all", "--warnings", "off", *excluded]


class Description(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        backend = pathlib.Path(cls.server.folder, "backend")
        backend.write_text(BACKEND)
        backend.chmod(0o755)
        pathlib.Path(cls.server.config).write_text(CONFIG.format(key=KEY, backend=backend))
        fake_model(cls.server.models, "tiny")
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__, None, None, None)

    def test_requests_made_from_it(self):
        key = {"X-API-Key": KEY}
        instance = self.server.call("POST", "/api/v1/instances/one", {"model": "/m.gguf", "start": False}, key)
        self.assertEqual(instance[0], 201, instance)
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "schemathesis.toml").write_text(PARAMETERS)
            program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
            done = subprocess.run([program, *arguments(self.server.url), "--header", f"X-API-Key: {KEY}"],
                                  cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-12000:] + done.stderr[-2000:])
        self.assertEqual(self.server.call("GET", "/health/live")[0], 200)

    def check(self, name, reply):
        document = self.server.call("GET", "/openapi.json")[2]
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema_rs.validator_for(schema).validate(reply)

    def test_inference(self):
        """Schemas of answers that random requests do not get."""
        with Server() as server:
            fake_model(server.models, "tiny")
            chat = server.chat("tiny", max_tokens=4)
            self.assertEqual(chat[0], 200, chat)
            self.check("ChatCompletion", chat[2])
            text = server.call("POST", "/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 4})
            self.assertEqual(text[0], 200, text)
            self.check("Completion", text[2])
            response = server.call("POST", "/v1/responses", {"model": "tiny", "input": "a", "max_output_tokens": 4})
            self.assertEqual(response[0], 200, response)
            self.check("Response", response[2])
            said = {"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": "a"}]}
            message = server.call("POST", "/v1/messages", said)
            self.assertEqual(message[0], 200, message)
            self.check("Message", message[2])
            count = server.call("POST", "/v1/messages/count_tokens", said)
            self.assertEqual(count[0], 200, count)
            self.check("MessageCount", count[2])
            vectors = server.call("POST", "/v1/embeddings", {"model": "tiny", "input": ["a", "b"]})
            self.assertEqual(vectors[0], 200, vectors)
            self.check("Embeddings", vectors[2])


if __name__ == "__main__":
    unittest.main()
