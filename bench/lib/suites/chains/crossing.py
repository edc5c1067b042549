"""Very many chains that cross, half of which are cancelled."""

from lib.agent import FaucetAgent, call_path, deploy, details
from lib.http import request, wait_until
from lib.load import crossing
from lib.problem import Problem
from lib.suites.chains.streams import STREAM
from lib.table import number, table

FUNCTIONS = {"a": "function(x) x", "b": STREAM, "c": "function(x) x", "d": STREAM}
CLIENTS = 64
FREE_SECONDS = 60
BODY = b"free"


def run(plan, section):
    with FaucetAgent("crossing") as agent:
        for name, function in FUNCTIONS.items():
            deploy(agent, function, name, 1, stream=function == STREAM)
        told = crossing(agent, FUNCTIONS, plan.chains, CLIENTS)
        stuck = _stuck(agent)
        restarts = sum(worker["restarts"] for worker in agent.status()["workers"])
    answered = told["answered"]
    cells = [answered["requests"], told["cancelled"], told["early"], told["failed"], told["hung"], stuck]
    times = [number(answered[key], 0) for key in ("p50_ms", "p99_ms")]
    head = ["chains", "answered", "cancelled", "answered before", "failed", "hang", "functions not free", "p50, ms", "p99, ms"]
    section.tables.append(table(head, [[f"{plan.chains:,}", *(number(cell, 0) for cell in cells), *times]]))
    if restarts:
        section.notes.append(f"crossing: workers were replaced {restarts} times")
    if told["failure"]:
        section.notes.append(f"crossing: the first that failed: {told['failure']}")
    section.measured["hung"] = told["hung"]
    section.measured["chains failed"] = told["failed"]
    section.measured["not free"] = stuck


def _stuck(agent):
    """How many functions do not have their worker, have a queue, or do not answer: in the end, if it takes a while."""
    found = {}

    def look():
        found.clear()
        for one in details(agent):
            if one["workers"] != 1 or one["queue"]:
                found[one["name"]] = f"{one['workers']} workers, queue {one['queue']}"
        for name in FUNCTIONS:
            try:
                answer = request(agent.address, call_path(name), "POST", BODY, timeout=5)
            except Problem as problem:
                found[name] = str(problem)
            else:
                if answer != BODY:
                    found[name] = f"gave {answer[:200]!r}"
        if found:
            raise Problem(str(found))

    try:
        wait_until(agent.process, look, FREE_SECONDS)
    except Problem as problem:
        print(f"  {problem}", flush=True)
        agent.process.check()
    return len(found)
