"""Requests/s of one client and one worker, route by route."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from lib.field import Field
from lib.http import request
from lib.one_client import OneClient
from lib.places import COMPILED
from lib.plumber import Plumber
from lib.problem import Problem
from lib.suites.compiled.servers import BEFORE, before, compiled, uncompiled
from lib.table import number, table


@dataclass(frozen=True)
class Route:
    name: str
    path: str
    # That is posted; none: it is a GET.
    json: Optional[Path] = None
    status: int = 200
    plain: bool = True


ROUTES = [
    Route("fast", "/fast?n=3"),
    Route("small", "/small?n=3"),
    Route("json", "/json?n=3"),
    Route("rows", "/rows"),
    Route("order", "/order", COMPILED / "order.json"),
    Route("total", "/total", COMPILED / "order.json"),
    Route("typed path", "/typed/7/0.5"),
    Route("req and res", "/req?n=3"),
    Route("filter", "/filtered/fast?n=3", plain=False),
    Route("hook", "/hooked?n=3", plain=False),
    Route("error", "/error", status=500),
    Route("404", "/nowhere", status=404),
]


def run(plan, section):
    others = ["off", "plumber"]
    contenders = [compiled(1), uncompiled(1), Plumber(app=COMPILED)]
    if plan.before:
        others.append(BEFORE)
        contenders.append(before(1, plan.before))
    # What is not plain is to be as it was: without an earlier revision, as it is with nothing compiled.
    as_before = BEFORE if plan.before else "off"
    rows = []
    with Field(contenders) as field:
        _check(field)
        for route in ROUTES:
            print(f"    {route.name}", flush=True)
            client = OneClient(field, plan.native, route.path, json_file=route.json, status=route.status)
            rates = [number(client.rate(name), 0) for name in ("compiled", *others)]
            ratios = [client.ratio("compiled", other, key) for key in ("mean_ms", "p50_ms") for other in others]
            rows.append([route.name, *rates, *(number(ratio, 2, "x") for ratio in ratios)])
            section.measured[route.name] = client.ratio("compiled", "plumber" if route.plain else as_before)
        section.notes += field.notes
    heads = [*(f"to {other}" for other in others), *(f"p50 to {other}" for other in others)]
    section.tables.append(table(["1 worker, 1 client", "compiled", *others, *heads], rows))


def _check(field):
    """Everyone gives the same answers, before any of them is timed."""
    answers = {}
    for contender in list(field.running):
        try:
            for route in ROUTES:
                answer = _answer(contender, route)
                if answers.setdefault(route, answer) != answer:
                    raise Problem(f"{route.path} is not as from the others")
        except Problem as problem:
            field.drop(contender, problem)


def _answer(contender, route):
    if route.json is None:
        return request(contender.address, route.path, status=route.status)
    return request(contender.address, route.path, "POST", route.json.read_bytes(), "application/json", status=route.status)
