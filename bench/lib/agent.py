"""Agents, proxies, and what is deployed to them."""

import json
from contextlib import ExitStack

from lib.faucet import InR, r_code
from lib.http import request, wait_until
from lib.process import output_of

# A deployment to several agents, on a machine that may do something else too.
DEPLOY_SECONDS = 180


class _Keeper(InR):
    """What functions are deployed to."""

    def __init__(self, name, settings):
        super().__init__(name, None, None, settings)

    def command(self):
        self.settings["state_dir"] = str(self.directory / "state")
        return super().command()

    def wait(self):
        # Without functions no worker is ready.
        wait_until(self.process, lambda: details(self))


class FaucetAgent(_Keeper):
    """`faucet::run_agent()`. Further settings are by their names there."""

    verb = "run_agent"

    def __init__(self, name="agent", **settings):
        super().__init__(name, settings)


class FaucetProxy(_Keeper):
    """`faucet::run_proxy()` over so many agents, which run as long as it does."""

    verb = "run_proxy"

    def __init__(self, agents, name="proxy"):
        self.agents = [FaucetAgent(f"agent {number}") for number in range(1, agents + 1)]
        super().__init__(name, {"agents": [agent.address for agent in self.agents]})

    def __enter__(self):
        with ExitStack() as stack:
            for agent in self.agents:
                stack.enter_context(agent)
            super().__enter__()
            self._agents_too = stack.pop_all()
        return self

    def __exit__(self, *_):
        try:
            super().__exit__()
        finally:
            self._agents_too.close()


def deploy(server, function, name, workers, **settings):
    """From an R session of its own: `function` is R code, or None for a `command`. Returns when it answers everywhere."""
    given = {"name": name, "to": server.address, "workers": workers, "quiet": True, **settings}
    arguments = [f"{key} = {r_code(value)}" for key, value in given.items()]
    if function is not None:
        arguments.insert(0, function)
    output_of(["Rscript", "-e", f"faucet::deploy({', '.join(arguments)})"], timeout=DEPLOY_SECONDS)


def details(server, name=None):
    """All that the server tells of its functions, or of one."""
    found = json.loads(request(server.address, f"/details?name={name}" if name else "/details"))
    return found[0] if name else found


def call_path(name):
    return f"/functions/{name}"


def chain_path(names):
    """Of a chain of these functions, in this order."""
    return f"/invoke?chain={'%7C'.join(names)}"
