"""How soon a worker is free again whose client has left."""

from lib.faucet import Faucet
from lib.load import leaves
from lib.problem import Problem
from lib.table import number, table

KEYS = ("mean_ms", "p50_ms", "p99_ms")


def run(plan, section):
    with Faucet(1, "native", worker_type="native") as native:
        times = leaves(native, plan.leaves)
        restarts = sum(worker["restarts"] for worker in native.status()["workers"])
    if restarts:
        raise Problem(f"the worker was replaced {restarts} times, where it was to be interrupted")
    row = [f"{plan.leaves:,} clients left", *(number(times[key], 2) for key in KEYS)]
    section.tables.append(table(["next answer, ms", *(key.removesuffix("_ms") for key in KEYS)], [row]))
    section.measured["left"] = times["p99_ms"]
