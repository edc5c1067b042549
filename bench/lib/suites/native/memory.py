"""The memory of preloaded workers that share a large object."""

from concurrent.futures import ThreadPoolExecutor

from lib import proc
from lib.faucet import Faucet
from lib.http import request
from lib.places import PRELOAD
from lib.problem import Problem
from lib.suites.native.template import template
from lib.table import number, table

WORKERS = 8
REQUESTS = 100
# Of all clients together, before it is looked whether every worker has had its share.
BATCH = 10 * WORKERS
BATCHES = 100
MB = 2**20


def run(plan, section):
    app = PRELOAD / "model"
    with Faucet(1, "fresh", app=app, worker_type="native") as fresh:
        alone = proc.memory(_pids(fresh))
    with Faucet(WORKERS, "preload", app=app, worker_type="native", preload=True) as preload:
        pids = [template(preload), *_pids(preload)]
        _use(preload)
        if pids != [template(preload), *_pids(preload)]:
            raise Problem("a worker was replaced")
        together = proc.memory(pids)
    ratio = together / alone
    head = ["MB", f"{WORKERS} workers and template", "one fresh", "to one fresh"]
    cells = [number(together / MB, 0), number(alone / MB, 0), number(ratio, 2, "x")]
    section.tables.append(table(head, [["500 MB object", *cells]]))
    section.measured["memory"] = ratio


def _pids(faucet):
    return [worker["pid"] for worker in faucet.status()["workers"]]


def _use(faucet):
    """Until every worker has answered as often as it must."""
    with ThreadPoolExecutor(WORKERS) as clients:
        for _ in range(BATCHES):
            list(clients.map(lambda _: request(faucet.address, "/predict"), range(BATCH)))
            if min(worker["requests"] for worker in faucet.status()["workers"]) >= REQUESTS:
                return
    raise Problem(f"a worker has not had {REQUESTS} requests after {BATCHES * BATCH} of all")
