"""Words of EVT2, EVT2.1 and EVT3 from events and triggers in time order.

An `Entries` part goes in, words come out; what was written last (time, row) is kept between parts,
so that the words do not depend on where the stream was cut. TIME_HIGH is written when it changes,
and in a long silence often enough that no step is half of the clock's range: see
`eventkit.readers.clock`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TRIGGER = 10
HIGH = 8


class Entries(NamedTuple):
    """Events and triggers, (N,) int64; of a trigger ``x`` is the channel, ``p`` the level."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    t: NDArray[np.int64]
    p: NDArray[np.int64]
    trigger: NDArray[np.bool_]

    def part(self, which: slice | NDArray[np.int64]) -> Entries:
        """Return some of the entries."""
        return Entries(
            self.x[which], self.y[which], self.t[which], self.p[which], self.trigger[which]
        )

    def merged(self, other: Entries) -> Entries:
        """Return both in time order; of equal times these come first."""
        joined = Entries(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.y, other.y]),
            np.concatenate([self.t, other.t]),
            np.concatenate([self.p, other.p]),
            np.concatenate([self.trigger, other.trigger]),
        )
        return joined.part(np.argsort(joined.t, kind="stable"))


class Highs:
    """Which TIME_HIGH words stand before each entry.

    Parameters
    ----------
    low_bits, high_bits : int
        Of the clock.
    """

    def __init__(self, low_bits: int, high_bits: int) -> None:
        self._low_bits = low_bits
        self._mask = (1 << high_bits) - 1
        self._longest = (1 << (high_bits - 1)) - 1
        self._last: int | None = None

    def before(self, t: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the number of words before each entry, and their values end to end."""
        high = t >> self._low_bits
        previous = np.concatenate([[high[0] if self._last is None else self._last], high[:-1]])
        counts = -(-(high - previous) // self._longest)
        if self._last is None:
            counts[0] = 1
        self._last = int(high[-1])
        ends = np.cumsum(counts)
        values = np.repeat(high, counts)
        # Of several words before one entry, those before the last are steps on the way.
        for i in np.flatnonzero(counts > 1).tolist():
            steps = previous[i] + self._longest * np.arange(1, counts[i])
            values[ends[i] - counts[i] : ends[i] - 1] = steps
        return counts, values & self._mask


class Evt2Words:
    """EVT2: (N,) uint32. EVT2.1 puts the same word beside a mask of pixels, (N, 2)."""

    def __init__(self, *, masks: bool = False) -> None:
        self._highs = Highs(6, 28)
        self._masks = masks

    def pack(self, entries: Entries) -> NDArray[np.uint32]:
        """Return the words of a part."""
        counts, values = self._highs.before(entries.t)
        ends = np.cumsum(counts + 1)
        words = np.zeros(int(ends[-1]), np.uint32)
        place = np.ones(words.size, np.bool_)
        place[ends - 1] = False
        words[place] = HIGH << 28 | values
        low = (entries.t & 63) << 22
        base = entries.x & ~31 if self._masks else entries.x
        event = entries.p << 28 | low | base << 11 | entries.y
        trigger = TRIGGER << 28 | low | entries.x << 8 | entries.p
        words[ends - 1] = np.where(entries.trigger, trigger, event)
        if not self._masks:
            return words
        pairs = np.zeros((words.size, 2), np.uint32)
        pairs[:, 1] = words
        pairs[ends - 1, 0] = np.where(entries.trigger, 0, 1 << (entries.x & 31))
        return pairs


class Evt3Words:
    """EVT3: (N,) uint16; a word for what changes - time, row - and one for each event."""

    def __init__(self) -> None:
        self._highs = Highs(12, 12)
        self._low, self._row = -1, -1

    def pack(self, entries: Entries) -> NDArray[np.uint16]:
        """Return the words of a part."""
        highs, values = self._highs.before(entries.t)
        low = entries.t & 0xFFF
        # After a TIME_HIGH the low bits are written anew: some readers take them for zero.
        new_low = (low != np.concatenate([[self._low], low[:-1]])) | (highs > 0)
        rows = self._rows(entries)
        new_row = ~entries.trigger & (rows[1:] != rows[:-1])
        ends = np.cumsum(highs + new_low + new_row + 1)
        words = np.zeros(int(ends[-1]), np.uint16)
        place = np.zeros(words.size, np.bool_)
        at = ends - 1
        event = 2 << 12 | entries.p << 11 | entries.x
        words[at] = np.where(entries.trigger, TRIGGER << 12 | entries.x << 8 | entries.p, event)
        place[at] = True
        at = at - new_row
        words[at[new_row]] = entries.y[new_row]
        place[at] = True
        at = at - new_low
        words[at[new_low]] = 6 << 12 | low[new_low]
        place[at] = True
        words[~place] = HIGH << 12 | values
        self._low, self._row = int(low[-1]), int(rows[-1])
        return words

    def _rows(self, entries: Entries) -> NDArray[np.int64]:
        """Return the row that holds before the part and after each entry; triggers have none."""
        rows = np.concatenate([[self._row], entries.y])
        known = np.concatenate([[True], ~entries.trigger])
        latest = np.maximum.accumulate(np.where(known, np.arange(rows.size), 0))
        held: NDArray[np.int64] = rows[latest]
        return held
