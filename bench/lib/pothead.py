"""POTHEAD's workers, which dial a hub for each request."""

from lib.places import POTHEAD, WSGI
from lib.problem import Problem
from lib.process import Process

# How long a worker waits before it dials again, times a power of how many wait there already, in seconds: itself is one of them.
PAUSE = "LOAD_BALANCER_CONNECTION_DELAY_BASE"


def pothead_worker(address, pause=None):
    """A context: an unmodified worker of one thread, with its own pause if there is no other."""
    python = POTHEAD / "bin" / "python"
    if not python.exists():
        raise Problem("POTHEAD is not installed in .build/pothead")
    # R's libraries come first in its environment, one of Python among them, perhaps.
    environment = ["LD_LIBRARY_PATH=", "PYTHONDONTWRITEBYTECODE=1"]
    if pause is not None:
        environment.append(f"{PAUSE}={pause}")
    command = [python, "-m", "pothead.worker", "--connect", address, "app:app"]
    return Process(["env", *environment, *command], cwd=WSGI)
