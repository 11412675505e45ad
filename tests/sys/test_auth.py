"""Keys, users, tokens and what they may do, as specs/inferno.md section 4 has it, on the real binary."""
import base64
import datetime
import hashlib
import hmac
import http.client
import json
import os
import sqlite3
import subprocess
import unittest

import harness
from harness import Server, fake_model
from test_cli import Terminal

BOSS, SECRET, PASSWORD = "boss-key-of-the-test", "0123456789abcdef0123456789abcdef", "correct horse battery"
SECURITY = '[security]\nauth_enabled = true\n'
KEYS = f'[auth]\nmanagement_keys = ["{BOSS}"]\n'
JWT = SECURITY + "jwt_enabled = true\n"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims, head=None, secret=SECRET):
    text = encode(json.dumps(head or {"alg": "HS256", "typ": "JWT"}).encode()) + "." + encode(json.dumps(claims).encode())
    return text + "." + encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())


def now():
    return int(datetime.datetime.now().timestamp())


class Auth(Server):
    """A server that asks for credentials; ask() gives one with a call."""

    def __init__(self, config=SECURITY + KEYS, env=None, **more):
        super().__init__(config=config, env={"INFERNO_JWT_SECRET": SECRET, **(env or {})}, **more)
        fake_model(self.models, "m", "tokens_per_second=200")
        fake_model(self.models, "other")

    def ask(self, method, path, credential=BOSS, body=None):
        return self.call(method, path, body, {"Authorization": "Bearer " + credential} if credential else {})

    def status(self, method, path, credential=BOSS, body=None):
        return self.ask(method, path, credential, body)[0]

    def key(self, permissions=("inference",), credential=BOSS, name="k", **more):
        status, _, reply = self.ask("POST", "/v1/auth/keys", credential, {"name": name, "permissions": list(permissions), **more})
        assert status == 201, reply
        return reply

    def user(self, name="alice", role="user", credential=BOSS):
        status, _, reply = self.ask("POST", "/v1/auth/users", credential, {"username": name, "password": PASSWORD, "role": role})
        assert status == 201, reply
        return reply

    def login(self, name="alice", password=PASSWORD):
        return self.call("POST", "/v1/auth/login", {"username": name, "password": password})

    def again(self):
        self.process.kill()
        self.process.wait()
        self.log.thread.join(5)
        self.process.stderr.close()
        self.start()


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


class Keys(unittest.TestCase):
    def test_the_seeds_reply_and_a_key_that_opens(self):
        with Auth() as server:
            before = now()
            status, headers, reply = server.ask("POST", "/v1/auth/keys", body={
                "name": "my-app", "permissions": ["inference", "model_management"], "expires_in": "30d"})
            self.assertEqual(status, 201)
            self.assertEqual(list(reply), ["key_id", "api_key", "expires", "permissions"])
            self.assertRegex(reply["key_id"], r"^key_[0-9A-Za-z]{16}$")
            self.assertRegex(reply["api_key"], r"^sk-[0-9A-Za-z]{32,}$")
            self.assertRegex(reply["expires"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            expires = datetime.datetime.fromisoformat(reply["expires"][:-1] + "+00:00").timestamp()
            self.assertAlmostEqual(expires, before + 30 * 86400, delta=5)
            self.assertEqual(reply["permissions"], ["inference", "model_management"])
            self.assertEqual(headers["Cache-Control"], "no-store")
            key = reply["api_key"]
            self.assertEqual(server.status("POST", "/v1/chat/completions", key, CHAT), 200)
            self.assertEqual(server.status("POST", "/v1/models/m/unload", key), 200)
            shown = server.ask("GET", "/v1/auth/keys/" + reply["key_id"])[2]
            self.assertEqual((shown["name"], shown["hint"], shown["priority"], shown["models"]),
                             ("my-app", key[-4:], "interactive", None))
            listed = server.ask("GET", "/v1/auth/keys")
            self.assertEqual(listed[2]["data"], [shown])
            old = server.ask("GET", "/api/v1/auth/keys")[2]
            self.assertEqual([(k["name"], k["scopes"]) for k in old], [("my-app", ["inference"])])
            for text in (json.dumps(listed[2]), json.dumps(old), server.log.text()):
                self.assertNotIn(key, text)

    def test_what_each_permission_opens(self):
        routes = {"chat": ("POST", "/v1/chat/completions", CHAT), "models": ("GET", "/v1/models", None),
                  "model": ("GET", "/v1/models/m", None), "status": ("GET", "/v1/models/m/status", None),
                  "load": ("POST", "/v1/models/m/load", {}), "metrics": ("GET", "/metrics", None),
                  "users": ("GET", "/v1/auth/users", None), "instances": ("GET", "/api/v1/instances", None),
                  "oldkeys": ("GET", "/api/v1/auth/keys", None), "me": ("GET", "/v1/auth/user", None)}
        opens = {"inference": {"chat", "models", "model", "status"}, "models.read": {"models", "model", "status"},
                 "RunInference": {"chat", "models", "model", "status"},
                 "model_management": {"load"}, "metrics": {"metrics"}, "users": {"users"}, "batch": set(),
                 "keys": set(), "audit": set(), "admin": set(routes), "*": set(routes)}
        with Auth() as server:
            for permission, allowed in opens.items():
                key = server.key([permission])["api_key"]
                got = {name: server.status(method, path, key, body) for name, (method, path, body) in routes.items()}
                want = {name: 200 if name in allowed | {"me"} else 403 for name in routes}
                self.assertEqual(got, want, permission)
            for name, (method, path, body) in routes.items():
                self.assertEqual(server.status(method, path, None, body), 401, name)
                status, headers, reply = server.ask(method, path, None, body)
                self.assertEqual(headers["WWW-Authenticate"], "Bearer")
            for path in ("/health", "/", "/health/live", "/openapi.json"):
                self.assertEqual(server.status("GET", path, None), 200, path)
            reply = server.ask("GET", "/v1/models", "sk-wrong")[2]["error"]
            self.assertEqual((reply["code"], reply["type"]), ("authentication_failed", "authentication_error"))
            reply = server.ask("GET", "/metrics", server.key()["api_key"])[2]["error"]
            self.assertEqual((reply["code"], reply["type"]), ("permission_denied", "permission_error"))

    def test_no_key_hands_on_what_it_lacks(self):
        with Auth() as server:
            mine = server.key(["inference"], models=["m*"], requests_per_minute=1000, expires_in="1d")
            key = mine["api_key"]

            def make(**more):
                return server.ask("POST", "/v1/auth/keys", key, {"name": "child", **more})
            for more in ({"permissions": ["model_management"]}, {"permissions": ["*"]}, {"permissions": ["inference", "metrics"]},
                         {"models": ["other"]}, {"models": ["*"]}, {"models": ["m1", "n"]}, {"requests_per_minute": 1001}):
                status, _, reply = make(**more)
                self.assertEqual((status, reply["error"]["code"]), (403, "permission_denied"), more)
            self.assertEqual([m["id"] for m in server.ask("GET", "/v1/models", key)[2]["data"]], ["m"])
            self.assertEqual([m["id"] for m in server.ask("GET", "/v1/models")[2]["data"]], ["m", "other"])
            status, _, child = make(models=["mx*"], expires_in="30d")
            self.assertEqual(status, 201)
            self.assertEqual(child["expires"], mine["expires"])
            shown = server.ask("GET", "/v1/auth/keys/" + child["key_id"])[2]
            self.assertEqual((shown["models"], shown["requests_per_minute"]), (["mx*"], 1000))
            own = [k["key_id"] for k in server.ask("GET", "/v1/auth/keys", key)[2]["data"]]
            self.assertEqual(sorted(own), sorted([mine["key_id"], child["key_id"]]))
            other = server.key()
            self.assertEqual(server.status("GET", "/v1/auth/keys/" + other["key_id"], key), 403)
            self.assertEqual(server.status("DELETE", "/v1/auth/keys/" + other["key_id"], key), 403)
            self.assertEqual(server.status("GET", "/v1/auth/keys/key_none", key), 403)
            self.assertEqual(server.status("GET", "/v1/auth/keys/key_none"), 404)
            keeper = server.key(["keys"])["api_key"]
            self.assertEqual(server.status("GET", "/v1/auth/keys/" + other["key_id"], keeper), 200)
            self.assertEqual(server.status("POST", f"/v1/auth/keys/{other['key_id']}/rotate", keeper), 403)
            self.assertEqual(server.status("POST", "/v1/auth/keys", child["api_key"], {"name": "grandchild"}), 403)
            self.assertEqual(server.status("DELETE", "/v1/auth/keys/" + mine["key_id"], key), 204)
            self.assertEqual([server.status("GET", "/v1/models", k) for k in (key, child["api_key"])], [401, 401])
            server.again()
            self.assertEqual(server.status("GET", "/v1/models", child["api_key"]), 401)

    def test_bodies_that_are_refused(self):
        with Auth() as server:
            for body, param in (({}, "name"), ({"name": ""}, "name"), ({"name": "x" * 101}, "name"), ({"name": 1}, "name"),
                                ({"permissions": []}, "permissions"), ({"permissions": ["fly"]}, "permissions"),
                                ({"permissions": "inference"}, "permissions"), ({"permissions": [1]}, "permissions"),
                                ({"expires_in": "59s"}, "expires_in"), ({"expires_in": 59}, "expires_in"),
                                ({"expires_in": "366d"}, "expires_in"), ({"expires_in": "soon"}, "expires_in"),
                                ({"expires_in": "never"}, "expires_in"), ({"expires_in": None}, "expires_in"),
                                ({"expires_in": True}, "expires_in"), ({"expires_in": 60.5}, "expires_in"),
                                ({"models": []}, "models"), ({"models": ["a\nb"]}, "models"), ({"models": [""]}, "models"),
                                ({"models": ["m"] * 65}, "models"), ({"concurrent": -1}, "concurrent"),
                                ({"burst": 1e12}, "burst"), ({"priority": "high"}, "priority")):
                status, _, reply = server.ask("POST", "/v1/auth/keys", body={**({"name": "n"} if "name" not in body and body else {}), **body})
                self.assertEqual((status, reply["error"]["param"]), (400, param), body)
            for body in ("", "[]", "{", '"x"'):
                self.assertEqual(server.status("POST", "/v1/auth/keys", BOSS, body), 400, body)
            self.assertEqual(server.ask("GET", "/v1/auth/keys")[2]["data"], [])
            self.assertAlmostEqual(datetime.datetime.fromisoformat(server.key()["expires"][:-1] + "+00:00").timestamp(),
                                   now() + 365 * 86400, delta=5)
        with Auth(SECURITY + "max_key_days = 0\n" + KEYS) as server:
            for expires in ("never", None):
                self.assertIsNone(server.key(expires_in=expires)["expires"])
            self.assertIsNotNone(server.key(expires_in="50y")["expires"])

    def test_expired(self):
        with Auth(SECURITY + KEYS) as server:
            made = server.key()
            server.process.kill()
            server.process.wait()
            with sqlite3.connect(os.path.join(server.folder, "s", "inferd.db")) as database:
                database.execute("UPDATE api_keys SET expires_at = ?", (now() + 1,))
            database.close()
            server.again()
            server.until(lambda: server.status("GET", "/v1/models", made["api_key"]) == 401)
            self.assertEqual(server.ask("GET", "/v1/auth/keys")[2]["data"][0]["key_id"], made["key_id"])

    def test_rotate(self):
        with Auth() as server:
            made = server.key(["inference", "metrics"], models=["m"])
            status, _, new = server.ask("POST", f"/v1/auth/keys/{made['key_id']}/rotate", made["api_key"])
            self.assertEqual((status, new["key_id"], new["permissions"]), (200, made["key_id"], ["inference", "metrics"]))
            self.assertNotEqual(new["api_key"], made["api_key"])
            for _ in range(2):
                self.assertEqual([server.status("GET", "/metrics", k["api_key"]) for k in (made, new)], [401, 200])
                server.again()
            self.assertEqual(server.status("POST", "/v1/auth/keys/key_none/rotate"), 404)

    def test_an_acknowledged_change_survives_a_kill(self):
        with Auth() as server:
            made = server.key()
            server.again()
            self.assertEqual(server.status("GET", "/v1/models", made["api_key"]), 200)
            new = server.ask("POST", f"/v1/auth/keys/{made['key_id']}/rotate")[2]
            server.again()
            self.assertEqual([server.status("GET", "/v1/models", k["api_key"]) for k in (made, new)], [401, 200])
            self.assertEqual(server.status("DELETE", "/v1/auth/keys/" + new["key_id"]), 204)
            server.again()
            self.assertEqual(server.status("GET", "/v1/models", new["api_key"]), 401)
            self.assertEqual(server.status("DELETE", "/v1/auth/keys/" + new["key_id"]), 404)
            user = server.user()
            server.again()
            self.assertEqual(server.status("GET", "/v1/auth/users/" + user["user_id"]), 200)
            server.ask("DELETE", "/v1/auth/users/" + user["user_id"])
            server.again()
            self.assertEqual(server.status("GET", "/v1/auth/users/" + user["user_id"]), 404)


class Streams(unittest.TestCase):
    def open(self, server, credential):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=harness.DEADLINE)
        connection.request("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": True, "max_tokens": 2000}),
                           {"Content-Type": "application/json", "Authorization": "Bearer " + credential})
        reply = connection.getresponse()
        self.assertEqual(reply.status, 200)
        reply.readline()
        return reply

    def ends(self, reply):
        """What came until it broke off; it must break off."""
        try:
            return reply.read() and self.fail("the stream ended as if it were whole")
        except (ConnectionError, http.client.IncompleteRead):
            return None

    def test_a_revoked_key_ends_its_stream_and_no_other(self):
        with Auth() as server:
            one, two = server.key(), server.key()
            reply, other = self.open(server, one["api_key"]), self.open(server, two["api_key"])
            self.assertEqual(server.status("DELETE", "/v1/auth/keys/" + one["key_id"]), 204)
            self.ends(reply)
            self.assertTrue(other.readline() is not None and other.readline() is not None)
            self.assertEqual(server.status("POST", f"/v1/auth/keys/{two['key_id']}/rotate"), 200)
            self.ends(other)

    def test_a_revoked_key_ends_the_events_it_follows(self):
        with Auth() as server:
            made = server.key(["admin"])
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=harness.DEADLINE)
            connection.request("GET", "/api/v1/events", headers={"Authorization": "Bearer " + made["api_key"]})
            reply = connection.getresponse()
            self.assertEqual(reply.status, 200)
            self.assertEqual(server.status("DELETE", "/v1/auth/keys/" + made["key_id"]), 204)
            self.ends(reply)

    def test_expiry_a_users_end_and_a_logout_end_streams(self):
        with Auth(JWT + KEYS) as server:
            soon = token({"sub": "outer", "exp": now() - 58, "permissions": ["inference"]})
            reply = self.open(server, soon)
            self.ends(reply)
            user = server.user()
            mine = server.login()[2]["token"]
            reply = self.open(server, mine)
            self.assertEqual(server.status("POST", "/v1/auth/logout", mine), 204)
            self.ends(reply)
            key = server.key(credential=server.login()[2]["token"])["api_key"]
            reply = self.open(server, key)
            self.assertEqual(server.status("DELETE", "/v1/auth/users/" + user["user_id"]), 204)
            self.ends(reply)
            self.assertEqual(server.status("GET", "/v1/models", key), 401)


class Users(unittest.TestCase):
    def test_login_user_and_keys(self):
        with Auth(JWT + KEYS) as server:
            user = server.user()
            self.assertRegex(user["user_id"], "^user_")
            status, _, reply = server.login()
            self.assertEqual((status, list(reply)), (200, ["token", "token_type", "expires_in", "expires"]))
            self.assertEqual((reply["token_type"], reply["expires_in"]), ("Bearer", 24 * 3600))
            mine = reply["token"]
            me = server.ask("GET", "/v1/auth/user", mine)[2]
            self.assertEqual(list(me), ["user_id", "username", "role", "permissions", "api_keys", "last_login"])
            self.assertEqual((me["user_id"], me["username"], me["role"], me["api_keys"]), (user["user_id"], "alice", "user", 0))
            self.assertEqual(me["permissions"], ["inference", "models.read", "metrics", "batch"])
            self.assertRegex(me["last_login"], "Z$")
            key = server.key(credential=mine)
            self.assertEqual(server.ask("GET", "/v1/auth/user", key["api_key"])[2], {**me, "api_keys": 1, "permissions": ["inference", "models.read"]})
            self.assertEqual(server.status("POST", "/v1/auth/keys", mine, {"name": "n", "permissions": ["admin"]}), 403)
            self.assertEqual(server.status("GET", "/v1/auth/users", mine), 403)
            self.assertEqual(server.status("POST", "/v1/auth/logout", key["api_key"]), 400)
            self.assertEqual(server.status("POST", "/v1/auth/logout", mine), 204)
            self.assertEqual(server.status("GET", "/v1/models", mine), 401)
            server.again()
            self.assertEqual(server.status("GET", "/v1/models", mine), 401)
            self.assertEqual(server.status("GET", "/v1/models", key["api_key"]), 200)
            self.assertNotIn(PASSWORD, server.log.text())

    def test_changes_take_effect_on_tokens_and_keys(self):
        with Auth(JWT + KEYS) as server:
            path = "/v1/auth/users/" + server.user(role="service")["user_id"]
            mine = server.login()[2]["token"]
            key = server.key(["model_management"], credential=mine)["api_key"]
            self.assertEqual(server.status("POST", "/v1/models/m/load", key, {}), 200)
            self.assertEqual(server.ask("PATCH", path, BOSS, {"role": "guest"})[2]["role"], "guest")
            self.assertEqual([server.status("POST", "/v1/models/m/load", c, {}) for c in (key, mine)], [403, 403])
            self.assertEqual(server.status("PATCH", path, BOSS, {"disabled": True}), 200)
            self.assertEqual([server.status("GET", "/v1/models", c) for c in (key, mine)], [401, 401])
            self.assertEqual(server.login()[0], 401)
            server.ask("PATCH", path, BOSS, {"disabled": False})
            self.assertEqual(server.status("GET", "/v1/models", mine), 200)
            self.assertEqual(server.status("PATCH", path, BOSS, {"password": "another long password"}), 200)
            self.assertEqual(server.status("GET", "/v1/models", mine), 401)
            self.assertEqual((server.login()[0], server.login(password="another long password")[0]), (401, 200))

    def test_roles_are_not_handed_upwards_and_an_admin_is_left(self):
        with Auth(JWT + KEYS) as server:
            keeper = server.key(["users", "inference"])["api_key"]
            create = lambda role, name="x", password=PASSWORD: server.ask("POST", "/v1/auth/users", keeper, {"username": name, "password": password, "role": role})
            self.assertEqual([create(role)[0] for role in ("admin", "user", "service")], [403, 403, 403])
            self.assertEqual(create("guest")[0], 201)
            self.assertEqual(create("guest")[0], 409)
            self.assertEqual(create("king")[0], 400)
            self.assertEqual(create("guest", "y", "short")[0], 400)
            for name in ("", "a b", "x" * 65, "\u00e4"):
                self.assertEqual(create("guest", name)[0], 400, name)
            root = server.user("root", "admin")["user_id"]
            for method, body in (("DELETE", None), ("PATCH", {"role": "user"}), ("PATCH", {"disabled": True})):
                self.assertEqual(server.status(method, "/v1/auth/users/" + root, keeper, body), 403)
                self.assertEqual(server.status(method, "/v1/auth/users/" + root, BOSS, body), 409)
            server.user("root2", "admin")
            self.assertEqual(server.status("DELETE", "/v1/auth/users/" + root), 204)
            self.assertEqual(server.status("PATCH", "/v1/auth/users/none", BOSS, {"disabled": True}), 404)
            self.assertEqual(server.status("PATCH", "/v1/auth/users/none", BOSS, {}), 400)

    def test_first_admin_and_first_key(self):
        with Auth(JWT, {"INFERNO_ADMIN_PASSWORD": PASSWORD}) as server:
            mine = server.login("admin")[2]["token"]
            me = server.ask("GET", "/v1/auth/user", mine)[2]
            self.assertEqual((me["role"], me["permissions"]), ("admin", ["*"]))
            self.assertEqual(server.status("GET", "/api/v1/instances", mine), 200)
            self.assertNotIn("llamactl-mgmt-", server.log.text())
            self.assertNotIn(PASSWORD, server.log.text())
        with Auth(SECURITY) as server:
            first = server.log.wait(r"^ +llamactl-mgmt-").strip()
            self.assertEqual(server.status("GET", "/v1/auth/users", first), 200)
        with Auth(SECURITY, {"INFERNO_ADMIN_PASSWORD": "short"}, wait=False) as server:
            self.assertEqual(server.process.wait(harness.DEADLINE), 3)
            self.assertIn("INFERNO_ADMIN_PASSWORD", server.log.text())

    def test_a_name_is_locked_out(self):
        with Auth(JWT + KEYS) as server:
            server.user()
            for name in ("alice", "nobody"):
                replies = [server.login(name, "wrong wrong wrong") for _ in range(4)]
                self.assertEqual({(status, reply["error"]["message"]) for status, _, reply in replies},
                                 {(401, "Invalid user name or password")})
            self.assertEqual(server.login("alice", "wrong wrong wrong")[0], 401)
            status, headers, reply = server.login()
            self.assertEqual((status, reply["error"]["code"]), (429, "rate_limit_exceeded"))
            self.assertEqual(headers["Retry-After"], "1")
            server.until(lambda: server.login()[0] == 200)

    def test_an_address_is_stopped(self):
        with Auth() as server:
            key = server.key()["api_key"]
            self.assertEqual([server.status("GET", "/v1/models", f"sk-{i}") for i in range(12)], [401] * 10 + [429] * 2)
            self.assertEqual(server.status("GET", "/v1/models", key), 200)
            status, headers, reply = server.ask("GET", "/v1/models", "llamactl-" + "a" * 64)
            self.assertEqual((status, reply["error"]["code"]), (429, "rate_limit_exceeded"))
            self.assertTrue(50 <= int(headers["Retry-After"]) <= 60)
            self.assertEqual(server.status("GET", "/v1/models", None), 401)


class Tokens(unittest.TestCase):
    def test_tokens_of_another_issuer(self):
        with Auth(JWT + 'jwt_issuer = "me"\njwt_audience = "api"\n' + KEYS) as server:
            good = {"sub": "outer", "exp": now() + 100, "iss": "me", "aud": ["api"], "role": "user"}
            self.assertEqual(server.status("GET", "/v1/models", token(good)), 200)
            self.assertEqual(server.status("GET", "/v1/models", token(good)), 200) # remembered
            self.assertEqual(server.status("POST", "/v1/models/m/load", token(good), {}), 403)
            narrow = {**good, "role": "admin", "permissions": ["metrics"]}
            self.assertEqual([server.status("GET", path, token(narrow)) for path in ("/metrics", "/v1/models")], [200, 403])
            nothing = {key: value for key, value in good.items() if key != "role"}
            self.assertEqual(server.status("GET", "/v1/models", token(nothing)), 403)
            self.assertEqual(server.ask("GET", "/v1/auth/user", token(nothing))[2]["permissions"], [])
            self.assertEqual(server.status("POST", "/v1/auth/keys", token(good), {"name": "n"}), 403)
            for text in (token({**good, "exp": now() - 61}), token({**good, "nbf": now() + 70}), token({**good, "iat": now() + 70}),
                         token({**good, "iss": "you"}), token({**good, "aud": "x"}), token(good, secret=SECRET[::-1]),
                         token(good, {"alg": "none"}), token(good, {"alg": "RS256"}), token({**good, "sub": "user_gone"})):
                status, _, reply = server.ask("GET", "/v1/models", text)
                self.assertEqual((status, reply["error"]["code"]), (401, "authentication_failed"), text)

    def test_form_of_what_is_presented(self):
        with Auth(JWT + KEYS) as server:
            good = token({"sub": "outer", "exp": now() + 100, "role": "user"})
            head, payload, signature = good.split(".")
            for text in (f"{head}.{payload}.", f"{head}.{payload}", good + ".x", good + "=", "sk-" + good):
                self.assertEqual(server.status("GET", "/v1/models", text), 401, text)
            none = encode(b'{"alg":"none"}')
            self.assertEqual(server.status("GET", "/v1/models", f"{none}.{payload}."), 401)

    def test_no_start_without_a_key(self):
        for config, env, words in ((JWT, {"INFERNO_JWT_SECRET": "short"}, "32 bytes"),
                                   (JWT + 'jwt_secret_env = "NOT_SET"\n', {}, "NOT_SET"),
                                   (JWT + 'jwt_algorithm = "RS256"\n', {}, "jwt_public_key"),
                                   (JWT + 'jwt_algorithm = "ES256"\njwt_public_key = "/etc/passwd"\n', {}, "ES256"),
                                   (SECURITY + "api_key_enabled = false\n", {}, "nobody could call")):
            with Auth(config, env, wait=False) as server:
                self.assertEqual(server.process.wait(harness.DEADLINE), 3, config)
                self.assertIn(words, server.log.text())

    def test_a_public_key(self):
        with Auth(KEYS) as server:
            pair, public = (os.path.join(server.folder, name) for name in ("pair.pem", "public.pem"))
            subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", pair], check=True)
            subprocess.run(["openssl", "pkey", "-in", pair, "-pubout", "-out", public], check=True)
            text = encode(b'{"alg":"EdDSA"}') + "." + encode(json.dumps({"sub": "o", "exp": now() + 100, "role": "user"}).encode())
            message, out = (os.path.join(server.folder, name) for name in ("message", "signature"))
            with open(message, "w", encoding="ascii") as file:
                file.write(text)
            subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", pair, "-in", message, "-out", out], check=True)
            with open(out, "rb") as file:
                signed = text + "." + encode(file.read())
            with open(server.config, "w", encoding="ascii") as file:
                file.write(JWT + f'jwt_algorithm = "EdDSA"\njwt_public_key = "{public}"\n' + KEYS)
            server.again()
            self.assertEqual(server.status("GET", "/v1/models", signed), 200)
            self.assertEqual(server.status("GET", "/v1/models", token({"sub": "o", "exp": now() + 100, "role": "user"})), 401)
            self.assertEqual(server.login("a", "b")[0], 400)


class CommandLine(unittest.TestCase):
    def test_keys(self):
        with Auth() as server:
            def key(*args, credential=BOSS):
                return harness.run_cli("key", *args, url=server.url, env={"INFERD_API_KEY": credential})
            status, out, words = key("create", "mine", "-p", "inference, metrics", "-e", "1h", "-m", "m*,n", "--burst", "5")
            self.assertEqual(status, 0, words)
            self.assertRegex(out, r"^sk-[0-9A-Za-z]+\n$")
            shown = json.loads(key("list", "--json")[1])["data"][0]
            self.assertEqual((shown["permissions"], shown["models"], shown["burst"]), (["inference", "metrics"], ["m*", "n"], 5))
            self.assertIn(shown["key_id"], key("list")[1])
            again = json.loads(key("rotate", shown["key_id"], "--json")[1])
            self.assertEqual([server.status("GET", "/metrics", k) for k in (out.strip(), again["api_key"])], [401, 200])
            self.assertEqual(key("revoke", shown["key_id"])[:2], (0, shown["key_id"] + ": removed\n"))
            self.assertEqual(key("list", credential="sk-wrong")[0], 6)
            self.assertEqual([key(*args)[0] for args in ((), ("fly",), ("create",), ("create", "x", "--burst", "y"))], [2] * 4)
            self.assertNotEqual(key("create", "x", "-e", "soon")[0], 0)

    def test_users(self):
        with Auth(JWT + KEYS) as server:
            def user(*args, stdin=""):
                return harness.run_cli("user", *args, url=server.url, stdin=stdin, env={"INFERD_API_KEY": BOSS})
            self.assertEqual(user("add", "alice", "-r", "guest", stdin=PASSWORD + "\n")[:2], (0, "alice: added\n"))
            self.assertEqual(server.login()[0], 200)
            self.assertEqual(json.loads(user("list", "--json")[1])["data"][0]["role"], "guest")
            self.assertIn("alice", user("list")[1])
            self.assertEqual(user("passwd", "alice", stdin="a quite new password")[0], 0)
            self.assertEqual((server.login()[0], server.login(password="a quite new password")[0]), (401, 200))
            self.assertEqual(user("add", "bob")[0], 2) # no password
            for again, status in ((PASSWORD, 0), ("another word", 2)):
                terminal = Terminal("user", "passwd", "alice", env={"INFERD_URL": server.url, "INFERD_API_KEY": BOSS})
                terminal.wait("Password: ")
                terminal.type(PASSWORD + "\n")
                self.assertNotIn(PASSWORD, terminal.wait("Again: "))
                terminal.type(again + "\n")
                self.assertNotIn(again, terminal.wait("password changed" if status == 0 else "differ"))
                self.assertEqual(terminal.end(), status)
            self.assertEqual(server.login()[0], 200)
            self.assertEqual(user("rm", "alice")[:2], (0, "alice: removed\n"))
            self.assertNotEqual(user("rm", "alice")[0], 0)
            self.assertEqual([user(*args)[0] for args in ((), ("fly",), ("add",))], [2] * 3)


class Switches(unittest.TestCase):
    def test_off(self):
        with Auth("") as server:
            me = server.ask("GET", "/v1/auth/user", None)[2]
            self.assertEqual(me, {"user_id": "local", "username": "local", "role": "admin", "permissions": ["*"],
                                  "api_keys": 0, "last_login": None})
            self.assertEqual(server.status("GET", "/v1/models", "not-needed"), 200)
            self.assertEqual(server.ask("GET", "/v1/auth/user", "not-needed")[2]["user_id"], "local")
            for origin, status in (("http://evil.example", 403), ("null", 403), (server.url, 400)):
                self.assertEqual(server.call("POST", "/v1/auth/keys", {}, {"Origin": origin})[0], status)
            made = server.key(["admin"], credential=None)
            self.assertEqual(server.ask("GET", "/v1/auth/user", made["api_key"])[2]["user_id"], made["key_id"])
            self.assertEqual(server.status("GET", "/v1/auth/keys", None), 401) # there is an admin's key now

    def test_metrics_public_and_keys_off(self):
        with Auth(SECURITY + "metrics_public = true\n" + KEYS) as server:
            self.assertEqual([server.status("GET", path, None) for path in ("/metrics", "/v1/models")], [200, 401])
        with Auth(JWT + "api_key_enabled = false\n" + KEYS, {"INFERNO_ADMIN_PASSWORD": PASSWORD}) as server:
            self.assertEqual(server.status("GET", "/v1/models"), 401)
            self.assertEqual(server.status("GET", "/v1/models", server.login("admin")[2]["token"]), 200)

    def test_audit_log(self):
        with Auth(JWT + "audit_log = true\n" + KEYS) as server:
            made = server.key()
            server.ask("GET", "/metrics", made["api_key"])
            server.ask("GET", "/v1/models", "sk-wrong")
            server.login("nobody", "wrong wrong wrong")
            server.log.wait(r"audit .*who=system from=127\.0\.0\.1 outcome=allowed .*method=POST path=/v1/auth/keys$")
            server.log.wait(rf"audit .*who={made['key_id']} .*outcome=forbidden .*path=/metrics")
            server.log.wait(r"audit .*who=unknown .*outcome=unauthenticated .*path=/v1/models")
            server.log.wait(r"audit .*who=unknown .*outcome=unauthenticated .*path=/v1/auth/login")
            for secret in (BOSS, made["api_key"], "sk-wrong", "wrong wrong"):
                self.assertNotIn(secret, server.log.text())

    def test_a_wide_address(self):
        with Auth("", args=("--bind", "0.0.0.0"), wait=False) as server:
            self.assertEqual(server.process.wait(harness.DEADLINE), 3)
            self.assertIn("bind_address", server.log.text())
        with Auth(SECURITY + KEYS, args=("--bind", "0.0.0.0")) as server:
            self.assertEqual([server.status("GET", "/v1/models", k) for k in (None, BOSS)], [401, 200])


if __name__ == "__main__":
    unittest.main()
