"""Very many functions that nobody calls, and the first call of one."""

import json
import statistics
import time

from lib import proc
from lib.agent import FaucetAgent, call_path, deploy, details
from lib.http import request, wait_until
from lib.problem import Problem
from lib.process import Process, output_of
from lib.table import number, table

FIRST = "f-0"
# Seconds without a call until a function's worker leaves.
SHRINK_AFTER = 1
ASLEEP_SECONDS = 180
# For the processes of workers that have just left.
SETTLE = 2
# For all of them to be deployed.
DEPLOY_SECONDS = 300
MB = 2**20
BODY = b"42"
STARTS = {"R": ["Rscript", "-e", "0"], "R that loads faucet": ["Rscript", "-e", "loadNamespace('faucet')"]}


def run(plan, section):
    with FaucetAgent("asleep", shrink_after=SHRINK_AFTER) as agent:
        pid = agent.pids()[0]
        template = wait_until(agent.process, lambda: _template(pid))
        empty = proc.memory([pid]) / MB
        names = _deploy_many(agent, plan.functions)
        wait_until(agent.process, lambda: _check_asleep(agent, plan.functions), ASLEEP_SECONDS)
        time.sleep(SETTLE)
        processes = len(proc.descendants(pid)) - 1
        full, of_template = (proc.memory([one]) / MB for one in (pid, template))
        rounds = [_cold(agent, name) for name in names[1 : plan.cold_calls + 1]]
    cells = [number(value, 1) for value in (full, empty, of_template, _bare())]
    head = ["MB", f"agent, {plan.functions:,} functions", "without functions", "template", "R with nothing loaded"]
    section.tables.append(table(head, [["asleep", *cells]]))
    columns = ["cold call", *STARTS]
    times = [number(statistics.median(one[column] for one in rounds), 0) for column in columns]
    ratios = {start: statistics.median(one["cold call"] / one[start] for one in rounds) for start in STARTS}
    head = ["ms", *columns, *(f"to {start}" for start in STARTS)]
    shown = [number(ratio, 3, "x") for ratio in ratios.values()]
    section.tables.append(table(head, [[f"{len(rounds)} functions", *times, *shown]]))
    section.measured["processes"] = processes
    section.measured["memory"] = full
    section.measured["cold"] = ratios["R"]


def _deploy_many(agent, count):
    """The first is deployed from R, all others have its files under names of their own."""
    deploy(agent, "function(x) x", FIRST, [0, 1])
    definition = details(agent, FIRST)["definition"]
    names = [f"f-{number}" for number in range(count)]
    others = [{**definition, "name": name} for name in names[1:]]
    path = f"/deploy?wait={DEPLOY_SECONDS}"
    told = json.loads(request(agent.address, path, "POST", json.dumps(others), "application/json", DEPLOY_SECONDS + 30))
    failed = [one for one in told if one["status"] != "deployed"]
    if failed:
        raise Problem(f"{len(failed)} functions are not deployed, such as {failed[0]}")
    return names


def _template(agent):
    """Its pid: the only process that an agent without functions has."""
    found = proc.children(agent)
    if len(found) != 1:
        raise Problem(f"the agent has {len(found)} processes, and should have a template")
    return found[0]


def _check_asleep(agent, count):
    """Raises unless so many functions are there, and none has a worker."""
    workers = [one["workers"] for one in details(agent)]
    if len(workers) != count or sum(workers):
        raise Problem(f"{len(workers)} functions have {sum(workers)} workers")


def _cold(agent, name):
    """A cold call's time and those of fresh starts, in ms."""
    times = {"cold call": _timed(lambda: _answered(agent, name))}
    for start, command in STARTS.items():
        times[start] = _timed(lambda: output_of(command))
    return times


def _answered(agent, name):
    answer = request(agent.address, call_path(name), "POST", BODY, "application/json")
    if answer != BODY:
        raise Problem(f"{name} gave {answer[:200]!r}")


def _timed(work):
    start = time.monotonic()
    work()
    return 1e3 * (time.monotonic() - start)


def _bare():
    """The memory of an R session that only waits."""
    with Process(["Rscript", "-e", "cat('ready\\n'); invisible(readLines(file('stdin'), 1))"], talks=True) as session:
        session.popen.stdout.readline()
        return proc.memory([session.pid]) / MB
