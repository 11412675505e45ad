"""The listener for local clients (seeds/000, "Inference (OpenAI-compatible)")."""
import http.client
import json
import re
import socket
import unittest

from harness import DEADLINE, Server, fake_model

LOCAL = {"INFERNO_LOCAL__ENABLED": "true", "INFERNO_LOCAL__PORT": "0"}


class Local(Server):
    def __init__(self, **more):
        super().__init__(**more)
        self.env.update(LOCAL, **more.get("env", {}))

    def local(self, method, path, body=None, **headers):
        port = int(re.search(r"clients  url=http://127.0.0.1:(\d+)", self.log.wait("listening for local clients")).group(1))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply.status, json.loads(text)


class LocalEndpoint(unittest.TestCase):
    def test_it_lists_loaded_models_and_answers_with_any_key(self):
        with Local() as server:
            fake_model(server.models, "m", "tokens_per_second=5000")
            fake_model(server.models, "other", "tokens_per_second=5000")
            self.assertEqual(server.local("GET", "/v1/models", Authorization="Bearer local")[1]["data"], [])
            chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
            self.assertEqual(server.local("POST", "/v1/chat/completions", chat, Authorization="Bearer local")[0], 200)
            listed = server.local("GET", "/v1/models", Authorization="Bearer local")[1]["data"]
            self.assertEqual([m["id"] for m in listed], ["m"])
            self.assertEqual(len(server.call("GET", "/v1/models")[2]["data"]), 2)

    def test_a_taken_port_is_a_warning_that_names_its_owner(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with Local(env={"INFERNO_LOCAL__PORT": str(taken.getsockname()[1])}) as server:
                line = server.log.wait("no listener for local clients")
                self.assertRegex(line, r"owner=python\S* \(pid \d+\)")
                self.assertEqual(server.call("GET", "/health")[0], 200)


if __name__ == "__main__":
    unittest.main()
