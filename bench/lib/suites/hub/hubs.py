"""Two hubs that share the workers of one machine."""

from contextlib import ExitStack

from lib.dns import Dnsmasq
from lib.field import Field
from lib.hub import Hub, machine
from lib.load import shared
from lib.problem import Problem
from lib.rounds import Rounds
from lib.stub import Stub
from lib.table import number, table

CLIENTS = 64
PATHS = {"1 ms": "/sleep?s=0.001", "50 ms": "/sleep?s=0.05", "no time": "/fast"}
ONE, TWO = "one hub", "two hubs"


def run(plan, section):
    timing = plan.replicas
    # The same addresses for both, on ports of their own.
    with Stub(hosts=plan.workers) as stub, Stub(hosts=plan.workers) as other, Dnsmasq(api=stub.hosts) as dns:
        with Field([Hubs(ONE, 1, stub, dns), Hubs(TWO, 2, other, dns)]) as field:
            Rounds(field, 1, lambda hubs, _: hubs.load(1, PATHS["1 ms"]))
            for hubs in field.running:
                hubs.check(plan.workers)
            rounds = {
                name: Rounds(field, timing.rounds, lambda hubs, _: hubs.load(timing.seconds, path))
                for name, path in PATHS.items()
            }
            most = {hubs.name: hubs.stub.seen()["most_per_port"] for hubs in field.running}
            section.notes += field.notes
    head = [f"requests/s of {CLIENTS} clients", ONE, TWO, f"to {ONE}", "share"]
    section.tables.append(table(head, [_row(name, of_path) for name, of_path in rounds.items()]))
    section.notes.append(f"hubs: at most {most.get(TWO)} in flight at one worker with two hubs, {most.get(ONE)} with one")
    section.measured["hubs rate"] = rounds["1 ms"].ratio(TWO, ONE, "rate")
    section.measured["hubs in flight"] = most.get(TWO)


def _row(name, rounds):
    rates = [number(rounds.median(hubs, "rate"), 0) for hubs in (ONE, TWO)]
    share = rounds.median(TWO, "share")
    return [name, *rates, number(rounds.ratio(TWO, ONE, "rate"), 2, "x"), number(share and share * 100, 0, "%")]


class Hubs:
    """So many hubs, to all of which one machine offers the workers that the stub stands for; they are asked at the same time."""

    def __init__(self, name, count, stub, dns):
        self.name = name
        self.hubs = [Hub(f"hub {number}") for number in range(1, count + 1)]
        self.stub = stub
        self.dns = dns

    def __enter__(self):
        with ExitStack() as stack:
            for hub in self.hubs:
                stack.enter_context(hub)
            stack.enter_context(machine(f"api.test:{self.stub.port}", self.dns, self.hubs))
            self._stop = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self._stop()

    def load(self, seconds, path):
        return shared(self.hubs, CLIENTS, seconds, path)

    def check(self, workers):
        """Raises unless all workers serve; what came until then does not count."""
        served = self.stub.seen()["ports"]
        if served != workers:
            raise Problem(f"{self.name}: {served} of {workers} workers were asked")
