"""What it costs that the replicas come from a name."""

from lib.dns import Dnsmasq
from lib.faucet import FaucetK8s, Front
from lib.field import Field
from lib.load import closed
from lib.rounds import Rounds
from lib.stub import Stub
from lib.table import number, table

REPLICAS = 4
CLIENTS = 64
NAMES = ("run_k8s", "faucet front")


def run(plan, section):
    timing = plan.stub
    with Stub(hosts=REPLICAS) as stub, Dnsmasq(api=stub.hosts) as dns:
        contenders = [FaucetK8s(REPLICAS, f"api.test:{stub.port}", dns), Front(stub.addresses)]
        with Field(contenders) as field:
            Rounds(field, 1, lambda contender, _: closed(contender, CLIENTS, 1))
            stub.seen()
            rounds = Rounds(field, timing.rounds, lambda contender, _: closed(contender, CLIENTS, timing.seconds))
            most = stub.seen()["most_per_port"]
            section.notes += field.notes
    rows = [
        ["requests/s", *_cells(rounds, "rate", 0)],
        ["CPU µs a request", *_cells(rounds, "cpu_us", 1)],
    ]
    head = [f"{REPLICAS} stub replicas, {CLIENTS} clients", *NAMES, "to faucet front"]
    section.tables.append(table(head, rows))
    section.notes.append(f"stub replicas: at most {most} in flight on one of them")
    section.measured["stubs"] = rounds.ratio(*NAMES, "rate")


def _cells(rounds, key, digits):
    values = [number(rounds.median(name, key), digits) for name in NAMES]
    return [*values, number(rounds.ratio(*NAMES, key), 2, "x")]
