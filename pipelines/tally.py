"""What a set holds, in numbers that stay small: classes, and histograms of lengths and rates.

Every pack counts its own clips, so that a report of a million of them reads some thousand receipts
and no data.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventkit.clips import Clip

# Ten steps a decade of nearly equal ratio, in whole numbers: the R10 series of ISO 3.
_SMALL = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 31, 40, 50, 63, 80)
_STEPS = (100, 125, 160, 200, 250, 315, 400, 500, 630, 800)
EDGES: tuple[int, ...] = (*_SMALL, *(step * 10**k for k in range(17) for step in _STEPS))
"""Left edges of the bins of every histogram."""


@dataclass(slots=True)
class Tally:
    """Counts of clips: by split and label, by length in microseconds, by events a second."""

    classes: dict[str, Counter[int]] = field(default_factory=dict)
    durations_us: Counter[int] = field(default_factory=Counter)
    rates_hz: Counter[int] = field(default_factory=Counter)

    def add(self, clip: Clip, *, split: str, label: int) -> None:
        """Count a clip; one without an event side has no rate."""
        self.classes.setdefault(split, Counter())[label] += 1
        start, stop = clip.span_us or (int(clip.windows_us[0, 0]), int(clip.windows_us[-1, 1]))
        length = max(0, stop - start)
        self.durations_us[bin_of(length)] += 1
        if clip.has_events and length:
            self.rates_hz[bin_of(clip.decoded * 1_000_000 // length)] += 1

    def update(self, other: Mapping[str, Any]) -> None:
        """Add what `as_dict` returned, of another pack."""
        for split, counts in other["classes"].items():
            self.classes.setdefault(split, Counter()).update(whole(counts))
        self.durations_us.update(whole(other["durations_us"]))
        self.rates_hz.update(whole(other["rates_hz"]))

    def as_dict(self) -> dict[str, Any]:
        """Return plain types, sorted."""
        classes = {split: _plain(self.classes[split]) for split in sorted(self.classes)}
        return {"classes": classes, **self.histograms()}

    def histograms(self) -> dict[str, dict[str, int]]:
        """Return the number of clips in each bin that has any, by the left edge of the bin."""
        return {"durations_us": _plain(self.durations_us), "rates_hz": _plain(self.rates_hz)}


def total(receipts: Iterable[Mapping[str, Any]]) -> Tally:
    """Return the tally of all packs together."""
    tally = Tally()
    for receipt in receipts:
        tally.update(receipt["tally"])
    return tally


def bin_of(value: int) -> int:
    """Return the left edge of the bin of a number.

    Examples
    --------
    >>> bin_of(0), bin_of(7), bin_of(299_999), bin_of(315_000)
    (0, 6, 250000, 315000)
    """
    return EDGES[bisect_right(EDGES, value) - 1]


def whole(counts: Mapping[str, int]) -> dict[int, int]:
    """Return counts by number, as they were before JSON, which has text for keys."""
    return {int(key): n for key, n in counts.items()}


def _plain(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}
