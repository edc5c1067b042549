"""How much of R's time for a request is the handler's and the serializer's."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from urllib.parse import quote

from lib import saturation
from lib.field import Field
from lib.http import request
from lib.places import COMPILED
from lib.rounds import Rounds
from lib.saturation import CONNECTIONS
from lib.suites.compiled.servers import compiled, uncompiled
from lib.table import number, table

# Of each of the three things that are called in a loop.
ALONE_SECONDS = 0.3


@dataclass(frozen=True)
class Route:
    name: str
    # As the router has it.
    route: str
    # As it is asked for.
    path: str
    json: Optional[Path] = None

    def request(self):
        if self.json is None:
            return f"GET {self.path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        body = self.json.read_bytes()
        fields = f"Host: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        return f"POST {self.path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


ROUTES = [
    Route("fast", "/fast", "/fast?n=3"),
    Route("small", "/small", "/small?n=3"),
    Route("json", "/json", "/json?n=3"),
    Route("rows", "/rows", "/rows"),
    Route("order", "/order", "/order", COMPILED / "order.json"),
    Route("total", "/total", "/total", COMPILED / "order.json"),
    Route("typed path", "/typed/<id:int>/<share:double>", "/typed/7/0.5"),
]

HEAD = ["R's time, µs", "R", "handler", "serializer", "with response", "share", "share with response", "off: R", "off: share"]


def run(plan, section):
    rows = []
    with Field([compiled(1), uncompiled(1)]) as field:
        for route in ROUTES:
            print(f"    {route.name}", flush=True)
            rounds = Rounds(field, plan.native.rounds, lambda contender, _: _measure(contender, route, plan.native.seconds))
            times = [number(rounds.median("compiled", key), 1) for key in ("busy", "handler", "serializer", "whole")]
            shares = [_percent(rounds.median("compiled", key)) for key in ("share", "share with response")]
            off = [number(rounds.median("off", "busy"), 1), _percent(rounds.median("off", "share"))]
            rows.append([route.name, *times, *shares, *off])
            section.measured[f"share {route.name}"] = rounds.median("compiled", "share")
        section.notes += field.notes
    section.tables.append(table(HEAD, rows))


def _measure(contender, route, seconds):
    pid = contender.status()["workers"][0]["pid"]
    busy = saturation.busy(pid, route.request(), seconds)["busy"]
    alone = json.loads(request(contender.address, f"/alone?route={quote(route.route, safe='')}&seconds={ALONE_SECONDS}"))
    share = 100 * (alone["handler"] + alone["serializer"]) / busy
    whole = 100 * (alone["handler"] + alone["whole"]) / busy
    return {"busy": busy, **alone, "share": share, "share with response": whole}


def _percent(value):
    return number(value, 0, " %")
