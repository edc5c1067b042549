"""What this run was measured on: hardware and versions."""

import datetime
import functools
import os
import platform
from pathlib import Path

from lib.problem import Problem
from lib.process import output_of
from lib.programs import version


def describe():
    """Pairs of a word and a value, for a table."""
    return [
        ("date", datetime.date.today().isoformat()),
        ("processor", _field("/proc/cpuinfo", "model name")),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("memory", f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB"),
        ("system", platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")),
        ("kernel", platform.release()),
        ("load when started", f"{os.getloadavg()[0]:.1f}"),
        ("R", version("Rscript")),
        *((package, r_package(package) or "not installed") for package in ("plumber", "httpuv", "faucet")),
        ("HAProxy", version("haproxy", "-v")),
        ("nginx", version("nginx", "-v")),
        ("wrk", version("wrk", "-v")),
        ("dnsmasq", version("dnsmasq")),
        ("rustc", version("rustc")),
    ]


@functools.lru_cache(maxsize=None)
def r_package(name):
    """The version of an installed R package, or None."""
    call = f'cat(tryCatch(as.character(packageVersion("{name}")), error = function(e) ""))'
    try:
        return output_of(["Rscript", "-e", call]) or None
    except Problem:
        return None


def _field(file, name):
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
