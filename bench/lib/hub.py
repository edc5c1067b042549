"""faucet's hub and its worker machine, both without R."""

from lib import build
from lib.contender import Contender
from lib.http import connect, wait_until
from lib.ports import free_port
from lib.process import Process


class Hub(Contender):
    """faucet-core's example `hub`, with those who dial in: contexts that each of `workers` makes for the hub that it is given."""

    def __init__(self, name, *workers):
        super().__init__(name)
        self.workers = workers
        self.worker_address = f"127.0.0.1:{free_port()}"
        self.pothead_address = f"127.0.0.1:{free_port()}"

    def command(self):
        addresses = {"listen": self.address, "workers": self.worker_address, "pothead": self.pothead_address}
        options = [(f"--{name}", address.split(":")[1]) for name, address in addresses.items()]
        return [build.example("hub"), *(part for option in options for part in option)]

    def wait(self):
        wait_until(self.process, lambda: connect(self.address))
        self.came = [self.beside.enter_context(worker(self)) for worker in self.workers]
        # Requests would wait for workers.
        if self.came:
            super().wait()


def machine(target, dns, hubs):
    """A context: faucet-core's example `machine`, which offers the replicas at `target` to all hubs."""
    addresses = ",".join(hub.worker_address for hub in hubs)
    options = ["--target", f"http://{target}", "--dns", dns.address, "--hubs", addresses]
    return Process([build.example("machine"), *options])
