"""faucet: as R users run it, and its front alone over upstreams that something else started."""

import json

from lib import build
from lib.contender import Contender
from lib.http import request, wait_until
from lib.machine import r_package
from lib.places import API
from lib.ports import free_port
from lib.problem import Problem


class InR(Contender):
    """One of faucet's verbs, served by R in the foreground, with as many workers as are to be ready before it is measured; with
    None, all that there are."""

    verb = None

    def __init__(self, name, what, workers, settings, host="127.0.0.1", port=None, env=None):
        super().__init__(name, host=host, port=port, env=env)
        self.what = what
        self.workers = workers
        self.admin_port = free_port()
        self.settings = settings

    def command(self):
        if not r_package("faucet"):
            raise Problem("faucet is not installed in R")
        settings = {
            "host": self.host,
            "port": self.port,
            "admin_port": self.admin_port,
            "access_log": "none",
            "quiet": True,
            **self.settings,
        }
        arguments = [] if self.what is None else [r_code(str(self.what))]
        arguments += [f"{name} = {r_code(value)}" for name, value in settings.items()]
        return ["Rscript", "-e", f"faucet::{self.verb}({', '.join(arguments)})"]

    def wait(self):
        if self.workers:
            super().wait()
        wait_until(self.process, self._all_ready)

    def status(self):
        return json.loads(request(f"127.0.0.1:{self.admin_port}", "/status"))

    def _all_ready(self):
        status = self.status()
        states = [worker["state"] for worker in status["workers"]]
        wanted = len(states) if self.workers is None else self.workers
        if not status["ready"] or states.count("ready") < wanted:
            raise Problem(f"{states.count('ready')} of {wanted} workers are ready")


class Faucet(InR):
    """`faucet::run()` with R workers of its own, so many or from so many to so many; None is what `app` says. Further settings
    are by their names there."""

    verb = "run"

    def __init__(self, workers, name="faucet", app=API, host="127.0.0.1", port=None, env=None, **settings):
        given = {} if workers is None else {"workers": workers}
        least = workers[0] if isinstance(workers, list) else workers
        super().__init__(name, app, least, {**given, **settings}, host, port, env)


class FaucetK8s(InR):
    """`faucet::run_k8s()` over the `workers` replicas at a name and port, which it resolves by `dns`."""

    verb = "run_k8s"

    def __init__(self, workers, service, dns, name="run_k8s", **settings):
        super().__init__(name, f"http://{service}", workers, {"dns": dns.address, **settings})


class FaucetWorker(InR):
    """`faucet::run_worker()`: so many R workers that dial in to a hub. It serves clients of its own, too."""

    verb = "run_worker"

    def __init__(self, workers, hub, name="run_worker"):
        super().__init__(name, hub, workers, {"dir": str(API), "workers": workers})


class FaucetHub(InR):
    """`faucet::run_hub()`, to which so many R workers have dialled in."""

    verb = "run_hub"

    def __init__(self, workers, name="run_hub"):
        port = free_port()
        super().__init__(name, None, workers, {"worker_port": port})
        self.worker_address = f"127.0.0.1:{port}"

    def wait(self):
        # Whoever dials in before it listens tries again later.
        wait_until(self.process, self.status)
        self.beside.enter_context(FaucetWorker(self.workers, self.worker_address))
        super().wait()


def r_code(value):
    """A value as R code: a flag, a number, a string, or several."""
    if isinstance(value, list):
        return f"c({', '.join(r_code(part) for part in value)})"
    return str(value).upper() if isinstance(value, bool) else json.dumps(value)


class Front(Contender):
    """faucet-core's example `front`: no R in it. With a `revision`, as it was then. `idle_pools` are there besides."""

    def __init__(self, upstreams, name="faucet front", revision=None, idle_pools=0):
        super().__init__(name)
        self.upstreams = upstreams
        self.revision = revision
        self.idle_pools = idle_pools

    def command(self):
        program = build.front_before(self.revision) if self.revision else build.example("front")
        idle = ["--idle-pools", self.idle_pools] if self.idle_pools else []
        return [program, "--listen", self.address, "--upstream", ",".join(self.upstreams), *idle]


def faucet_or_front(workers, upstreams):
    """faucet; or, as long as R does not have it, its front over workers that are there already."""
    return Faucet(workers) if r_package("faucet") else Front(upstreams)
