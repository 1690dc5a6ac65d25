"""Windows of a stream and the index ranges of the events in them; nothing is copied.

A window is half-open. By time it is ``[start, stop)`` in int64 microseconds, by count a range of
event numbers. Windows are in order of start and of stop; they may overlap or leave gaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventkit.errors import SettingsError

MAX_WINDOWS = 1 << 24


@dataclass(frozen=True, slots=True)
class Windows:
    """T windows, by time or by event number.

    Parameters
    ----------
    spans : (T, 2) int64, microseconds
        Start and stop. Of windows by number: the first event and one past the last one's time.
    numbers : (T, 2) int64, optional
        Ranges of event numbers, of windows by count.
    """

    spans: NDArray[np.int64]
    numbers: NDArray[np.int64] | None = None

    @classmethod
    def of_edges(cls, edges: ArrayLike) -> Windows:
        """Windows between (T + 1,) edges, microseconds."""
        return cls(windows_of_edges(edges))

    def __len__(self) -> int:
        return int(self.spans.shape[0])

    def ranges(self, t: NDArray[np.int64], *, before: int = 0) -> NDArray[np.int64]:
        """Return the (T, 2) index ranges into a chunk ``t`` that follows ``before`` events."""
        if self.numbers is None:
            return index_ranges(t, self.spans)
        found: NDArray[np.int64] = (self.numbers - before).clip(0, t.size)
        return found


def windows_of_edges(edges: ArrayLike) -> NDArray[np.int64]:
    """Turn (T + 1,) edges into (T, 2) windows; edges must not decrease."""
    try:
        array = np.asarray(edges)
    except ValueError as err:  # lists of unequal lengths
        msg = "expected at least two integer edges in microseconds, got lists of unequal lengths"
        raise SettingsError(msg) from err
    if array.ndim != 1 or array.size < 2 or array.dtype.kind not in "iu":
        msg = f"expected at least two integer edges in microseconds, got {array.dtype}{array.shape}"
        raise SettingsError(msg)
    if array.dtype.kind == "u" and (array > np.uint64((1 << 63) - 1)).any():
        msg = f"expected edges below 2^63 us, got {array.max()}"
        raise SettingsError(msg)
    array = array.astype(np.int64)
    if (array[1:] < array[:-1]).any():
        msg = "expected edges that do not decrease"
        raise SettingsError(msg)
    return np.stack([array[:-1], array[1:]], axis=1)


def index_ranges(t: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (T, 2) index ranges of the events in each window; binary search in ``t``."""
    found: NDArray[np.int64] = np.searchsorted(t, spans.ravel(), side="left").astype(np.int64)
    return found.reshape(spans.shape)
