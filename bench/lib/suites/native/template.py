"""The process that a server with preload forks its workers from."""

from lib.problem import Problem


def template(faucet):
    """Its pid."""
    told = faucet.status()["pools"][0].get("template")
    if not told or not told.get("pid"):
        raise Problem(f"{faucet.name} has no template")
    return told["pid"]
