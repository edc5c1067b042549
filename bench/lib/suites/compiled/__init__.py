"""Compiled routes: what they gain over plumber's own way, in the same worker and by plumber itself."""

from lib.section import Section
from lib.suites.compiled import many, rates, share

TEXT = """\
One native worker whose routes are compiled (`compiled`), one that takes plumber's own way for all (`off`, FAUCET_COMPILE=false),
and plumber served by itself (`plumber`), all with the same API. One client keeps its connection alive and acknowledges at once
all that it gets (`TCP_QUICKACK` before each read), for httpuv's writes wait for that; the targets take turns every few
requests. Requests/s, and their ratios: above 1, compiled routes serve more; then the same of the median times (`p50`). With
an earlier revision, `off` and `before` are to be alike: where they differ, the machine was too busy. Two routes are not plain:
one is behind a user's filter, one has a hook.

Many clients: {workers} workers behind each, and HAProxy keeps its connections to plumber's workers (`reuse`) or closes them
after each request (`close`).

R's share: {connections} connections to the worker's own socket keep R busy. `R` is the CPU time of its thread
for each request, `handler` and `serializer` what these two take if the same process calls them in a loop (of the serializer,
the function that makes text of a value), and the share is that of these two. With plumber's whole serializer, which also sets
header fields of a response that it is given, it is `with response`. In microseconds."""

PARTS = {"one client": rates.run, "many clients": many.run, "share of R": share.run}


def run(plan):
    section = Section("Compiled routes", TEXT.format(workers=plan.workers, connections=share.CONNECTIONS))
    section.measure(plan, PARTS)
    return section
