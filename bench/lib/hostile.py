"""Clients that do what no client should, each kind in a thread of its own and at a rate of its own."""

import base64
import os
import random
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable

TIMEOUT = 5
# Of a kind's connections that are held open; the oldest goes first. So few that a first storm already reaches it.
HELD = 15
BODY = 2 * 2**20

MALFORMED = [
    b"\x00\x01\x02\xff\r\n\r\n",
    b"FOO / HTTP/1.1\r\nHost: storm\r\n\r\n",
    b"GET storm:80 HTTP/1.1\r\nHost: storm\r\n\r\n",
    b"GET /work?\xc3\xa9\xff HTTP/1.1\r\nHost: storm\r\n\r\n",
    b"GET /work HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET /work HTTP/1.1\r\nHost: storm\r\nX-Forwarded_For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n",
    b"GET /work HTTP/1.1\r\nHost: storm\r\n" + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET /work HTTP/1.1\r\nHost: storm\r\n" + b"".join(b"X-%d: x\r\n" % i for i in range(500)) + b"\r\n",
    b"POST /echo HTTP/1.1\r\nHost: storm\r\nContent-Length: 18446744073709551615\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: storm\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: storm\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: storm\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"GET /work HTTP/1.1\r\nHost: storm\r\n\r\nGET /work HTTP/1.1\r\nHost: storm\r\n\r\nGET /wo",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x08\x00\x00\x00\x00\x00" * 20,
]


@dataclass(frozen=True)
class Kind:
    # How often in a second.
    rate: float
    act: Callable


class Hostile:
    """A context: `kinds` (by name) are at work at `address` inside it. `counts` tells how often each was."""

    def __init__(self, address, kinds):
        host, port = address.split(":")
        self.address = (host, int(port))
        self.kinds = kinds
        self.counts = dict.fromkeys(kinds, 0)
        self.refused = dict.fromkeys(kinds, 0)
        self._over = threading.Event()

    def __enter__(self):
        self._threads = [threading.Thread(target=self._repeat, args=pair) for pair in self.kinds.items()]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, name, kind):
        held = deque()
        # At moments of its own, but as often for everyone: a draw of its own, the same in every run.
        draw = random.Random(name)
        while not self._over.wait(draw.uniform(0.5, 1.5) / kind.rate):
            try:
                connection = kind.act(self.address, draw)
                self.counts[name] += 1
            except OSError:
                # Refused, reset, or timed out, as well it may be.
                self.refused[name] += 1
                continue
            if connection:
                held.append(connection)
            while len(held) > HELD:
                held.popleft().close()
        while held:
            held.popleft().close()


def connect(address):
    connection = socket.create_connection(address, timeout=TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def get(path, head=""):
    return f"GET {path} HTTP/1.1\r\nHost: storm\r\n{head}\r\n".encode()


def reset(connection):
    """Closes with a reset, not with an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def leaving(path, after):
    """Asks, and leaves so long afterwards: at once, or with an end that a byte hides."""

    def act(address, draw):
        connection = connect(address)
        connection.sendall(get(path) + draw.choice([b"", b"\r\n", get(path)]))
        time.sleep(draw.uniform(0, 2 * after))
        draw.choice([reset, socket.socket.close])(connection)

    return act


def asking(path, head=""):
    """Asks, and reads what there is to read at first."""

    def act(address, _):
        with connect(address) as connection:
            connection.sendall(get(path, head))
            connection.recv(4096)

    return act


def malformed(address, draw):
    with connect(address) as connection:
        connection.sendall(draw.choice(MALFORMED))
        connection.settimeout(0.05)
        connection.recv(4096)


def half_head(address, draw):
    connection = connect(address)
    connection.sendall(get("/work", "X-Half: " + "x" * draw.randrange(1000))[:-2])
    return connection


def half_body(address, draw):
    connection = connect(address)
    connection.sendall(f"POST /echo HTTP/1.1\r\nHost: storm\r\nContent-Length: {BODY}\r\n\r\n".encode())
    connection.sendall(bytes(draw.randrange(BODY)))
    return connection


def tiny_chunks(address, _):
    """A body a byte a chunk, which does not end."""
    connection = connect(address)
    connection.sendall(b"POST /echo HTTP/1.1\r\nHost: storm\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000)
    return connection


def slow_upload(address, draw):
    """64 bytes at a time, some to their end."""
    with connect(address) as connection:
        size = draw.randrange(64, 2048)
        connection.sendall(f"POST /echo HTTP/1.1\r\nHost: storm\r\nContent-Length: {size}\r\n\r\n".encode())
        for start in range(0, size, 64):
            connection.sendall(bytes(min(64, size - start)))
            time.sleep(0.03)
        connection.recv(4096)


def unread(path):
    """Asks for much, and reads nothing."""

    def act(address, _):
        connection = connect(address)
        connection.sendall(get(path))
        return connection

    return act


def websocket(address, draw):
    """Opened, and held with a message, or with half of one; without a close, in any case."""
    connection = connect(address)
    key = base64.b64encode(draw.randbytes(16) if hasattr(draw, "randbytes") else os.urandom(16)).decode()
    head = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    connection.sendall(get("/", head))
    if b" 101 " in connection.recv(4096).split(b"\r\n", 1)[0]:
        message = b"\x81\x8c\x00\x00\x00\x00HTTP/1.1 200"
        connection.sendall(message * 3 + message[: draw.randrange(len(message))])
    return connection


# HTTP/2 by hand (RFC 9113): a head in HPACK's static table and literals, without compression.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING = 1, 3, 4, 6
END_STREAM_AND_HEADERS = 5
INITIAL_WINDOW_SIZE = 4
CANCEL = 8


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def h2_get(stream, path):
    literals = b"\x04" + bytes([len(path)]) + path.encode() + b"\x01\x05storm"
    return frame(HEADERS, END_STREAM_AND_HEADERS, stream, b"\x82\x86" + literals)


def h2_resets(streams):
    """Streams that are reset as soon as they are opened, `streams` of them in one burst."""

    def act(address, _):
        with connect(address) as connection:
            burst = b"".join(
                h2_get(stream, "/work") + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
                for stream in range(1, 2 * streams, 2)
            )
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + burst)
            connection.recv(4096)

    return act


def h2_no_window(path):
    """Asks over HTTP/2 for what it opens no window for, and pings."""

    def act(address, _):
        connection = connect(address)
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
        connection.sendall(PREFACE + settings + h2_get(1, path) + frame(PING, 0, 0, bytes(8)))
        connection.recv(4096)
        return connection

    return act
