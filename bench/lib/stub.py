"""The stub upstream, as a contender (what the load generator reaches without a proxy) and as upstreams."""

import json

from lib import build
from lib.http import request
from lib.problem import Problem
from lib.process import Process


class Stub:
    """On so many `ports` of 127.0.0.1, or on one port of so many `hosts` from 127.1.0.1 on; besides, it may offer `slots` to a
    `hub`, an address where workers dial in."""

    name = "no proxy"

    def __init__(self, ports=0, hosts=0, hub=None, slots=1):
        where = ["--hosts", hosts, "--first", "127.1.0.1"] if hosts else ["--ports", ports]
        dial = ["--dial", hub, "--slots", slots] if hub else []
        self.process = Process([build.tools() / "stub", *where, *dial], talks=True)

    def __enter__(self):
        self.process.__enter__()
        addresses = self.process.popen.stdout.readline().strip()
        if not addresses:
            words = self.process.last_lines()
            self.process.__exit__()
            raise Problem(f"the stub did not start: {words}")
        self.addresses = addresses.split(",")
        self.address = self.addresses[0]
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    @property
    def hosts(self):
        return [address.split(":")[0] for address in self.addresses]

    @property
    def port(self):
        """That of all hosts."""
        return self.address.split(":")[1]

    def pids(self):
        return [self.process.pid]

    def seen(self):
        """The stub's counts since it was last asked: requests, most in flight on one connection and on one port."""
        return json.loads(request(self.address, "/stats"))

    def seen_by_host(self):
        """Of each host that had requests since: how many, most in flight, and the times of the first and the last."""
        each = json.loads(request(self.address, "/stats/each"))
        return {address.split(":")[0]: seen for address, seen in each.items()}
