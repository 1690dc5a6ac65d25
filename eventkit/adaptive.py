"""Adaptive windows: cut a stream where the scene changes.

A stream is halved again and again while its halves differ, so that a moving scene is cut finely
and a still one is left in one piece: the idea of the adaptive fine-grained event representation
(AFE) of ExACT (CVPR 2024), which SAFE uses too. Any representation takes the windows:
``adaptive=Bisection(...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.windows import MAX_WINDOWS, Windows

MAX_DEPTH = 64
# Cells with more events than this take the limit of the exact mean.
_TABLE = 1024


@dataclass(frozen=True, kw_only=True)
class Bisection:
    """Recursive bisection while the halves differ.

    Parameters
    ----------
    windows : int, optional
        Without it, a window is halved while the difference of its halves is above ``threshold``,
        it came from fewer than ``max_depth`` halvings and both halves have ``min_events``. With
        it, the window whose halves differ most is halved until there are exactly so many (for
        fixed shapes), whatever ``max_depth``. Where no difference is above ``threshold`` the
        fullest window is halved, so a scene that does not change is cut evenly; windows whose
        halves would have fewer than ``min_events`` come last.
    by : {"count", "time"}
        Halves of equally many events, or of equal time. Events at one time are never torn apart:
        by count the cut moves on to the next time, or back where there is none.
    threshold : float, 0 to 1
    min_events : int
    max_depth : int
        At most ``2 ** max_depth`` windows.
    cell : int, pixels
        Side of the cells that are compared.
    chance : {"subtract", "keep"}
        Whether the difference that chance alone would make is taken off, see Notes.

    Notes
    -----
    With l and r the events of either half in a cell, both polarities together, the difference is
    ``sum |l - r| / sum (l + r)``, 0 to 1. Noise makes halves differ as well, the more the fewer
    events there are: m events that fall in either half with equal chance make ``|l - r|`` about
    ``sqrt(2 m / pi)``. ``chance="subtract"`` takes the exact mean off the numerator, cell by cell
    (and stops at 0), so that one threshold serves streams of any rate; ``"keep"`` is the plain
    quotient.

    Of windows that are equal in all this the earliest is halved first. Cost is O(N log N) by count,
    O(N) for each halving of the time by time. Memory is two grids of cells.

    Examples
    --------
    >>> ev = Events(x=[0] * 40 + [31] * 40, y=[0] * 80, t=range(80), p=[1] * 80)
    >>> cut = Bisection(min_events=10).cut(ev, sensor_size=(32, 1))
    >>> cut.spans.tolist()
    [[0, 40], [40, 80]]
    """

    windows: int | None = None
    by: Literal["count", "time"] = "count"
    threshold: float = 0.2
    min_events: int = 1000
    max_depth: int = 6
    cell: int = 8
    chance: Literal["subtract", "keep"] = "subtract"

    def __post_init__(self) -> None:
        if self.windows is not None:
            _check_whole("windows", self.windows, 1, MAX_WINDOWS)
        _check_whole("min_events", self.min_events, 1, 1 << 62)
        _check_whole("max_depth", self.max_depth, 0, MAX_DEPTH)
        _check_whole("cell", self.cell, 1, 65536)
        if not 0 <= self.threshold <= 1:
            msg = f"expected threshold in 0..1, got {self.threshold}"
            raise SettingsError(msg)
        for name, known in (("by", ("count", "time")), ("chance", ("subtract", "keep"))):
            if getattr(self, name) not in known:
                msg = f"expected {name} among {', '.join(known)}, got {getattr(self, name)!r}"
                raise SettingsError(msg)

    def cut(self, events: Events, *, sensor_size: tuple[int, int]) -> Windows:
        """Return the windows of a stream, in order and without gaps.

        Parameters
        ----------
        events : Events
            Without events the stream is as if it had one at time 0.
        sensor_size : (W, H)

        Returns
        -------
        Windows
            By time, ``[start, stop)`` in int64 microseconds: the first starts at the first event,
            the last stops one microsecond after the last, so every event is in exactly one. With
            ``windows=B`` there are B; where the stream has too few distinct times for that (by
            time: microseconds), the rest are empty windows at its end.

        Raises
        ------
        InvalidEventsError
            If an event lies outside the sensor; names the first.
        """
        halving = _Halving(self, events, sensor_size)
        leaves = self._refine(halving) if self.windows is None else self._best(halving)
        edges = [leaf.start for leaf in leaves] + [leaves[-1].stop]
        edges += [edges[-1]] * ((self.windows or 0) - len(leaves))
        return Windows.of_edges(np.array(edges, np.int64))

    def _refine(self, halving: _Halving) -> list[_Window]:
        """Halve while the halves differ, in order of time."""
        leaves = []
        left_over = [halving.whole()]
        while left_over:
            window = left_over.pop()
            if (
                window.depth < self.max_depth
                and window.smaller >= self.min_events
                and window.difference > self.threshold
            ):
                left_over += reversed(halving.halves(window))
            else:
                leaves.append(window)
        return leaves

    def _best(self, halving: _Halving) -> list[_Window]:
        """Halve where the halves differ most, until there are enough."""
        whole = halving.whole()
        leaves = {whole.start: whole}
        queue = [(*self._rank(whole), whole.start)]
        while queue and len(leaves) < (self.windows or 1):
            *_, start = heappop(queue)
            if leaves[start].smaller < 0:
                continue
            for half in halving.halves(leaves[start]):
                leaves[half.start] = half
                heappush(queue, (*self._rank(half), half.start))
        return [leaves[start] for start in sorted(leaves)]

    def _rank(self, window: _Window) -> tuple[bool, float, int]:
        """Return what sorts first: enough events, halves that differ, many events."""
        few = window.smaller < self.min_events
        differ = not few and window.difference > self.threshold
        return few, -window.difference if differ else 0.0, -window.size


@dataclass(frozen=True, slots=True)
class _Window:
    """Events ``first .. last`` in ``[start, stop)``, and what halving it would give.

    ``smaller`` is the number of events of the smaller half, -1 where it cannot be halved.
    """

    first: int
    last: int
    start: int
    stop: int
    depth: int
    cut: int = 0
    edge: int = 0
    smaller: int = -1
    difference: float = 0.0

    @property
    def size(self) -> int:
        """The number of events."""
        return self.last - self.first


class _Halving:
    """The stream, and where and how differently each of its windows would be halved."""

    def __init__(self, rule: Bisection, events: Events, sensor_size: tuple[int, int]) -> None:
        width, height = sensor_size
        _check_inside(events, width, height)
        columns, rows = -(-width // rule.cell), -(-height // rule.cell)
        self._rule, self._events = rule, events
        self._column = (np.arange(width) // rule.cell).astype(np.uint32)
        self._row = (np.arange(height) // rule.cell * columns).astype(np.uint32)
        self._left = np.zeros(columns * rows, np.int64)
        self._right = np.zeros(columns * rows, np.int64)
        self._chance = _mean_difference(_TABLE)

    def whole(self) -> _Window:
        t = self._events.t
        start, stop = (int(t[0]), int(t[-1]) + 1) if t.size else (0, 1)
        if stop >= 2**63:
            msg = (
                f"expected windows within 2^63 us, got one that ends at {stop}; is a time damaged?"
            )
            raise SettingsError(msg)
        return self._window(0, t.size, start, stop, depth=0)

    def halves(self, window: _Window) -> tuple[_Window, _Window]:
        """Return the halves; the window must allow it."""
        w, depth = window, window.depth + 1
        return (
            self._window(w.first, w.cut, w.start, w.edge, depth=depth),
            self._window(w.cut, w.last, w.edge, w.stop, depth=depth),
        )

    def _window(self, first: int, last: int, start: int, stop: int, *, depth: int) -> _Window:
        t = self._events.t[first:last]
        place = _by_time(t, start, stop) if self._rule.by == "time" else _by_count(t)
        if place is None:
            return _Window(first, last, start, stop, depth)
        middle, edge = place
        smaller = min(middle, t.size - middle)
        # Halves with too few events are never compared.
        apart = self._difference(first, last, middle) if smaller >= self._rule.min_events else 0.0
        return _Window(first, last, start, stop, depth, first + middle, edge, smaller, apart)

    def _difference(self, first: int, last: int, middle: int) -> float:
        from eventkit.kernels.adaptive import halves_apart

        apart, expected = halves_apart(
            self._events.x[first:last],
            self._events.y[first:last],
            middle,
            self._column,
            self._row,
            self._left,
            self._right,
            self._chance,
        )
        if self._rule.chance == "subtract":
            return max(0.0, float(apart) - float(expected)) / (last - first)
        return float(apart) / (last - first)


def _by_count(t: NDArray[np.int64]) -> tuple[int, int] | None:
    """Return where to cut into equally many events, and the time there."""
    if not t.size or t[0] == t[-1]:
        return None
    middle = t.size // 2
    if t[middle] == t[middle - 1]:
        behind = int(np.searchsorted(t, t[middle], side="right"))
        middle = behind if behind < t.size else int(np.searchsorted(t, t[middle], side="left"))
    return middle, int(t[middle])


def _by_time(t: NDArray[np.int64], start: int, stop: int) -> tuple[int, int] | None:
    """Return where the half of the time is over, and that time."""
    edge = start + (stop - start) // 2
    if edge == start:
        return None
    return int(np.searchsorted(t, edge, side="left")), edge


def _mean_difference(size: int) -> NDArray[np.float64]:
    """Return the mean of ``|heads - tails|`` of m fair coins, for m below ``size``.

    It is m for m of 0 and 1, the same for an even m as for the odd one before, and grows by
    ``(2 k + 1) / (2 k)`` from ``2 k`` to ``2 k + 1``.
    """
    k = np.arange(1.0, (size + 1) // 2)
    odd = np.cumprod(np.concatenate([[1.0], (2 * k + 1) / (2 * k)]))
    return np.concatenate([[0.0], np.repeat(odd, 2)])[:size]


def _check_whole(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or int(value) != value or not low <= value <= high:
        msg = f"expected {name} as a whole number in {low}..{high}, got {value!r}"
        raise SettingsError(msg)


def _check_inside(events: Events, width: int, height: int) -> None:
    if not len(events) or (int(events.x.max()) < width and int(events.y.max()) < height):
        return
    i = int(np.argmax((events.x >= width) | (events.y >= height)))
    msg = (
        f"expected events inside the {width}x{height} sensor (W x H), "
        f"got x={events.x[i]} y={events.y[i]} p={events.p[i]} at event {i}; "
        "outside='drop' drops and counts them"
    )
    raise InvalidEventsError(msg)
