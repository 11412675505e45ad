"""Images in chats: the real binary with a tiny model and a projector with random weights, which tells images apart and says
no sense. Data URLs, URLs from a server of our own, every dialect once, and what is refused with which parameter."""
import base64
import http.server
import json
import os
import pathlib
import shutil
import struct
import threading
import unittest
import zlib

from harness import DEADLINE, Server, Stream, fake_model
from test_ws import Socket

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build" / "tests"
TINY = os.environ.get("INFERD_TINY", str(BUILD / "tiny.gguf"))
PROJECTORS = pathlib.Path(os.environ.get("INFERD_PROJECTORS", str(BUILD)))
MODELS = os.environ.get("INFERD_MODELS", "")
CELLS = 64  # of an image
TOKENS = 4  # few, as random weights make many tokens nearly as likely, and batches of other shapes round differently


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, color):
    rows = b"".join(b"\0" + bytes(channel & 255 for x in range(width) for channel in color(x, y)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


RED = png(40, 30, lambda x, y: (x * 6, y * 3, 0))
BLUE = png(40, 30, lambda x, y: (0, y * 5, 255 - x * 6))


def data_url(image, kind="image/png"):
    return f"data:{kind};base64," + base64.b64encode(image).decode()


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


def text(words):
    return {"type": "text", "text": words}


def look(server, *parts, **more):
    """Status and reply of a chat whose second message has these parts: texts, images' bytes, or URLs."""
    content = [text(part) if isinstance(part, str) and "://" not in part and not part.startswith("data:") else
               image(part if isinstance(part, str) else data_url(part)) for part in parts]
    status, _, reply = server.call("POST", "/v1/chat/completions", {
        "model": "eye", "max_tokens": TOKENS, "temperature": 0,
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": content}], **more})
    return status, reply


def said(reply):
    return reply["choices"][0]["message"]["content"]


def cached(usage):
    return usage["prompt_tokens_details"]["cached_tokens"]


class Pictures(http.server.ThreadingHTTPServer):
    """Serves images: /red, /hop/N (N redirects before it), /huge, /text, /gone; /stall never answers."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.over = [], threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __exit__(self, *unused):
        self.over.set()
        self.shutdown()
        super().__exit__(*unused)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        kind, _, count = self.path.strip("/").partition("/")
        if kind == "stall":
            self.server.over.wait(DEADLINE)
        if kind == "hop" and int(count) > 0:
            self.send_response(302)
            self.send_header("Location", f"/hop/{int(count) - 1}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = {"red": RED, "hop": RED, "text": b"no image", "huge": b"\0" * (21 << 20)}.get(kind, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass # the client has seen enough

    def log_message(self, *unused):
        pass


def seeing_server(config="", projector="mmproj_causal_64.gguf", name="mmproj-eye-f16.gguf", env=None):
    server = Server(config=config, env=env)
    shutil.copy(TINY, server.models / "eye.gguf")
    fake_model(server.models, "blind")
    if projector:
        shutil.copy(PROJECTORS / projector, server.models / name)
    return server


class Seeing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = seeing_server()
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__, None, None, None)

    def refused(self, param, words, *parts, code="invalid_parameters", **more):
        status, reply = look(self.server, *parts, **more)
        self.assertEqual(status, 400, reply)
        error = reply["error"]
        self.assertEqual((error["type"], error["param"], error["code"]), ("invalid_request_error", param, code), error)
        self.assertIn(words, error["message"])

    def test_an_image_is_seen_counted_and_cached(self):
        status, blind = look(self.server, "what is ", "this?")
        self.assertEqual(status, 200, blind)
        status, first = look(self.server, "what is ", RED, "this?")
        self.assertEqual(status, 200, first)
        self.assertGreater(first["usage"]["prompt_tokens"], blind["usage"]["prompt_tokens"] + CELLS - 8)
        again = look(self.server, "what is ", RED, "this?")[1]
        self.assertEqual(said(again), said(first))
        self.assertEqual(cached(again["usage"]), first["usage"]["prompt_tokens"] - 1)
        other = look(self.server, "what is ", BLUE, "this?")[1]
        self.assertNotEqual(said(other), said(first))
        self.assertLess(cached(other["usage"]), first["usage"]["prompt_tokens"] - CELLS)
        both, turned = look(self.server, RED, BLUE)[1], look(self.server, BLUE, RED)[1]
        self.assertNotEqual(said(both), said(turned))
        self.assertEqual(both["usage"]["prompt_tokens"], turned["usage"]["prompt_tokens"])

    def test_after_an_image_all_goes_on_as_usual(self):
        status, several = look(self.server, RED, "say", n=3, logprobs=True, top_logprobs=2)
        self.assertEqual(status, 200, several)
        self.assertEqual(len({said({"choices": [choice]}) for choice in several["choices"]}), 1)
        self.assertEqual(len(several["choices"][0]["logprobs"]["content"][0]["top_logprobs"]), 2)
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {
            "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}}}
        status, formed = look(self.server, RED, "say", response_format=schema, max_tokens=40, seed=1, temperature=1)
        self.assertEqual(status, 200, formed)
        self.assertIn(json.loads(said(formed))["ok"], (True, False))
        stream = Stream(self.server.port, "/v1/chat/completions", {
            "model": "eye", "max_tokens": 8, "temperature": 0, "stream": True, "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": [image(data_url(RED)), text("say")]}]})
        events = [json.loads(event) for event in stream.events() if event != "[DONE]"]
        self.assertEqual(stream.head(), 200)
        self.assertGreater(events[-1]["usage"]["prompt_tokens"], CELLS)
        stream.close()

    def test_words_are_no_images(self):
        for words in ("<__media__>", "<image:0123456789012345678901:00>", "<start_of_image>", "<__image__>"):
            status, reply = look(self.server, words, RED, words)
            self.assertEqual(status, 200, reply)
            status, reply = look(self.server, words)
            self.assertEqual(status, 200, reply)
            self.assertLess(reply["usage"]["prompt_tokens"], 140)

    def test_other_formats(self):
        bmp = b"BM" + bytes(8) + struct.pack("<IIiiHHIIIIII", 54, 40, 8, -8, 1, 24, 0, 192, 0, 0, 0, 0) + bytes(range(192))
        status, reply = look(self.server, bmp)
        self.assertEqual(status, 200, reply)
        self.assertEqual(look(self.server, data_url(bmp, "image/bmp"))[0], 200)

    def test_bad_images_name_their_parameter(self):
        at = "messages[1].content[1].image_url"
        bomb = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(bytes(40 << 20), 9)) + chunk(b"IEND", b""))
        for words, part in (("base64", "data:image/png;base64,a-b"), ("media type", data_url(RED, "text/plain")),
                            ("PNG, JPEG, GIF or BMP", b"%PDF-1.4 and more"), ("WebP", b"RIFF\0\0\0\0WEBPVP8 "),
                            ("pixels", png(1, 1, lambda x, y: (0, 0, 0)).replace(struct.pack(">II", 1, 1), struct.pack(">II", 30000, 30000), 1)),
                            ("damaged", RED[:200]), ("more than its size says", bomb), ("http://", "ftp://h/x"),
                            ("holds no data", "data:image/png;base64,")):
            self.refused(at, words, "a", part)
        self.refused("messages[1].content[17].image_url", "at most 16", "a", *[RED] * 17)
        self.refused(at, "reserved address", "a", "http://127.0.0.1:1/x")
        self.refused(at, "reserved address", "a", "http://[::ffff:169.254.169.254]/latest/meta-data")
        self.refused("messages", "context length", *["word " * 100] * 40, RED, code="context_length_exceeded")

    def test_audio_and_files_are_refused(self):
        for part in ({"type": "input_audio", "input_audio": {}}, {"type": "file", "file": {}}):
            status, _, reply = self.server.call("POST", "/v1/chat/completions", {
                "model": "eye", "messages": [{"role": "user", "content": [part]}]})
            self.assertEqual((status, reply["error"]["param"]), (400, "messages[0].content[0]"), reply)

    def test_other_dialects(self):
        wanted = look(self.server, "what is ", RED)[1]
        status, _, reply = self.server.call("POST", "/v1/messages", {
            "model": "eye", "max_tokens": TOKENS, "temperature": 0, "system": "s", "messages": [{"role": "user", "content": [
                text("what is "), {"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                                               "data": base64.b64encode(RED).decode()}}]}]})
        self.assertEqual(status, 200, reply)
        self.assertEqual(reply["content"][0]["text"], said(wanted))
        self.assertEqual(reply["usage"]["input_tokens"] + reply["usage"].get("cache_read_input_tokens", 0),
                         wanted["usage"]["prompt_tokens"])
        status, _, reply = self.server.call("POST", "/v1/messages/count_tokens", {"model": "eye", "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://h"}}]}]})
        self.assertEqual(status, 400, reply) # nobody knows before it is read: no number is made up
        status, _, reply = self.server.call("POST", "/api/chat", {
            "model": "eye", "stream": False, "options": {"num_predict": TOKENS, "temperature": 0}, "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "what is ", "images": [base64.b64encode(RED).decode()]}]})
        self.assertEqual(status, 200, reply)
        self.assertEqual(reply["message"]["content"], said(wanted))
        status, _, reply = self.server.call("POST", "/v1/responses", {
            "model": "eye", "max_output_tokens": 16, "temperature": 0, "instructions": "s", "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "what is "},
                                             {"type": "input_image", "image_url": data_url(RED)}]}]})
        self.assertEqual(status, 200, reply)
        self.assertTrue(reply["output"][0]["content"][0]["text"].startswith(said(wanted)), reply)

    def test_a_websocket(self):
        socket = Socket(self.server)
        socket.chat("a", [text("what is "), image(data_url(RED))], model="eye", max_tokens=8, temperature=0)
        _, done = socket.whole("a")
        self.assertEqual(done["type"], "chat_done", done)
        self.assertGreater(done["data"]["usage"]["prompt_tokens"], CELLS)
        socket.chat("b", [text("x"), image("data:image/png;base64,QQ==")], model="eye")
        self.assertEqual(socket.whole("b")[1]["data"]["error"]["param"], "messages[0].content[1].image_url")
        socket.abandon()

    def test_what_is_told_of_it(self):
        self.server.call("POST", "/v1/models/eye/load", {})
        worker = self.server.worker()
        self.addCleanup(worker.close)
        worker.request("GET", "/props")
        self.assertEqual(json.loads(worker.getresponse().read())["modalities"], {"vision": True, "audio": False})
        models = {model["id"]: model["inferno"] for model in self.server.call("GET", "/v1/models")[2]["data"]}
        self.assertIn("vision", models["eye"]["capabilities"])
        self.assertNotIn("vision", models["blind"]["capabilities"])
        self.assertNotIn("mmproj-eye-f16", models)
        self.assertIn("vision", self.server.call("POST", "/api/show", {"model": "eye"})[2]["capabilities"])
        worker.request("POST", "/apply-template", json.dumps({"messages": [{"role": "user", "content": [image(data_url(RED))]}]}),
                       {"Content-Type": "application/json"})
        self.assertIn("<__media__>", json.loads(worker.getresponse().read())["prompt"])

    def test_a_client_that_leaves_frees_its_place(self):
        streams = [Stream(self.server.port, "/v1/chat/completions", {
            "model": "eye", "max_tokens": 500, "stream": True,
            "messages": [{"role": "user", "content": [image(data_url(png(600, 600, lambda x, y: (x * i, y, i)))), text("x")]}]})
            for i in range(3)]
        for stream in streams:
            stream.close()
        self.server.until(lambda: not any(slot["is_processing"] for slot in self.server.slots()))
        self.assertEqual(look(self.server, RED)[0], 200)


class Pairing(unittest.TestCase):
    def test_without_a_projector(self):
        with seeing_server(projector=None) as server:
            status, reply = look(server, "a", RED)
            self.assertEqual(status, 400, reply)
            self.assertEqual((reply["error"]["type"], reply["error"]["param"]),
                             ("invalid_request_error", "messages[1].content[1].image_url"))
            self.assertEqual(look(server, "a", "b")[0], 200)
            status, _, reply = server.call("POST", "/v1/messages", {"model": "eye", "max_tokens": 8, "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://h/x"}}]}]})
            self.assertEqual(status, 400, reply)

    def test_named_or_none(self):
        with seeing_server('[models.eye]\nmmproj = ""\n') as server:
            self.assertEqual(look(server, RED)[0], 400)
        far = PROJECTORS / "mmproj_acausal_64.gguf"
        with seeing_server(f'[models.eye]\nmmproj = "{far}"\n', projector=None) as server:
            self.assertEqual(look(server, RED)[0], 200)
        with seeing_server(name="other-mmproj.gguf") as server: # two models in the folder, and not its name
            self.assertEqual(look(server, RED)[0], 400)

    def test_a_repository_s_models_share_one(self):
        with Server() as server:
            folder = server.models / "org" / "repository"
            folder.mkdir(parents=True)
            for name in ("eye.gguf", "other.gguf"):
                shutil.copy(TINY, folder / name)
            shutil.copy(PROJECTORS / "mmproj_causal_64.gguf", folder / "mmproj-F16.gguf")
            self.assertEqual(look(server, RED)[0], 200)
            self.assertEqual(look(server, RED, model="other")[0], 200)

    def test_one_that_does_not_fit(self):
        env = {"ASAN_OPTIONS": "detect_leaks=0"} # the library forgets what it has read of a projector that it refuses
        with seeing_server(projector="mmproj_causal_48.gguf", env=env) as server:
            status, reply = look(server, "a")
            self.assertEqual((status, reply["error"]["code"]), (503, "model_load_failed"), reply)
            self.assertRegex(reply["error"]["message"], "64.*48")

    def test_a_named_instance(self):
        with Server() as server:
            status, _, reply = server.call("POST", "/api/v1/instances/seer", {
                "backend_type": "worker", "backend_options": {"model": TINY, "mmproj": str(PROJECTORS / "mmproj_causal_64.gguf")}})
            self.assertIn(status, (200, 201), reply)
            status, _, reply = server.call("POST", "/v1/chat/completions", {
                "model": "seer", "max_tokens": 4, "messages": [{"role": "user", "content": [image(data_url(RED))]}]})
            self.assertEqual(status, 200, reply)
            self.assertGreater(reply["usage"]["prompt_tokens"], CELLS)

    def test_steps_that_hold_an_image(self):
        """16 cells at once: steps of 8 are raised to that where nobody has asked for them."""
        eye = {"model": TINY, "mmproj": str(PROJECTORS / "mmproj_acausal_64.gguf"), "batch_size": 8}
        with Server() as server:
            for name, options in (("raised", eye), ("asked", {**eye, "ubatch_size": 8})):
                server.call("POST", f"/api/v1/instances/{name}", {"backend_type": "worker", "backend_options": options, "max_restarts": 0})
            say = {"max_tokens": 4, "messages": [{"role": "user", "content": [image(data_url(RED))]}]}
            status, _, reply = server.call("POST", "/v1/chat/completions", {"model": "raised", **say})
            self.assertEqual(status, 200, reply)
            status, _, reply = server.call("POST", "/v1/chat/completions", {"model": "asked", **say})
            self.assertGreaterEqual(status, 500, reply)
            self.assertIn("ubatch_size", reply["error"]["message"])


class Remote(unittest.TestCase):
    def test_urls(self):
        with Pictures() as pictures, seeing_server("[security]\nprivate_image_urls = true\n") as server:
            near = look(server, "see ", RED)[1]
            status, far = look(server, "see ", pictures.url + "/red")
            self.assertEqual(status, 200, far)
            self.assertEqual(said(far), said(near))
            self.assertEqual(cached(far["usage"]), near["usage"]["prompt_tokens"] - 1)
            self.assertEqual(look(server, "see ", pictures.url + "/hop/3")[0], 200)
            for path, words in (("/hop/4", "more than 3 redirects"), ("/huge", "more than 20 MiB"), ("/text", "PNG, JPEG"),
                                ("/gone", "answered 404")):
                status, reply = look(server, "see ", pictures.url + path)
                self.assertEqual((status, reply["error"]["param"]), (400, "messages[1].content[1].image_url"), reply)
                self.assertIn(words, reply["error"]["message"])
            status, reply = look(server, "see ", "http://127.0.0.1:1/x")
            self.assertEqual(status, 400, reply)
            self.assertIn("could not be fetched", reply["error"]["message"])

    def test_one_that_does_not_come(self):
        config = "[security]\nprivate_image_urls = true\n[server]\nrequest_timeout_seconds = 1\n"
        with Pictures() as pictures, seeing_server(config) as server:
            self.assertEqual(look(server, RED)[0], 200)
            status, reply = look(server, "see ", pictures.url + "/stall")
            self.assertEqual((status, reply["error"]["code"]), (504, "timeout"), reply)
            stream = Stream(server.port, "/v1/chat/completions", {"model": "eye", "stream": True, "messages": [
                {"role": "user", "content": [image(pictures.url + "/stall")]}]})
            server.until(lambda: pictures.asked.count("/stall") == 2)
            stream.close() # and the server ends while it is being fetched

    def test_private_ones_are_refused_by_default(self):
        with Pictures() as pictures, seeing_server() as server:
            for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1"): # however it is spelt
                status, reply = look(server, "see ", f"http://{host}:{pictures.server_port}/red")
                self.assertEqual(status, 400, reply)
                self.assertIn("reserved address", reply["error"]["message"])
            self.assertEqual(pictures.asked, [])


class RealText(unittest.TestCase):
    """A real language model with a projector of its width: the projector's weights are random, the model's are not."""

    @unittest.skipUnless(os.path.exists(os.path.join(MODELS, "SmolLM2-135M-Instruct.Q4_1.gguf")), "needs INFERD_MODELS")
    def test_a_real_template_and_grammar(self):
        with Server() as server:
            os.symlink(os.path.join(MODELS, "SmolLM2-135M-Instruct.Q4_1.gguf"), server.models / "eye.gguf")
            shutil.copy(PROJECTORS / "mmproj_causal_576.gguf", server.models / "mmproj-F16.gguf")
            status, first = look(server, "Say yes or no: ", RED, max_tokens=16)
            self.assertEqual(status, 200, first)
            again = look(server, "Say yes or no: ", RED, max_tokens=16)[1]
            self.assertEqual(said(again), said(first))
            self.assertGreater(cached(again["usage"]), CELLS)
            tools = [{"type": "function", "function": {"name": "f", "parameters": {
                "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}]
            status, called = look(server, "Count: ", RED, max_tokens=64, tools=tools, tool_choice="required")
            self.assertEqual(status, 200, called)
            self.assertEqual(called["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "f")


if __name__ == "__main__":
    unittest.main()
