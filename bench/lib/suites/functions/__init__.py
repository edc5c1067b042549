"""`faucet::run_agent()` and `faucet::run_proxy()`: what a deployed function costs, and what it saves."""

from lib.section import Section
from lib.suites.functions import agents, asleep, calls, deployments

TEXT = """\
`function(x) x` with {workers} workers, called through a proxy and its agent, and straight at that agent; and the same as a
route of plumber's, served by `faucet::run()` with as many workers of the same kind (native), whose handler returns what plumber
made of the body. All get the same request, a POST with a small body of JSON, an object or a number, and give the same answer:
that JSON. wrk on one thread asks. The ratios that must be reached are those of the object; for a number a function does
without jsonlite.

A proxy has {agents} agents with one worker each, and stands beside one agent with {agents} workers. What takes 50 ms is a small
API that httpuv serves in its worker; it counts how many requests R has at once, and leaves R free meanwhile, so R would take more
if it got them. The share is that of the agent that served least.

{many} functions with `workers = c(0, 1)` are deployed at one agent, and nobody calls them: the processes, and the memory
(proportional set size) of the agent's R session with all, of one without functions, of the template that workers are forked
from, and of an R session in which nothing is loaded. A cold call is the first since its function fell asleep, over a new
connection; it takes turns with a fresh start of R (`Rscript -e 0`), and with one of R that loads faucet, as a worker without a
template does before it can answer.

A small function is deployed under a new name, until `deploy()` has returned and the function has answered a call: from a session
that has faucet loaded, and from a new one (`Rscript`), whose own start then counts. The time is set against that of
`Rscript -e 'library(faucet)'` in the same round."""

PARTS = {
    "calls": calls.run,
    "agents": agents.run,
    "asleep": asleep.run,
    "deployments": deployments.run,
}


def run(plan):
    section = Section("Functions", TEXT.format(workers=plan.workers, agents=agents.AGENTS, many=f"{plan.functions:,}"))
    section.measure(plan, PARTS)
    return section
