"""Many clients: compiled routes, and HAProxy before plumber."""

from lib.field import Field
from lib.haproxy import CLOSED, REUSED, HAProxy
from lib.load import closed
from lib.places import COMPILED
from lib.plumber import PlumberWorkers
from lib.rounds import Rounds
from lib.suites.compiled.servers import compiled, uncompiled
from lib.table import number, table

CLIENTS = 32
PATH = "/fast?n=3"
HAPROXY = ["HAProxy reuse", "HAProxy close"]


def run(plan, section):
    timing = plan.plumber_reach
    with PlumberWorkers(plan.workers, COMPILED) as workers:
        proxies = [HAProxy(name, workers.addresses, how) for name, how in zip(HAPROXY, (REUSED, CLOSED))]
        with Field([compiled(plan.workers), uncompiled(plan.workers), *proxies]) as field:
            Rounds(field, 1, lambda contender, _: closed(contender, CLIENTS, 1, PATH))
            rounds = Rounds(field, timing.rounds, lambda contender, _: closed(contender, CLIENTS, timing.seconds, PATH))
            section.notes += field.notes
    others = ["off", *HAPROXY]
    rates = [number(rounds.median(name, "rate"), 0) for name in ("compiled", *others)]
    ratios = [number(rounds.ratio("compiled", other, "rate"), 2, "x") for other in others]
    head = [f"{plan.workers} workers, {CLIENTS} clients", "compiled", *others, *(f"to {other}" for other in others)]
    section.tables.append(table(head, [["fast", *rates, *ratios]]))
    # Against the setting in which HAProxy served more.
    section.measured["many"] = min(rounds.ratios("compiled", HAPROXY, "rate"), default=None)
