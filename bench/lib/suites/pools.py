"""Several pools behind one front: what many cost, how one grows, and what one does to another."""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from lib import proc
from lib.faucet import Faucet, Front
from lib.field import Field
from lib.http import request
from lib.load import closed, latency, tried
from lib.places import API
from lib.problem import Problem
from lib.rounds import Rounds
from lib.section import Section
from lib.stub import Stub
from lib.table import number, table

CLIENTS = (4, 64)
MANY = 200
SLEEPING = 100
SLEEPERS = 100
GROWN = 4
# Between two looks at what a growing pool does, in seconds.
LOOK = 0.005
MB = 2**20

TEXT = """\
The front alone over stub upstreams, as above: with {many} more pools that nobody asks for, and without. A pool of one worker,
forked from a template, that may have {grown}: 16 clients ask for answers that take R 50 ms, and the time is that from the first
sign of another worker until all serve. {sleeping} pools of `workers = c(0, 1)` that nobody asks for: the processes, and the
memory of the front (proportional set size) in R and alone. Two pools of two workers each: one client asks the first, with
nobody else there, and with {sleepers} clients at the second whose requests sleep for 50 ms; the two take turns."""


def run(plan):
    section = Section(
        "Pools", TEXT.format(many=MANY, grown=GROWN, sleeping=SLEEPING, sleepers=SLEEPERS)
    )
    parts = {"many": _many, "growth": _growth, "asleep": _asleep, "neighbours": _neighbours}
    section.measure(plan, parts)
    return section


def _many(plan, section):
    rows = []
    fronts = lambda stub: [Front(stub.addresses, "one"), Front(stub.addresses, "many", idle_pools=MANY)]
    with Stub(plan.workers) as stub, Field(fronts(stub)) as field:
        for contender in field.running:
            closed(contender, 64, 1)
        for clients in CLIENTS:
            rounds = Rounds(field, plan.stub.rounds, lambda contender, _: closed(contender, clients, plan.stub.seconds))
            cells = []
            for key, digits in (("rate", 0), ("cpu_us", 1)):
                cells += [number(rounds.median(name, key), digits) for name in ("one", "many")]
                cells.append(number(rounds.ratio("many", "one", key), 2, "x"))
            rows.append([f"{clients} clients", *cells])
            section.measured[f"rate {clients}"] = rounds.ratio("many", "one", "rate")
            section.measured[f"cpu {clients}"] = rounds.ratio("many", "one", "cpu_us")
        section.notes += field.notes
    head = ["1 pool", f"{MANY + 1} pools", "ratio"]
    section.tables.append(table(["requests/s; CPU µs a request", *head, *head], rows))


def _growth(plan, section):
    times = []
    for _ in range(plan.growths):
        with Faucet([1, GROWN], preload=True) as faucet:
            stop, seen = Event(), []
            with ThreadPoolExecutor(1) as beside:
                watcher = beside.submit(_watch, faucet, stop, seen)
                try:
                    load = tried(faucet, 16, 3, "/sleep?s=0.05")
                finally:
                    stop.set()
                watcher.result()
            if load["errors"]:
                raise Problem(f"{load['errors']} requests failed")
            decided = next((at for at, workers, _ in seen if workers > 1), None)
            grown = next((at for at, _, serving in seen if serving == GROWN), None)
            if decided is None or grown is None:
                raise Problem(f"it did not grow to {GROWN}")
            times.append(grown - decided)
    section.notes.append(
        f"growth from 1 to {GROWN} workers: {', '.join(f'{1000 * seconds:.0f} ms' for seconds in times)}; "
        "no request failed"
    )
    section.measured["growth"] = statistics.median(times)


def _watch(faucet, stop, seen):
    """When there were how many workers, and how many of them served."""
    while not stop.is_set():
        workers = faucet.status()["workers"]
        serving = sum(worker["state"] in ("ready", "busy") for worker in workers)
        seen.append((time.monotonic(), len(workers), serving))
        stop.wait(LOOK)


def _asleep(plan, section):
    with _configured(_idle_pools()) as config, Faucet(None, "asleep", app=config) as faucet:
        pid = faucet.pids()[0]
        processes = len(proc.children(pid))
        in_r = proc.memory([pid]) / MB
    with Stub(1) as stub:
        with Front(stub.addresses) as front:
            one = proc.memory(front.pids()) / MB
        with Front(stub.addresses, idle_pools=SLEEPING) as front:
            alone = proc.memory(front.pids()) / MB
    with Faucet([0, 1], "one") as faucet:
        one_in_r = proc.memory(faucet.pids()) / MB
    cells = [number(value, 1) for value in (one_in_r, in_r, one, alone)]
    head = ["front, MB", "in R, 1 pool", f"in R, {SLEEPING} pools", "alone, 1 pool", f"alone, {SLEEPING} pools"]
    section.tables.append(table(head, [["asleep", *cells]]))
    section.measured["processes"] = processes
    section.measured["memory in R"] = in_r
    section.measured["memory"] = alone


def _idle_pools():
    return {f"/app-{number}": {"dir": str(API), "workers": [0, 1]} for number in range(SLEEPING)}


def _neighbours(plan, section):
    pools = {path: {"dir": str(API), "workers": 2} for path in ("/a", "/b")}
    with _configured(pools) as config, Faucet(None, "two", app=config) as faucet:
        request(faucet.address, "/a/fast")
        alone, beside = [], []
        for _ in range(plan.latency.rounds):
            alone.append(_times(faucet, plan))
            with ThreadPoolExecutor(1) as others:
                load = others.submit(closed, faucet, SLEEPERS, plan.latency.seconds + 2, "/b/sleep?s=0.05")
                # Until all of them are there.
                time.sleep(1)
                beside.append(_times(faucet, plan))
                # Without them it would be no measure.
                load.result()
    rows = []
    for key in ("p50_ms", "p99_ms"):
        pairs = list(zip(beside, alone))
        ratio = statistics.median(one[key] / two[key] for one, two in pairs)
        cells = [number(statistics.median(sample[key] for sample in samples), 2) for samples in (alone, beside)]
        rows.append([key.removesuffix("_ms"), *cells, number(ratio, 2, "x")])
        section.measured[f"neighbour {key}"] = ratio
    section.tables.append(table(["one client, ms", "alone", f"{SLEEPERS} clients at another pool", "ratio"], rows))


def _times(faucet, plan):
    return latency({"one": f"keep:{faucet.address}"}, plan.latency.seconds, path="/a/fast")["one"]


@contextmanager
def _configured(pools):
    """A configuration file, as long as it is needed."""
    with TemporaryDirectory(prefix="faucet-bench-") as directory:
        path = Path(directory) / "faucet.yml"
        # JSON is YAML.
        path.write_text(json.dumps({"pools": pools}, indent=2))
        yield path
