"""What is compared: a server on its own port, started and stopped as a context."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from lib.http import wait_until_served
from lib.ports import free_port
from lib.process import Process


class Contender:
    """A subclass says how it is started (`command`, which may write to `directory`), and which of its processes are the
    proxy if there are more than one (`pids`). What else is to run as long as it does, `wait` enters into `beside`."""

    def __init__(self, name, cwd=None, host="127.0.0.1", port=None, env=None):
        self.name = name
        self.cwd = cwd
        # Variables that its processes have besides.
        self.env = env
        self.host = host
        self.port = port or free_port([host])
        self.address = f"{host}:{self.port}"

    def command(self):
        """Raises a Problem if something it needs is missing."""
        raise NotImplementedError

    def pids(self):
        """The processes whose CPU time and memory are this contender's."""
        return [self.process.pid]

    def wait(self):
        wait_until_served(self.process, self.address)

    def __enter__(self):
        with ExitStack() as stack:
            self.directory = Path(stack.enter_context(TemporaryDirectory(prefix="faucet-bench-")))
            self.process = stack.enter_context(Process(self.command(), cwd=self.cwd, env=self.env))
            self.beside = stack
            self.wait()
            self._stop = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self._stop()
