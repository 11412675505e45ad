"""RFC 6455 against the echo server, in the families of the Autobahn test suite: framing, pings, reserved bits, opcodes,
fragmentation, UTF-8, the end, limits and performance. WS_ECHO names the server's program."""
import contextlib
import os
import pathlib
import signal
import subprocess
import unittest

from client import BINARY, CLOSE, PING, PONG, TEXT, Client, Closed, Refused, close_payload, frame

ECHO = os.environ.get("WS_ECHO", str(pathlib.Path(__file__).resolve().parents[2] / "build" / "tests" / "ws_echo"))


class Echo:
    def __init__(self, *args):
        self.process = subprocess.Popen([ECHO, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        self.ending = False

    def closed(self):
        """The code the server was told of the next connection that ended."""
        return int(self.process.stdout.readline().split()[1])

    def ask_to_end(self):
        if not self.ending and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.ending = True

    def end(self):
        self.ask_to_end()
        _, errors = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, (self.process.returncode, errors.decode()[-4000:])


@contextlib.contextmanager
def echo(*args):
    server = Echo(*args)
    try:
        yield server
    finally:
        server.end()


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.echo = Echo(32 << 20)

    @classmethod
    def tearDownClass(cls):
        cls.echo.end()

    def client(self, **more):
        client = Client(self.echo.port, **more)
        self.addCleanup(client.abandon)
        return client

    def same(self, client, payload, opcode=TEXT, pieces=None, chop=None):
        """Sends the message, as fragments of `pieces` bytes, in writes of `chop` bytes, and gets it back."""
        data = b""
        step = pieces or max(len(payload), 1)
        cuts = list(range(0, max(len(payload), 1), step))
        for at in cuts:
            data += frame(opcode if at == 0 else 0, payload[at:at + step], fin=at == cuts[-1])
        for at in range(0, len(data), chop or len(data)):
            client.send_raw(data[at:at + (chop or len(data))])
        self.assertEqual(client.receive(), (opcode, payload))

    def fails(self, code, *frames):
        """The frames, sent at once, end the connection with that code and nothing before it."""
        with self.client() as client:
            client.send_raw(b"".join(frames))
            with self.assertRaises(Closed) as caught:
                client.receive()
            self.assertEqual(caught.exception.code, code, frames)
            self.assertEqual(client.file.read(), b"")


class TestHandshake(Case):
    def refuse(self, status, **headers):
        with self.assertRaises(Refused) as caught:
            self.client(headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.assertEqual(caught.exception.status, status)
        return caught.exception.headers

    def test_what_is_no_upgrade(self):
        self.assertEqual(self.refuse(426, Upgrade="h2c")["upgrade"], "websocket")
        self.refuse(426, Upgrade=None)
        self.refuse(426, Connection="keep-alive")

    def test_versions(self):
        self.assertEqual(self.refuse(426, Sec_WebSocket_Version="8")["sec-websocket-version"], "13")
        self.assertEqual(self.refuse(426, Sec_WebSocket_Version=None)["sec-websocket-version"], "13")

    def test_keys(self):
        for key in (None, "", "x", "A" * 24, "A" * 22 + "=A", "A" * 21 + "B==", "!" * 22 + "==", "A" * 26 + "=="):
            self.refuse(400, Sec_WebSocket_Key=key)

    def test_case_and_lists(self):
        client = self.client(headers={"Upgrade": "WebSocket", "Connection": "keep-alive, upgrade"})
        self.same(client, b"x")

    def test_other_methods_and_bodies(self):
        self.refuse(400, Content_Length="3")
        self.refuse(400, Transfer_Encoding="chunked")
        self.same(self.client(headers={"Content-Length": "0"}), b"x")

    def test_subprotocol(self):
        client = self.client(headers={"Sec-WebSocket-Protocol": "other, echo2"})
        self.assertEqual(client.headers["sec-websocket-protocol"], "echo2")
        client = self.client(headers={"Sec-WebSocket-Protocol": "other"})
        self.assertNotIn("sec-websocket-protocol", client.headers)

    def test_first_frame_with_the_head(self):
        """Bytes behind the head are the first frames already."""
        import socket
        with socket.create_connection(("127.0.0.1", self.echo.port), 10) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" +
                        frame(TEXT, b"early"))
            data = b""
            while not data.endswith(b"\x81\x05early"):
                got = raw.recv(4096)
                self.assertTrue(got)
                data += got
        self.assertIn(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", data)


class TestFraming(Case):
    SIZES = (0, 1, 125, 126, 127, 128, 4083, 4088, 4089, 4090, 4096, 65535, 65536, 200000)

    def test_sizes(self):
        client = self.client()
        for size in self.SIZES:
            self.same(client, b"*" * size)
            self.same(client, os.urandom(size), BINARY)

    def test_chopped(self):
        client = self.client()
        for chop in (1, 2, 997):
            self.same(client, b"*" * 300, chop=chop)
        self.same(client, b"*" * 65536, chop=997)

    def test_length_must_be_the_shortest(self):
        self.fails(1002, b"\x81\xfe\x00\x05" + b"mask" + b"abcde")
        self.fails(1002, b"\x81\xff" + b"\0" * 6 + b"\x00\x05" + b"mask" + b"abcde")
        self.fails(1002, b"\x81\xff" + b"\xff" * 8 + b"mask" + b"abcde")

    def test_unmasked(self):
        self.fails(1002, frame(TEXT, b"hello", masked=False))
        self.fails(1002, frame(PING, b"", masked=False))


class TestPings(Case):
    def test_pong_carries_the_payload(self):
        client = self.client()
        for payload in (b"", b"hello", bytes(range(125)), b"\xfe" * 125):
            client.send(payload, PING)
            self.assertEqual(client.receive(pings=True), (PONG, payload))

    def test_chopped_ping(self):
        client = self.client()
        data = frame(PING, b"x" * 125)
        for byte in data:
            client.send_raw(bytes([byte]))
        self.assertEqual(client.receive(pings=True), (PONG, b"x" * 125))

    def test_too_long(self):
        self.fails(1002, frame(PING, b"x" * 126))

    def test_fragmented_control(self):
        self.fails(1002, frame(PING, b"x", fin=False))
        self.fails(1002, frame(CLOSE, b"", fin=False))

    def test_unasked_pongs(self):
        client = self.client()
        for payload in (b"", b"x"):
            client.send(payload, PONG)
        client.send("x", PING)
        self.assertEqual(client.receive(pings=True), (PONG, b"x"))

    def test_many(self):
        client = self.client()
        client.send_raw(b"".join(frame(PING, b"%d" % i) for i in range(1000)))
        for i in range(1000):
            self.assertEqual(client.receive(pings=True), (PONG, b"%d" % i))


class TestReserved(Case):
    def test_bits(self):
        for rsv in range(1, 8):
            for opcode in (TEXT, BINARY, PING, CLOSE):
                self.fails(1002, frame(opcode, b"", rsv=rsv))

    def test_opcodes(self):
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            self.fails(1002, frame(opcode, b""))
            self.fails(1002, frame(opcode, b"x"))

    def test_what_came_before_is_answered(self):
        with self.client() as client:
            client.send_raw(frame(TEXT, b"good") + frame(TEXT, b"bad", rsv=2) + frame(PING, b""))
            self.assertEqual(client.receive(), (TEXT, b"good"))
            with self.assertRaises(Closed) as caught:
                client.receive()
            self.assertEqual(caught.exception.code, 1002)


class TestFragments(Case):
    def test_sizes(self):
        client = self.client()
        for pieces in (1, 2, 64, 4096):
            self.same(client, b"abc" * 100, pieces=pieces)
        self.same(client, os.urandom(100000), BINARY, pieces=999, chop=1234)

    def test_empty_fragments(self):
        client = self.client()
        client.send_raw(frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) + frame(0, b""))
        self.assertEqual(client.receive(), (TEXT, b""))
        client.send_raw(frame(TEXT, b"", fin=False) + frame(0, b"middle", fin=False) + frame(0, b""))
        self.assertEqual(client.receive(), (TEXT, b"middle"))

    def test_control_in_between(self):
        client = self.client()
        client.send_raw(frame(TEXT, b"one", fin=False) + frame(PING, b"p") + frame(0, b"two", fin=False) +
                        frame(PONG, b"q") + frame(0, b"three"))
        self.assertEqual(client.receive(pings=True), (PONG, b"p"))
        self.assertEqual(client.receive(), (TEXT, b"onetwothree"))

    def test_out_of_order(self):
        self.fails(1002, frame(0, b"no beginning"))
        self.fails(1002, frame(0, b"no beginning", fin=False))
        self.fails(1002, frame(TEXT, b"one", fin=False) + frame(TEXT, b"two"))
        self.fails(1002, frame(TEXT, b"one", fin=False) + frame(BINARY, b"two"))
        with self.client() as client:
            client.send_raw(frame(TEXT, b"a", fin=False) + frame(0, b"b") + frame(0, b"c"))
            self.assertEqual(client.receive(), (TEXT, b"ab"))
            self.assertRaises(Closed, client.receive)


class TestText(Case):
    GOOD = ("Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\0", "\x7f", "\x80", "߿", "ࠀ", "\ud7ff", "\ue000", "�",
            "\uffff", "\U00010000", "\U0010ffff", "\U0001ffff", "﷐", "😀" * 5000)
    BAD = (b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc0\xaf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xe0\x80\xaf",
           b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xfe",
           b"\xff", b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80",
           b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xc2", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc2a", b"\xe2\x82a",
           b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64", b"a" * 5000 + b"\xff")

    def test_good(self):
        client = self.client()
        for text in self.GOOD:
            data = text.encode()
            self.same(client, data)
            if len(data) < 100:
                self.same(client, data, pieces=1)
                self.same(client, data, pieces=1, chop=1)

    def test_bad(self):
        for data in self.BAD:
            self.fails(1007, frame(TEXT, data))
            cut = len(data) // 2
            self.fails(1007, frame(TEXT, data[:cut], fin=False) + frame(0, data[cut:]))

    def test_fails_early(self):
        """At the first byte that cannot be right: the rest of the frame or message is not awaited."""
        for good, bad in ((b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", b"\xf4\x90"), (b"", b"\xed\xa0"),
                          (b"", b"\xe0\x9f"), (b"", b"\xf0\x8f"), (b"x", b"\xc1"), (b"\xf0\x9f", b"x")):
            self.fails(1007, frame(TEXT, good, fin=False) + frame(0, bad, fin=False))
            with self.client() as client:  # within one frame
                client.send_raw(frame(TEXT, good + bad + b"never sent" * 10)[:-100])
                with self.assertRaises(Closed) as caught:
                    client.receive()
                self.assertEqual(caught.exception.code, 1007)

    def test_binary_may_be_anything(self):
        client = self.client()
        for data in self.BAD:
            self.same(client, data, BINARY)


class TestTheEnd(Case):
    def test_good_codes(self):
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
            with echo() as server, Client(server.port) as client:
                self.assertEqual(client.close(code, b"because"), code)
                self.assertEqual(server.closed(), code)

    def test_without_code(self):
        with self.client() as client:
            client.send(b"", CLOSE)
            self.assertEqual(client.until_closed(), 1005)

    def test_bad_codes(self):
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
            self.fails(1002, frame(CLOSE, close_payload(code)))
        self.fails(1002, frame(CLOSE, b"x"))

    def test_reasons(self):
        with self.client() as client:
            self.assertEqual(client.close(1000, "ö".encode() * 61), 1000)
        self.fails(1002, frame(CLOSE, close_payload(1000, b"x" * 124)))
        self.fails(1007, frame(CLOSE, close_payload(1000, b"\xed\xa0\x80")))
        self.fails(1007, frame(CLOSE, close_payload(1000, b"\xc3")))

    def test_nothing_after_a_close(self):
        with self.client() as client:
            client.send_raw(frame(TEXT, b"one") + frame(CLOSE, close_payload(1000)) + frame(TEXT, b"two") +
                            frame(PING, b""))
            self.assertEqual(client.receive(), (TEXT, b"one"))
            with self.assertRaises(Closed) as caught:
                client.receive()
            self.assertEqual((caught.exception.code, client.file.read()), (1000, b""))

    def test_close_in_the_middle_of_a_message(self):
        with self.client() as client:
            client.send_raw(frame(TEXT, b"one", fin=False) + frame(CLOSE, close_payload(1001)))
            self.assertEqual(client.until_closed(), 1001)

    def test_ours_waits_for_the_answer(self):
        """What comes between our close frame and theirs is let pass."""
        with self.client() as client:
            client.send("close 4321 a reason")
            with self.assertRaises(Closed) as caught:
                client.receive()
            self.assertEqual((caught.exception.code, caught.exception.reason), (4321, b"a reason"))
            client.send_raw(frame(TEXT, b"late") + frame(PING, b"late") + frame(CLOSE, close_payload(4321)))
            self.assertEqual(client.file.read(), b"")

    def test_ours_without_an_answer(self):
        with self.client() as client:
            client.send("close 4000 x")
            self.assertRaises(Closed, client.receive)
            self.assertEqual(client.file.read(), b"")  # within LIMIT_WS_CLOSE_MS

    def test_vanished(self):
        with echo() as server:
            client = Client(server.port)
            client.send_raw(frame(TEXT, b"half a message", fin=False) + frame(0, b"half a frame")[:7])
            client.abandon()
            self.assertEqual(server.closed(), 1006)

    def test_drain(self):
        server = Echo()
        client = Client(server.port)
        client.send("x")
        client.receive()
        server.ask_to_end()
        self.assertEqual(client.until_closed(), 1001)
        server.end()

    def test_drain_cuts_who_does_not_answer(self):
        server = Echo()
        client = Client(server.port)
        server.ask_to_end()
        server.process.wait(10)
        with self.assertRaises(Closed) as caught:
            client.receive()
        self.assertEqual(caught.exception.code, 1001)
        server.end()


class TestLimits(Case):
    def test_large(self):
        client = self.client(timeout=60)
        for size in (1 << 20, 4 << 20, 16 << 20):
            self.same(client, b"*" * size, BINARY)
        self.same(client, b"x" * (4 << 20), pieces=64 * 1024)
        self.same(client, b"x" * (1 << 20), pieces=64)

    def test_too_large(self):
        with echo(1000) as server:
            for frames in ([frame(TEXT, b"x" * 1001)], [frame(TEXT, b"", length=1 << 40) + b"x"],
                           [frame(TEXT, b"x" * 600, fin=False), frame(0, b"x" * 401)]):
                with Client(server.port) as client:
                    client.send_raw(b"".join(frames))
                    self.assertEqual(client.until_closed(), 1009)
            with Client(server.port) as client:
                client.send_raw(frame(TEXT, b"x" * 600, fin=False) + frame(0, b"x" * 400))
                self.assertEqual(client.receive(), (TEXT, b"x" * 1000))

    def test_binary_not_allowed(self):
        with echo(0, 0, 0, "text") as server, Client(server.port) as client:
            client.send(b"x", BINARY)
            self.assertEqual(client.until_closed(), 1003)

    def test_ten_thousand_messages(self):
        client = self.client()
        for size in (0, 16, 125, 1000):
            data = frame(TEXT, b"x" * size) * 100
            for _ in range(25):
                client.send_raw(data)
                for _ in range(100):
                    self.assertEqual(client.receive(), (TEXT, b"x" * size))

    def test_pipelined_without_reading(self):
        """A client that talks on and reads later loses nothing."""
        client = self.client()
        data = frame(TEXT, b"y" * 1000)
        for _ in range(1000):
            client.send_raw(data)
        for _ in range(1000):
            self.assertEqual(client.receive(), (TEXT, b"y" * 1000))


class TestPatience(Case):
    def test_pings_and_two_misses(self):
        with echo(0, 100) as server, Client(server.port) as client:
            for _ in range(3):
                opcode, _, payload = client.frame()
                self.assertEqual(opcode, PING)
                client.send(payload, PONG)
            self.assertEqual([client.frame()[0] for _ in range(2)], [PING, PING])
            with self.assertRaises(Closed) as caught:
                client.receive()
            self.assertEqual(caught.exception.code, 4408)
            self.assertEqual(server.closed(), 4408)

    def test_who_never_reads_is_dropped(self):
        with echo(0, 0, 300) as server, Client(server.port, receive_buffer=4096) as client:
            client.send("flood 67108864")
            self.assertEqual(server.closed(), 4408)

    def test_who_comes_back_learns_why(self):
        with echo(0, 0, 300) as server, Client(server.port, receive_buffer=4096) as client:
            client.send("flood 67108864")
            import time
            time.sleep(0.6)  # the stall itself is what is tested
            self.assertEqual(client.until_closed(), 4408)
            self.assertEqual(server.closed(), 4408)

    def test_a_slow_reader_gets_everything(self):
        with echo(0, 0, 2000) as server, Client(server.port, receive_buffer=4096) as client:
            client.send("flood 8388608")
            for _ in range(128):
                self.assertEqual(len(client.receive()[1]), 65536)
            self.assertEqual(client.close(), 1000)


if __name__ == "__main__":
    unittest.main()
