"""A long stream through three stages, beside three programs `cat` with sockets between them."""

from lib import build, proc
from lib.agent import FaucetAgent, chain_path, deploy
from lib.field import Field
from lib.load import flow
from lib.rounds import Rounds
from lib.table import number, table

STREAM = "function(input, output) while (!is.null(chunk <- input$read())) output$write(chunk)"
R, COMMANDS, CATS = "streams in R", "commands", "cat"
CHAINS = {R: ["a", "b", "c"], COMMANDS: ["x", "y", "z"]}
MB = 2**20


class Way:
    """Through which the stream goes: a target of the tool `flow`."""

    def __init__(self, name, through):
        self.name = name
        self.through = through


def run(plan, section):
    build.tools()
    with FaucetAgent("chains") as agent:
        for name in CHAINS[R]:
            deploy(agent, STREAM, name, 1, stream=True)
        for name in CHAINS[COMMANDS]:
            deploy(agent, None, name, 1, command="cat")
        ways = [Way(CATS, "cats"), *(Way(name, agent.address + chain_path(chain)) for name, chain in CHAINS.items())]
        with Field([]) as field:
            field.running = ways
            rounds = Rounds(field, plan.stream_rounds, lambda way, _: _sample(agent, way, plan.stream_mib))
            section.notes += field.notes
    names = [way.name for way in ways]
    rates = [number(rounds.median(name, "rate"), 0) for name in names]
    ratios = {name: rounds.ratio(name, CATS, "rate") for name in CHAINS}
    head = ["MB/s", *names, *(f"{name} to {CATS}" for name in CHAINS)]
    shown = [number(ratio, 2, "x") for ratio in ratios.values()]
    section.tables.append(table(head, [[f"{plan.stream_mib:,} MiB", *rates, *shown]]))
    grown = {name: [_most(rounds, name, of) for of in ("agent", "worker")] for name in CHAINS}
    rows = [[name, *(number(value, 1) for value in of_name)] for name, of_name in grown.items()]
    section.tables.append(table(["MB more", "agent", "worker"], rows))
    section.measured["stream"] = ratios[R]
    if None not in grown[R]:
        section.measured["stream memory"] = max(grown[R])


def _most(rounds, name, key):
    return max((sample[key] for sample in rounds.samples.get(name, [])), default=None)


def _sample(agent, way, mib):
    """MB/s, and by how many MB the peaks exceed what was there before."""
    own = agent.pids()[0]
    pids = [own, *proc.descendants(own)]
    for pid in pids:
        proc.forget_peak(pid)
    before = {pid: proc.resident(pid) for pid in pids}
    load = flow(way.through, mib)
    # A worker that is gone by now would be one that failed, and is a Problem.
    grown = {pid: (proc.peak(pid) - before[pid]) / MB for pid in pids}
    others = [grown[pid] for pid in pids[1:]]
    return {"rate": load["bytes"] / load["seconds"] / 1e6, "agent": grown[own], "worker": max(others)}
