"""The ledger: what a reader met, what it kept, what it dropped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Ledger:
    """Counts of one reading; ``decoded == kept + sum(dropped.values())`` always holds.

    Parameters
    ----------
    words : int
        Units of the format that were read: 5-byte records, packets, rows.
    decoded : int
        Events decoded from them.
    skipped : mapping reason -> count of words
        Words that are no events: overflow markers, padding, unknown words.
    dropped, repaired : mapping reason -> count of events
        ``outside`` the sensor, ``backwards`` in time, ``tail`` after the last clip ...
    faults : list of dict
        Where a damaged stream was cut: reason, byte offset, message.
    """

    words: int = 0
    decoded: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kept(self) -> int:
        """Events that were handed on."""
        return self.decoded - sum(self.dropped.values())

    def drop(self, counts: Mapping[str, int]) -> None:
        """Add dropped events by reason; reasons with zero events leave no entry."""
        for reason, count in counts.items():
            if count:
                self.dropped[reason] += int(count)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types in a fixed order, for JSON."""
        return {
            "words": self.words,
            "decoded": self.decoded,
            "kept": self.kept,
            "skipped": dict(sorted(self.skipped.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "repaired": dict(sorted(self.repaired.items())),
            "faults": list(self.faults),
        }
