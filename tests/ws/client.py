"""A WebSocket client that can also do everything wrong: frames are built bit by bit."""
import base64
import hashlib
import os
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, mask=None, length=None):
    """length: what the head claims, when it is to lie."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = mask or os.urandom(4)
    repeated = (mask * (len(payload) // 4 + 1))[:len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + mixed.to_bytes(len(payload), "big")


def close_payload(code, reason=b""):
    return struct.pack(">H", code) + reason


class Refused(Exception):
    def __init__(self, status, headers, body):
        super().__init__(f"{status} {body!r}")
        self.status, self.headers, self.body = status, headers, body


class Closed(Exception):
    """The connection ended; code: of their close frame, None without one."""

    def __init__(self, code, reason=b""):
        super().__init__(f"closed {code} {reason!r}")
        self.code, self.reason = code, reason


class Client:
    def __init__(self, port, path="/", headers=(), timeout=20, receive_buffer=None, defaults=True):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.code = None
        key = base64.b64encode(os.urandom(16))
        given = {"Host": f"127.0.0.1:{port}"}
        if defaults:
            given.update({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                          "Sec-WebSocket-Key": key.decode()})
        given.update(dict(headers))
        lines = [f"GET {path} HTTP/1.1"] + [f"{k}: {v}" for k, v in given.items() if v is not None]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.status, self.headers = self.read_head()
        if self.status != 101:
            length = int(self.headers.get("content-length", 0))
            body = self.file.read(length)
            self.abandon()
            raise Refused(self.status, self.headers, body)
        wanted = base64.b64encode(hashlib.sha1(given["Sec-WebSocket-Key"].encode() + GUID).digest()).decode()
        assert self.headers["sec-websocket-accept"] == wanted
        assert self.headers["upgrade"].lower() == "websocket"

    def read_head(self):
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().strip()):
            name, value = line.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        return status, headers

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.abandon()

    def abandon(self):
        """The client vanishes."""
        self.file.close()
        self.socket.close()

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, text, opcode=TEXT, **more):
        self.send_raw(frame(opcode, text.encode() if isinstance(text, str) else text, **more))

    def need(self, n):
        try:
            data = self.file.read(n)
        except ConnectionError:
            raise Closed(self.code) from None
        if len(data) < n:
            raise Closed(self.code)
        return data

    def frame(self):
        """(opcode, fin, payload) of the next frame."""
        first, second = self.need(2)
        assert first & 0x70 == 0 and second & 0x80 == 0, "a server's frames have no reserved bits and no mask"
        n = second & 0x7F
        if n == 126:
            n = struct.unpack(">H", self.need(2))[0]
            assert n >= 126
        elif n == 127:
            n = struct.unpack(">Q", self.need(8))[0]
            assert n >= 1 << 16
        return first & 15, bool(first & 0x80), self.need(n) if n else b""

    def receive(self, pings=False):
        """The next message as (opcode, payload); pings are answered. Raises Closed at their close frame."""
        while True:
            opcode, fin, payload = self.frame()
            assert fin, "we never fragment"
            if opcode == PING and not pings:
                self.send(payload, PONG)
            elif opcode == CLOSE:
                self.code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                raise Closed(self.code, payload[2:])
            else:
                return opcode, payload

    def close(self, code=1000, reason=b""):
        """The whole closing handshake; returns their code."""
        self.send(close_payload(code, reason), CLOSE)
        return self.until_closed()

    def until_closed(self):
        """Reads on to the close frame, answers it, and sees that the server ends the connection."""
        try:
            while True:
                self.receive()
        except Closed as closed:
            code = closed.code
        try:
            self.send(close_payload(code) if code and code != 1005 else b"", CLOSE)
        except OSError:
            pass
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return code
