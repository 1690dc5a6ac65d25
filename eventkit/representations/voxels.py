"""Voxel grids: signed events shared between the two nearest time bins, in four conventions.

All are one formula, ``tau = (A (t - t0) - C) / D`` in integers, and differ in A, C, D and in what
becomes of shares that fall before the first bin or after the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations.base import (
    Accumulator,
    EventsLike,
    Mass,
    Outside,
    Representation,
    StackOptions,
    as_events,
    check_bins,
    check_choice,
    first_outside,
    run,
)
from eventkit.representations.windowed import WindowedAccumulator
from eventkit.windows import Windows

VOXEL_CONVENTIONS = ("zhu", "zhu-spatial", "tonic", "cube")
Normalize = Literal["none", "nonzero"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Time between two neighbouring bins: ``[start, stop)``, the bin below, the share above it."""

    start: int
    stop: int
    below: int
    slope: float
    offset: float


@dataclass(frozen=True, kw_only=True)
class _Voxels(Representation):
    """What all voxel grids share.

    Parameters
    ----------
    bins : int
    normalize : {"none", "nonzero"}
        ``nonzero``: mean 0 and standard deviation 1 over the cells that are not zero (E-RAFT).
    """

    stack: ClassVar[bool] = True
    planes: ClassVar[int] = 1
    bins: int = 5
    normalize: Normalize = "none"

    def __post_init__(self) -> None:
        check_bins(self.bins)
        check_choice("normalize", self.normalize, ("none", "nonzero"))

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Float32."""
        return np.dtype(np.float32)

    @property
    def weights(self) -> tuple[tuple[float, float], ...]:
        """What OFF and ON weigh, one pair for every group of planes."""
        return ((-1.0, 1.0),)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (B, H, W)."""
        return self.bins * len(self.weights), sensor_size[1], sensor_size[0]

    def intervals(self, start: int, stop: int) -> list[Interval]:
        """Lay the intervals of a window ``[start, stop)``, microseconds."""
        raise NotImplementedError

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return VoxelAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


@dataclass(frozen=True, kw_only=True)
class ZhuVoxels(_Voxels):
    """``voxel:zhu``: bilinear in time, mass conserved; see `voxel_grid`."""

    name: ClassVar[str] = "voxel:zhu"
    mass: ClassVar[Mass] = "signs"

    def intervals(self, start: int, stop: int) -> list[Interval]:
        """``tau = (B - 1)(t - t0) / (t1 - t0)``; the last microsecond, t1, is in bin B - 1."""
        last = stop - 1
        if last <= start or self.bins == 1:
            return [Interval(start, stop, 0, 0.0, 0.0)]
        found = _bilinear(self.bins - 1, 0, last - start, start, last, range(self.bins - 1))
        return [*found, Interval(last, stop, self.bins - 1, 0.0, 0.0)]


@dataclass(frozen=True, kw_only=True)
class SpatialVoxels(ZhuVoxels):
    """``voxel:zhu-spatial``: as `ZhuVoxels`, and bilinear in x and y for rectified positions."""

    name: ClassVar[str] = "voxel:zhu-spatial"

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return SpatialAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


@dataclass(frozen=True, kw_only=True)
class TonicVoxels(_Voxels):
    """``voxel:tonic``: ``tau = B (t - t0) / (t1 - t0)``, as tonic's ``ToVoxelGrid``.

    The last instant is lost, and half of what lies in the last bin: shares beyond bin B - 1 have no
    place.
    """

    name: ClassVar[str] = "voxel:tonic"

    def intervals(self, start: int, stop: int) -> list[Interval]:
        """Lay the intervals; with all events at one time there is none."""
        last = stop - 1
        if last <= start:
            return []
        return _bilinear(self.bins, 0, last - start, start, last, range(self.bins))


@dataclass(frozen=True, kw_only=True)
class CubeVoxels(_Voxels):
    """``voxel:cube``: bilinear between bin centres, as Metavision's event cube.

    ``tau = B (t - start) / (stop - start) - 1/2`` over the whole window.

    Parameters
    ----------
    edges : {"drop", "clamp"}
        Shares before the first centre and after the last: lost (the C++ processor), or bins are
        limited first, which conserves mass (PyTorch ``event_volume``: before the first centre
        ``1 - |tau|`` goes to bin 0 and the rest to bin 1; after the last all is in bin B - 1).
    polarity : {"signed", "split"}
        One plane a bin, ON minus OFF; or two, channel ``2 bin + p``.
    """

    name: ClassVar[str] = "voxel:cube"
    edges: Literal["drop", "clamp"] = "drop"
    polarity: Literal["signed", "split"] = "signed"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("edges", self.edges, ("drop", "clamp"))
        check_choice("polarity", self.polarity, ("signed", "split"))

    @property
    def weights(self) -> tuple[tuple[float, float], ...]:
        """What OFF and ON weigh, one pair for every group of planes."""
        return ((-1.0, 1.0),) if self.polarity == "signed" else ((1.0, 0.0), (0.0, 1.0))

    def as_stored(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Return (B, 1 or 2, H, W)."""
        stored: NDArray[Any] = frames[0].reshape(self.bins, len(self.weights), *frames.shape[2:])
        return stored

    def intervals(self, start: int, stop: int) -> list[Interval]:
        """Lay the intervals; half a bin at either end has one neighbour only."""
        span = stop - start
        found = _bilinear(2 * self.bins, span, 2 * span, start, stop, range(-1, self.bins))
        return [self._clamped(i) for i in found] if self.edges == "clamp" else found

    def _clamped(self, i: Interval) -> Interval:
        """Limit the bins first, as the PyTorch function: shares are then those of the distance."""
        if i.below == self.bins - 1 or self.bins == 1:
            return Interval(i.start, i.stop, self.bins - 1, 0.0, 0.0)
        if i.below == -1:  # 1 - |tau| to bin 0, the rest to bin 1
            return Interval(i.start, i.stop, 0, -i.slope, 1.0 - i.offset)
        return i


def _bilinear(a: int, c: int, d: int, start: int, stop: int, below: range) -> list[Interval]:
    """Cut ``[start, stop)`` where ``tau = (a (t - start) - c) / d`` passes a whole number.

    In Python integers: times and bins multiply beyond 2^63, and the first microsecond of a bin
    must not depend on rounding.
    """
    firsts = [start + max(0, -(-(k * d + c) // a)) for k in (*below, below.stop)]
    found = []
    for k, first, end in zip(below, firsts, firsts[1:], strict=False):
        rest = a * (first - start) - c - k * d
        found.append(Interval(first, min(end, stop), k, a / d, rest / d))
    return [i for i in found if i.stop > i.start or i.below >= 0]


class _Grid:
    """One open window: its intervals, the one that is filling, and the shares in it."""

    def __init__(self, intervals: list[Interval], pairs: list[NDArray[np.float32]]) -> None:
        self.intervals, self.pairs, self.current = intervals, pairs, 0


class VoxelAccumulator(WindowedAccumulator):
    """Shares events chunk by chunk; the state is two floats a pixel and open window."""

    def __init__(self, settings: _Voxels, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._settings = settings
        self._weights = [np.array(pair, np.float32) for pair in settings.weights]
        self._open: dict[int, _Grid] = {}
        self._spare: list[NDArray[np.float32]] = []

    def _grid(self, k: int) -> _Grid:
        if k not in self._open:
            start, stop = (int(v) for v in self.windows.spans[k])
            width, height = self.sensor_size
            pairs = []
            for _ in self._weights:
                fresh = not self._spare
                pairs.append(
                    np.zeros(2 * width * height, np.float32) if fresh else self._spare.pop()
                )
            laid = self._settings.intervals(start, stop) if stop > start else []
            # The first interval to close writes the planes on both sides of it, but for this one.
            self.out[k, : len(self._weights)] = 0
            self._open[k] = _Grid(laid, pairs)
        return self._open[k]

    def _add_to(self, k: int, events: Events) -> int:
        from eventkit.kernels.voxels import share_between_bins

        grid = self._grid(k)
        width, height = self.sensor_size
        end = 0
        while grid.current < len(grid.intervals):
            interval = grid.intervals[grid.current]
            first, end = np.searchsorted(events.t, [interval.start, interval.stop]).tolist()
            part = slice(first, end)
            for weights, pair in zip(self._weights, grid.pairs, strict=True):
                bad = share_between_bins(
                    events.x[part],
                    events.y[part],
                    events.t[part],
                    events.p[part],
                    width,
                    height,
                    interval.start,
                    interval.slope,
                    interval.offset,
                    weights,
                    pair,
                )
                if bad >= 0:
                    return int(first + bad)
            if int(events.t[-1]) < interval.stop:
                return -1
            self._close_interval(k, grid)
        # What the convention gives to no bin must lie on the sensor all the same.
        if end == len(events):
            return -1
        bad = first_outside(events[end:], self.sensor_size)
        return -1 if bad < 0 else end + bad

    def _close_interval(self, k: int, grid: _Grid) -> None:
        from eventkit.kernels.voxels import close_interval

        below = grid.intervals[grid.current].below
        following = grid.intervals[grid.current + 1 : grid.current + 2]
        if following and following[0].below == below:  # it shares between the same two bins
            grid.current += 1
            return
        groups, bins = len(grid.pairs), self._settings.bins
        planes = self.out[k].reshape(bins, groups, -1)
        for g, pair in enumerate(grid.pairs):
            here = planes[below, g] if below >= 0 else planes[0, g][:0]
            there = planes[below + 1, g] if below + 1 < bins else planes[0, g][:0]
            close_interval(pair, here, there)
        grid.current += 1

    def _close(self, k: int) -> None:
        from eventkit.kernels.voxels import normalize_nonzero

        grid = self._grid(k)
        while grid.current < len(grid.intervals):
            self._close_interval(k, grid)
        written = grid.intervals[-1].below + 2 if grid.intervals else 0
        self.out[k, max(written, 1) * len(grid.pairs) :] = 0
        if self._settings.normalize == "nonzero":
            normalize_nonzero(self.out[k].reshape(-1))
        self._spare.extend(grid.pairs)
        del self._open[k]


class SpatialAccumulator(Accumulator):
    """Votes in time and space, straight into the frames: there is no other state."""

    def __init__(self, settings: SpatialVoxels, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._settings = settings
        self._xy: NDArray[np.float32] | None = None
        self.out[...] = 0

    def update(self, events: Events, *, xy: ArrayLike | None = None) -> None:
        """Add a chunk; ``xy`` (N, 2) float32 are its positions, by default the pixels.

        Raises
        ------
        InvalidEventsError
            If ``xy`` has another length or a value that is not finite.
        """
        self._xy = None if xy is None else _positions(xy, len(events))
        super().update(events)

    def _add(self, events: Events, ranges: NDArray[np.int64]) -> int:
        from eventkit.kernels.voxels import share_in_space

        if self._xy is None:
            bad = first_outside(events, self.sensor_size)
            if bad >= 0:
                return bad
            xy = np.stack([events.x, events.y], axis=1).astype(np.float32)
        else:
            xy = self._xy
        for k, (first, last) in enumerate(ranges.tolist()):
            start, stop = (int(v) for v in self.windows.spans[k])
            laid = self._settings.intervals(start, stop) if last > first else []
            for i in laid:
                a, z = first + np.searchsorted(events.t[first:last], [i.start, i.stop])
                share_in_space(
                    xy[a:z],
                    events.t[a:z],
                    events.p[a:z],
                    i.start,
                    i.slope,
                    i.offset,
                    i.below,
                    self.out[k],
                )
        return -1

    def _flush(self) -> None:
        from eventkit.kernels.voxels import normalize_nonzero

        if self._settings.normalize == "nonzero":
            for frame in self.out:
                normalize_nonzero(frame.reshape(-1))


def _positions(xy: ArrayLike, size: int) -> NDArray[np.float32]:
    found = np.ascontiguousarray(xy, np.float32)
    if found.shape != (size, 2):
        msg = f"expected xy of shape ({size}, 2), one position an event, got {found.shape}"
        raise InvalidEventsError(msg)
    if not np.isfinite(found).all():
        i = int(np.argmin(np.isfinite(found).all(axis=1)))
        msg = f"expected finite positions, got {found[i].tolist()} at event {i}"
        raise InvalidEventsError(msg)
    return found


_CLASSES: dict[str, type[_Voxels]] = {
    "zhu": ZhuVoxels,
    "zhu-spatial": SpatialVoxels,
    "tonic": TonicVoxels,
    "cube": CubeVoxels,
}


def voxel_grid(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    bins: int,
    convention: str = "zhu",
    normalize: Normalize = "none",
    edges: Literal["drop", "clamp"] | None = None,
    polarity: Literal["signed", "split"] | None = None,
    xy: ArrayLike | None = None,
    **options: Unpack[StackOptions],
) -> NDArray[np.float32]:
    """Share signed events between the nearest of B time bins.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    bins : int
        B, within each window.
    convention : {"zhu", "zhu-spatial", "tonic", "cube"}
        ``zhu``: Zhu et al. 2019 ("Unsupervised event-based learning of optical flow, depth, and
        egomotion", section 3.1), also E2VID. ``tau = (B - 1)(t - t0) / (t1 - t0)`` with t0, t1 the
        first and last microsecond of the window (without a window rule: the first and last event);
        each event gives ``1 - |b - tau|`` of its sign to the two nearest bins. The sum equals the
        sum of signs. With ``t1 == t0`` all is in bin 0.
        ``zhu-spatial``: the same, and bilinear in space at the positions ``xy`` (E-RAFT, DSEC).
        Shares outside the sensor are lost.
        ``tonic``: ``tau = B (t - t0) / (t1 - t0)``; loses the last instant and the upper half of
        the last bin.
        ``cube``: ``tau = B (t - start) / (stop - start) - 1/2`` (Metavision's event cube).
    normalize : {"none", "nonzero"}
        ``nonzero``: the cells that are not zero to mean 0, standard deviation 1 (E-RAFT).
    edges : {"drop", "clamp"}
        For ``cube``: lose shares that lie beyond the outer bin centres, or keep them, see
        `CubeVoxels`.
    polarity : {"signed", "split"}
        For ``cube``: ``split`` has two planes a bin, channel ``2 b + p``.
    xy : (N, 2) floats, pixels, optional
        For ``zhu-spatial``: x and y of every event, for example ``rectify_map[ev.y, ev.x]``.
    **options
        A window rule, see `eventkit.slicing.WindowRule`, and ``out``, ``sort``, ``outside``,
        ``ledger``, see `eventkit.representations.base.CallOptions`.

    Returns
    -------
    (B, H, W) float32
        With a window rule (T, B, H, W). 2 B planes for split polarity.

    Examples
    --------
    >>> ev = Events(x=[0, 0, 0], y=[0, 0, 0], t=[0, 5, 10], p=[1, 1, 0])
    >>> voxel_grid(ev, sensor_size=(1, 1), bins=2).ravel().tolist()
    [1.5, -0.5]
    """
    check_choice("convention", convention, VOXEL_CONVENTIONS)
    settings: dict[str, Any] = {"bins": bins, "normalize": normalize}
    for name, value in (("edges", edges), ("polarity", polarity)):
        if value is not None:
            if convention != "cube":
                msg = f"{name} goes with convention 'cube', got {convention!r}"
                raise SettingsError(msg)
            settings[name] = value
    representation = _CLASSES[convention](**settings)
    if xy is None:
        return run(representation, events, sensor_size=sensor_size, **options).result
    if convention != "zhu-spatial":
        msg = f"xy goes with convention 'zhu-spatial', got {convention!r}"
        raise SettingsError(msg)
    return _at_positions(representation, events, xy, sensor_size, dict(options))


def _at_positions(
    representation: Representation,
    events: EventsLike,
    xy: ArrayLike,
    sensor_size: tuple[int, int],
    options: dict[str, Any],
) -> NDArray[np.float32]:
    """Run `SpatialAccumulator` with positions; pixels of the events do not matter then."""
    out = options.pop("out", None)
    for name in ("sort", "outside", "ledger"):
        if options.pop(name, None) not in (None, False, "raise"):
            msg = f"{name} does not go with xy: positions belong to events in their given order"
            raise SettingsError(msg)
    stream = as_events(events)
    single = not any(value is not None for name, value in options.items() if name != "last")
    spans = representation.windows(stream, sensor_size, **options)
    frames = out[None] if single and out is not None else out
    accumulator = representation.accumulator(spans, sensor_size=sensor_size, out=frames)
    assert isinstance(accumulator, SpatialAccumulator)
    accumulator.update(stream, xy=xy)
    result = accumulator.finish()
    if not single:
        return result
    return out if out is not None else result[0]  # type: ignore[no-any-return]
