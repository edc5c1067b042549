"""Load on a server, and what it measured."""

import json
from concurrent.futures import ThreadPoolExecutor

from lib import build
from lib.places import LUA
from lib.problem import Problem
from lib.proc import cpu_seconds
from lib.process import Process, output_of
from lib.programs import program

# Longer than any load needs to end by itself once its time is over.
GRACE = 90
# For 1 GiB, and for 10,000 chains, on a machine that may do something else too.
FLOW_SECONDS = 300
CROSSING_SECONDS = 900


def closed(contender, clients, seconds, path="/fast", script="report.lua"):
    """wrk: every client sends its next request when it has the answer to its last. The CPU time is the contender's."""
    load = tried(contender, clients, seconds, path, script)
    if not load["requests"] or load["errors"]:
        raise Problem(f"{load['errors']} errors with {load['requests']} answers to {clients} clients at {path}")
    return load


def shared(contenders, clients, seconds, path):
    """Each has its part of the clients, at the same time: requests/s of all, and the share of the one that served least."""
    each = clients // len(contenders)
    with ThreadPoolExecutor() as threads:
        loads = list(threads.map(lambda contender: closed(contender, each, seconds, path), contenders))
    rates = [load["rate"] for load in loads]
    return {"rate": sum(rates), "share": min(rates) / sum(rates)}


def tried(contender, clients, seconds, path="/fast", script="report.lua"):
    """The same, where errors are part of what is measured."""
    command = [program("wrk"), "--threads", 1, "--connections", clients, "--duration", f"{seconds}s"]
    command += ["--timeout", "30s", "--script", script, f"http://{contender.address}{path}"]
    pids = contender.pids()
    before = cpu_seconds(pids)
    output = output_of(command, cwd=LUA, timeout=seconds + GRACE)
    cpu = cpu_seconds(pids) - before
    load = json.loads(output.splitlines()[-1])
    load["rate"] = load["requests"] / load["seconds"]
    load["cpu_us"] = cpu / max(load["requests"], 1) * 1e6
    return load


def latency(targets, seconds, path="/fast", body=0, json_file=None, status=200):
    """One client that asks all targets (name: "keep:ADDRESS", "quick:ADDRESS" or "new:ADDRESS") in turns. It posts so many bytes,
    or a file of JSON, if either is given. Another status of an answer is a Problem."""
    command = [build.tools() / "lat", "--seconds", seconds, "--path", path, "--body", body, "--status", status]
    command += ["--json", json_file] if json_file else []
    for name, target in targets.items():
        command += ["--target", f"{name}={target}"]
    return json.loads(output_of(command, timeout=seconds + GRACE))


def arrivals(contender, rate, seconds, seed):
    """Requests that arrive at a fixed rate, one in ten of which sleeps for 1 s."""
    command = [build.tools() / "openload", "--address", contender.address]
    command += ["--rate", rate, "--seconds", seconds, "--seed", seed]
    load = json.loads(output_of(command, timeout=seconds + GRACE))
    if load["errors"]:
        raise Problem(f"{load['errors']} errors under open load")
    return load


def steady(contender, clients, rate, seconds):
    """Well-behaved clients at a fixed rate; what they lost is part of what is measured."""
    command = [build.tools() / "steady", "--address", contender.address]
    command += ["--clients", clients, "--rate", rate, "--seconds", seconds]
    return json.loads(output_of(command, timeout=seconds + GRACE))


def leaves(contender, times):
    """The next request's time, when clients leave while R works for them."""
    mark = contender.directory / "begun"
    command = [build.tools() / "leave", "--address", contender.address, "--times", times]
    command += ["--path", f"/linger?mark={mark}", "--mark", mark]
    return json.loads(output_of(command, timeout=times + GRACE))


def first_events(contender, times):
    """How long a stream's first event is on its way to its client."""
    command = [build.tools() / "events", "--address", contender.address, "--times", times]
    return json.loads(output_of(command, timeout=times + GRACE))


def turns(targets, clients, seconds):
    """So many clients that ask all targets (name: "KIND:ADDRESS/PATH,..." with http1, http2 or grpc as KIND) in turns, for so
    many seconds in all. Several paths of one are asked one after another."""
    command = [build.tools() / "turns", "--clients", clients, "--seconds", seconds]
    for name, target in targets.items():
        command += ["--target", f"{name}={target}"]
    return json.loads(output_of(command, timeout=seconds + GRACE))


def flow(through, mib):
    """How long so many MiB need to come back through a chain, "ADDRESS/PATH", or through `cats`."""
    return json.loads(output_of([build.tools() / "flow", "--through", through, "--mib", mib], timeout=FLOW_SECONDS))


def crossing(contender, functions, chains, clients):
    """Chains over these functions in drawn orders, half of which are cancelled."""
    command = [build.tools() / "crossing", "--address", contender.address, "--functions", ",".join(functions)]
    command += ["--chains", chains, "--clients", clients]
    return json.loads(output_of(command, timeout=CROSSING_SECONDS))


class IdleClients:
    """A context: `count` clients that made one request each and now only stay connected."""

    def __init__(self, contender, count):
        self.count = count
        self.process = Process([build.tools() / "idle", "--address", contender.address, "--clients", count], talks=True)

    def __enter__(self):
        self.process.__enter__()
        try:
            self._check()
        except BaseException:
            self.process.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    def still_open(self):
        """Raises if the server closed any of them."""
        self.process.popen.stdin.write("count\n")
        self.process.popen.stdin.flush()
        self._check()

    def _check(self):
        line = self.process.popen.stdout.readline()
        if not line:
            raise Problem(f"idle clients failed: {self.process.last_lines()}")
        if json.loads(line)["open"] != self.count:
            raise Problem(f"of {self.count} idle clients: {line.strip()}")
