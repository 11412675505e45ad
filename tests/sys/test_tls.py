"""HTTPS on the server's ports: versions, names, streams, bad peers, and a certificate changed while it runs."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import unittest

from harness import DEADLINE, Server, fake_model


def make_certificate(folder, name):
    """A self-signed certificate and its key; returns their paths."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN={name}", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return cert, key


class Https(Server):
    def __init__(self, **more):
        super().__init__(**more)
        self.cert, self.key = make_certificate(self.folder, "first")
        pathlib.Path(self.config).write_text(
            f'[server]\ntls_cert = "{self.cert}"\ntls_key = "{self.key}"\n' + more.get("config", ""))

    def start(self):
        self.launch(self.args, self.env)
        if self.wait_for_start:
            self.port = int(re.search(r"url=https://[^:]+:(\d+)", self.log.wait(r"listening  version=")).group(1))
            self.log.wait("models found")

    def context(self):
        return ssl.create_default_context(cafile=self.cert)

    def connection(self):
        return http.client.HTTPSConnection("localhost", self.port, timeout=DEADLINE, context=self.context())

    def dial(self, context=None):
        raw = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        return (context or self.context()).wrap_socket(raw, server_hostname="localhost")


class Tls(unittest.TestCase):
    def test_requests_and_large_bodies_pass_both_ways(self):
        with Https() as server:
            fake_model(server.models, "m", "tokens_per_second=5000")
            self.assertEqual(server.call("GET", "/health")[0], 200)
            content = "many words " * 20000
            reply = server.call("POST", "/v1/embeddings", {"model": "m", "input": content[:4000]})
            self.assertEqual(reply[0], 200)
            reply = server.call("POST", "/v1/chat/completions", {"model": "m", "messages": [
                {"role": "user", "content": content}]})
            self.assertIn(reply[0], (200, 400))  # whether it fits the context is not the matter here
            page = server.call("GET", "/openapi.json")
            self.assertGreater(len(json.dumps(page[2])), 50000)

    def test_a_stream_comes_event_by_event(self):
        with Https() as server:
            fake_model(server.models, "m", "tokens_per_second=200")
            connection = server.connection()
            connection.request("POST", "/v1/chat/completions", json.dumps(
                {"model": "m", "stream": True, "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}))
            events = [line for line in connection.getresponse().read().split(b"\n\n") if line.startswith(b"data:")]
            self.assertEqual(events[-1], b"data: [DONE]")
            self.assertGreater(len(events), 10)
            connection.close()

    def test_requests_in_one_record_and_bytes_one_by_one(self):
        with Https() as server:
            head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
            with server.dial() as client:
                client.sendall((head + b"\r\n") * 3 + head + b"Connection: close\r\n\r\n")
                everything = b"".join(iter(lambda: client.recv(65536), b""))
                self.assertEqual(everything.count(b"HTTP/1.1 200 OK"), 4)
            with server.dial() as client:
                for byte in head + b"Connection: close\r\n\r\n":
                    client.sendall(bytes([byte]))
                self.assertIn(b"200 OK", b"".join(iter(lambda: client.recv(65536), b"")))

    def test_a_reader_that_pauses_loses_nothing(self):
        with Https() as server:
            with server.dial() as client:
                request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
                client.sendall(request * 40 + request[:-2] + b"Connection: close\r\n\r\n")
                everything = b"".join(iter(lambda: client.recv(1000000), b""))
                self.assertEqual(everything.count(b"HTTP/1.1 200 OK"), 41)

    def test_only_modern_versions_and_http_1_1(self):
        with Https() as server:
            with server.dial() as client:
                self.assertEqual(client.version(), "TLSv1.3")
            old = server.context()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with server.dial(old) as client:
                self.assertEqual(client.version(), "TLSv1.2")
                self.assertIn("ECDHE", client.cipher()[0])
            with_names = server.context()
            with_names.set_alpn_protocols(["h2", "http/1.1"])
            with server.dial(with_names) as client:
                self.assertEqual(client.selected_alpn_protocol(), "http/1.1")
            only_h2 = server.context()
            only_h2.set_alpn_protocols(["h2"])
            with self.assertRaises(ssl.SSLError):
                server.dial(only_h2)
            ancient = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            ancient.check_hostname, ancient.verify_mode = False, ssl.CERT_NONE
            ancient.set_ciphers("DEFAULT:@SECLEVEL=0")
            with contextlib.suppress(Exception):
                ancient.minimum_version = ssl.TLSVersion.TLSv1
                ancient.maximum_version = ssl.TLSVersion.TLSv1_1
            with self.assertRaises((ssl.SSLError, OSError)):
                server.dial(ancient)

    def test_a_scanner_finds_nothing_weak(self):
        with Https() as server:
            seen = subprocess.run(["sslscan", "--no-colour", "--xml=-", f"127.0.0.1:{server.port}"], timeout=120,
                                  capture_output=True, text=True, check=True).stdout
            enabled = set(re.findall(r'<protocol type="(?:ssl|tls)" version="(\S+)" enabled="1"', seen))
            self.assertEqual(enabled, {"1.2", "1.3"})
            self.assertIn('<renegotiation supported="0"', seen)
            self.assertNotIn('vulnerable="1"', seen)
            ciphers = re.findall(r'<cipher status="\w+" sslversion="TLSv1.2"[^>]* cipher="(\S+?)"', seen)
            self.assertTrue(ciphers and all(c.startswith("ECDHE") for c in ciphers), ciphers)
            self.assertFalse(re.findall(r'strength="(?:weak|null|anonymous)"', seen))

    def test_peers_that_speak_something_else(self):
        with Https() as server:
            with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as plain:
                plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                self.assertIn(b"https://", b"".join(iter(lambda: plain.recv(65536), b"")))
            for garbage in (b"\x16\x03\x01\xff\xff" + b"a" * 70000, b"\x80" * 300, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"):
                with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as client:
                    with contextlib.suppress(OSError):
                        client.sendall(garbage)
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(65536):
                            pass
            with socket.create_connection(("127.0.0.1", server.port), DEADLINE):
                self.assertEqual(server.call("GET", "/health")[0], 200)  # one that says nothing is in nobody's way

    def test_damaged_records_end_the_connection_only(self):
        with Https() as server:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = server.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
            with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as raw:
                while True:
                    try:
                        client.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        raw.sendall(outgoing.read())
                        incoming.write(raw.recv(65536))
                client.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                record = bytearray(outgoing.read())
                record[-1] ^= 1
                raw.sendall(record)
                seen = b"".join(iter(lambda: raw.recv(65536), b""))
                self.assertNotIn(b"200", seen)
            self.assertEqual(server.call("GET", "/health")[0], 200)

    def test_the_certificate_is_read_again_on_sighup(self):
        with Https() as server:
            fake_model(server.models, "m", "tokens_per_second=50")
            stream = server.connection()
            stream.request("POST", "/v1/chat/completions", json.dumps(
                {"model": "m", "stream": True, "max_tokens": 40, "messages": [{"role": "user", "content": "hi"}]}))
            reply = stream.getresponse()
            first = ssl.get_server_certificate(("127.0.0.1", server.port))
            make_certificate(server.folder, "second")
            server.process.send_signal(signal.SIGHUP)
            server.log.wait("certificate read again")
            second = ssl.get_server_certificate(("127.0.0.1", server.port))
            self.assertNotEqual(first, second)
            self.assertIn(b"[DONE]", reply.read())  # what ran goes on
            stream.close()
            pathlib.Path(server.cert).write_text("rubbish")
            server.process.send_signal(signal.SIGHUP)
            server.log.wait("the certificate stays as it was")
            self.assertEqual(second, ssl.get_server_certificate(("127.0.0.1", server.port)))

    def test_what_cannot_be_used_is_refused_at_the_start(self):
        with Server() as other:
            cert, key = make_certificate(other.folder, "x")
            os.makedirs(os.path.join(other.folder, "y"))
            _, foreign = make_certificate(os.path.join(other.folder, "y"), "y")
            for text, words in ((f'tls_cert = "{cert}"\n', "need each other"),
                                (f'tls_cert = "{cert}"\ntls_key = "/nowhere"\n', "/nowhere"),
                                (f'tls_cert = "{cert}"\ntls_key = "{foreign}"\n', "mismatch"),
                                (f'tls_cert = "{key}"\ntls_key = "{key}"\n', "the certificate")):
                with Server(config="[server]\n" + text, wait=False) as server:
                    self.assertEqual(server.process.wait(DEADLINE), 3, text)
                    self.assertIn(words, server.log.text())


if __name__ == "__main__":
    unittest.main()
