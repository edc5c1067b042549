"""The stub upstream, as a contender (what the load generator reaches without a proxy) and as upstreams."""

import json

from lib import build
from lib.http import request
from lib.process import Process


class Stub:
    name = "no proxy"

    def __init__(self, ports):
        self.process = Process([build.tools() / "stub", "--ports", ports], talks=True)

    def __enter__(self):
        self.process.__enter__()
        self.addresses = self.process.popen.stdout.readline().strip().split(",")
        self.address = self.addresses[0]
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    def pids(self):
        return [self.process.pid]

    def seen(self):
        """The stub's counts since it was last asked: requests, most in flight on one connection and on one port."""
        return json.loads(request(self.address, "/stats"))
