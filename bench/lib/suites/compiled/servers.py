"""The native workers that are compared."""

import os

from lib import build
from lib.faucet import Faucet
from lib.places import COMPILED

BEFORE = "before"


def compiled(workers):
    return _native(workers, "compiled", {"FAUCET_COMPILE": "true"})


def uncompiled(workers):
    return _native(workers, "off", {"FAUCET_COMPILE": "false"})


def before(workers, revision):
    """As they were at that revision of this repository."""
    libraries = [str(build.library_before(revision)), os.environ.get("R_LIBS", "")]
    return _native(workers, BEFORE, {"R_LIBS": os.pathsep.join(filter(None, libraries))})


def _native(workers, name, env):
    return Faucet(workers, name, app=COMPILED, env=env, worker_type="native")
