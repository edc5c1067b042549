"""Requests/s: of one client and one worker, and of many."""

from dataclasses import dataclass

from lib.faucet import Faucet
from lib.field import Field
from lib.http import request
from lib.load import closed
from lib.one_client import OneClient
from lib.plumber import Plumber
from lib.problem import Problem
from lib.rounds import Rounds
from lib.table import number, table

CLIENTS = 32
OTHERS = ["http", "plumber"]


@dataclass(frozen=True)
class Route:
    name: str
    path: str
    # Bytes that are posted; none: it is a GET.
    body: int = 0


ROUTES = [Route("fast", "/fast"), Route("json", "/json"), Route("echo", "/echo", 2**20)]


def one_client(plan, section):
    rows = []
    with Field([*_faucets(1), Plumber()]) as field:
        _check(field)
        for route in ROUTES:
            client = OneClient(field, plan.native, route.path, body=route.body)
            rows.append([route.name, *_cells(client)])
            section.measured[route.name] = client.ratio("native", "plumber")
        section.notes += field.notes
    section.tables.append(table(["1 worker, 1 client", "native", *OTHERS, *(f"to {other}" for other in OTHERS)], rows))


def many_clients(plan, section):
    timing = plan.plumber_reach
    with Field(_faucets(plan.workers)) as field:
        Rounds(field, 1, lambda contender, _: closed(contender, CLIENTS, 1))
        rounds = Rounds(field, timing.rounds, lambda contender, _: closed(contender, CLIENTS, timing.seconds))
        section.notes += field.notes
    ratio = rounds.ratio("native", "http", "rate")
    rates = [number(rounds.median(name, "rate"), 0) for name in ("native", "http")]
    head = [f"{plan.workers} workers, {CLIENTS} clients", "native", "http", "to http"]
    section.tables.append(table(head, [["fast", *rates, number(ratio, 2, "x")]]))
    section.measured["many"] = ratio


def _faucets(workers):
    return [Faucet(workers, kind, worker_type=kind) for kind in ("native", "http")]


def _check(field):
    """Everyone gives the same answers, before any of them is timed."""
    body = bytes(range(256)) * 4096
    json = None
    for contender in list(field.running):
        try:
            json = json or request(contender.address, "/json")
            if request(contender.address, "/json") != json:
                raise Problem("/json is not as from the others")
            if request(contender.address, "/echo", "POST", body) != body:
                raise Problem("/echo changed the body")
        except Problem as problem:
            field.drop(contender, problem)


def _cells(client):
    rates = [number(client.rate(name), 0) for name in ("native", *OTHERS)]
    return [*rates, *(number(client.ratio("native", other), 2, "x") for other in OTHERS)]
