"""What verify has found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventkit.cli.text import counted

_SHOWN = 20


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

    def tell_outside(self, decoded: int, *, tail: int) -> None:
        """Note the events of recordings that are in no clip, so that the sum is that of convert.

        Parameters
        ----------
        decoded : int
            Events of all recordings, as convert tells them.
        tail : int
            Of these what stands behind the last clip of a recording.
        """
        outside = decoded - self.totals["decoded"]
        if outside and not self.problems:
            why = "tail" if outside == tail else "tail, and clips that were left out as empty"
            self.notes.append(
                f"{counted(outside, 'events are')} in no clip ({why}); `eventkit convert` counts "
                f"{decoded:,} decoded with them"
            )

    def shown(self) -> list[str]:
        """Return the first problems, one a line, and how many more there are."""
        problems = sorted(self.problems)
        more = len(problems) - _SHOWN
        return problems[:_SHOWN] + [f"and {more:,} more; --json has all"] * (more > 0)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types, for ``--json``."""
        return {
            "ok": not self.problems,
            "problems": sorted(self.problems),
            "notes": self.notes,
            "totals": dict(self.totals),
        }
