"""Single requests: to wait for a server, and to see that it does what is about to be measured."""

import http.client
import socket
import time

from lib.problem import Problem

PAUSE = 0.05


def request(address, path, method="GET", body=None, type="application/octet-stream", timeout=30, status=200):
    """The body of an answer with this status; anything else is a Problem."""
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request(method, path, body, {"Content-Type": type} if body else {})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Problem(f"{method} {path}: {error!r}") from error
    finally:
        connection.close()
    if response.status != status:
        raise Problem(f"{method} {path}: status {response.status}: {answer[:200]!r}")
    return answer


def connect(address, timeout=5):
    """That somebody listens there; else it is a Problem."""
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout).close()
    except OSError as error:
        raise Problem(f"{address}: {error}") from error


def wait_until_served(process, address, path="/fast", seconds=60):
    wait_until(process, lambda: request(address, path, timeout=5), seconds)


def wait_until(process, attempt, seconds=60, pause=PAUSE):
    """Attempts it until it raises no Problem, as long as the process runs."""
    deadline = time.monotonic() + seconds
    while True:
        process.check()
        try:
            return attempt()
        except Problem as problem:
            if time.monotonic() > deadline:
                raise Problem(f"not ready after {seconds} s: {problem}; {process.last_lines()}") from problem
        time.sleep(pause)
