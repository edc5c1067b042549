"""What going through faucet costs one client that asks one thing after another."""

import statistics

from lib.faucet import faucet_or_front
from lib.load import latency
from lib.plumber import Plumber, PlumberWorkers
from lib.section import Section
from lib.table import number, table

KEYS = ("mean_ms", "p50_ms", "p99_ms")

TEXT = """\
One client, one request at a time, in ms: on a kept-alive connection to faucet, and on a new connection for each request
to plumber itself, in turns of a few requests. (On a kept-alive connection plumber itself takes 40 ms and more: its
writes wait for the client's delayed acknowledgement.) The ratio is faucet's time to plumber's."""


def run(plan):
    section = Section("Latency", TEXT)
    with PlumberWorkers(plan.workers) as workers, Plumber() as plumber:
        with faucet_or_front(plan.workers, workers.addresses) as faucet:
            targets = {"faucet": f"keep:{faucet.address}", "plumber": f"new:{plumber.address}"}
            latency(targets, 1)
            rounds = [latency(targets, plan.latency.seconds) for _ in range(plan.latency.rounds)]
    section.tables = [table(["latency", faucet.name, "plumber", "to plumber"], [_row(key, rounds) for key in KEYS])]
    section.measured["mean"] = _ratio("mean_ms", rounds)
    return section


def _row(key, rounds):
    times = [number(statistics.median(sample[name][key] for sample in rounds), 2) for name in ("faucet", "plumber")]
    return [key.removesuffix("_ms"), *times, number(_ratio(key, rounds), 2, "x")]


def _ratio(key, rounds):
    return statistics.median(sample["faucet"][key] / sample["plumber"][key] for sample in rounds)
