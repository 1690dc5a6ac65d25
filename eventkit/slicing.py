"""Windows of a stream and the index ranges of the events in them; nothing is copied.

A window is half-open. By time it is ``[start, stop)`` in int64 microseconds, by count a range of
event numbers. All arithmetic is on integers, so edges do not depend on rounding and 16 bins nest
exactly in 8. Windows are in order of start and of stop; they may overlap or leave gaps.
"""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventkit.adaptive import Bisection
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.windows import MAX_WINDOWS, Windows

Last = Literal["include", "exclude"]


class WindowRule(TypedDict, total=False):
    """How a stream is cut: at most one of ``window_us, count, edges_us, adaptive`` and ``bins``.

    Keys
    ----
    window_us : int, microseconds
        Windows of this length from the first event on, one every ``stride_us`` (default: the
        length). The last one holds the last event and may reach beyond it.
    count : int
        Windows of this many events, one every ``stride`` events (default: the count).
    edges_us : (T + 1,) integers, microseconds
        Given edges; events before the first and from the last on are in no window.
    adaptive : Bisection
        Cut where the scene changes, see `eventkit.adaptive`.
    last : {"include", "exclude"}
        ``exclude`` ends the windows at the last event, which is then in none (the edge rule of
        many peers), and leaves out a last window that is not full.
    """

    window_us: int | None
    stride_us: int | None
    count: int | None
    stride: int | None
    edges_us: ArrayLike | None
    adaptive: Bisection | None
    last: Last


class BinRule(WindowRule, total=False):
    """A `WindowRule`, or ``bins`` windows of equal time from the first event to the last."""

    bins: int | None


def is_whole(value: object, low: int = 1, high: int = (1 << 63) - 1) -> bool:
    """Return whether ``value`` is an integer, no bool, from ``low`` to ``high``.

    Examples
    --------
    >>> [is_whole(value) for value in (3, 3.0, True, "3", None, 0)]
    [True, False, False, False, False, False]
    """
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return bool(integer and low <= value <= high)  # type: ignore[operator]


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
    if bins > MAX_WINDOWS:
        msg = f"expected at most {MAX_WINDOWS} bins, got {bins}"
        raise SettingsError(msg)
    if stop <= start:
        msg = f"expected a window that ends after it starts, got [{start}, {stop})"
        raise SettingsError(msg)
    _check_times(start, stop)
    # Python integers: (stop - start) * bins may pass 2^63.
    return np.array([start + (stop - start) * i // bins for i in range(bins + 1)], np.int64)


def windows(
    events: Events,
    *,
    sensor_size: tuple[int, int] | None = None,
    bins: int | None = None,
    window_us: int | None = None,
    stride_us: int | None = None,
    count: int | None = None,
    stride: int | None = None,
    edges_us: ArrayLike | None = None,
    adaptive: Bisection | None = None,
    last: Last = "include",
) -> Windows:
    """Cut a stream into windows; see `WindowRule`. Without a rule the stream is one window.

    Parameters
    ----------
    events : Events
        Without events, windows are those of a stream of one event at time 0.
    sensor_size : (W, H)
        Needed for ``adaptive``.

    Raises
    ------
    SettingsError
        If rules are mixed, a length is not positive, or there would be too many windows.

    Examples
    --------
    >>> ev = Events(x=[0] * 4, y=[0] * 4, t=[0, 4, 8, 10], p=[1] * 4)
    >>> windows(ev, window_us=5).spans.tolist()
    [[0, 5], [5, 10], [10, 15]]
    >>> windows(ev, window_us=5, last="exclude").spans.tolist()
    [[0, 5], [5, 10]]
    >>> windows(ev, count=3).numbers.tolist()
    [[0, 3], [3, 4]]
    """
    _check_rule(bins, window_us, stride_us, count, stride, edges_us, adaptive, last)
    t = events.t
    # Python integers: sums of NumPy's narrow ones would wrap.
    bins, window_us, stride_us, count, stride = (
        None if value is None else int(value)
        for value in (bins, window_us, stride_us, count, stride)
    )
    if edges_us is not None:
        return Windows.of_edges(edges_us)
    if adaptive is not None:
        if sensor_size is None:
            msg = "adaptive windows need sensor_size"
            raise SettingsError(msg)
        return adaptive.cut(events, sensor_size=sensor_size)
    if count is not None:
        return _by_count(t, count, stride if stride is not None else count, last)
    first, end = (int(t[0]), int(t[-1])) if t.size else (0, 0)
    if window_us is not None:
        return _by_length(first, end, window_us, stride_us or window_us, last)
    stop = end + (last == "include")
    if stop == first:  # all events at one time, and that time left out
        return Windows(np.full((bins or 1, 2), first, np.int64))
    return Windows.of_edges(equal_edges(first, stop, bins or 1))


def _check_rule(
    bins: int | None,
    window_us: int | None,
    stride_us: int | None,
    count: int | None,
    stride: int | None,
    edges_us: ArrayLike | None,
    adaptive: Bisection | None,
    last: str,
) -> None:
    rules = {
        "bins": bins,
        "window_us": window_us,
        "count": count,
        "edges_us": edges_us,
        "adaptive": adaptive,
    }
    given = [name for name, value in rules.items() if value is not None]
    if len(given) > 1:
        msg = f"expected one of {', '.join(rules)}, got {' and '.join(given)}"
        raise SettingsError(msg)
    for name, value, owner in (("stride_us", stride_us, window_us), ("stride", stride, count)):
        if value is not None and owner is None:
            msg = f"{name} goes with {'window_us' if name == 'stride_us' else 'count'}"
            raise SettingsError(msg)
    lengths = {
        "bins": bins,
        "window_us": window_us,
        "stride_us": stride_us,
        "count": count,
        "stride": stride,
    }
    for name, value in lengths.items():
        if value is not None and not is_whole(value):
            msg = f"expected {name} of at least 1, got {value!r}"
            raise SettingsError(msg)
    if not isinstance(last, str) or last not in ("include", "exclude"):
        msg = f"expected last 'include' or 'exclude', got {last!r}"
        raise SettingsError(msg)


def _by_length(first: int, end: int, length: int, stride: int, last: Last) -> Windows:
    """Windows from ``first`` on until one holds ``end``; a stride beyond the length leaves gaps."""
    span = end - first
    if last == "include":
        total = min(span // stride, -(-max(0, span + 1 - length) // stride)) + 1
    else:
        total = max(0, (span - length) // stride + 1)
    if total > MAX_WINDOWS:
        msg = f"expected at most {MAX_WINDOWS} windows, {length} us every {stride} makes {total}"
        raise SettingsError(msg)
    _check_times(first, first + (max(total, 1) - 1) * stride + length)
    starts = first + stride * np.arange(total, dtype=np.int64)
    return Windows(np.stack([starts, starts + length], axis=1))


def _by_count(t: NDArray[np.int64], length: int, stride: int, last: Last) -> Windows:
    size = t.size
    if last == "include":
        total = min((size - 1) // stride, -(-max(0, size - length) // stride)) + 1 if size else 0
    else:
        total = max(0, (size - length) // stride + 1)
    if total > MAX_WINDOWS:
        msg = (
            f"expected at most {MAX_WINDOWS} windows, {length} every {stride} events makes {total}"
        )
        raise SettingsError(msg)
    starts = stride * np.arange(total, dtype=np.int64)
    numbers = np.stack([starts, np.minimum(starts + length, size)], axis=1)
    if total:
        _check_times(int(t[0]), int(t[numbers[-1, 1] - 1]) + 1)
    spans = np.stack([t[numbers[:, 0]], t[numbers[:, 1] - 1] + 1], axis=1)
    return Windows(spans, numbers)


def _check_times(start: int, stop: int) -> None:
    if not -(2**63) <= start <= stop < 2**63:
        msg = f"expected windows within 2^63 us, got {start} .. {stop}; is a time damaged?"
        raise SettingsError(msg)
