"""Single requests: to wait for a server, and to see that it does what is about to be measured."""

import http.client
import time
from concurrent.futures import ThreadPoolExecutor

from lib.problem import Problem

PAUSE = 0.05


def request(address, path, method="GET", body=None, timeout=30):
    """The body of a 200; anything else is a Problem."""
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request(method, path, body, {"Content-Type": "application/octet-stream"} if body else {})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Problem(f"{method} {path}: {error!r}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise Problem(f"{method} {path}: status {response.status}: {answer[:200]!r}")
    return answer


def wait_until_served(process, address, path="/fast", seconds=60):
    _wait(process, seconds, lambda: request(address, path, timeout=5))


def wait_until_parallel(process, address, workers, seconds=60):
    """Waits until as many sleeps as there are workers take hardly longer than one: then all workers serve."""

    def all_at_once():
        start = time.monotonic()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda _: request(address, "/sleep?s=0.3", timeout=10), range(workers)))
        if time.monotonic() - start > 0.55:
            raise Problem(f"{workers} requests did not run in parallel")

    _wait(process, seconds, all_at_once)


def _wait(process, seconds, attempt):
    deadline = time.monotonic() + seconds
    while True:
        process.check()
        try:
            return attempt()
        except Problem as problem:
            if time.monotonic() > deadline:
                raise Problem(f"not ready after {seconds} s: {problem}; {process.last_lines()}") from problem
        time.sleep(PAUSE)
