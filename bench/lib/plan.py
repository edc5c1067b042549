"""How long and how often everything is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    rounds: int
    # wrk takes whole seconds only.
    stub_seconds: int
    plumber_seconds: int
    # Of the one case that must reach something.
    plumber_reach_seconds: int
    # Every route with one client, or only the fast one.
    one_client_everywhere: bool
    latency_seconds: float
    open_seconds: float
    idle_clients: int = 5000
    workers: int = 4


FULL = Plan(
    rounds=3,
    stub_seconds=3,
    plumber_seconds=2,
    plumber_reach_seconds=4,
    one_client_everywhere=True,
    latency_seconds=6,
    open_seconds=15,
)

QUICK = Plan(
    rounds=3,
    stub_seconds=1,
    plumber_seconds=1,
    plumber_reach_seconds=2,
    one_client_everywhere=False,
    latency_seconds=2,
    open_seconds=8,
)
