"""One part of the report: what a suite found."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional

from lib.problem import Problem


@dataclass
class Section:
    title: str
    text: str
    tables: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    # By the keys of lib/reach.py.
    measured: Dict[str, Optional[float]] = field(default_factory=dict)

    def measure(self, plan, parts):
        """Measures each part, a function by its name, and notes which could not be."""
        for name, part in parts.items():
            print(f"  {name}", flush=True)
            try:
                part(plan, self)
            except Problem as problem:
                self.notes.append(f"{name} not measured: {problem}")
                print(f"  {self.notes[-1]}", flush=True)

    def __str__(self):
        parts = [f"## {self.title}", self.text, *self.tables]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)
