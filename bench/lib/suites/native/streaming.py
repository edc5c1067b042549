"""How soon an event is with its client."""

from lib.faucet import Faucet
from lib.load import first_events
from lib.table import number, table

KEYS = ("mean_ms", "p50_ms", "p99_ms")


def run(plan, section):
    with Faucet(1, "native", worker_type="native") as native:
        first_events(native, 5)
        times = first_events(native, plan.streams)
    row = [f"{plan.streams:,} streams", *(number(times[key], 2) for key in KEYS)]
    section.tables.append(table(["first event, ms", *(key.removesuffix("_ms") for key in KEYS)], [row]))
    section.measured["event"] = times["p99_ms"]
