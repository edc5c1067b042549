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


BEFORE = "before"

BEFORE_TEXT = """

`before` is faucet's front as it was at {revision}, in the same rounds."""


def run(plan):
    section = Section("Stub upstreams", TEXT.format(ports=plan.workers))
    before = []
    if plan.before:
        section.text += BEFORE_TEXT.format(revision=plan.before)
        before = [BEFORE]
    rates, costs = [], []
    with Stub(plan.workers) as stub, Field(_proxies(stub, plan.before)) as field:
        section.notes += _overlap(field, stub)
        # Already started, so it only joins the rounds.
        field.running.append(stub)
        for clients in CLIENTS:
            print(f"  {clients} clients", flush=True)
            rounds = Rounds(field, plan.stub.rounds, lambda contender, _: closed(contender, clients, plan.stub.seconds))
            proxies = ["faucet front", "HAProxy", "nginx"]
            rates.append(_row(clients, rounds, "rate", [*proxies, "no proxy"], before, digits=0))
            costs.append(_row(clients, rounds, "cpu_us", proxies, before, digits=1))
            section.measured[f"rate {clients}"] = rounds.ratio("faucet front", "HAProxy", "rate")
            section.measured[f"cpu {clients}"] = rounds.ratio("faucet front", "HAProxy", "cpu_us")
        section.notes += field.notes
    section.tables = [
        table(["requests/s", *proxies, "no proxy", *_others(before)], rates),
        table(["CPU µs a request", *proxies, *_others(before)], costs),
    ]
    return section


def _proxies(stub, before):
    proxies = [Front(stub.addresses), HAProxy("HAProxy", stub.addresses), Nginx("nginx", stub.addresses)]
    return [*proxies, Front(stub.addresses, BEFORE, before)] if before else proxies


def _others(before):
    return [f"to {other}" for other in ("HAProxy", "nginx", *before)]


def _row(clients, rounds, key, names, before, digits):
    values = [number(rounds.median(name, key), digits) for name in names]
    ratios = [number(rounds.ratio("faucet front", other, key), 2, "x") for other in ("HAProxy", "nginx", *before)]
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
