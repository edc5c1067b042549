"""Replicas come and go while clients ask."""

import math
import time
from concurrent.futures import ThreadPoolExecutor

from lib.dns import Dnsmasq
from lib.faucet import FaucetK8s
from lib.load import tried
from lib.problem import Problem
from lib.stub import Stub
from lib.table import number, table

CLIENTS = 64
PATH = "/sleep?s=0.05"
MOST = 8
# By their places among the replicas: a removed one was there at the start, four are new.
FEW, ALL, SOME = slice(0, 2), slice(0, MOST), slice(1, 4)
# In refreshes: for what comes within one to be seen, and what comes later.
LOOK = 2.0
COLUMNS = {"first request": 3, "last request": 3, "too late": 0}


def run(plan, section):
    seconds = math.ceil(plan.scalings * (3 * LOOK + 1) * plan.refresh + 2)
    with Stub(hosts=MOST) as stub, Dnsmasq(api=stub.hosts[FEW]) as dns:
        with FaucetK8s(len(stub.hosts[FEW]), f"api.test:{stub.port}", dns, refresh=plan.refresh) as front:
            with ThreadPoolExecutor() as background:
                load = background.submit(tried, front, CLIENTS, seconds, PATH)
                # Not every change is as long before the next lookup.
                found = [_scaled(stub, dns, plan.refresh, i / plan.scalings) for i in range(plan.scalings)]
                load = load.result()
    rows = [[i, *(number(one[key], digits) for key, digits in COLUMNS.items())] for i, one in enumerate(found, 1)]
    section.tables.append(table(["2 to 8 to 3 replicas, times", *COLUMNS], rows))
    most = max(one["in flight"] for one in found)
    section.notes.append(
        f"scaling: {load['requests']:,} requests of {CLIENTS} clients, {load['errors']} of them failed; at most {most} in "
        f"flight on one replica; `refresh` was {plan.refresh} s"
    )
    section.measured["failed"] = load["errors"]
    section.measured["first"] = max(one["first request"] for one in found)
    section.measured["late"] = sum(one["too late"] for one in found)


def _scaled(stub, dns, refresh, shift):
    """Each change waits for `shift` of a refresh more than is needed to see what the last one did."""
    hosts = stub.hosts
    before = dns.change("api", hosts[FEW])
    _until(before + (LOOK + shift) * refresh)
    stub.seen_by_host()

    added = dns.change("api", hosts[ALL])
    _until(added + (LOOK + shift) * refresh)
    grown = stub.seen_by_host()
    if not set(hosts[FEW]) <= grown.keys():
        raise Problem("there was no load while replicas were scaled")

    removed = dns.change("api", hosts[SOME])
    _until(removed + refresh)
    shrinking = stub.seen_by_host()
    _until(removed + LOOK * refresh)
    shrunk = stub.seen_by_host()

    news, gone = set(hosts) - set(hosts[FEW]), set(hosts) - set(hosts[SOME])
    firsts = [grown[host]["first"] if host in grown else math.inf for host in news]
    lasts = [seen[host]["last"] for seen in (shrinking, shrunk) for host in gone & seen.keys()]
    return {
        "first request": (max(firsts) - added) / refresh,
        "last request": (max(lasts, default=removed) - removed) / refresh,
        "too late": sum(shrunk[host]["requests"] for host in gone & shrunk.keys()),
        "in flight": max(one["most"] for seen in (grown, shrinking, shrunk) for one in seen.values()),
    }


def _until(moment):
    """By the time of day, as the stub's times are."""
    time.sleep(max(0, moment - time.time()))
