"""What is compared: a server on its own port, started and stopped as a context."""

from contextlib import ExitStack

from lib.http import wait_until_served
from lib.ports import free_port
from lib.process import Process


class Contender:
    """A subclass says how it is started (`command`), and if need be which of its processes are the proxy (`pids`)."""

    def __init__(self, name, cwd=None):
        self.name = name
        self.cwd = cwd
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    def command(self):
        raise NotImplementedError

    def pids(self):
        """The processes whose CPU time and memory are this contender's."""
        return [self.process.pid]

    def wait(self):
        wait_until_served(self.process, self.address)

    def __enter__(self):
        with ExitStack() as stack:
            command = self.command()
            self.process = stack.enter_context(Process(command, cwd=self.cwd))
            self.wait()
            self._stop = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self._stop()
