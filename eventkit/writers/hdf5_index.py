"""Indexes of times in HDF5 files, written as the events come: DSEC's and Prophesee's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.writers.base import Contents

LONGEST_US = 24 * 3_600_000_000
"""A day has 86 million milliseconds; two events a year apart would fill a disk."""

PERIOD_US = 2000

_BLOCK = 1 << 20


def check_span(contents: Contents, why: str, side: str) -> None:
    """Refuse ``events`` or ``triggers`` that are more than `LONGEST_US` apart.

    Raises
    ------
    SettingsError
    """
    first, last = contents.spans.get(side, (0, 0))
    if side == "events" and contents.events:
        first, last = contents.first_us, contents.last_us
    if last - first > LONGEST_US:
        msg = (
            f"expected {side} within a day, since {why}, got {(last - first) / 3.6e9:.1f} hours; "
            "hdf5-xs and npz have no index"
        )
        raise SettingsError(msg)


class MilliIndex:
    """DSEC's ``ms_to_idx``: ``t[ms_to_idx[k] - 1] < 1000 k <= t[ms_to_idx[k]]``.

    Parameters
    ----------
    column : column of uint64
        There is one entry for each millisecond up to the last event's.
    """

    def __init__(self, column: Any) -> None:
        self.column = column
        self._next = 0
        self._seen = 0

    def add(self, t: NDArray[np.int64]) -> None:
        """Take the next times, from 0 on, in microseconds."""
        stop = int(t[-1]) // 1000 + 1
        while self._next < stop:
            block = np.arange(self._next, min(stop, self._next + _BLOCK), dtype=np.int64)
            self.column.add(np.searchsorted(t, block * 1000) + self._seen)
            self._next += block.size
        self._seen += t.size


class PropheseeIndex:
    """Entry k: number and time of the first event of the last period before k that has any.

    A period has 2 ms from the first event on; entry 0 is (0, -1). Attribute ``offset``: minus the
    first time, as text; times of entries count from there.

    Parameters
    ----------
    column : column of (id u8, ts i8)
    """

    def __init__(self, column: Any) -> None:
        self.column = column
        self._start: int | None = None
        self._last = (0, -1, -1)  # number, time and period of the newest first event of a period
        self._seen = 0
        self._next = 0

    def add(self, t: NDArray[np.int64]) -> None:
        """Take the next times, in microseconds."""
        if self._start is None:
            self._start = int(t[0])
            self.column.dset.attrs["offset"] = str(-self._start)
        since = t - self._start
        period = since // PERIOD_US
        new = np.flatnonzero(np.diff(period, prepend=self._last[2]) > 0)
        ids = np.concatenate([[self._last[0]], new + self._seen])
        times = np.concatenate([[self._last[1]], since[new]])
        periods = np.concatenate([[self._last[2]], period[new]])
        self._fill(ids, times, periods, int(period[-1]) + 1)
        self._last = (int(ids[-1]), int(times[-1]), int(periods[-1]))
        self._seen += t.size

    def finish(self) -> None:
        """Write the entry behind the last event."""
        if self._start is not None:
            number, time, period = self._last
            self._fill(np.array([number]), np.array([time]), np.array([period]), self._next + 1)
        self.column.finish()

    def _fill(
        self, ids: NDArray[Any], times: NDArray[Any], periods: NDArray[Any], stop: int
    ) -> None:
        while self._next < stop:
            block = np.arange(self._next, min(stop, self._next + _BLOCK), dtype=np.int64)
            before = np.maximum(np.searchsorted(periods, block) - 1, 0)
            entries = np.empty(block.size, self.column.dset.dtype)
            entries["id"], entries["ts"] = ids[before], times[before]
            self.column.add(entries)
            self._next += block.size
