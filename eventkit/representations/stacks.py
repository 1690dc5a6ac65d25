"""Stacks of detection networks: histograms and mixed densities of time bins, as RVT makes them.

Both lay their bins between the first and the last *event* of a window, so a window is known only
when it has ended. Bins are found by integer edges: bin i begins at the first microsecond whose
formula gives i, which a binary search in the sorted times finds exactly.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.base import (
    Accumulator,
    Mass,
    Outside,
    Representation,
    check_bins,
)
from eventkit.representations.windowed import BufferedAccumulator
from eventkit.slicing import is_whole
from eventkit.windows import Windows

LATEST_US = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class _EventStack(Representation):
    """What both stacks of RVT share: B bins between the first and the last event of a window."""

    stack: ClassVar[bool] = True
    bins: int = 10

    def windows(self, events: Events, sensor_size: tuple[int, int], **rule: Any) -> Windows:
        """Cut as RVT does: windows of ``window_us`` and ``edges_us`` hold their last microsecond.

        RVT takes the events of ``[T - dt, T]``, so an event on a common edge is in both windows.
        Windows by ``count`` or ``adaptive``, and windows given to `accumulator` (a conversion
        gives its own), stay half-open. ``window_us`` ends, as everywhere, in a half-open window
        that holds the last event: one exactly on an edge has a window more for itself.
        """
        found = super().windows(events, sensor_size, **rule)
        if rule.get("window_us") is None and rule.get("edges_us") is None:
            return found
        spans = found.spans.copy()
        spans[:, 1] = np.minimum(spans[:, 1], LATEST_US - 1) + 1
        return Windows(spans, found.numbers)

    @abstractmethod
    def first_times(self, first: int, last: int) -> list[int]:
        """Return the first microsecond of each bin, of events from ``first`` to ``last``."""

    @abstractmethod
    def draw(
        self, events: Events, ranges: NDArray[np.int64], out: NDArray[Any], scratch: _Scratch
    ) -> int:
        """Write one window (C, H, W) whose bins are index ranges; return the number clipped."""

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return StackAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


class _Scratch:
    """Planes (H*W,) that are kept from window to window."""

    def __init__(self, size: int) -> None:
        self._size, self._total = size, np.empty(0, np.int32)

    @property
    def total(self) -> NDArray[np.int32]:
        if not self._total.size:
            self._total = np.empty(self._size, np.int32)
        return self._total


@dataclass(frozen=True, kw_only=True)
class RvtHistogram(_EventStack):
    """``stack:rvt``: the stacked histogram of RVT (Gehrig and Scaramuzza 2023).

    ``bin = min(floor(B (t - t0) / max(t1 - t0, 1)), B - 1)`` with t0, t1 the first and the last
    event of the window, in microseconds; channel ``p B + bin``, so all OFF bins come first. The
    last event is in bin B - 1, events of one time all in bin 0, and none is lost.

    Parameters
    ----------
    bins : int
        B.
    count_cutoff : int
        Cells stop there. RVT counts to 255 with None and at most; so does this.

    Notes
    -----
    Frames are (2 B, H, W) uint8. `Accumulator.clipped` counts the events that found a full cell.
    RVT's default ``fastmode`` lets a cell wrap at 256 before the cutoff; here it never does.

    Bins are found in integers. RVT divides in float32 and `evlib.rvt` in float64. Windows below
    half a second in 10 bins give the same bins in all three; in longer ones float32 may put an
    event within a rounding of an edge into the other bin (from 16.7 s on it skips microseconds);
    and for some B (22 is the first) both floats put an event exactly on an edge one bin too low.

    Examples
    --------
    >>> ev = Events(x=[0, 0, 0], y=[0, 0, 0], t=[0, 5, 10], p=[0, 1, 1])
    >>> RvtHistogram(bins=2)(ev, sensor_size=(1, 1)).ravel().tolist()
    [1, 0, 0, 2]
    """

    name: ClassVar[str] = "stack:rvt"
    mass: ClassVar[Mass] = "none"
    count_cutoff: int | None = 10

    def __post_init__(self) -> None:
        check_bins(self.bins)
        object.__setattr__(self, "count_cutoff", _cutoff(self.count_cutoff, 255))

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Uint8."""
        return np.dtype(np.uint8)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (2 B, H, W)."""
        return 2 * self.bins, sensor_size[1], sensor_size[0]

    def as_stored(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Return (B, 2, H, W): the bins of the first window in order of time, OFF and ON."""
        by_sign: NDArray[Any] = frames[0].reshape(2, self.bins, *frames.shape[2:])
        return by_sign.swapaxes(0, 1)

    def first_times(self, first: int, last: int) -> list[int]:
        """``B (t - t0) >= i D``: bin i begins at ``t0 + ceil(i D / B)``."""
        span = max(last - first, 1)
        return [first - (-i * span // self.bins) for i in range(self.bins)]

    def draw(
        self, events: Events, ranges: NDArray[np.int64], out: NDArray[Any], scratch: _Scratch
    ) -> int:
        """Count into ``out`` (2 B, H, W)."""
        from eventkit.kernels.stacks import histogram

        _, height, width = out.shape
        planes = out.reshape(2, self.bins, -1)
        return int(
            histogram(
                events.x,
                events.y,
                events.p,
                ranges,
                width,
                height,
                self.count_cutoff or 255,
                planes,
            )
        )


@dataclass(frozen=True, kw_only=True)
class MixedDensity(_EventStack):
    """``stack:mdes``: the mixed density event stack as RVT has it (after Nam et al. 2022).

    ``bin = max(floor(B + log2(tn)), 0)`` with ``tn = (t - t0) / max(t1 - t0, 1)`` limited to
    1e-6 .. 1 - 1e-6 and t0, t1 the first and the last event of the window; channel i is the sum of
    the signs (ON +1, OFF -1) of all events in bins 0 to i. So the last channel has the whole
    window, the one before its first half, the one before that its first quarter ... The first event
    is in bin 0 and the last in bin B - 1, whose only events are those of the second half.

    Parameters
    ----------
    bins : int
        B. From 21 on the limit of 1e-6 leaves the bins below B - 20 empty.
    count_cutoff : int
        Cells are limited to ``-count_cutoff .. count_cutoff``, 1 to 127; None is 127.

    Notes
    -----
    Frames are (B, H, W) int8. `Accumulator.clipped` counts the *cells* that were limited, over all
    channels: sums of signs are exact before that. RVT sums in int8, which wraps at 128.

    Formula, limits and sums are those of RVT's ``MixedDensityEventStack``, read in its source. What
    is re-derived: ``tn >= 2^(i - B)`` in integers instead of a float32 logarithm, so an event
    exactly at a half, a quarter ... of the window is in the upper bin, and one within 1e-6 of it is
    where the formula says. RVT fails beyond 32 bins, where ``B - log(1 - 1e-6)`` rounds to B.

    Examples
    --------
    >>> ev = Events(x=[0] * 4, y=[0] * 4, t=[0, 25, 50, 100], p=[0, 1, 1, 1])
    >>> MixedDensity(bins=3)(ev, sensor_size=(1, 1)).ravel().tolist()
    [-1, 0, 2]
    """

    name: ClassVar[str] = "stack:mdes"
    mass: ClassVar[Mass] = "none"
    count_cutoff: int | None = 127

    def __post_init__(self) -> None:
        check_bins(self.bins)
        object.__setattr__(self, "count_cutoff", _cutoff(self.count_cutoff, 127))

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Int8."""
        return np.dtype(np.int8)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (B, H, W)."""
        return self.bins, sensor_size[1], sensor_size[0]

    def first_times(self, first: int, last: int) -> list[int]:
        """``(t - t0) 2^(B - i) >= D``: bin i begins at ``t0 + ceil(D / 2^(B - i))``.

        1e-6 lies between 2^-20 and 2^-19: what is earlier is lifted into bin B - 20.
        """
        span, lowest = max(last - first, 1), max(self.bins - 20, 0)
        return [
            first if i <= lowest else first - (-span >> (self.bins - i)) for i in range(self.bins)
        ]

    def draw(
        self, events: Events, ranges: NDArray[np.int64], out: NDArray[Any], scratch: _Scratch
    ) -> int:
        """Sum into ``out`` (B, H, W)."""
        from eventkit.kernels.stacks import mixed_density

        bins, height, width = out.shape
        top = self.count_cutoff or 127
        planes = out.reshape(bins, -1)
        return int(
            mixed_density(
                events.x, events.y, events.p, ranges, width, height, top, scratch.total, planes
            )
        )


def _cutoff(value: int | None, top: int) -> int:
    """Return a cutoff as RVT takes it: none is the largest the type holds, and more is that."""
    if value is None:
        return top
    if not is_whole(value):
        msg = f"expected count_cutoff of at least 1, or None for {top}, got {value}"
        raise SettingsError(msg)
    return min(int(value), top)


class StackAccumulator(BufferedAccumulator):
    """Draws each window when its last event is known."""

    def __init__(self, settings: _EventStack, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._settings = settings
        self._scratch = _Scratch(self.sensor_size[0] * self.sensor_size[1])

    def _fill(self, k: int, events: Events) -> None:
        if not len(events):
            self.out[k] = 0
            return
        firsts = self._settings.first_times(int(events.t[0]), int(events.t[-1]))
        edges = np.searchsorted(events.t, np.array(firsts, np.int64)).astype(np.int64)
        edges[0] = 0
        ranges = np.stack([edges, np.append(edges[1:], len(events))], axis=1)
        clipped = self._settings.draw(events, ranges, self.out[k], self._scratch)
        assert clipped >= 0, "events are checked before they are held"
        self.clipped[k] = clipped
