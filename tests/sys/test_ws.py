"""/ws and /ws/stream on the real binary over the fake engine: the protocol's decisions, line by line."""
import json
import os
import pathlib
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "ws"))
from client import BINARY, CLOSE, PING, PONG, TEXT, Client, Closed, Refused, frame  # noqa: E402
from harness import DEADLINE, Server, fake_model  # noqa: E402

SLOW = "tokens_per_second=50"
QUICK = "tokens_per_second=500"
FOREVER = 100000
TOKENS = 100000  # of a chat whose text fits into no kernel's buffers


class Socket(Client):
    """The protocol's messages."""

    def __init__(self, server, path="/ws", **more):
        super().__init__(server.port, path, timeout=DEADLINE, **more)

    def say(self, type, id=None, **data):
        message = {"type": type}
        if id is not None:
            message["id"] = id
        if data:
            message["data"] = data
        self.send(json.dumps(message))

    def chat(self, id, content="hello |", type="chat", model="m", **more):
        self.say(type, id, model=model, messages=[{"role": "user", "content": content}], **more)

    def hear(self):
        opcode, payload = self.receive()
        assert opcode == TEXT
        return json.loads(payload)

    def hear_of(self, id, *types):
        """Messages of that id until one of the types, which is the last."""
        heard = []
        while not heard or heard[-1]["type"] not in types:
            message = self.hear()
            if message.get("id") == id:
                heard.append(message)
        return heard

    def whole(self, id):
        """(text, the last message) of a chat that runs to its end."""
        heard = self.hear_of(id, "chat_done", "error")
        return "".join(m["data"]["delta"].get("content", "") for m in heard[:-1]), heard[-1]

    def error(self):
        message = self.hear()
        assert message["type"] == "error", message
        return message["id"], message["data"]["error"]["code"]


class Case(unittest.TestCase):
    config = ""
    models = {"m": QUICK, "slow": SLOW}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(config=cls.config)
        for name, settings in cls.models.items():
            fake_model(cls.server.models, name, settings)
        cls.server.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def socket(self, path="/ws", **more):
        socket = Socket(self.server, path, **more)
        self.addCleanup(socket.abandon)
        return socket

    def no_slot_is_busy(self, server=None):
        server = server or self.server
        server.until(lambda: not any(slot["is_processing"] for slot in server.slots()))


class Chats(Case):
    def test_streamed(self):
        ws = self.socket()
        ws.chat("chat_001", max_tokens=5)
        heard = ws.hear_of("chat_001", "chat_done")
        self.assertEqual([m["type"] for m in heard], ["chat_chunk"] * 5 + ["chat_done"])
        for chunk in heard[:-1]:
            self.assertEqual(set(chunk["data"]), {"index", "delta", "finish_reason"})
            self.assertEqual(set(chunk["data"]["delta"]), {"content"})  # the role alone is not told
            self.assertIsNone(chunk["data"]["finish_reason"])
        done = heard[-1]["data"]
        self.assertEqual((done["finish_reason"], done["model"]), ("length", "m"))
        self.assertTrue(done["id"].startswith("chatcmpl-"))
        self.assertEqual(done["usage"]["completion_tokens"], 5)
        self.assertEqual(done["usage"]["total_tokens"], done["usage"]["prompt_tokens"] + 5)
        self.assertIn("predicted_ms", done["timings"])

    def test_same_text_and_counts_as_over_http(self):
        ws = self.socket()
        ws.chat("a", "what a day", max_tokens=40, temperature=0, seed=3)
        text, done = ws.whole("a")
        status, _, reply = self.server.chat("m", "what a day", max_tokens=40, temperature=0, seed=3)
        self.assertEqual(status, 200)
        self.assertEqual(text, reply["choices"][0]["message"]["content"])
        for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
            self.assertEqual(done["data"]["usage"][count], reply["usage"][count])

    def test_not_streamed(self):
        ws = self.socket()
        ws.chat("a", max_tokens=5, stream=False)
        done = ws.hear()
        self.assertEqual((done["type"], done["id"]), ("chat_done", "a"))
        self.assertEqual(len(done["data"]["message"]["content"]), 5)
        self.assertEqual(done["data"]["usage"]["completion_tokens"], 5)
        self.assertEqual(done["data"]["finish_reason"], "length")

    def test_stream_null_is_the_default_and_ours_wins_over_stream_options(self):
        ws = self.socket()
        ws.chat("a", max_tokens=3, stream=None, stream_options={"include_usage": False, "x": [1, {"}": 2}]})
        self.assertEqual(ws.whole("a")[1]["data"]["usage"]["completion_tokens"], 3)
        ws.say("chat", "b", stream="yes", model="m", messages=[])
        self.assertEqual(ws.error(), ("b", "invalid_parameters"))

    def test_chat_request_is_the_same(self):
        ws = self.socket()
        ws.chat("a", type="chat_request", max_tokens=2)
        self.assertEqual(ws.whole("a")[1]["type"], "chat_done")

    def test_n_choices(self):
        ws = self.socket()
        ws.chat("a", n=3, max_tokens=4)
        heard = ws.hear_of("a", "chat_done")
        texts = [""] * 3
        for chunk in heard[:-1]:
            texts[chunk["data"]["index"]] += chunk["data"]["delta"].get("content", "")
        self.assertEqual([len(text) for text in texts], [4, 4, 4])
        self.assertEqual(heard[-1]["data"]["choices"], [{"index": i, "finish_reason": "length"} for i in range(3)])
        self.assertEqual(heard[-1]["data"]["usage"]["completion_tokens"], 12)
        ws.chat("b", n=2, max_tokens=4, stream=False)
        self.assertEqual([len(c["message"]["content"]) for c in ws.hear()["data"]["choices"]], [4, 4])

    def test_logprobs_pass(self):
        ws = self.socket()
        ws.chat("a", max_tokens=2, logprobs=True, top_logprobs=2)
        chunk = ws.hear()
        self.assertEqual(len(chunk["data"]["logprobs"]["content"][0]["top_logprobs"]), 2)

    def test_interleaved(self):
        ws = self.socket()
        for id in ("a", "b", "c"):
            ws.chat(id, model="slow", max_tokens=15)
        order, done = [], {}
        while len(done) < 3:
            message = ws.hear()
            if message["type"] == "chat_done":
                done[message["id"]] = message["data"]["usage"]["completion_tokens"]
            else:
                order.append(message["id"])
        self.assertEqual(done, {"a": 15, "b": 15, "c": 15})
        first_end = min(len(order) - 1 - order[::-1].index(id) for id in done)
        self.assertEqual(set(order[:first_end]), {"a", "b", "c"})  # all had begun before one ended

    def test_errors_are_those_of_http(self):
        ws = self.socket()
        for data in ({"model": "nope", "messages": []}, {"model": "m", "messages": "x"}, {"messages": []},
                     {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 9}):
            ws.say("chat", "e", **data)
            error = ws.hear()
            self.assertEqual((error["type"], error["id"]), ("error", "e"))
            _, _, reply = self.server.call("POST", "/v1/chat/completions", data)
            for member in ("type", "code", "param", "message"):
                self.assertEqual(error["data"]["error"][member], reply["error"][member])

    def test_broken_data_inside_is_an_error_of_that_chat(self):
        ws = self.socket()
        ws.send('{"type":"chat","id":"a","data":{"model":"m","messages":[1,,2]}}')
        self.assertEqual(ws.error()[0], "a")
        ws.chat("b", max_tokens=1)
        self.assertEqual(ws.whole("b")[1]["type"], "chat_done")

    def test_duplicate_id(self):
        ws = self.socket()
        ws.chat("a", model="slow", max_tokens=FOREVER)
        ws.hear()
        ws.chat("a")
        self.assertEqual(ws.hear_of("a", "error")[-1]["data"]["error"]["code"], "duplicate_id")
        ws.say("cancel", "a")
        ws.hear_of("a", "chat_done")
        ws.chat("a", max_tokens=2)  # free again
        self.assertEqual(ws.whole("a")[1]["data"]["finish_reason"], "length")

    def test_cancel(self):
        ws = self.socket()
        ws.chat("a", model="slow", max_tokens=FOREVER)
        for _ in range(3):
            ws.hear()
        ws.say("cancel", "a")
        heard = ws.hear_of("a", "chat_done")
        done = heard[-1]["data"]
        self.assertEqual(done["finish_reason"], "cancelled")
        self.assertEqual(done["usage"]["completion_tokens"], 3 + len(heard) - 1)
        self.assertEqual(done["usage"]["total_tokens"], done["usage"]["prompt_tokens"] + 3 + len(heard) - 1)
        for index in (1, 2):
            if os.path.exists(os.path.join(self.server.folder, "s", f"run-{self.server.process.pid}", f"w{index}.sock")):
                self.server.until(lambda: not any(s["is_processing"] for s in self.server.slots(index)), 2)
        ws.say("cancel", "a")  # done: an error, no close
        self.assertEqual(ws.error(), ("a", "not_found"))

    def test_cancel_before_the_first_chunk(self):
        ws = self.socket()
        ws.chat("a", max_tokens=FOREVER)
        ws.say("cancel", "a")
        self.assertEqual(ws.hear_of("a", "chat_done")[-1]["data"]["finish_reason"], "cancelled")

    def test_too_many(self):
        ws = self.socket()
        for i in range(8):
            ws.chat(f"c{i}", model="slow", max_tokens=FOREVER)
        ws.chat("more")
        self.assertEqual(ws.hear_of("more", "error")[-1]["data"]["error"]["code"], "too_many_streams")
        ws.say("cancel", "c3")
        ws.hear_of("c3", "chat_done")
        ws.chat("more", max_tokens=2)
        self.assertEqual(ws.whole("more")[1]["type"], "chat_done")


class Vanishing(unittest.TestCase):
    def test_a_client_that_vanishes_frees_its_slots(self):
        with Server() as server:
            fake_model(server.models, "m", SLOW)
            ws = Socket(server)
            for id in ("a", "b"):
                ws.chat(id, max_tokens=FOREVER)
            self.assertEqual({ws.hear()["id"] for _ in range(10)}, {"a", "b"})
            self.assertEqual(sum(slot["is_processing"] for slot in server.slots()), 2)
            ws.abandon()
            server.until(lambda: not any(slot["is_processing"] for slot in server.slots()), 5)

    def test_a_worker_that_dies_is_an_error_and_no_chat_done(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=50,fail_after=5")
            with Socket(server) as ws:
                ws.chat("a", max_tokens=100)
                text, last = ws.whole("a")
                self.assertEqual(last["type"], "error")
                ws.say("ping", "p")
                self.assertEqual(ws.hear()["type"], "pong")

    def test_a_slow_reader_gets_every_token(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=1000000,context=400000")
            with Socket(server, receive_buffer=4096) as ws:
                ws.chat("a", max_tokens=TOKENS)
                ws.hear()
                server.until(lambda: any(slot["is_paused"] for slot in server.slots()))
                self.assertLess(self.decoded(server), TOKENS)
                self.assertTrue(any(slot["is_processing"] for slot in server.slots()))
                text, done = ws.whole("a")
                self.assertEqual(len(text), TOKENS - 1)
                self.assertEqual(done["data"]["usage"]["completion_tokens"], TOKENS)

    def decoded(self, server):
        return max(slot["n_decoded"] for slot in server.slots())


class Envelopes(Case):
    def test_malformed(self):
        ws = self.socket()
        cases = [("", None, "invalid_message"), ("[]", None, "invalid_message"), ('"x"', None, "invalid_message"),
                 ('{"type":"ping"', None, "invalid_message"), ('{"type":"ping"} x', None, "invalid_message"),
                 ('{"id":"a"}', "a", "invalid_message"), ('{"type":7,"id":"a"}', "a", "invalid_message"),
                 ('{"type":"chat"}', None, "invalid_message"), ('{"type":"chat","id":7}', None, "invalid_message"),
                 ('{"type":"chat","id":""}', None, "invalid_message"),
                 ('{"type":"chat","id":"%s"}' % ("x" * 129), None, "invalid_message"),
                 ('{"type":"chat","id":"a","data":[]}', "a", "invalid_message"),
                 ('{"type":"nope","id":"a"}', "a", "unknown_message_type")]
        for text, id, code in cases:
            ws.send(text)
            self.assertEqual(ws.error(), (id, code), text)
            ws.say("ping", "still")
            self.assertEqual(ws.hear(), {"type": "pong", "id": "still", "data": {}})

    def test_ids(self):
        ws = self.socket()
        for id in ("x" * 128, "ü\"\\\n/", "\U0001f600"):
            ws.say("ping", id)
            self.assertEqual(ws.hear()["id"], id)
        ws.send('{"type":"ping"}')
        self.assertEqual(ws.hear()["id"], None)

    def test_ten_in_a_row(self):
        ws = self.socket()
        for _ in range(9):
            ws.send("nonsense")
        ws.say("ping", "p")  # begins anew
        for _ in range(10):
            ws.send("nonsense")
        heard = [ws.hear()["type"] for _ in range(20)]
        self.assertEqual(heard, ["error"] * 9 + ["pong"] + ["error"] * 10)
        self.assertEqual(ws.until_closed(), 1008)

    def test_violations(self):
        for data, code in ((frame(BINARY, b"x"), 1003), (frame(TEXT, b"\xff"), 1007), (frame(TEXT, b"x", rsv=4), 1002),
                           (frame(TEXT, b"x" * ((1 << 20) + 1)), 1009)):
            ws = self.socket()
            ws.send_raw(data)
            self.assertEqual(ws.until_closed(), code)

    def test_a_megabyte_is_taken(self):
        ws = self.socket()
        text = '{"type":"ping","id":"p","x":"%s"}'
        ws.send(text % ("x" * ((1 << 20) - len(text) + 2)))
        self.assertEqual(ws.hear()["type"], "pong")

    def test_pings_of_the_protocol(self):
        ws = self.socket()
        ws.send(b"abc", PING)
        self.assertEqual(ws.receive(pings=True), (PONG, b"abc"))


class Subscriptions(Case):
    ALL = {"cpu", "memory", "gpu", "inference_rate", "requests_per_second", "queue_depth", "active_requests",
           "kv_usage", "vram"}

    def test_metrics(self):
        ws = self.socket()
        ws.say("subscribe_metrics", "m1", interval=100)
        for _ in range(3):
            update = ws.hear()
            self.assertEqual((update["type"], update["id"]), ("metrics_update", "m1"))
            self.assertEqual(set(update["data"]), self.ALL | {"timestamp"})
        self.assertTrue(0 < update["data"]["memory"] <= 100)
        self.assertIsNone(update["data"]["gpu"])
        ws.say("unsubscribe", "m1")
        self.assertEqual(ws.hear_of("m1", "unsubscribed")[-1]["data"], {})
        ws.say("unsubscribe", "m1")
        self.assertEqual(ws.error(), ("m1", "not_found"))

    def test_intervals_are_kept(self):
        ws = self.socket()
        ws.say("subscribe_metrics", "m", interval=130, metrics=["cpu"])
        ws.hear()
        begin = time.monotonic()
        for _ in range(10):
            ws.hear()
        self.assertTrue(1.25 <= time.monotonic() - begin <= 4)  # never sooner; how late, the machine decides

    def test_some_metrics_and_replacing(self):
        ws = self.socket()
        ws.say("subscribe_metrics", "m", interval=60000, metrics=["cpu", "gpu"])
        self.assertEqual(set(ws.hear()["data"]), {"timestamp", "cpu", "gpu"})
        ws.say("subscribe_metrics", "m", interval=60000, metrics=["memory"])
        self.assertEqual(set(ws.hear()["data"]), {"timestamp", "memory"})
        ws.say("cancel", "m")
        self.assertEqual(ws.hear()["type"], "unsubscribed")

    def test_bad_metrics(self):
        ws = self.socket()
        for data in ({"interval": 99}, {"interval": 60001}, {"interval": "x"}, {"metrics": ["cpu", "nope"]},
                     {"metrics": "cpu"}, {"metrics": [1]}):
            ws.say("subscribe_metrics", "m", **data)
            message = ws.hear()
            self.assertEqual(message["data"]["error"]["code"], "invalid_parameters", data)
        ws.say("subscribe_metrics", "m", metrics=["nope"])
        message = ws.hear()["data"]["error"]["message"]
        self.assertTrue(all(name in message for name in self.ALL), message)

    def test_ids_are_shared_with_chats(self):
        ws = self.socket()
        ws.chat("a", model="slow", max_tokens=FOREVER)
        ws.hear()
        ws.say("subscribe_metrics", "a")
        self.assertEqual(ws.hear_of("a", "error")[-1]["data"]["error"]["code"], "duplicate_id")
        ws.say("cancel", "a")
        ws.hear_of("a", "chat_done")
        ws.say("subscribe_metrics", "a", interval=60000)
        ws.hear()
        ws.chat("a")
        self.assertEqual(ws.error(), ("a", "duplicate_id"))

    def test_too_many(self):
        ws = self.socket()
        for i in range(16):
            ws.say("subscribe_metrics", f"m{i}", interval=60000)
            ws.hear()
        ws.say("subscribe_metrics", "one more", interval=60000)
        self.assertEqual(ws.error(), ("one more", "too_many_streams"))

    def test_chats_and_metrics_side_by_side(self):
        ws = self.socket()
        ws.say("subscribe_metrics", "m", interval=100, metrics=["active_requests"])
        ws.chat("a", model="slow", max_tokens=FOREVER)
        while ws.hear_of("m", "metrics_update")[-1]["data"]["active_requests"] < 1:
            pass
        ws.say("cancel", "a")
        ws.hear_of("a", "chat_done")
        while ws.hear_of("m", "metrics_update")[-1]["data"]["active_requests"] > 0:
            pass


class Models(unittest.TestCase):
    def test_snapshot_and_changes(self):
        with Server() as server:
            fake_model(server.models, "a", "load_ms=1200")
            fake_model(server.models, "b", QUICK)
            fake_model(server.models, "broken", "nonsense=1")
            with Socket(server) as ws, Socket(server) as other:
                ws.say("subscribe_models", "k")
                snapshot = [ws.hear() for _ in range(3)]
                self.assertEqual([(m["type"], m["data"]) for m in snapshot],
                                 [("model_status", {"model_id": id, "status": "unloaded"}) for id in ("a", "b", "broken")])
                other.chat("x", model="a", max_tokens=1)
                begin, heard = time.monotonic(), []
                while not heard or heard[-1]["status"] != "loaded":
                    heard.append(ws.hear()["data"])
                    self.assertEqual(heard[-1]["model_id"], "a")
                loading = heard[:-1]
                self.assertEqual({m["status"] for m in loading}, {"loading"})
                self.assertTrue(all(0 <= m["progress"] <= 100 for m in loading))
                self.assertTrue(all(m["eta"] is None or m["eta"].endswith("s") for m in loading))
                self.assertEqual([m["progress"] for m in loading], sorted(m["progress"] for m in loading))
                self.assertGreater(len(loading), 2)
                self.assertLessEqual(len(loading), 5 * (time.monotonic() - begin) + 2)
                server.call("POST", "/v1/models/a/unload", {})
                while heard[-1]["status"] != "unloaded":
                    heard.append(ws.hear()["data"])
                other.chat("y", model="broken", max_tokens=1)
                while heard[-1]["status"] != "error":
                    heard.append(ws.hear()["data"])
                self.assertEqual(heard[-1]["model_id"], "broken")
                self.assertIn("code", heard[-1]["error"])
                ws.say("unsubscribe", "k")
                ws.hear_of("k", "unsubscribed")

    def test_filter(self):
        with Server() as server:
            fake_model(server.models, "a", QUICK)
            fake_model(server.models, "b", QUICK)
            with Socket(server) as ws:
                ws.say("subscribe_models", "k", models=["b"])
                self.assertEqual(ws.hear()["data"]["model_id"], "b")
                ws.say("subscribe_models", "l", models=["nope"])
                self.assertEqual(ws.error(), ("l", "model_not_found"))
                ws.say("subscribe_models", "l", models="b")
                self.assertEqual(ws.error(), ("l", "invalid_parameters"))


class Auth(Case):
    config = '[auth]\nmanagement_keys = ["boss"]\ninference_keys = ["guest"]\n[websocket]\nauth_timeout_seconds = 1\n'

    def works(self, ws):
        ws.chat("a", max_tokens=2)
        self.assertEqual(ws.whole("a")[1]["type"], "chat_done")

    def test_header(self):
        for headers in ({"Authorization": "Bearer guest"}, {"X-API-Key": "boss"}):
            self.works(self.socket(headers=headers))
        for path in ("/ws", "/ws/stream"):
            with self.assertRaises(Refused) as caught:
                self.socket(path, headers={"Authorization": "Bearer wrong"})
            self.assertEqual(caught.exception.status, 401)
            self.assertEqual(caught.exception.headers["www-authenticate"], "Bearer")
            self.assertEqual(json.loads(caught.exception.body)["error"]["code"], "authentication_failed")

    def test_message(self):
        ws = self.socket()
        ws.say("ping", "p")  # needs nobody
        self.assertEqual(ws.hear()["type"], "pong")
        ws.say("auth", token="guest")
        ws.chat("a", max_tokens=2)  # in one breath
        self.assertEqual(ws.hear(), {"type": "auth_ok", "id": None, "data": {}})
        self.assertEqual(ws.whole("a")[1]["type"], "chat_done")

    def test_bad_messages(self):
        for data in ({"token": "wrong"}, {"token": 7}, {}):
            ws = self.socket()
            ws.say("auth", **data)
            self.assertEqual(ws.error(), (None, "authentication_failed"))
            self.assertEqual(ws.until_closed(), 4401)
        ws = self.socket()
        ws.chat("a")
        self.assertEqual(ws.error(), ("a", "authentication_failed"))
        self.assertEqual(ws.until_closed(), 4401)

    def test_no_message_in_time(self):
        ws = self.socket()
        self.assertEqual(ws.error(), (None, "authentication_failed"))
        self.assertEqual(ws.until_closed(), 4401)

    def test_subprotocol(self):
        ws = self.socket(headers={"Sec-WebSocket-Protocol": "bearer.guest"})
        self.assertEqual(ws.headers["sec-websocket-protocol"], "bearer.guest")
        self.works(ws)
        ws = self.socket(headers={"Sec-WebSocket-Protocol": "inferno, bearer.guest"})
        self.assertEqual(ws.headers["sec-websocket-protocol"], "inferno")
        self.works(ws)
        with self.assertRaises(Refused) as caught:
            self.socket(headers={"Sec-WebSocket-Protocol": "bearer.wrong"})
        self.assertEqual(caught.exception.status, 401)

    def test_token_in_the_query_is_off(self):
        ws = self.socket("/ws?token=guest")
        ws.chat("a")
        self.assertEqual(ws.error()[1], "authentication_failed")

    def test_keys_are_not_logged(self):
        self.assertNotIn("guest", self.server.log.text())


class Rights(unittest.TestCase):
    """What a key may do, how much, and for how long."""
    BOSS = {"Authorization": "Bearer boss"}

    def server(self, config=""):
        return Server(config='[security]\nauth_enabled = true\n' + config + '[auth]\nmanagement_keys = ["boss"]\n')

    def key(self, server, permissions, **more):
        status, _, reply = server.call("POST", "/v1/auth/keys", {"name": "k", "permissions": permissions, **more}, self.BOSS)
        assert status == 201, reply
        return reply

    def test_a_revoked_key_ends_its_sockets_in_mid_chat(self):
        with self.server() as server:
            fake_model(server.models, "m", SLOW)
            key = self.key(server, ["inference"])
            ws = Socket(server, headers={"Authorization": "Bearer " + key["api_key"]})
            ws.chat("a", max_tokens=FOREVER)
            self.assertEqual(ws.hear()["type"], "chat_chunk")
            self.assertEqual(server.call("DELETE", "/v1/auth/keys/" + key["key_id"], None, self.BOSS)[0], 204)
            heard = []
            with self.assertRaises(Closed) as closed:
                while True:
                    heard.append(ws.hear())
            self.assertEqual(closed.exception.code, 4401)
            self.assertTrue(any(m["type"] == "error" and m["data"]["error"]["code"] == "authentication_failed"
                                for m in heard))
            self.assertFalse(any(m["type"] == "chat_done" for m in heard))
            server.until(lambda: not any(s["is_processing"] for s in server.slots()))
            ws.abandon()

    def test_permissions_hold_for_each_message(self):
        with self.server() as server:
            fake_model(server.models, "m", QUICK)
            for permissions, expected in ((["inference"], [True, False, True]), (["metrics"], [False, True, False])):
                ws = Socket(server, headers={"Authorization": "Bearer " + self.key(server, permissions)["api_key"]})
                ws.chat("a", max_tokens=2)
                ws.say("subscribe_metrics", "b", interval=60000)
                ws.say("subscribe_models", "c")
                seen = {}
                while len(seen) < 3:
                    message = ws.hear()
                    if message["type"] == "error":
                        self.assertEqual(message["data"]["error"]["code"], "permission_denied")
                    if message["type"] in ("error", "chat_done", "metrics_update", "model_status"):
                        seen[message["id"]] = message["type"] != "error"
                self.assertEqual([seen[id] for id in "abc"], expected)
                ws.abandon()

    def test_each_chat_is_charged(self):
        with self.server() as server:
            fake_model(server.models, "m", QUICK)
            key = self.key(server, ["inference"], requests_per_minute=3)
            ws = Socket(server, headers={"Authorization": "Bearer " + key["api_key"]})
            for i in range(3):
                ws.chat(str(i), max_tokens=2)
                self.assertEqual(ws.whole(str(i))[1]["type"], "chat_done")
            ws.chat("d", max_tokens=2)
            self.assertEqual(ws.error(), ("d", "rate_limit_exceeded"))
            ws.say("ping", "p")  # the socket stays
            self.assertEqual(ws.hear()["type"], "pong")
            ws.abandon()

    def test_a_model_that_is_not_on_its_list(self):
        with self.server() as server:
            fake_model(server.models, "m", QUICK)
            ws = Socket(server, headers={"Authorization": "Bearer " + self.key(server, ["inference"], models=["x*"])["api_key"]})
            ws.chat("a")
            self.assertEqual(ws.error(), ("a", "permission_denied"))
            ws.abandon()


class Measured(unittest.TestCase):
    def test_metrics_are_those_of_the_work(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=200")
            ws = Socket(server)
            ws.say("subscribe_metrics", "s", interval=500, metrics=["inference_rate", "active_requests", "kv_usage"])
            self.assertIsNone(ws.hear()["data"]["inference_rate"])
            ws.chat("a", max_tokens=600, ignore_eos=True)
            updates = []
            while True:
                message = ws.hear()
                if message["type"] == "metrics_update":
                    updates.append(message["data"])
                if message["type"] == "chat_done":
                    break
            self.assertTrue(any(u["inference_rate"] > 0 for u in updates), updates)
            ws.abandon()
            self.assertTrue(any(u["active_requests"] == 1 and u["kv_usage"] > 0 for u in updates), updates)


class Settings(unittest.TestCase):
    def test_token_in_the_query_where_it_is_allowed(self):
        with Server(config='[auth]\ninference_keys = ["guest"]\n[websocket]\nallow_query_token = true\n') as server:
            with Socket(server, "/ws?token=guest") as ws:
                ws.say("subscribe_metrics", "m")
                self.assertEqual(ws.hear()["type"], "metrics_update")
            with self.assertRaises(Refused):
                Socket(server, "/ws?token=wrong")

    def test_paths_and_limits(self):
        with Server(config='[websocket]\npath = "/live"\nlegacy_path = ""\nmax_connections = 2\nmax_streams = 1\n'
                           'max_message_kb = 1\n') as server:
            fake_model(server.models, "m", SLOW)
            for path in ("/ws", "/ws/stream"):
                with self.assertRaises(Refused) as caught:
                    Socket(server, path)
                self.assertEqual(caught.exception.status, 404)
            with Socket(server, "/live") as one, Socket(server, "/live") as two:
                with self.assertRaises(Refused) as caught:
                    Socket(server, "/live")
                self.assertEqual(caught.exception.status, 503)
                one.chat("a", max_tokens=FOREVER)
                one.chat("b")
                self.assertEqual(one.hear_of("b", "error")[-1]["data"]["error"]["code"], "too_many_streams")
                two.send("x" * 1025)
                self.assertEqual(two.until_closed(), 1009)

    def test_plain_requests(self):
        with Server() as server:
            status, headers, body = server.call("GET", "/ws")
            self.assertEqual((status, body["error"]["code"]), (426, "upgrade_required"))
            self.assertEqual(server.call("POST", "/ws")[0], 405)

    def test_origins(self):
        with Server(config='[server]\ncors_origins = ["https://good.example"]\n') as server:
            host = f"127.0.0.1:{server.port}"
            for origin in (f"http://{host}", "https://good.example", None):
                Socket(server, headers={"Origin": origin}).abandon()
            for origin in ("https://evil.example", "null", f"http://{host}.evil.example"):
                with self.assertRaises(Refused) as caught:
                    Socket(server, headers={"Origin": origin})
                self.assertEqual(caught.exception.status, 403)
            with self.assertRaises(Refused) as caught:  # rebound names
                Socket(server, headers={"Host": "evil.example"})
            self.assertEqual(caught.exception.status, 403)


class Draining(unittest.TestCase):
    def test_idle_ones_go_at_once_and_chats_run_to_their_end(self):
        with Server() as server:
            fake_model(server.models, "m", SLOW)
            idle, busy = Socket(server), Socket(server)
            idle.say("subscribe_metrics", "m", interval=100)
            idle.hear()
            busy.chat("a", max_tokens=25)
            busy.hear()
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(idle.until_closed(), 1001)
            busy.chat("b")
            heard = busy.hear_of("b", "error")
            self.assertEqual(heard[-1]["data"]["error"]["code"], "server_draining")
            self.assertEqual(busy.whole("a")[1]["data"]["usage"]["completion_tokens"], 25)
            self.assertEqual(busy.until_closed(), 1001)
            self.assertEqual(server.process.wait(10), 0)

    def test_the_grace_ends(self):
        with Server(config="[server]\nshutdown_grace_seconds = 1\n") as server:
            fake_model(server.models, "m", SLOW)
            with Socket(server) as ws:
                ws.chat("a", max_tokens=FOREVER)
                ws.hear()
                server.process.send_signal(signal.SIGTERM)
                self.assertEqual(ws.until_closed(), 1001)
                self.assertEqual(server.process.wait(10), 0)


class Legacy(Case):
    def test_cancel(self):
        ws = self.socket("/ws/stream")
        ws.chat("a", type="chat_request", model="slow", max_tokens=FOREVER)
        ws.hear_of("a", "chat_chunk")
        ws.say("cancel", "a")
        self.assertEqual(ws.hear_of("a", "chat_done")[-1]["data"]["finish_reason"], "cancelled")

    def test_chat(self):
        ws = self.socket("/ws/stream")
        info = ws.hear()
        self.assertEqual(info["type"], "connection_info")
        self.assertEqual(set(info), {"type", "connection_id", "server_version", "capabilities"})
        for round in range(7):  # ended chats do not count
            ws.chat(f"x{round}", type="chat_request", max_tokens=3)
            chunks = []
            while not chunks or not chunks[-1]["choices"][0]["finish_reason"]:
                message = ws.hear()
                self.assertEqual((message["type"], message["id"]), ("chat_chunk", f"x{round}"))
                chunks.append(message["data"])
            self.assertEqual({chunk["object"] for chunk in chunks}, {"chat.completion.chunk"})
            self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
            self.assertEqual(len(chunks), 5)

    def test_errors(self):
        ws = self.socket("/ws/stream")
        ws.hear()
        ws.send("nonsense")
        error = ws.hear()
        self.assertEqual((error["type"], error["id"], error["code"]), ("error", None, "INVALID_FORMAT"))
        ws.chat("a", type="chat_request", model="nope")
        error = ws.hear()
        self.assertEqual((error["id"], error["code"]), ("a", "STREAM_ERROR"))
        ws.say("subscribe_metrics", "m")
        self.assertEqual(ws.hear()["code"], "INVALID_FORMAT")


if __name__ == "__main__":
    unittest.main()
