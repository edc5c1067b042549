"""The programs that have to be compiled first."""

import functools
import os

from lib.places import BEFORE, BENCH, EXAMPLES, RUST, TOOLS
from lib.process import output_of

# A first build, on a small machine that may do something else too.
BUILD_SECONDS = 1800


@functools.lru_cache(maxsize=None)
def tools():
    """The directory of the programs in bench/tools, as the code is now."""
    _cargo(TOOLS)
    return TOOLS / "target" / "release"


@functools.lru_cache(maxsize=None)
def example(name):
    """That of faucet-core, as the code is now."""
    _cargo(RUST, "--package", "faucet-core", "--example", name)
    return EXAMPLES / name


@functools.lru_cache(maxsize=None)
def front_before(revision):
    """The same of an earlier revision of this repository."""
    rust = _before(revision) / RUST.relative_to(BENCH.parent)
    _cargo(rust, "--package", "faucet-core", "--example", "front")
    return rust / EXAMPLES.relative_to(RUST) / "front"


@functools.lru_cache(maxsize=None)
def library_before(revision):
    """An R library with the package of an earlier revision of this repository."""
    tree = _before(revision)
    library = tree.with_suffix(".library")
    if not (library / "faucet").exists():
        library.mkdir(exist_ok=True)
        output_of(["R", "CMD", "INSTALL", f"--library={library}", tree], timeout=BUILD_SECONDS)
    return library


def _before(revision):
    """Where the revision is checked out: beside the build."""
    commit = output_of(["git", "rev-parse", "--verify", f"{revision}^{{commit}}"], cwd=BENCH).strip()
    tree = BEFORE / commit
    if not tree.exists():
        output_of(["git", "worktree", "prune"], cwd=BENCH)
        output_of(["git", "worktree", "add", "--detach", tree, commit], cwd=BENCH)
    return tree


def _cargo(directory, *arguments):
    # Each has its own target directory, whatever the environment says, so that a program is where it is looked for.
    target = ["--target-dir", directory / "target"]
    jobs = ["--jobs", min(2, os.cpu_count() or 1)]
    command = ["cargo", "build", "--release", "--quiet", "--locked", *jobs, *target, *arguments]
    output_of(command, cwd=directory, timeout=BUILD_SECONDS)
