"""What a stage more costs."""

import statistics

from lib.agent import FaucetAgent, call_path, chain_path, deploy
from lib.load import turns
from lib.table import number, table

STAGES = 5
# Of the functions one after another, as a chain calls them; and of the first of them alone.
CALL, AGAIN = "call", "same again"


def run(plan, section):
    names = [f"f{number}" for number in range(1, STAGES + 1)]
    with FaucetAgent("stages") as agent:
        for name in names:
            deploy(agent, "function(x) x", name, 1)
        paths = [call_path(name) for name in names]
        targets = {CALL: f"http1:{agent.address}{','.join(paths)}", AGAIN: f"http1:{agent.address}{paths[0]}"}
        for stages in range(1, STAGES + 1):
            targets[str(stages)] = f"http1:{agent.address}{chain_path(names[:stages])}"
        rounds = [turns(targets, 1, plan.stages.seconds) for _ in range(plan.stages.rounds)]
    added = [_added(sample) for sample in rounds]
    ratios = {
        call: statistics.median(one / sample[call]["p50_ms"] for one, sample in zip(added, rounds)) for call in (CALL, AGAIN)
    }
    times = [number(statistics.median(sample[name]["p50_ms"] for sample in rounds), 2) for name in targets]
    head = ["p50, ms", CALL, AGAIN, *(f"{stages} stages" for stages in range(1, STAGES + 1)), "added by a stage", *(f"to {call}" for call in ratios)]
    shown = [number(statistics.median(added), 2), *(number(ratio, 2, "x") for ratio in ratios.values())]
    section.tables.append(table(head, [["function(x) x", *times, *shown]]))
    section.measured["stage"] = ratios[CALL]
    section.measured["stage again"] = ratios[AGAIN]


def _added(sample):
    return (sample[str(STAGES)]["p50_ms"] - sample["1"]["p50_ms"]) / (STAGES - 1)
