"""Tables that grow as a file is walked: a row for each frame, signal or sample in it.

A frame of AEDAT may be 16 bytes, and gzip makes a thousand bytes of one: 300 kB held ten million
frames. As named tuples their rows took 300 bytes each, and parts that are joined at the end stand
in memory twice; so rows are bytes of one type, and there are only so many. Of frames there is a
table even where nobody asks for one, so theirs ends earlier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.sources import Source

MAX_FRAMES = 1 << 20
"""Eleven hours at 25 a second; the table of so many and what is made of it take 170 MB at most."""
MAX_SIDE_BYTES = 1 << 30
"""Of external signals or IMU samples: six hours of the longest samples at 1 kHz."""


class Table:
    """Rows of one type.

    Parameters
    ----------
    source : Source
        For messages.
    what : str
        What a row is, in the plural.
    kind : dtype
        Type of a row.
    most : int
        How many rows there may be.
    """

    def __init__(self, source: Source, what: str, kind: np.dtype[Any], most: int) -> None:
        self._source, self._what, self._kind, self._most = source, what, kind, most
        self._data = bytearray()

    @classmethod
    def of_frames(cls, source: Source, kind: np.dtype[Any]) -> Table:
        """Return an empty table for frames."""
        return cls(source, "frames", kind, MAX_FRAMES)

    @classmethod
    def of_side(cls, source: Source, what: str, kind: np.dtype[Any]) -> Table:
        """Return an empty table for what stands beside events and frames."""
        return cls(source, what, kind, MAX_SIDE_BYTES // kind.itemsize)

    @property
    def room(self) -> int:
        """How many rows may follow."""
        return self._most - len(self._data) // self._kind.itemsize

    def add(self, rows: bytes, at: int) -> None:
        """Append rows, as bytes, that begin at byte ``at`` of the file.

        Raises
        ------
        FormatError
            If there are more than may be; those that may are kept.
        """
        room = self.room * self._kind.itemsize
        self._data += rows[:room]
        if len(rows) > room:
            msg = (
                f"expected at most {self._most} {self._what}, got more; --on-error skip keeps "
                "those before"
            )
            raise FormatError(msg, path=self._source, offset=at, reason="bad_value")

    @property
    def rows(self) -> NDArray[Any]:
        """The table, not copied: nothing is appended behind it."""
        return np.frombuffer(self._data, self._kind)


def to_read_at(source: Source, places: NDArray[np.int64]) -> Source:
    """Return where to read at these places in turn: a copy, if a step back would inflate all again.

    Frames are read in the order of their times, which a reset of the clock or damage turns round.
    """
    back = source.is_sequential and bool((np.diff(places) < 0).any())
    return Source(source.local()) if back else source


def most_common(codes: NDArray[np.int64]) -> int:
    """Return the number that stands there most often; of several, the one that is met first.

    Examples
    --------
    >>> most_common(np.array([5, 3, 3, 5, 9]))
    5
    """
    numbers, first, counts = np.unique(codes, return_index=True, return_counts=True)
    best = np.flatnonzero(counts == counts.max())
    return int(numbers[best[np.argmin(first[best])]])
