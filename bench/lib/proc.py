"""CPU time and memory of processes, as the kernel counts them."""

import os
from pathlib import Path

from lib.problem import Problem

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    """The fields of /proc/PID/stat after the program's name, which may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise Problem(f"process {pid} is gone") from error


def cpu_seconds(pids):
    """User and system time of all threads of `pids`."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def memory(pids):
    """Bytes that `pids` hold in memory: shared pages in proportion if the kernel tells, else in full."""
    return sum(_memory(pid) for pid in pids)


def _memory(pid):
    for file, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise Problem(f"no memory is told of process {pid}")


def resident(pid):
    """Bytes that the process holds in memory, shared pages in full."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError as error:
        raise Problem(f"process {pid} is gone") from error


def forget_peak(pid):
    """From here on, `peak` is the most that the process has held since."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError as error:
        raise Problem(f"the peak of process {pid} cannot be forgotten: {error}") from error


def peak(pid):
    """The most bytes that the process has held in memory, shared pages in full."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as error:
        raise Problem(f"process {pid} is gone") from error
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise Problem(f"no peak is told of process {pid}")


def descriptors(pid):
    """How many the process has open."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError as error:
        raise Problem(f"process {pid} is gone") from error


def children(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat(entry.name)[1])
            except Problem:
                continue
            if parent == pid:
                found.append(int(entry.name))
    return found


def descendants(pid):
    """Its children, and theirs."""
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]
