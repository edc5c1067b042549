"""plumber by itself: as a contender, and as the workers behind the others."""

from contextlib import ExitStack

from lib.contender import Contender
from lib.machine import r_package
from lib.places import API
from lib.problem import Problem


class Plumber(Contender):
    """One R process that serves an API."""

    def __init__(self, name="plumber", app=API):
        super().__init__(name, cwd=app)

    def command(self):
        if not r_package("plumber"):
            raise Problem("plumber is not installed in R")
        return ["Rscript", "-e", f'plumber::plumb("plumber.R")$run(port = {self.port}, docs = FALSE, quiet = TRUE)']


class PlumberWorkers:
    """Several of them, as upstreams."""

    def __init__(self, count, app=API):
        self.workers = [Plumber(app=app) for _ in range(count)]
        self.addresses = [worker.address for worker in self.workers]

    def __enter__(self):
        with ExitStack() as stack:
            for worker in self.workers:
                stack.enter_context(worker)
            self._stop = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self._stop()
