"""Programs of the system, found also where only root's PATH leads."""

import os
import re
import shutil
import subprocess

from lib.problem import Problem


def program(name):
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    found = shutil.which(name, path=path)
    if not found:
        raise Problem(f"{name} is not installed")
    return found


def version(name, option="--version"):
    """The first thing that looks like a version in what the program says of itself, on whichever stream."""
    try:
        done = subprocess.run([program(name), option], capture_output=True, text=True, timeout=30)
    except Problem:
        return "not installed"
    found = re.search(r"\d+\.\d+\S*", done.stdout + done.stderr)
    return found[0] if found else "unknown"
