"""The memory of clients that stay connected and ask nothing."""

import time

from lib.faucet import Faucet, Front
from lib.field import Field
from lib.haproxy import HAProxy
from lib.load import IdleClients, closed
from lib.nginx import Nginx
from lib.proc import memory
from lib.rounds import Rounds
from lib.section import Section
from lib.stub import Stub
from lib.table import number, table

MB = 2**20
# For memory that is given back a moment after the last answer.
SETTLE = 1.0

TEXT = """\
{clients:,} clients that made one request each and stay connected: memory of the proxy's own processes (proportional
set size) after a short load, with the clients, and the difference. faucet runs in R before {workers} R workers, the
others before stubs."""


def run(plan):
    section = Section("Idle clients", TEXT.format(clients=plan.idle_clients, workers=plan.workers))
    with Stub(plan.workers) as stub:
        upstreams = stub.addresses
        contenders = [Faucet(plan.workers), Front(upstreams), HAProxy("HAProxy", upstreams), Nginx("nginx", upstreams)]
        with Field(contenders) as field:
            rounds = Rounds(field, 1, lambda contender, _: _measure(contender, plan.idle_clients))
            section.notes += field.notes
    section.tables = [table(["MB", "before", "with clients", "added"], [_row(name, rounds) for name in rounds.samples])]
    section.measured = {"faucet": rounds.median("faucet", "added"), "front": rounds.median("faucet front", "added")}
    return section


def _measure(contender, count):
    closed(contender, 4, 1)
    time.sleep(SETTLE)
    before = memory(contender.pids()) / MB
    with IdleClients(contender, count) as clients:
        time.sleep(SETTLE)
        after = memory(contender.pids()) / MB
        clients.still_open()
    return {"before": before, "with clients": after, "added": after - before}


def _row(name, rounds):
    return [name, *(number(rounds.median(name, key), 1) for key in ("before", "with clients", "added"))]
