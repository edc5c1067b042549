"""A function through proxy and agent, straight at the agent, and as a route of plumber's."""

from lib.agent import FaucetProxy, call_path, deploy
from lib.faucet import Faucet
from lib.field import Field
from lib.http import request
from lib.load import closed
from lib.problem import Problem
from lib.rounds import Rounds
from lib.table import number, table

CLIENTS = (1, 32)
NAME = "identity"
# What is sent, by the name of wrk's script.
BODIES = {"object": b'{"name":"faucet","values":[1,2,3]}', "number": b"42"}
MUST_REACH = "object"
PROXY, AGENT, PLUMBER = "proxy", "agent", "plumber"
OURS = (PROXY, AGENT)


def run(plan, section):
    proxy = FaucetProxy(1, PROXY)
    with Field([proxy, Faucet(plan.workers, PLUMBER)]) as field:
        paths = {PROXY: call_path(NAME), AGENT: call_path(NAME), PLUMBER: f"/{NAME}"}
        if proxy in field.running:
            deploy(proxy, "function(x) x", NAME, plan.workers)
            # Already started, so it only joins the rounds.
            agent = proxy.agents[0]
            agent.name = AGENT
            field.running.append(agent)
        _check(field, paths)
        rows = []
        for body in BODIES:
            for clients in CLIENTS:
                rounds = _rounds(field, plan.replicas, body, clients, paths)
                rows.append([body, clients, *_cells(rounds)])
                if body == MUST_REACH:
                    for name in OURS:
                        section.measured[f"{name} {clients}"] = rounds.ratio(name, PLUMBER, "rate")
        section.notes += field.notes
    names = [*OURS, PLUMBER]
    head = ["requests/s", "clients", *names, *(f"{name} to {PLUMBER}" for name in OURS)]
    section.tables.append(table(head, rows))


def _check(field, paths):
    """Everyone gives the body back, before any of them is timed."""
    for contender in list(field.running):
        try:
            for body in BODIES.values():
                answer = request(contender.address, paths[contender.name], "POST", body, "application/json")
                if answer != body:
                    raise Problem(f"{body!r} came back as {answer[:200]!r}")
        except Problem as problem:
            field.drop(contender, problem)


def _rounds(field, timing, body, clients, paths):
    def load(contender, seconds):
        return closed(contender, clients, seconds, paths[contender.name], f"{body}.lua")

    Rounds(field, 1, lambda contender, _: load(contender, 1))
    return Rounds(field, timing.rounds, lambda contender, _: load(contender, timing.seconds))


def _cells(rounds):
    rates = [number(rounds.median(name, "rate"), 0) for name in (*OURS, PLUMBER)]
    return [*rates, *(number(rounds.ratio(name, PLUMBER, "rate"), 2, "x") for name in OURS)]
