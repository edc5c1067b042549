"""Dialled-in slots beside a front that dials, and beside POTHEAD's workers."""

import statistics

from lib.faucet import Front
from lib.field import Field
from lib.hub import Hub
from lib.load import closed, latency
from lib.pothead import pothead_worker
from lib.rounds import Rounds
from lib.stub import Stub
from lib.table import number, table

POTHEAD_VERSION = "0.10.6"
CLIENTS = 64
WORK = "/sleep?s=0.001"
WORK_MS = 1.0
INSTANT = "/fast"

SLOTS, FRONT, POTHEAD, EAGER = "slots", "front alone", "POTHEAD", "POTHEAD without pauses"
OTHERS = (FRONT, POTHEAD, EAGER)


def rates(plan, section):
    with Stub(plan.workers) as stub, Field([Front(stub.addresses, FRONT), *_hubs(plan.workers)]) as field:
        Rounds(field, 1, lambda contender, _: closed(contender, CLIENTS, 1))
        work = _rounds(field, plan.replicas, WORK)
        # How fast POTHEAD could be is not asked.
        field.running = [contender for contender in field.running if contender.name in (SLOTS, FRONT)]
        instant = _rounds(field, plan.replicas, INSTANT)
        section.notes += field.notes
    rows = [_row("1 ms, requests/s", work, "rate", 0, OTHERS)]
    section.tables.append(table(_head(OTHERS), rows))
    rows = [_row("no time, requests/s", instant, "rate", 0, [FRONT]), _row("CPU µs a request", instant, "cpu_us", 1, [FRONT])]
    section.tables.append(table(_head([FRONT]), rows))
    section.measured["rate"] = work.ratio(SLOTS, FRONT, "rate")
    section.measured["pothead rate"] = work.ratio(SLOTS, POTHEAD, "rate")
    section.measured["eager rate"] = work.ratio(SLOTS, EAGER, "rate")


def times(plan, section):
    with Field(_hubs(plan.workers)) as field:
        targets = {hub.name: f"keep:{hub.address}" for hub in field.running}
        latency(targets, 1, WORK)
        samples = [latency(targets, plan.latency.seconds, WORK) for _ in range(plan.latency.rounds)]
        section.notes += field.notes
    for sample in samples:
        for times in sample.values():
            times["added_ms"] = times["p50_ms"] - WORK_MS
    others = [POTHEAD, EAGER]
    rows = []
    for key in ("p50_ms", "p99_ms", "added_ms"):
        values = [number(_median(samples, name, key), 3) for name in (SLOTS, *others)]
        ratios = [number(_ratio(samples, other, key), 2, "x") for other in others]
        rows.append([key.removesuffix("_ms"), *values, *ratios])
    head = ["1 client, 1 ms of work, ms", SLOTS, *others, *(f"to {other}" for other in others)]
    section.tables.append(table(head, rows))
    section.measured["pothead added"] = _ratio(samples, POTHEAD, "added_ms")
    section.measured["eager added"] = _ratio(samples, EAGER, "added_ms")


def _hubs(workers):
    slots = Hub(SLOTS, lambda hub: Stub(1, hub=hub.worker_address, slots=workers))
    pothead = [lambda hub: pothead_worker(hub.pothead_address)] * workers
    eager = [lambda hub: pothead_worker(hub.pothead_address, pause=0)] * workers
    return [slots, Hub(POTHEAD, *pothead), Hub(EAGER, *eager)]


def _rounds(field, timing, path):
    return Rounds(field, timing.rounds, lambda contender, _: closed(contender, CLIENTS, timing.seconds, path))


def _head(others):
    return [f"{CLIENTS} clients", SLOTS, *others, *(f"to {other}" for other in others)]


def _row(name, rounds, key, digits, others):
    values = [number(rounds.median(contender, key), digits) for contender in (SLOTS, *others)]
    return [name, *values, *(number(rounds.ratio(SLOTS, other, key), 2, "x") for other in others)]


def _median(samples, name, key):
    """None if it was not measured."""
    found = [sample[name][key] for sample in samples if name in sample]
    return statistics.median(found) if found else None


def _ratio(samples, other, key):
    """That of the slots to another, in the same turns."""
    pairs = [(sample[SLOTS], sample[other]) for sample in samples if SLOTS in sample and other in sample]
    return statistics.median(slots[key] / its[key] for slots, its in pairs) if pairs else None
