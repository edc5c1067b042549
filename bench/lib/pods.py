"""Pods: faucet servers with one worker each, all on one port, as the replicas of a service are."""

from contextlib import ExitStack

from lib.faucet import Faucet
from lib.http import request
from lib.ports import free_port


class Pods:
    def __init__(self, count):
        self.hosts = [f"127.2.0.{i}" for i in range(1, count + 1)]
        self.port = free_port(self.hosts)
        self.pods = [Faucet(1, f"pod {host}", host=host, port=self.port, fronts="127.0.0.0/8") for host in self.hosts]

    def __enter__(self):
        with ExitStack() as stack:
            for pod in self.pods:
                stack.enter_context(pod)
            self._stop = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self._stop()

    def most_in_r(self):
        """The most requests that R had at once in one of them, of those to `/held`."""
        return max(int(request(pod.address, "/held/most")) for pod in self.pods)
