"""A native worker whose R never waits for a request: what a request costs R then."""

import select
import socket
import time
from pathlib import Path

from lib.problem import Problem

# So many requests are in the worker at once: all but one wait in it, for as long as the load may be held up.
CONNECTIONS = 64
# Where all of them are found answered, R had nothing to do. Its thread then stays awake for so many microseconds at most, which
# count as busy; of all that counts they may be this share.
AWAKE = 250
IDLE = 0.05
TIMEOUT = 10


def busy(pid, request, seconds):
    """Microseconds of CPU time of R's thread for each request, and requests/s. The front is passed by: the requests go to the
    worker's own socket."""
    with _Connections(_socket_of(pid)) as connections:
        connections.send(request)
        before, begun = _cpu_ns(pid), time.monotonic()
        answers = idle = 0
        while time.monotonic() < begun + seconds:
            answered = connections.answered()
            idle += len(answered) == CONNECTIONS
            answers += len(answered)
            for connection in answered:
                connection.sendall(request)
        cpu, spent = _cpu_ns(pid) - before, time.monotonic() - begun
    if idle * AWAKE * 1000 > IDLE * cpu:
        raise Problem(f"R had nothing to do {idle} times in {answers} requests: is the machine busy with something else?")
    return {"busy": cpu / answers / 1000, "rate": answers / spent}


class _Connections:
    """A context. Each has one request at a time."""

    def __init__(self, path):
        self.path = path
        self.by_descriptor = {}

    def __enter__(self):
        self.poll = select.poll()
        for _ in range(CONNECTIONS):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(TIMEOUT)
            self.by_descriptor[connection.fileno()] = connection
            connection.connect(self.path)
            self.poll.register(connection, select.POLLIN)
        return self

    def __exit__(self, *_):
        for connection in self.by_descriptor.values():
            connection.close()

    def send(self, request):
        for connection in self.by_descriptor.values():
            connection.sendall(request)

    def answered(self):
        """Those whose answers have come, one at least; the answers have been read."""
        ready = [self.by_descriptor[descriptor] for descriptor, _ in self.poll.poll(TIMEOUT * 1000)]
        if not ready:
            raise Problem(f"no answer within {TIMEOUT} s")
        for connection in ready:
            _read_answer(connection)
        return ready


def _socket_of(pid):
    """Where the worker serves."""
    for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        name, _, value = variable.partition(b"=")
        if name == b"FAUCET_SOCKET":
            return value.decode()
    raise Problem(f"process {pid} is no native worker")


def _cpu_ns(pid):
    """Of the process's first thread, which is R's."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])


def _read_answer(connection):
    """It must be a 200."""
    answer = b""
    while not (length := _length(answer)) or len(answer) < length:
        more = connection.recv(65536)
        if not more:
            raise Problem("the worker closed a connection")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Problem(f"the worker answered {answer[:60]!r}")


def _length(answer):
    """Of the whole answer, once its head is there."""
    head, end, _ = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(head) + len(end) + int(value)
    raise Problem(f"an answer without a length: {head[:200]!r}")
