"""The cost of the proxies themselves: a stub in place of R."""

from lib.faucet import Front
from lib.field import Field
from lib.haproxy import HAProxy
from lib.load import closed
from lib.nginx import Nginx
from lib.problem import Problem
from lib.rounds import Rounds
from lib.section import Section
from lib.stub import Stub
from lib.table import number, table

CLIENTS = (1, 4, 64)

TEXT = """\
{ports} stub upstreams on one thread answer at once; wrk on one thread asks. Requests/s, and CPU time of the proxy's
own processes for each request. `no proxy` is wrk on the stub itself: how far the load goes. The ratios are faucet's
front to the other: of the requests/s, above 1 is better for faucet; of the CPU time, below 1."""


def run(plan):
    section = Section("Stub upstreams", TEXT.format(ports=plan.workers))
    rates, costs = [], []
    with Stub(plan.workers) as stub, Field(_proxies(stub)) as field:
        section.notes += _overlap(field, stub)
        # Already started, so it only joins the rounds.
        field.running.append(stub)
        for clients in CLIENTS:
            print(f"  {clients} clients", flush=True)
            rounds = Rounds(field, plan.stub.rounds, lambda contender, _: closed(contender, clients, plan.stub.seconds))
            rates.append(_row(clients, rounds, "rate", ["faucet front", "HAProxy", "nginx", "no proxy"], digits=0))
            costs.append(_row(clients, rounds, "cpu_us", ["faucet front", "HAProxy", "nginx"], digits=1))
            section.measured[f"rate {clients}"] = rounds.ratio("faucet front", "HAProxy", "rate")
            section.measured[f"cpu {clients}"] = rounds.ratio("faucet front", "HAProxy", "cpu_us")
        section.notes += field.notes
    section.tables = [
        table(["requests/s", "faucet front", "HAProxy", "nginx", "no proxy", "to HAProxy", "to nginx"], rates),
        table(["CPU µs a request", "faucet front", "HAProxy", "nginx", "to HAProxy", "to nginx"], costs),
    ]
    return section


def _proxies(stub):
    return [Front(stub.addresses), HAProxy("HAProxy", stub.addresses), Nginx("nginx", stub.addresses)]


def _row(clients, rounds, key, names, digits):
    values = [number(rounds.median(name, key), digits) for name in names]
    ratios = [number(rounds.ratio("faucet front", other, key), 2, "x") for other in ("HAProxy", "nginx")]
    return [f"{clients} clients" if clients > 1 else "1 client", *values, *ratios]


def _overlap(field, stub):
    """Also warms every proxy up."""
    for contender in list(field.running):
        stub.seen()
        try:
            closed(contender, 64, 1)
        except Problem as problem:
            field.drop(contender, problem)
            continue
        seen = stub.seen()
        yield (
            f"{contender.name}: at most {seen['most_per_port']} in flight on one upstream, "
            f"{seen['most_per_connection']} on one connection"
        )
