"""A server that an operator reloads and scales, and what it holds when nobody asks."""

import json
import os
import signal
import time
from dataclasses import dataclass

from lib import proc
from lib.faucet import Faucet
from lib.http import wait_until
from lib.places import STORM
from lib.table import number

WORKERS = 8
MORE_WORKERS = 10
# What a worker of type `http` in a loop is ended by: it knows no interrupt.
TIMEOUT = 5
# Until nothing changes any more: new workers start, and the front's limits end what hostile clients have left.
SETTLE_SECONDS = 45
LOOK = 1
MB = 2**20
# Native workers take no WebSockets.
APPS = {"native": STORM, "http": STORM / "sockets"}


@dataclass(frozen=True)
class Left:
    descriptors: int
    # Resident, in MB: of the front, and of a worker in the mean.
    front: float
    worker: float
    not_ready: int

    def row(self, name):
        return [name, self.descriptors, number(self.front, 1), number(self.worker, 1), self.not_ready]


class Stormy(Faucet):
    """Named after the type of its workers. It prints all that it has to say, into a file."""

    def __init__(self, kind):
        super().__init__(WORKERS, kind, APPS[kind], worker_type=kind, timeout=TIMEOUT, access_log="text", quiet=False)

    def command(self):
        rscript, option, code = super().command()
        code = code.replace("faucet::run(", f"serve(orders = {_r(self._orders)}, ", 1)
        return [rscript, option, f"source({_r(STORM / 'server.R')}); {code}"]

    def wait(self):
        wait_until(self.process, self._all_ready)

    def reload(self):
        os.kill(self.process.pid, signal.SIGHUP)

    def grow(self):
        self._scale(MORE_WORKERS)

    def shrink(self):
        self._scale(WORKERS)

    def left(self, before=None):
        """What it holds as soon as that is no more than `before`, with all workers ready; or else after SETTLE_SECONDS."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            time.sleep(LOOK)
            left = self._left()
            if not left.not_ready and (not before or left.descriptors <= before.descriptors):
                return left
            if time.monotonic() > deadline:
                return left

    def _left(self):
        self.process.check()
        workers = self.status()["workers"]
        ready = [worker for worker in workers if worker["state"] == "ready"]
        memory = [proc.resident(worker["pid"]) for worker in ready]
        return Left(
            descriptors=proc.descriptors(self.process.pid),
            front=proc.resident(self.process.pid) / MB,
            worker=sum(memory) / max(len(memory), 1) / MB,
            not_ready=max(len(workers), WORKERS) - len(ready),
        )

    @property
    def _orders(self):
        return self.directory / "orders"

    def _scale(self, workers):
        new = self._orders.with_suffix(".new")
        new.write_text(f"{workers}\n")
        new.rename(self._orders)


def _r(path):
    return json.dumps(str(path))
