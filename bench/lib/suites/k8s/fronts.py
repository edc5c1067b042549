"""Two fronts that share their pods."""

from contextlib import ExitStack

from lib.dns import Dnsmasq
from lib.faucet import FaucetK8s
from lib.field import Field
from lib.load import shared
from lib.pods import Pods
from lib.rounds import Rounds
from lib.table import number, table

PODS = 4
CLIENTS = 64
HELD = "/held?s=0.05"
FAST = "/fast"


def run(plan, section):
    with Pods(PODS) as pods, Dnsmasq(api=pods.hosts) as dns:
        with Field([Fronts("one front", 1, pods, dns), Fronts("two fronts", 2, pods, dns)]) as field:
            Rounds(field, 1, lambda fronts, _: fronts.load(1, FAST))
            held = Rounds(field, plan.fronts.rounds, lambda fronts, _: fronts.load(plan.fronts.seconds, HELD))
            fast = Rounds(field, plan.stub.rounds, lambda fronts, _: fronts.load(plan.stub.seconds, FAST))
            section.notes += field.notes
        most = pods.most_in_r()
    rows = [_row("50 ms", held), _row("fast", fast)]
    head = [f"{PODS} pods, {CLIENTS} clients", "one front", "two fronts", "to one front", "share"]
    section.tables.append(table(head, rows))
    section.notes.append(f"fronts: at most {most} in flight in the R process of one pod")
    section.measured["fronts"] = held.ratio("two fronts", "one front", "rate")
    section.measured["in flight"] = most


def _row(name, rounds):
    rates = [number(rounds.median(fronts, "rate"), 0) for fronts in ("one front", "two fronts")]
    ratio = rounds.ratio("two fronts", "one front", "rate")
    share = rounds.median("two fronts", "share")
    return [name, *rates, number(ratio, 2, "x"), number(share and share * 100, 0, "%")]


class Fronts:
    """Several fronts over the same pods, which are asked at the same time."""

    def __init__(self, name, count, pods, dns):
        self.name = name
        self.fronts = [FaucetK8s(PODS, f"api.test:{pods.port}", dns) for _ in range(count)]

    def __enter__(self):
        with ExitStack() as stack:
            for front in self.fronts:
                stack.enter_context(front)
            self._stop = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self._stop()

    def load(self, seconds, path):
        return shared(self.fronts, CLIENTS, seconds, path)
