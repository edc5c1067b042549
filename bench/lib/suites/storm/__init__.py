"""Well-behaved clients amid hostile ones, crashing workers, reloads and scaling: what is lost, how late, what is left.

The load is an open one of `/work` (10 ms in which R waits, so that the workers are what is half loaded, and not this
machine) and `/echo`, at half of the rate that as many closed clients reach. In the calm it is alone; in the storm after it
the same load meets the clients of clients.py, at the rates told there, and an operator who reloads and scales. Together
these keep about one worker in eight from the well-behaved, and each reload all of them, one after another. What crashes or
loops is asked for by hostile clients alone: whatever a well-behaved client gets that is not its own answer, whole, is lost,
with no excuse.
"""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from lib.field import Field
from lib.hostile import Hostile
from lib.load import closed, steady
from lib.problem import Problem
from lib.rounds import Rounds
from lib.section import Section
from lib.suites.storm.clients import HOSTILE
from lib.suites.storm.server import MORE_WORKERS, WORKERS, Stormy
from lib.table import number, table

CLIENTS = 64
# To measure how much is half.
CALIBRATION_SECONDS = 3
WARMING = 3
# The operator's acts, by the share of a storm that is over then.
RELOAD, GROW, SHRINK = 0.2, 0.5, 0.75

TEXT = """\
{workers} workers of each type at half load: requests of 10 ms and uploads, at half of the rate that {clients} clients reach,
each due at its own time, from which its time counts. In the storm the same load meets {kinds} kinds of hostile clients, about
{rate:.0f} acts a second: they leave, stall in heads, uploads and answers, upload in one-byte chunks, reset HTTP/2 streams in
bursts, open no HTTP/2 window, open WebSockets, ask for turns, send what is no HTTP; and have R loop, print garbage and crash.
Meanwhile the server reloads, and scales to {more} workers and back. Calm and storm take turns, {seconds} s of storm in all
for each type. A request is lost if it does not get its own answer, whole. What is left is looked at when the hostile clients
are gone: descriptors of the front, resident memory in MB (of a worker: the mean), and workers that are not ready."""


def run(plan):
    section = Section(
        "Storm",
        TEXT.format(
            workers=WORKERS,
            more=MORE_WORKERS,
            clients=CLIENTS,
            kinds=len(HOSTILE["native"]),
            rate=sum(kind.rate for kind in HOSTILE["native"].values()),
            seconds=plan.storm.rounds * plan.storm.seconds,
        ),
    )
    with Field([Stormy(kind) for kind in HOSTILE]) as field:
        before = Rounds(field, 1, lambda server, _: _calibrated(server, plan))
        rounds = Rounds(field, plan.storm.rounds, lambda server, _: _round(server, plan))
        section.notes += field.notes
    found = {name: samples for name, samples in rounds.samples.items() if samples}
    section.tables = [
        table(
            ["times, ms", "calm p50", "storm p50", "calm p99", "storm p99", "to calm", "requests", "lost"],
            [_times(name, rounds, samples) for name, samples in found.items()],
        ),
        table(
            ["left", "descriptors", "front", "worker", "not ready"],
            [row for name, samples in found.items() for row in _left(name, [*before.samples[name], *samples])],
        ),
    ]
    for name, samples in found.items():
        section.notes.append(
            f"{name}: {before.median(name, 'rate'):.0f} requests/s were half load; {sum(one['acts'] for one in samples):,} "
            f"hostile acts, {sum(one['refused'] for one in samples):,} of them refused or broken off"
        )
        section.notes += [f"{name}: {reason}" for one in samples for reason in one["reasons"]]
    # A type that did not last is no success of the other.
    if set(found) == set(HOSTILE):
        section.measured = _measured(found)
    return section


def _calibrated(server, plan):
    # New workers are slow: R has yet to compile what it runs.
    for _ in range(WARMING):
        warm = closed(server, CLIENTS, CALIBRATION_SECONDS, "/work")["rate"]
    server.rate = warm / 2
    # The same as later, before any storm.
    _steady(server, plan.storm_calm)
    server.at_start = server.left()
    return {"rate": server.rate, "left": server.at_start}


def _round(server, plan):
    """One calm and one storm."""
    calm = _steady(server, plan.storm_calm)
    with Hostile(server.address, HOSTILE[server.name]) as hostile, ThreadPoolExecutor(1) as operator:
        orders = operator.submit(_operate, server, plan.storm.seconds)
        storm = _steady(server, plan.storm.seconds)
        orders.result()
    server.process.check()
    left = server.left(server.at_start)
    found = {
        "left": left,
        "descriptors added": left.descriptors - server.at_start.descriptors,
        "acts": sum(hostile.counts.values()),
        "refused": sum(hostile.refused.values()),
    }
    for phase, load in (("calm", calm), ("storm", storm)):
        found[f"{phase} requests"] = load["answered"]["requests"] + load["lost"]
        found[f"{phase} lost"] = load["lost"]
        found[f"{phase} p50"] = load["answered"]["p50_ms"]
        found[f"{phase} p99"] = load["answered"]["p99_ms"]
    found["reasons"] = calm["reasons"] + storm["reasons"]
    return found


def _steady(server, seconds):
    load = steady(server, CLIENTS, server.rate, seconds)
    server.process.check()
    if not load["answered"]["requests"]:
        raise Problem(f"no request was answered: {load['reasons']}")
    return load


def _operate(server, seconds):
    start = time.monotonic()
    for share, act in ((RELOAD, server.reload), (GROW, server.grow), (SHRINK, server.shrink)):
        time.sleep(max(0, start + share * seconds - time.monotonic()))
        act()


def _times(name, rounds, samples):
    times = [number(rounds.median(name, key), 1) for key in ("calm p50", "storm p50", "calm p99", "storm p99")]
    return [name, *times, number(_slower(samples), 2, "x"), *(f"{_sum(samples, what):,}" for what in ("requests", "lost"))]


def _left(name, samples):
    """Before any storm, after the first, after the last."""
    whens = {"before": samples[0], "after the first storm": samples[1], "after the last": samples[-1]}
    return [sample["left"].row(f"{name}, {when}") for when, sample in whens.items()]


def _measured(found):
    """By the worse of the two types."""
    ends = [(samples[0]["left"], samples[-1]["left"]) for samples in found.values()]
    all_samples = [sample for samples in found.values() for sample in samples]
    return {
        "lost": sum(_sum(samples, "lost") for samples in found.values()),
        **{f"p99 {name}": _slower(samples) for name, samples in found.items()},
        "descriptors": max(sample["descriptors added"] for sample in all_samples),
        "front": max(last.front / first.front for first, last in ends),
        "worker": max(last.worker / first.worker for first, last in ends),
        "not ready": max(sample["left"].not_ready for sample in all_samples),
    }


def _slower(samples):
    """p99 in the storm to that in the calm: the median of the rounds' own ratios."""
    return statistics.median(sample["storm p99"] / sample["calm p99"] for sample in samples)


def _sum(samples, what):
    return sum(sample[f"{phase} {what}"] for sample in samples for phase in ("calm", "storm"))
