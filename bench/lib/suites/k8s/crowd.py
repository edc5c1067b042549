"""Very many replicas, and very many clients."""

from lib.dns import Dnsmasq
from lib.faucet import FaucetK8s
from lib.field import Field
from lib.haproxy import HAProxy
from lib.load import closed
from lib.rounds import Rounds
from lib.stub import Stub
from lib.table import number, table

FEW, MANY = 4, 1000
SOME_CLIENTS, CLIENTS = 64, 2000
# With few replicas nearly all clients wait.
QUEUE = 4096
# Answers take as long as lets few replicas and many be asked about as often in a second.
PACES = {"few": "/sleep?s=0.001", "many": "/sleep?s=0.4"}

HEAD = ["CPU µs a request", f"{FEW} replicas", f"{MANY:,} replicas", "to few", "requests/s of few", "of many"]


def run(plan, section):
    timing, shown = plan.crowd, plan.crowd_shown
    with Stub(hosts=MANY) as stub, Dnsmasq(few=stub.hosts[:FEW], many=stub.hosts) as dns:
        fronts = [
            FaucetK8s(FEW, f"few.test:{stub.port}", dns, "few", queue=QUEUE),
            FaucetK8s(MANY, f"many.test:{stub.port}", dns, "many", queue=QUEUE),
        ]
        others = [HAProxy("HAProxy few", stub.addresses[:FEW]), HAProxy("HAProxy many", stub.addresses)]
        with Field(fronts) as field, Field(others) as joining:
            Rounds(field, 1, lambda contender, _: closed(contender, CLIENTS, 2))
            some = Rounds(field, shown.rounds, lambda contender, _: closed(contender, SOME_CLIENTS, shown.seconds))
            slow = Rounds(field, shown.rounds, lambda front, _: closed(front, CLIENTS, shown.seconds, PACES[front.name]))
            seen = stub.seen()
            # Already started, so they only join the rounds.
            field.running += joining.running
            crowd = Rounds(field, timing.rounds, lambda contender, _: closed(contender, CLIENTS, timing.seconds))
            section.notes += joining.notes + field.notes
    rows = [
        _row(f"run_k8s, {SOME_CLIENTS} clients", some),
        _row(f"run_k8s, {CLIENTS:,} clients", crowd),
        _row(f"run_k8s, {CLIENTS:,} clients, paced", slow),
        _row(f"HAProxy, {CLIENTS:,} clients", crowd, "HAProxy "),
    ]
    section.tables.append(table(HEAD, rows))
    section.notes.append(
        f"many replicas: {seen['ports']:,} were asked, at most {seen['most_per_port']} in flight on one of them"
    )
    section.measured["crowd"] = crowd.ratio("many", "few", "cpu_us")


def _row(name, rounds, prefix=""):
    few, many = f"{prefix}few", f"{prefix}many"
    costs = [number(rounds.median(one, "cpu_us"), 1) for one in (few, many)]
    rates = [number(rounds.median(one, "rate"), 0) for one in (few, many)]
    return [name, *costs, number(rounds.ratio(many, few, "cpu_us"), 2, "x"), *rates]
