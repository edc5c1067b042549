"""Requests that arrive at a fixed rate, some of them slow: who waits behind whom."""

from lib.faucet import faucet_or_front
from lib.field import Field
from lib.load import arrivals, latency
from lib.nginx import Nginx
from lib.plumber import PlumberWorkers
from lib.rounds import Rounds
from lib.section import Section
from lib.table import number, table

# One request in ten sleeps for this long.
SLOW_SECONDS = 1.0
SLOW_SHARE = 0.1
OTHERS = ["nginx", "nginx close"]
KEYS = ("mean_ms", "p50_ms", "p90_ms", "p99_ms")

TEXT = """\
{rate:.1f} requests/s arrive, half of what {workers} workers can bear when one in ten sleeps 1 s. The time of the fast
ones, from when they were due, in ms. nginx takes the workers in turn (round robin), and keeps its connections to them
or closes them after each request (`close`). The ratios are faucet's time to the other's: below 1, faucet answers
sooner."""


def run(plan):
    with PlumberWorkers(plan.workers) as workers:
        faucet = faucet_or_front(plan.workers, workers.addresses)
        upstreams = workers.addresses
        contenders = [faucet, Nginx("nginx", upstreams), Nginx("nginx close", upstreams, keepalive=False)]
        rate = _bearable(plan.workers, upstreams[0]) / 2
        section = Section("Open load", TEXT.format(rate=rate, workers=plan.workers))
        with Field(contenders) as field:
            print(f"  {rate:.1f} requests/s", flush=True)
            # A round's arrivals are the same for all, and differ from the next round's.
            rounds = Rounds(field, plan.open.rounds, lambda contender, i: _fast(contender, rate, plan.open.seconds, i))
            section.notes += field.notes
    rows = [_row(key, rounds, faucet.name) for key in KEYS]
    section.tables = [table(["fast requests", faucet.name, *OTHERS, *(f"to {other}" for other in OTHERS)], rows)]
    for key in ("mean_ms", "p90_ms"):
        # Against the setting in which nginx answered sooner.
        slowest = max(rounds.ratios(faucet.name, OTHERS, key), default=None)
        section.measured[key.removesuffix("_ms")] = slowest
    return section


def _bearable(workers, address):
    """Requests/s at which the workers would never rest."""
    fast = latency({"plumber": f"new:{address}"}, 1)["plumber"]["mean_ms"] / 1000
    return workers / (SLOW_SHARE * SLOW_SECONDS + (1 - SLOW_SHARE) * fast)


def _fast(contender, rate, seconds, seed):
    return arrivals(contender, rate, seconds, seed)["fast"]


def _row(key, rounds, faucet):
    times = [number(rounds.median(name, key), 1) for name in (faucet, *OTHERS)]
    ratios = [number(rounds.ratio(faucet, other, key), 2, "x") for other in OTHERS]
    return [key.removesuffix("_ms"), *times, *ratios]
