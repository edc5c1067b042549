"""One part of the report: what a suite found."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional


@dataclass
class Section:
    title: str
    text: str
    tables: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    # By the keys of lib/reach.py.
    measured: Dict[str, Optional[float]] = field(default_factory=dict)

    def __str__(self):
        parts = [f"## {self.title}", self.text, *self.tables]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)
