"""Windows in time and the index ranges of the events in them; nothing is copied.

Windows are (T, 2) int64 microseconds, half-open ``[start, stop)``, in order, not overlapping. All
arithmetic is on integers, so edges do not depend on rounding and 16 bins nest exactly in 8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventkit.errors import SettingsError

MAX_WINDOWS = 1 << 24


def equal_edges(start: int, stop: int, bins: int) -> NDArray[np.int64]:
    """Return ``edge[i] = start + (stop - start) * i // bins``, (bins + 1,) int64.

    Examples
    --------
    >>> equal_edges(0, 10, 4).tolist()
    [0, 2, 5, 7, 10]
    """
    if bins < 1:
        msg = f"expected at least one bin, got {bins}"
        raise SettingsError(msg)
    if stop <= start:
        msg = f"expected a window that ends after it starts, got [{start}, {stop})"
        raise SettingsError(msg)
    _check_times(start, stop)
    # Python integers: (stop - start) * bins may pass 2^63.
    return np.array([start + (stop - start) * i // bins for i in range(bins + 1)], np.int64)


def windows_of_edges(edges: ArrayLike) -> NDArray[np.int64]:
    """Turn (T + 1,) edges into (T, 2) windows; edges must not decrease."""
    array = np.asarray(edges)
    if array.ndim != 1 or array.size < 2 or array.dtype.kind not in "iu":
        msg = f"expected at least two integer edges in microseconds, got {array.dtype}{array.shape}"
        raise SettingsError(msg)
    array = array.astype(np.int64)
    if (array[1:] < array[:-1]).any():
        msg = "expected edges that do not decrease"
        raise SettingsError(msg)
    return np.stack([array[:-1], array[1:]], axis=1)


def windows(
    t: NDArray[np.int64],
    *,
    bins: int | None = None,
    window_us: int | None = None,
    edges_us: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Return the windows of a stream; exactly one of the three rules must be given.

    Parameters
    ----------
    t : (N,) int64, microseconds
        Sorted.
    bins : int
        Equal time from the first event to one past the last, so the last event is kept. A
        stream without events has the windows of a stream of one event at 0.
    window_us : int, microseconds
        Windows of this length from the first event; the last one holds the last event and may
        reach beyond it.
    edges_us : (T + 1,) integers, microseconds
        Given edges; events before the first and from the last on are in no window.
    """
    given = [
        n
        for n, v in (("bins", bins), ("window_us", window_us), ("edges_us", edges_us))
        if v is not None
    ]
    if len(given) != 1:
        msg = f"expected one of bins, window_us, edges_us, got {' and '.join(given) or 'none'}"
        raise SettingsError(msg)
    if edges_us is not None:
        return windows_of_edges(edges_us)
    first, last = (int(t[0]), int(t[-1])) if t.size else (0, 0)
    if bins is not None:
        return windows_of_edges(equal_edges(first, last + 1, bins))
    assert window_us is not None
    if window_us < 1:
        msg = f"expected a window of at least 1 us, got {window_us}"
        raise SettingsError(msg)
    count = (last - first) // window_us + 1
    if count > MAX_WINDOWS:
        msg = f"expected at most {MAX_WINDOWS} windows, {window_us} us makes {count}"
        raise SettingsError(msg)
    _check_times(first, first + count * window_us)
    return windows_of_edges(first + window_us * np.arange(count + 1, dtype=np.int64))


def _check_times(start: int, stop: int) -> None:
    if not -(2**63) <= start <= stop < 2**63:
        msg = f"expected windows within 2^63 us, got {start} .. {stop}; is a time damaged?"
        raise SettingsError(msg)


def index_ranges(t: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (T, 2) index ranges of the events in each window; binary search in ``t``."""
    found: NDArray[np.int64] = np.searchsorted(t, spans.ravel(), side="left").astype(np.int64)
    return found.reshape(spans.shape)
