"""Very many slots that are offered and idle."""

import statistics
import time

from lib import proc
from lib.hub import Hub
from lib.load import closed, latency
from lib.problem import Problem
from lib.stub import Stub
from lib.table import number, table

FEW = 1
# So many slots are in use at once, in the end.
USED = 1000
MB = 2**20
# For what the handshakes left to be given back.
SETTLE = 1.0


def run(plan, section):
    many = plan.idle_slots
    with _hub("few", FEW) as few, _hub("many", many) as crowded:
        time.sleep(SETTLE)
        memory = {hub.name: [proc.memory(hub.pids()) / MB] for hub in (few, crowded)}
        if proc.descriptors(crowded.process.pid) < many:
            raise Problem(f"of {many:,} slots some are not at the hub")
        targets = {hub.name: f"keep:{hub.address}" for hub in (few, crowded)}
        latency(targets, 1)
        samples = [latency(targets, plan.latency.seconds) for _ in range(plan.latency.rounds)]
        for hub in (few, crowded):
            memory[hub.name].append(proc.memory(hub.pids()) / MB)
        closed(crowded, USED, 3, "/sleep?s=0.5")
        time.sleep(SETTLE)
        used = proc.memory(crowded.pids()) / MB
    rows = []
    for key in ("p50_ms", "p99_ms"):
        times = [statistics.median(sample[name][key] for sample in samples) for name in ("few", "many")]
        added = statistics.median(sample["many"][key] - sample["few"][key] for sample in samples)
        rows.append([key.removesuffix("_ms"), *(number(value, 3) for value in (*times, added))])
    for i, when in enumerate(("MB, idle", "MB, after the load")):
        values = [memory[name][i] for name in ("few", "many")]
        rows.append([when, *(number(value, 1) for value in (*values, values[1] - values[0]))])
    rows.append([f"MB, after {USED:,} were in use at once", number(None), number(used, 1), number(None)])
    section.tables.append(table(["1 client; ms", f"{FEW} slot", f"{many:,} slots", "added"], rows))
    section.measured["idle memory"] = max(memory["many"])
    section.measured["idle p99"] = added


def _hub(name, slots):
    return Hub(name, lambda hub: Stub(1, hub=hub.worker_address, slots=slots))
