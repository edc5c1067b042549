"""Chains of functions, and functions over gRPC: what streams, stages and calls cost, and whether chains that cross end."""

from lib.section import Section
from lib.suites.chains import crossing, rpc, stages, streams

TEXT = """\
{mib:,} MiB go through `a|b|c` at an agent, in the body of one POST of HTTP/1.1, and come back while they are sent: three streams
in R, `function(input, output) while (!is.null(chunk <- input$read())) output$write(chunk)`, with a worker each; and three
programs `cat`, each started for the request. Beside them, the same client sends as much through three programs `cat`, each of
which reads from a loopback socket of its own. The memory is by how much the peak of a process's resident set exceeds what it was
before: of the agent's R session, and of the worker's that grew most; programs run no longer than their request and are not
counted.

Chains of one to {stages} functions `function(x) x` with a worker each, of which one keep-alive client asks all in turns, with a
small body of JSON. Beside them are calls: of the same functions by their own paths, one after another, each of whose workers is
then as long without work as in a chain; and of one of them again and again. The time of an added stage is what the longest chain
takes more than a chain of one, divided by the stages it has more; it is set against both.

{chains:,} chains cross: {clients} clients call two to four of four functions with one worker each in drawn orders, two of them
`function(x) x` and two streams, with up to 64 KiB. Every second client leaves after up to 100 ms, wherever its chain is then;
what has no answer after 60 s hangs. Then each function must have its worker and no queue, and answer.

`function(x) x` is called by the same client over gRPC (`Call`, unary), HTTP/1.1 and HTTP/2, over a connection for each of the
clients, in turns of 100 ms."""

PARTS = {
    "streams": streams.run,
    "stages": stages.run,
    "crossing": crossing.run,
    "rpc": rpc.run,
}


def run(plan):
    text = TEXT.format(mib=plan.stream_mib, stages=stages.STAGES, chains=plan.chains, clients=crossing.CLIENTS)
    section = Section("Chains", text)
    section.measure(plan, PARTS)
    return section
