"""Columns that decoders write into, one piece of a file after the other.

First touch of a page costs more than decoding what stands on it (3.4 us for 4 kB), so a decoder
gets room at the end of one large buffer rather than making arrays of its own, and a caller may hand
over columns that have been touched before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EVENT_CHUNK = 1 << 20
"""Events that are handed on at once: 13 MB of columns."""


class Columns(NamedTuple):
    """Writable columns of N events: x, y uint16; t int64, microseconds; p int8.

    Examples
    --------
    >>> Columns.empty(3).t.dtype
    dtype('int64')
    """

    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t: NDArray[np.int64]
    p: NDArray[np.int8]

    @classmethod
    def empty(cls, size: int) -> Columns:
        """Return columns of ``size`` events with anything in them."""
        return cls(
            np.empty(size, np.uint16),
            np.empty(size, np.uint16),
            np.empty(size, np.int64),
            np.empty(size, np.int8),
        )

    def part(self, start: int, stop: int) -> Columns:
        """Return views of events ``start`` to ``stop``."""
        part = slice(start, stop)
        return Columns(self.x[part], self.y[part], self.t[part], self.p[part])

    def copy(self) -> Columns:
        """Return columns in memory of their own."""
        return Columns(self.x.copy(), self.y.copy(), self.t.copy(), self.p.copy())

    def then(self, other: Columns) -> Columns:
        """Return these events and those of ``other`` behind them, in fresh memory."""
        return Columns(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.y, other.y]),
            np.concatenate([self.t, other.t]),
            np.concatenate([self.p, other.p]),
        )


class Buffer:
    """Room for decoders, filled from the front.

    Parameters
    ----------
    columns : Columns
        What is filled first; when it is full, fresh columns of `EVENT_CHUNK` follow.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._end = 0
        self._full: list[Columns] = []

    @property
    def free(self) -> int:
        """How many events there is room for without fresh columns."""
        return self._columns.t.size - self._end

    def room(self, size: int) -> Columns:
        """Return columns of ``size`` events; valid until the next call."""
        if size > self.free:
            self._close(max(size, EVENT_CHUNK))
        return self._columns.part(self._end, self._end + size)

    def keep(self, columns: Columns) -> None:
        """Append events; those that stand in the room that was given are not copied."""
        size = columns.t.size
        here = self.room(size)
        # Views of the room share its address; anything else, other types included, is copied in.
        if columns.t.ctypes.data != here.t.ctypes.data:
            here.x[:], here.y[:] = columns.x, columns.y
            here.t[:], here.p[:] = columns.t, columns.p
        self._end += size

    def take_full(self) -> list[Columns]:
        """Return columns that were filled since the last call."""
        full, self._full = self._full, []
        return full

    def finish(self) -> list[Columns]:
        """Return what is left, filled or not."""
        self._close(0)
        return self.take_full()

    def _close(self, size: int) -> None:
        if self._end:
            self._full.append(self._columns.part(0, self._end))
        self._columns, self._end = Columns.empty(size), 0
