"""What verify has found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventkit.errors import DamageError

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, what is odd, and how much was looked at.

    Parameters
    ----------
    problems : list of str
        A sentence each, with the file; none if all is well.
    notes : list of str
        What is no damage: files of somebody else.
    totals : Counter
        Shards, packs, samples, clips, events.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)

    def add(self, problems: Iterable[str], totals: Mapping[str, int] | None = None) -> None:
        """Book what a part was found to be."""
        self.problems.extend(problems)
        self.totals.update(totals or {})

    def include(self, other: Verdict) -> None:
        """Book what another look has found."""
        self.add(other.problems, other.totals)
        self.notes.extend(other.notes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types, for ``--json``."""
        return {
            "ok": not self.problems,
            "problems": sorted(self.problems),
            "notes": self.notes,
            "totals": dict(self.totals),
        }


def require_undamaged(verdict: Verdict, folder: Path) -> None:
    """Raise `DamageError` that lists the first problems, if there are any."""
    problems = sorted(verdict.problems)
    if problems:
        more = len(problems) - _SHOWN
        shown = "; ".join(problems[:_SHOWN]) + (f"; and {more} more, see --json" * (more > 0))
        msg = f"{folder} is damaged: {shown}"
        raise DamageError(msg)
