"""Four plumber workers behind each server, and plumber alone."""

from dataclasses import dataclass

from lib import http
from lib.faucet import faucet_or_front
from lib.field import Field
from lib.haproxy import CLOSED, REUSED, HAProxy
from lib.load import closed
from lib.nginx import Nginx
from lib.plumber import Plumber, PlumberWorkers
from lib.problem import Problem
from lib.rounds import Rounds
from lib.section import Section
from lib.table import number, table

TEXT = """\
{workers} R workers behind each server, but `plumber` is one by itself. Requests/s, and in brackets faucet's in ratio
to them: above 1, faucet serves more. HAProxy keeps its connections to the workers (`reuse`) or closes them after each
request (`close`). `mixed` is nine fast requests, then one that sleeps 50 ms; `echo` sends 1 MiB and gets it back."""

OTHERS = ["HAProxy reuse", "HAProxy close", "nginx", "plumber"]


@dataclass(frozen=True)
class Route:
    name: str
    path: str = "/fast"
    script: str = "report.lua"


FAST = Route("fast")
ROUTES = [FAST, Route("json", "/json"), Route("mixed", script="mixed.lua"), Route("echo", "/echo", "echo.lua")]
MUST_REACH = (FAST, 32)


def run(plan):
    section = Section("Plumber workers", TEXT.format(workers=plan.workers))
    rows = []
    with PlumberWorkers(plan.workers) as workers:
        upstreams = workers.addresses
        faucet = faucet_or_front(plan.workers, upstreams)
        contenders = [
            faucet,
            HAProxy("HAProxy reuse", upstreams, REUSED),
            HAProxy("HAProxy close", upstreams, CLOSED),
            Nginx("nginx", upstreams),
            Plumber(),
        ]
        with Field(contenders) as field:
            _check(field)
            for route, clients in _cases(plan):
                print(f"  {route.name}, {clients} clients", flush=True)
                timing = plan.plumber_reach if (route, clients) == MUST_REACH else plan.plumber
                rounds = Rounds(
                    field,
                    timing.rounds,
                    lambda contender, _: closed(contender, clients, timing.seconds, route.path, route.script),
                )
                rows.append(_row(route, clients, rounds, faucet.name))
                if (route, clients) == MUST_REACH:
                    ratios = rounds.ratios(faucet.name, ["HAProxy reuse", "HAProxy close"], "rate")
                    section.measured["rate"] = min(ratios, default=None)
            section.notes += field.notes
    section.tables = [table(["route", "clients", faucet.name, *OTHERS], rows)]
    return section


def _cases(plan):
    for route in ROUTES:
        for clients in (1, 32):
            if clients > 1 or route is FAST or plan.one_client_everywhere:
                yield route, clients


def _check(field):
    """Everyone gives the same answers, before any of them is timed."""
    body = bytes(range(256)) * 4096
    for contender in list(field.running):
        try:
            if http.request(contender.address, "/fast") != b"fast":
                raise Problem("/fast is not the API's")
            if http.request(contender.address, "/echo", "POST", body) != body:
                raise Problem("/echo changed the body")
        except Problem as problem:
            field.drop(contender, problem)


def _row(route, clients, rounds, faucet):
    cells = [number(rounds.median(faucet, "rate"), 0)]
    for other in OTHERS:
        ratio = number(rounds.ratio(faucet, other, "rate"), 2, "x")
        cells.append(f"{number(rounds.median(other, 'rate'), 0)} ({ratio})")
    return [route.name, clients, *cells]
