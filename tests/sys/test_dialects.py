"""Responses and Messages over workers on the fake engine: the same text as chat, turns that are kept, bad input, faults."""
import json
import os
import signal
import threading
import unittest

from harness import Server, Shared, Stream, fake_model

FAST = "tokens_per_second=5000"
SLOW = "tokens_per_second=50"
KEYS = '[auth]\nmanagement_keys = ["boss"]\nrequire_inference_auth = true\n'


def bearer(key):
    return {"Authorization": "Bearer " + key}


def respond(server, text="hi", headers=None, **more):
    return server.call("POST", "/v1/responses", {"model": "m", "input": text, "max_output_tokens": 8, "temperature": 0, **more}, headers)


def message(server, content="hi", **more):
    return server.call("POST", "/v1/messages", {"model": "m", "max_tokens": 8, "temperature": 0,
                                                "messages": [{"role": "user", "content": content}], **more})


def streamed(server, path, body):
    stream = Stream(server.port, path, {"model": "m", "temperature": 0, "stream": True, **body})
    events = [json.loads(event) for event in stream.events()]
    stream.close()
    return events


def text_of(response):
    return "".join(part["text"] for item in response["output"] for part in item.get("content", []))


def busy(server):
    return any(slot["is_processing"] for slot in server.slots())


class Responses(Shared):
    def test_the_text_is_chat_s(self):
        chat = self.server.chat("m", max_tokens=8, temperature=0)[2]
        status, _, body = respond(self.server)
        self.assertEqual(status, 200, body)
        self.assertEqual(text_of(body), chat["choices"][0]["message"]["content"])
        self.assertEqual((body["status"], body["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
        self.assertEqual(body["usage"]["total_tokens"], chat["usage"]["total_tokens"])

    def test_a_stream_tells_the_same_response(self):
        whole = respond(self.server)[2]
        events = streamed(self.server, "/v1/responses", {"input": "hi", "max_output_tokens": 8})
        self.assertEqual([event["sequence_number"] for event in events], list(range(len(events))))
        self.assertEqual([event["type"] for event in events[:4]],
                         ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"])
        self.assertEqual([event["type"] for event in events[-4:]],
                         ["response.output_text.done", "response.content_part.done", "response.output_item.done",
                          "response.incomplete"])
        self.assertEqual("".join(event["delta"] for event in events[4:-4]), text_of(whole))
        last = events[-1]["response"]
        self.assertEqual(text_of(last), text_of(whole))
        self.assertEqual(last["usage"]["input_tokens"], whole["usage"]["input_tokens"])
        self.assertEqual(self.server.call("GET", "/v1/responses/" + last["id"])[2], last)

    def test_kept_looked_at_deleted(self):
        body = respond(self.server, instructions="be brief", metadata={"k": "v"})[2]
        path = "/v1/responses/" + body["id"]
        self.assertEqual(self.server.call("GET", path)[2], body)
        page = self.server.call("GET", path + "/input_items")[2]
        self.assertEqual([(item["role"], item["content"][0]["text"]) for item in page["data"]], [("user", "hi")])
        self.assertFalse(page["has_more"])
        status, _, refusal = self.server.call("POST", path + "/cancel", {})
        self.assertEqual((status, refusal["error"]["type"]), (400, "invalid_request_error"))
        self.assertEqual(self.server.call("DELETE", path)[2], {"id": body["id"], "object": "response", "deleted": True})
        for method, more in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
            self.assertEqual(self.server.call(method, path + more)[0], 404)

    def test_pages_of_input(self):
        items = [{"role": "user", "content": str(n)} for n in range(5)]
        path = "/v1/responses/" + respond(self.server, items)[2]["id"] + "/input_items"
        texts = lambda page: [item["content"][0]["text"] for item in page["data"]]
        first = self.server.call("GET", path + "?limit=2")[2]
        self.assertEqual((texts(first), first["has_more"]), (["4", "3"], True))
        second = self.server.call("GET", f"{path}?limit=3&after={first['last_id']}")[2]
        self.assertEqual((texts(second), second["has_more"]), (["2", "1", "0"], False))
        self.assertEqual(texts(self.server.call("GET", path + "?order=asc&limit=1")[2]), ["0"])
        for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order")):
            status, _, body = self.server.call("GET", f"{path}?{query}")
            self.assertEqual((status, body["error"]["param"]), (400, param))

    def test_a_chain_is_the_whole_conversation(self):
        first = respond(self.server, "one")[2]
        second = respond(self.server, "two", previous_response_id=first["id"])[2]
        third = respond(self.server, "three", previous_response_id=second["id"])[2]
        said = [{"role": "user", "content": "one"}, {"role": "assistant", "content": text_of(first)},
                {"role": "user", "content": "two"}, {"role": "assistant", "content": text_of(second)},
                {"role": "user", "content": "three"}]
        chat = self.server.call("POST", "/v1/chat/completions", {"model": "m", "messages": said, "max_tokens": 8,
                                                                         "temperature": 0})[2]
        self.assertEqual(third["usage"]["input_tokens"], chat["usage"]["prompt_tokens"])
        self.assertEqual(text_of(third), chat["choices"][0]["message"]["content"])
        self.server.call("DELETE", "/v1/responses/" + first["id"])
        status, _, body = respond(self.server, previous_response_id=third["id"])
        self.assertEqual((status, body["error"]["code"], body["error"]["param"]),
                         (400, "previous_response_not_found", "previous_response_id"))

    def test_not_kept_when_not_wanted(self):
        body = respond(self.server, store=False)[2]
        self.assertFalse(body["store"])
        self.assertEqual(self.server.call("GET", "/v1/responses/" + body["id"])[0], 404)
        status, _, refusal = respond(self.server, previous_response_id=body["id"])
        self.assertEqual((status, refusal["error"]["code"]), (400, "previous_response_not_found"))

    def test_bad_input_names_its_field(self):
        rows = [({"input": 7}, "input"), ({"input": [{"type": "x"}]}, "input[0].type"), ({"model": 1}, "model"),
                ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
                ({"instructions": []}, "instructions"), ({"tools": {}}, "tools"), ({"tools": [{"type": "mcp"}]}, "tools[0].type"),
                ({"temperature": "hot"}, "temperature"), ({"top_p": 2}, "top_p"), ({"max_output_tokens": 1.5}, "max_output_tokens"),
                ({"stream": "yes"}, "stream"), ({"store": 1}, "store"), ({"metadata": []}, "metadata"), ({"text": 1}, "text"),
                ({"reasoning": {"effort": "huge"}}, "reasoning.effort"), ({"background": True}, "background"),
                ({"conversation": "c"}, "conversation"), ({"previous_response_id": 1}, "previous_response_id"),
                ({"previous_response_id": "resp_none"}, "previous_response_id"), ({"user": 1}, "user"),
                ({"truncation": "auto"}, "truncation"), ({"input": [{"role": "user", "content": [
                    {"type": "input_image", "image_url": "data:x"}]}]}, "input"), ({"input": "x" * 200000}, "input")]
        for more, param in rows:
            with self.subTest(param=param):
                status, _, body = self.server.call("POST", "/v1/responses", {"model": "m", "input": "hi", **more})
                self.assertEqual((status, body["error"]["param"]), (400, param), body)
        self.assertEqual(self.server.call("POST", "/v1/responses", "{")[2]["error"]["code"], "invalid_json")
        status, _, body = self.server.call("POST", "/v1/responses", {"model": "none", "input": "hi", "stream": True})
        self.assertEqual((status, body["error"]["code"]), (404, "model_not_found"))
        self.assertEqual(self.server.call("POST", "/v1/responses", "x", {"Content-Type": "text/plain"})[0], 415)


class Messages(Shared):
    def test_the_text_is_chat_s(self):
        chat = self.server.chat("m", max_tokens=8, temperature=0)[2]
        status, headers, body = message(self.server)
        self.assertEqual(status, 200, body)
        self.assertEqual([block["text"] for block in body["content"]], [chat["choices"][0]["message"]["content"]])
        self.assertEqual((body["stop_reason"], body["stop_sequence"]), ("max_tokens", None))
        usage = body["usage"]
        self.assertEqual(usage["input_tokens"] + usage["cache_read_input_tokens"], chat["usage"]["prompt_tokens"])
        self.assertEqual(usage["output_tokens"], 8)
        self.assertEqual(headers["request-id"], headers["x-request-id"])

    def test_a_stream_tells_the_same_message(self):
        whole = message(self.server)[2]
        events = streamed(self.server, "/v1/messages", {"max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]})
        kinds = [event["type"] for event in events]
        self.assertEqual(kinds[:3], ["message_start", "content_block_start", "ping"])
        self.assertEqual(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
        self.assertEqual(set(kinds[3:-3]), {"content_block_delta"})
        self.assertEqual("".join(event["delta"]["text"] for event in events[3:-3]), whole["content"][0]["text"])
        self.assertEqual(events[-2]["usage"]["output_tokens"], whole["usage"]["output_tokens"])
        self.assertEqual(events[-2]["delta"], {"stop_reason": "max_tokens", "stop_sequence": None})

    def test_the_stop_sequence_met_is_named(self):
        text = message(self.server, max_tokens=40)[2]["content"][0]["text"]
        stop = text[5:8]
        body = message(self.server, max_tokens=40, stop_sequences=["\x7f", stop])[2]
        self.assertEqual((body["stop_reason"], body["stop_sequence"]), ("stop_sequence", stop))
        self.assertEqual(body["content"][0]["text"], text[:text.index(stop)])

    def test_counting_is_what_a_message_takes(self):
        said = {"system": "be brief", "messages": [{"role": "user", "content": [{"type": "text", "text": "one"}]},
                                                   {"role": "assistant", "content": "two"}, {"role": "user", "content": "é"}]}
        status, _, count = self.server.call("POST", "/v1/messages/count_tokens", {"model": "m", **said})
        self.assertEqual(status, 200, count)
        usage = self.server.call("POST", "/v1/messages", {"model": "m", "max_tokens": 1, **said})[2]["usage"]
        self.assertEqual(count, {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]})

    def test_bad_input_names_its_field(self):
        user = lambda block: {"messages": [{"role": "user", "content": [block]}]}
        rows = [({"model": 1}, "model"), ({"max_tokens": None}, "max_tokens"), ({"max_tokens": "8"}, "max_tokens"),
                ({"messages": []}, "messages"), ({"messages": [{"role": "x", "content": ""}]}, "messages[0].role"),
                (user({"type": "text"}), "messages[0].content[0].text"), (user({"type": "video"}), "messages[0].content[0].type"),
                (user({"type": "tool_result"}), "messages[0].content[0].tool_use_id"), ({"system": 1}, "system"),
                ({"temperature": 1.1}, "temperature"), ({"top_k": -1}, "top_k"), ({"stop_sequences": "x"}, "stop_sequences"),
                ({"tools": [{"name": "f"}]}, "tools[0].input_schema"), ({"tool_choice": "any"}, "tool_choice"),
                ({"thinking": {"type": "x"}}, "thinking.type"), ({"metadata": 1}, "metadata"), ({"stream": 1}, "stream")]
        for more, param in rows:
            with self.subTest(param=param):
                status, headers, body = message(self.server, **more)
                self.assertEqual((status, body["type"], body["error"]["type"]), (400, "error", "invalid_request_error"), body)
                self.assertIn(f"'{param}'", body["error"]["message"])
                self.assertIn("request-id", headers)
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            status, _, body = self.server.call("POST", path, {"model": "none", "max_tokens": 1, "stream": True,
                                                              "messages": [{"role": "user", "content": "x"}]})
            self.assertEqual((status, body["error"]["type"]), (404, "not_found_error"), body)


    def test_counting_needs_a_backend_that_counts(self):
        status, _, made = self.server.call("POST", "/api/v1/instances/other", {
            "backend_type": "vllm", "backend_options": {"model": "x"}, "start": False})
        self.assertEqual(status, 201, made)
        said = {"model": "other", "messages": [{"role": "user", "content": "x"}]}
        status, _, body = self.server.call("POST", "/v1/messages/count_tokens", said)
        self.assertEqual((status, body["error"]["type"]), (400, "invalid_request_error"))
        self.assertIn("does not count tokens", body["error"]["message"])


class Owners(Shared):
    config = KEYS

    def key(self, name):
        return self.server.call("POST", "/api/v1/auth/keys", {"name": name}, bearer("boss"))[2]["key"]

    def test_a_caller_sees_only_its_own(self):
        mine, other = bearer(self.key("mine")), bearer(self.key("other"))
        status, _, body = respond(self.server, headers=mine)
        self.assertEqual(status, 200, body)
        path = "/v1/responses/" + body["id"]
        for who in (other, bearer("boss")):
            for method, more in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
                self.assertEqual(self.server.call(method, path + more, None, who)[0], 404)
            status, _, refusal = respond(self.server, headers=who, previous_response_id=body["id"])
            self.assertEqual((status, refusal["error"]["code"]), (400, "previous_response_not_found"))
        self.assertEqual(respond(self.server, headers=mine, previous_response_id=body["id"])[0], 200)
        self.assertEqual(self.server.call("GET", path)[0], 401)

    def test_anthropic_s_header_and_errors(self):
        key = self.key("reader")
        body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        self.assertEqual(self.server.call("POST", "/v1/messages", body, {"x-api-key": key, "anthropic-version": "2023-06-01"})[0], 200)
        status, headers, refusal = self.server.call("POST", "/v1/messages", body, {"x-api-key": "wrong"})
        self.assertEqual(headers["request-id"], headers["x-request-id"])
        self.assertEqual((status, refusal["error"]["type"]), (401, "authentication_error"))


class Faults(unittest.TestCase):
    bodies = {"/v1/responses": {"input": "hi", "max_output_tokens": 100000},
              "/v1/messages": {"max_tokens": 100000, "messages": [{"role": "user", "content": "hi"}]}}

    def until_delta(self, stream):
        events = stream.events()
        for event in events:
            if json.loads(event)["type"].endswith("delta"):
                return events
        raise AssertionError("no text came")

    def test_a_client_that_leaves_frees_its_sequence(self):
        with Server() as server:
            fake_model(server.models, "m", SLOW)
            for path, body in self.bodies.items():
                stream = Stream(server.port, path, {"model": "m", "stream": True, **body})
                self.until_delta(stream)
                self.assertTrue(busy(server))
                stream.close()
                server.until(lambda: not busy(server), 5)

    def test_a_killed_worker_is_told_in_the_stream(self):
        for path, body in self.bodies.items():
            with self.subTest(path=path), Server() as server:
                fake_model(server.models, "m", SLOW)
                stream = Stream(server.port, path, {"model": "m", "stream": True, **body})
                events = self.until_delta(stream)
                os.kill(server.status("m")["pid"], signal.SIGKILL)
                last = [json.loads(event) for event in events][-1]
                stream.close()
                if path == "/v1/responses":
                    self.assertEqual((last["type"], last["response"]["status"]), ("response.failed", "failed"))
                    self.assertEqual(last["response"]["error"]["code"], "server_error")
                    self.assertEqual(server.call("GET", "/v1/responses/" + last["response"]["id"])[0], 404)
                else:
                    self.assertEqual((last["type"], last["error"]["type"]), ("error", "overloaded_error"))

    def test_a_worker_killed_before_the_first_byte_is_an_error(self):
        for path, body in self.bodies.items():
            with self.subTest(path=path), Server() as server:
                fake_model(server.models, "m", FAST + ",prefill=20")
                replies = []
                call = lambda: replies.append(server.call("POST", path, {"model": "m", "stream": True, **body}))
                thread = threading.Thread(target=call)
                thread.start()
                server.until(lambda: server.status("m")["active_requests"] == 1)
                os.kill(server.status("m")["pid"], signal.SIGKILL)
                thread.join()
                self.assertEqual(replies[0][0], 503, replies)

    def test_a_slow_reader_pauses_only_its_own(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=20000,context=200000")
            for path, body in self.bodies.items():
                slow = Stream(server.port, path, {"model": "m", "stream": True, **body})
                slow.head()
                for _ in range(3):
                    self.assertEqual(server.chat("m", max_tokens=50)[0], 200)
                slow.close()
                server.until(lambda: not busy(server), 5)

    def test_a_chain_goes_on_after_kill_9(self):
        with Server() as server:
            fake_model(server.models, "m", FAST)
            first = respond(server, "one")[2]
            last = streamed(server, "/v1/responses", {"input": "two", "max_output_tokens": 8,
                                                      "previous_response_id": first["id"]})[-1]["response"]
            server.process.kill()
            server.process.wait()
            server.log.thread.join()
            server.process.stderr.close()
            server.start()
            self.assertEqual(server.call("GET", "/v1/responses/" + last["id"])[2], last)
            status, _, third = respond(server, "three", previous_response_id=last["id"])
            self.assertEqual(status, 200, third)
            self.assertGreater(third["usage"]["input_tokens"], last["usage"]["input_tokens"])


if __name__ == "__main__":
    unittest.main()
