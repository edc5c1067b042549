"""The same call over gRPC and over HTTP."""

import statistics

from lib.agent import FaucetAgent, call_path, deploy
from lib.load import turns
from lib.table import number, table

NAME = "identity"
CLIENTS = (1, 32)
OTHERS = ("HTTP/1.1", "HTTP/2")


def run(plan, section):
    rows = []
    with FaucetAgent("rpc") as agent:
        deploy(agent, "function(x) x", NAME, plan.workers)
        path = agent.address + call_path(NAME)
        targets = {"gRPC": f"grpc:{agent.address}/{NAME}", "HTTP/1.1": f"http1:{path}", "HTTP/2": f"http2:{path}"}
        for clients in CLIENTS:
            rounds = [turns(targets, clients, plan.stages.seconds) for _ in range(plan.stages.rounds)]
            rates = [number(statistics.median(_rate(sample[name]) for sample in rounds), 0) for name in targets]
            ratios = {other: statistics.median(_rate(one["gRPC"]) / _rate(one[other]) for one in rounds) for other in OTHERS}
            rows.append([clients, *rates, *(number(ratio, 2, "x") for ratio in ratios.values())])
            for other, ratio in ratios.items():
                section.measured[f"grpc {clients} {other}"] = ratio
    head = ["requests/s, clients", *targets, *(f"gRPC to {other}" for other in OTHERS)]
    section.tables.append(table(head, rows))


def _rate(told):
    return told["requests"] / told["seconds"]
