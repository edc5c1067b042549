"""Native workers: what they gain over plumber's own server, and what only they can do."""

from lib.section import Section
from lib.suites.native import cancelling, memory, rates, replacing, streaming

TEXT = """\
Workers that faucet serves in itself (`native`), those that serve HTTP by httpuv behind it (`http`), and plumber served
by itself (`plumber`), all with the same API. One client keeps its connection alive and acknowledges at once all that
it gets (`TCP_QUICKACK` before each read), for httpuv's writes wait for that; the targets take turns every few requests.
Ratios are of requests/s: above 1, native serves more.

A client that leaves does so while R is in a handler of 30 s, and another's request is sent in that moment: the time
until it is answered. A stream's first event holds the time at which it was written: the time until its client, on a
new connection, has it, while the handler goes on. A killed worker (SIGKILL) was the only one: the time until a new
process answers, with and without a template to fork it from; the app loads data.table, dplyr and ggplot2. The memory
(proportional set size) is that of {workers} workers forked from a template, the template's with it, after at least
{requests} requests each, and that of one worker just started without: each app made 500 MB of numbers as it loaded."""

PARTS = {
    "one client": rates.one_client,
    "many clients": rates.many_clients,
    "leaving": cancelling.run,
    "events": streaming.run,
    "replacement": replacing.run,
    "memory": memory.run,
}


def run(plan):
    section = Section("Native workers", TEXT.format(workers=memory.WORKERS, requests=memory.REQUESTS))
    section.measure(plan, PARTS)
    return section
