"""Instances on other nodes: one inferd that passes on to two others (specs/llamactl.md 5), all on this machine."""
import contextlib
import json
import unittest

from harness import Server, fake_model
from test_instances import MANAGE, Managed


@contextlib.contextmanager
def fleet(count=2, config=""):
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(Managed()) for _ in range(count)]
        tables = "".join(f'[nodes.n{i}]\naddress = "{node.url}"\napi_key = "{MANAGE}"\n' for i, node in enumerate(nodes))
        front = stack.enter_context(Managed(config + tables))
        front.until(lambda: all(n.get("healthy") for name, n in front.call("GET", "/api/v1/nodes")[2].items() if name != "main"))
        yield front, nodes


def body_for(node, *names, **more):
    return {"backend_type": "worker", "backend_options": {"model": str(fake_model(node.folder, "m", more.pop("settings", "")))},
            "nodes": list(names), **more}


class Nodes(unittest.TestCase):
    def test_everything_about_an_instance_reaches_its_node(self):
        with fleet(1) as (front, (node,)):
            status, _, reply = front.instance("POST", "away", "?wait=1", body_for(node, "n0"))
            self.assertEqual((status, reply["status"]), (201, "running"), reply)
            self.assertEqual(node.state("away"), "running")
            front.until(lambda: front.state("away") == "running")
            self.assertEqual(front.chat("away")[0], 200)
            self.assertEqual(front.instance("GET", "away", "/proxy/health")[0], 200)
            self.assertIn("=== Instance away started", front.instance("GET", "away", "/logs")[2])
            self.assertEqual(front.instance("PUT", "away", body={"idle_timeout": 9})[0], 200)
            self.assertEqual(node.instance("GET", "away")[2]["options"]["idle_timeout"], 9)
            self.assertEqual(front.instance("POST", "away", "/stop?wait=1")[0], 200)
            self.assertEqual(node.state("away"), "stopped")
            front.until(lambda: front.state("away") == "stopped")
            self.assertEqual(front.chat("away")[0], 200, "on-demand start is the node's own business")
            self.assertEqual(front.instance("DELETE", "away")[0], 204)
            self.assertEqual(node.instance("GET", "away")[0], 404)

    def test_the_least_busy_of_several_nodes_is_chosen(self):
        with fleet(2) as (front, nodes):
            for node in nodes:
                node.instance("POST", "both", "?wait=1", body_for(node, settings="tokens_per_second=20"))
            status, _, reply = front.instance("POST", "both", body={**body_for(nodes[0], "n0", "n1"), "start": False})
            self.assertEqual(status, 409, "the nodes have one of that name already")
            for node in nodes:
                node.instance("DELETE", "both")
            status, _, reply = front.instance("POST", "both", "?wait=1",
                                              body_for(nodes[0], "n0", "n1", settings="tokens_per_second=20"))
            self.assertEqual(status, 201, reply)
            front.until(lambda: front.state("both") == "running")
            streams = [self.stream(front) for _ in range(4)]
            counts = [node.instance("GET", "both")[2]["active_requests"] for node in nodes]
            self.assertEqual(counts, [2, 2])
            for stream in streams:
                stream.close()

    def stream(self, front):
        connection = front.connection()
        connection.request("POST", "/v1/chat/completions", json.dumps(
            {"model": "both", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 500}),
            {"Authorization": "Bearer infer-key", "Content-Type": "application/json"})
        reply = connection.getresponse()
        self.assertEqual(reply.status, 200)
        reply.readline()
        return reply

    def test_a_dead_node_costs_nothing_and_its_instance_can_go(self):
        with fleet(1) as (front, (node,)):
            front.instance("POST", "lost", "?wait=1", body_for(node, "n0"))
            node.process.kill()
            node.process.wait()
            front.until(lambda: not front.call("GET", "/api/v1/nodes/n0")[2]["healthy"])
            self.assertEqual(front.call("GET", "/api/v1/instances")[2][0]["status"], "stopped")
            self.assertEqual(front.chat("lost")[0], 502)
            self.assertEqual(front.instance("DELETE", "lost")[0], 204)

    def test_unknown_nodes_are_refused_and_keys_stay_home(self):
        with fleet(1) as (front, (node,)):
            status, _, reply = front.instance("POST", "x", body=body_for(node, "nowhere"))
            self.assertEqual((status, reply["param"]), (400, "nodes"))
            self.assertNotIn(MANAGE, json.dumps(front.call("GET", "/api/v1/nodes")[2]))


if __name__ == "__main__":
    unittest.main()
