"""How long and how often everything is measured."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Timing:
    rounds: int
    # Of each contender in each round; wrk takes whole seconds only.
    seconds: int


@dataclass(frozen=True)
class Plan:
    stub: Timing
    plumber: Timing
    # The one case of them that must reach something.
    plumber_reach: Timing
    # Every route with one client, or only the fast one.
    one_client_everywhere: bool
    latency: Timing
    open: Timing
    # Of each route with one client; with many clients, it is `plumber_reach`.
    native: Timing
    leaves: int
    streams: int
    kills: int
    # Of run_k8s and the front alone, and the like: they differ by little, so there are many rounds.
    replicas: Timing
    # Two fronts or one, four agents or one, each with requests of 50 ms.
    fronts: Timing
    # 2,000 clients need a while to connect.
    crowd: Timing
    # The same where it need not reach anything.
    crowd_shown: Timing
    # How often replicas come and go, and how often their name is looked up, in seconds.
    scalings: int
    refresh: int
    # Of each type of worker, two of them: ten minutes of storm in all. And the calm before each.
    storm: Timing
    storm_calm: int
    # How often a pool grows.
    growths: int
    # So many of the functions that are asleep are called.
    cold_calls: int
    # How often a small function is deployed.
    deployments: int
    # How much goes through chains of streams, and how often.
    stream_mib: int
    stream_rounds: int
    # Of all lengths of a chain, or gRPC and HTTP, which take turns.
    stages: Timing
    idle_clients: int = 5000
    idle_slots: int = 10_000
    # Of one agent.
    functions: int = 500
    # That cross.
    chains: int = 10_000
    workers: int = 4
    # A revision of this repository that is measured beside the present one; None is none.
    before: Optional[str] = None


FULL = Plan(
    stub=Timing(rounds=5, seconds=2),
    plumber=Timing(rounds=3, seconds=2),
    plumber_reach=Timing(rounds=5, seconds=2),
    one_client_everywhere=True,
    latency=Timing(rounds=3, seconds=6),
    open=Timing(rounds=3, seconds=15),
    native=Timing(rounds=5, seconds=6),
    leaves=1000,
    streams=500,
    kills=5,
    replicas=Timing(rounds=11, seconds=1),
    fronts=Timing(rounds=3, seconds=5),
    crowd=Timing(rounds=4, seconds=3),
    crowd_shown=Timing(rounds=3, seconds=3),
    scalings=3,
    refresh=2,
    storm=Timing(rounds=5, seconds=60),
    storm_calm=20,
    growths=5,
    cold_calls=21,
    deployments=11,
    stream_mib=1024,
    stream_rounds=5,
    stages=Timing(rounds=7, seconds=5),
)

QUICK = Plan(
    stub=Timing(rounds=3, seconds=1),
    plumber=Timing(rounds=3, seconds=1),
    plumber_reach=Timing(rounds=3, seconds=2),
    one_client_everywhere=False,
    latency=Timing(rounds=3, seconds=2),
    open=Timing(rounds=3, seconds=8),
    native=Timing(rounds=3, seconds=2),
    leaves=200,
    streams=300,
    kills=2,
    replicas=Timing(rounds=7, seconds=1),
    fronts=Timing(rounds=3, seconds=2),
    crowd=Timing(rounds=3, seconds=2),
    crowd_shown=Timing(rounds=2, seconds=2),
    scalings=2,
    refresh=1,
    storm=Timing(rounds=2, seconds=10),
    storm_calm=5,
    growths=2,
    cold_calls=9,
    deployments=5,
    stream_mib=256,
    stream_rounds=3,
    stages=Timing(rounds=3, seconds=3),
)
