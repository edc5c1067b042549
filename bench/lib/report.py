"""The whole report."""

from lib.reach import reach_table
from lib.section import Section
from lib.table import table


def report(machine, sections, quick):
    """`sections` by the name of their suite."""
    length = " This was a quick run: its numbers are rough." if quick else ""
    head = Section(
        "Must reach",
        "Medians of interleaved rounds, as ratios to what ran in the same round on the same machine." + length,
        [must_reach(sections)],
    )
    named = Section("Machine", "Everything on 127.0.0.1.", [table(["", ""], machine)])
    return "\n\n".join(["# Benchmark", *map(str, [head, *sections.values(), named])]) + "\n"


def must_reach(sections):
    return reach_table({suite: section.measured for suite, section in sections.items()})
