"""faucet: as R users run it, and its front alone over upstreams that something else started."""

from lib import build
from lib.contender import Contender
from lib.http import wait_until_parallel
from lib.machine import r_package
from lib.places import API
from lib.problem import Problem


class Faucet(Contender):
    """`faucet::run()` with R workers of its own."""

    def __init__(self, workers):
        super().__init__("faucet")
        self.workers = workers

    def command(self):
        if not r_package("faucet"):
            raise Problem("faucet is not installed in R")
        call = (
            f'faucet::run("{API}", workers = {self.workers}, port = {self.port}, '
            'access_log = "none", quiet = TRUE)'
        )
        return ["Rscript", "-e", call]

    def wait(self):
        super().wait()
        wait_until_parallel(self.process, self.address, self.workers)


class Front(Contender):
    """faucet-core's example `front`: no R in it."""

    def __init__(self, upstreams):
        super().__init__("faucet front")
        self.upstreams = upstreams

    def command(self):
        return [build.front(), "--listen", self.address, "--upstream", ",".join(self.upstreams)]


def faucet_or_front(workers, upstreams):
    """faucet; or, as long as R does not have it, its front over workers that are there already."""
    return Faucet(workers) if r_package("faucet") else Front(upstreams)
