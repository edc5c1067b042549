"""A proxy over several agents beside one agent with as many workers."""

from lib.agent import FaucetAgent, FaucetProxy, call_path, deploy, details
from lib.faucet import r_code
from lib.field import Field
from lib.http import request
from lib.load import tried
from lib.places import FUNCTIONS
from lib.problem import Problem
from lib.rounds import Rounds
from lib.table import number, table

AGENTS = 4
CLIENTS = 64
MANY, ONE = f"proxy, {AGENTS} agents", "one agent"
# R code of what is deployed, by the name.
DEPLOYED = {"held": r_code(str(FUNCTIONS / "held")), "identity": "function(x) x"}
SCRIPTS = {"held": "report.lua", "identity": "number.lua"}
SHOWN = {"held": "50 ms", "identity": "function(x) x"}


def run(plan, section):
    proxy, alone = FaucetProxy(AGENTS, MANY), FaucetAgent(ONE)
    with Field([proxy, alone]) as field:
        for name, function in DEPLOYED.items():
            deploy(proxy, function, name, 1, replicas=AGENTS)
            deploy(alone, function, name, AGENTS)
        timings = {"held": plan.fronts, "identity": plan.replicas}
        rounds = {name: _rounds(field, timing, name) for name, timing in timings.items()}
        served = {name: [details(agent, name)["requests"] for agent in proxy.agents] for name in timings}
        _check(proxy.agents)
        most = max(int(request(agent.address, call_path("held/most"))) for agent in proxy.agents)
        section.notes += field.notes
    rows = [_row(name, of_name, served[name]) for name, of_name in rounds.items()]
    head = [f"{AGENTS} workers, {CLIENTS} clients", MANY, ONE, f"to {ONE}", "share"]
    section.tables.append(table(head, rows))
    failed = sum(sample["errors"] for of_name in rounds.values() for samples in of_name.samples.values() for sample in samples)
    section.notes.append(f"agents: at most {most} in flight in the R process of one agent; {failed} requests failed")
    section.measured["agents"] = rounds["held"].ratio(MANY, ONE, "rate")
    section.measured["in flight"] = most
    section.measured["failed"] = failed


def _check(agents):
    """Raises if a worker was replaced: what it has counted would be lost."""
    restarts = sum(worker["restarts"] for agent in agents for worker in agent.status()["workers"])
    if restarts:
        raise Problem(f"workers were replaced {restarts} times")


def _rounds(field, timing, name):
    def load(contender, seconds):
        return tried(contender, CLIENTS, seconds, call_path(name), SCRIPTS[name])

    Rounds(field, 1, lambda contender, _: load(contender, 1))
    return Rounds(field, timing.rounds, lambda contender, _: load(contender, timing.seconds))


def _row(name, rounds, served):
    rates = [number(rounds.median(contender, "rate"), 0) for contender in (MANY, ONE)]
    share = min(served) / max(sum(served), 1)
    return [SHOWN[name], *rates, number(rounds.ratio(MANY, ONE, "rate"), 2, "x"), number(share * 100, 0, "%")]
