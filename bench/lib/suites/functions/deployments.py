"""How long it takes until a new function answers."""

import json
import statistics
import time

from lib.agent import FaucetAgent
from lib.faucet import r_code
from lib.places import FUNCTIONS
from lib.problem import Problem
from lib.process import Process, output_of
from lib.table import number, table

LOADED = "library(faucet)"
COLUMNS = ["deploy()", "and a call", "from a new session", "Rscript"]
MUST_REACH = "from a new session"


def run(plan, section):
    with FaucetAgent("deployments") as agent:
        with Process(["Rscript", FUNCTIONS / "session.R", agent.address], talks=True) as session:
            _line(session)
            # For what is slow the first time in a session.
            _round(session, agent, "first")
            rounds = [_round(session, agent, f"round-{i}") for i in range(plan.deployments)]
    values = [number(statistics.median(one[column] for one in rounds), 0) for column in COLUMNS]
    ratios = {column: statistics.median(one[column] / one["Rscript"] for one in rounds) for column in COLUMNS[:-1]}
    rows = [
        ["ms", *values],
        ["to Rscript", *(number(ratio, 2, "x") for ratio in ratios.values()), ""],
    ]
    section.tables.append(table([f"{len(rounds)} deployments", *COLUMNS], rows))
    section.measured["deployed"] = ratios[MUST_REACH]


def _round(session, agent, name):
    """Times in ms."""
    session.popen.stdin.write(f"{name}\n")
    session.popen.stdin.flush()
    deployed, answered = json.loads(_line(session))
    own = f"new-{name}"
    to = r_code(agent.address)
    call = f'deploy(function(x) x, "{own}", {to}, quiet = TRUE); stopifnot(identical(invoke("{own}", 42, to = {to}), 42L))'
    started = {code: _timed(code) for code in (LOADED, f"{LOADED}; {call}")}
    alone, with_deployment = started.values()
    return {"deploy()": deployed, "and a call": answered, "from a new session": with_deployment, "Rscript": alone}


def _timed(code):
    start = time.monotonic()
    output_of(["Rscript", "-e", code])
    return 1e3 * (time.monotonic() - start)


def _line(session):
    line = session.popen.stdout.readline()
    if not line:
        raise Problem(f"the session has ended: {session.last_lines()}")
    return line
