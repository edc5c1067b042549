"""How soon another process answers in place of a killed worker."""

import os
import signal
import time

from lib.faucet import Faucet
from lib.field import Field
from lib.http import request, wait_until
from lib.places import PRELOAD
from lib.problem import Problem
from lib.rounds import Rounds
from lib.suites.native.template import template
from lib.table import number, table

# A worker that dies sooner than 10 s after its start counts as failing, and its next start is put off.
SETTLED = 10.5
LOOK = 0.001


def run(plan, section):
    contenders = [
        Faucet(1, name, app=PRELOAD / "packages", worker_type="native", preload=preload)
        for name, preload in (("preload", True), ("without", False))
    ]
    with Field(contenders) as field:
        _drop_without_template(field)
        started = {contender.name: time.monotonic() for contender in field.running}
        rounds = Rounds(field, plan.kills, lambda contender, _: _replaced(contender, started))
        section.notes += field.notes
    ratio = rounds.ratio("preload", "without", "ms")
    times = [number(rounds.median(name, "ms"), 0) for name in ("preload", "without")]
    head = ["replacement answers, ms", "preload", "without", "to without"]
    section.tables.append(table(head, [[f"{plan.kills} kills", *times, number(ratio, 3, "x")]]))
    section.measured["replaced"] = ratio


def _replaced(contender, started):
    time.sleep(max(0, started[contender.name] + SETTLED - time.monotonic()))
    killed = int(request(contender.address, "/pid"))

    def another_answers():
        if int(request(contender.address, "/pid")) == killed:
            raise Problem(f"worker {killed} does not die")

    start = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    wait_until(contender.process, another_answers, pause=LOOK)
    started[contender.name] = time.monotonic()
    return {"ms": (started[contender.name] - start) * 1e3}


def _drop_without_template(field):
    for contender in field.running:
        if contender.name == "preload":
            try:
                template(contender)
            except Problem as problem:
                field.drop(contender, problem)
            return
