"""Very many replicas, and very many clients."""

from lib.dns import Dnsmasq
from lib.faucet import FaucetK8s
from lib.field import Field
from lib.load import closed
from lib.rounds import Rounds
from lib.stub import Stub
from lib.table import number, table

FEW, MANY = 4, 1000
CLIENTS = (64, 2000)
# With few replicas nearly all clients wait.
QUEUE = 4096


def run(plan, section):
    timing = plan.crowd
    rows = []
    with Stub(hosts=MANY) as stub, Dnsmasq(few=stub.hosts[:FEW], many=stub.hosts) as dns:
        contenders = [
            FaucetK8s(FEW, f"few.test:{stub.port}", dns, "few", queue=QUEUE),
            FaucetK8s(MANY, f"many.test:{stub.port}", dns, "many", queue=QUEUE),
        ]
        with Field(contenders) as field:
            Rounds(field, 1, lambda contender, _: closed(contender, max(CLIENTS), 2))
            for clients in CLIENTS:
                stub.seen()
                rounds = Rounds(field, timing.rounds, lambda contender, _: closed(contender, clients, timing.seconds))
                seen = stub.seen()
                rows.append(_row(clients, rounds))
                section.notes.append(
                    f"many replicas, {clients:,} clients: {seen['ports']:,} replicas were asked, at most "
                    f"{seen['most_per_port']} in flight on one of them"
                )
            section.notes += field.notes
    head = ["CPU µs a request", f"{FEW} replicas", f"{MANY:,} replicas", "to few", "requests/s of few", "of many"]
    section.tables.append(table(head, rows))
    section.measured["crowd"] = rounds.ratio("many", "few", "cpu_us")


def _row(clients, rounds):
    costs = [number(rounds.median(name, "cpu_us"), 1) for name in ("few", "many")]
    rates = [number(rounds.median(name, "rate"), 0) for name in ("few", "many")]
    return [f"{clients:,} clients", *costs, number(rounds.ratio("many", "few", "cpu_us"), 2, "x"), *rates]
