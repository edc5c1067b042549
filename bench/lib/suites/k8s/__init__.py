"""`faucet::run_k8s()`: what going by a name costs, and what becomes of requests while replicas come and go."""

from lib.section import Section
from lib.suites.k8s import crowd, fronts, scaling, stubs

TEXT = """\
`run_k8s` takes its replicas from a name that dnsmasq answers for. Stubs stand for replicas, at addresses 127.x.y.z with
one port; only where two fronts share their replicas these are pods, each its own `faucet::run(workers = 1)`. wrk on one
thread asks. The CPU time is that of the process with the front alone.

When replicas are scaled, answers take 50 ms. *First request* is the time from the change of the name's addresses until
the last of the new replicas got its first request, *last request* until the last of the removed replicas got its last,
both in units of `refresh`; *too late* are requests that came to removed replicas more than one `refresh` after the change.

Two fronts have half of the clients each, and run before the same pods as the one front that they are compared with. The
pods' handler counts how many requests R has at once; it takes 50 ms in which R is free, so R would take more if it got them.
The share is that of the front that served less.

With very many replicas, stubs answer at once, so that a few of them serve a request as soon as it came, with all that
it needs still in the processor's caches, and a thousand do not; HAProxy's figures say what that is worth. When *paced*,
answers take 1 ms from the few and 400 ms from the many: either way, there are about as many in a second."""

PARTS = {
    "stub replicas": stubs.run,
    "scaling": scaling.run,
    "fronts": fronts.run,
    "many replicas": crowd.run,
}


def run(plan):
    section = Section("Kubernetes", TEXT)
    section.measure(plan, PARTS)
    return section
