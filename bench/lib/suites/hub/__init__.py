"""`faucet::run_hub()`: what it costs that workers dial in."""

from lib.section import Section
from lib.suites.hub import hubs, idle, r, work

TEXT = """\
faucet's hub, without R, hands requests to slots that the stub offers: kept-alive connections that it dialled. The front alone
dials as many stubs itself. The work takes 1 ms, or no time. `POTHEAD` is the same hub with unmodified workers of POTHEAD
{version}, a process each, for an app that sleeps as long: they open a connection for each request, and pause for a second before,
as they come; *without pauses* they are told not to. wrk on one thread asks.

*Added* is the time of a request of one client at p50, without the work's 1 ms.

Idle slots are a stub's as well. One client asks a hub of one slot and a hub of many in turns, in ms: what the many add is what it
takes longer to find one of them. The memory (proportional set size) is that of the hub when all are there, after the
load, and after many of them were in use at once, each for a client: what it took for these, the allocator keeps.

Two hubs have half of the clients each; one worker machine, a whole faucet without R, offers its {workers} workers to both,
which are stubs at addresses of their own. The share is that of the hub that served less."""

PARTS = {
    "work": work.rates,
    "latency": work.times,
    "idle slots": idle.run,
    "two hubs": hubs.run,
    "R workers": r.run,
}


def run(plan):
    section = Section("Workers that dial in", TEXT.format(version=work.POTHEAD_VERSION, workers=plan.workers))
    section.measure(plan, PARTS)
    return section
