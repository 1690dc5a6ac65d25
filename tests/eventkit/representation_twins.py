"""Slow twins of counts and voxels, written from the definitions, and streams to try them on."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.events import Events

SIZE = (7, 5)


def pile(n: int, *, t: int = 0) -> Events:
    """Return ``n`` ON events in pixel (2, 1)."""
    return Events(
        x=np.full(n, 2, np.uint16),
        y=np.full(n, 1, np.uint16),
        t=np.full(n, t),
        p=np.ones(n, np.int8),
    )


def drawn_on(size: tuple[int, int], n: int, *, seed: int = 0, span_us: int = 10_000) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        x=rng.integers(0, size[0], n),
        y=rng.integers(0, size[1], n),
        t=np.sort(rng.integers(0, span_us, n)),
        p=rng.integers(0, 2, n),
    )


def whole(ev: Events) -> tuple[int, int]:
    """Return the window from the first event to one past the last."""
    return (int(ev.t[0]), int(ev.t[-1]) + 1) if len(ev) else (0, 1)


def slow_edges(ev: Events, bins: int) -> list[int]:
    """Return the edges of ``bins``, from the sentence in the design."""
    start, stop = whole(ev)
    return [start + (stop - start) * i // bins for i in range(bins + 1)]


def between(edges: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(edges))


def slow_counts(
    ev: Events, spans: list[tuple[int, int]], size: tuple[int, int], top: int
) -> tuple[NDArray[np.int64], int]:
    """Return counts and clipped: the definition, in Python integers."""
    width, height = size
    counts = np.zeros((len(spans), 2, height, width), np.int64)
    for x, y, t, p in rows(ev):
        for window, (start, stop) in enumerate(spans):
            counts[window, p, y, x] += start <= t < stop
    return np.minimum(counts, top), int(np.maximum(counts - top, 0).sum())


def slow_numbers(
    ev: Events, numbers: list[tuple[int, int]], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the counts of windows by event number."""
    counts = np.zeros((len(numbers), 2, size[1], size[0]), np.int64)
    for i, (x, y, _, p) in enumerate(rows(ev)):
        for window, (first, stop) in enumerate(numbers):
            counts[window, p, y, x] += first <= i < stop
    return counts


def rows(ev: Events) -> list[tuple[int, int, int, int]]:
    """Return the events as tuples of Python integers, exact whatever the times."""
    columns = (getattr(ev, name).tolist() for name in "xytp")
    return list(zip(*columns, strict=True))


def tau_of(convention: str, t: int, start: int, stop: int, bins: int) -> Fraction | None:
    """Return where in the bins a time lies; None if the convention has no place for it."""
    last = stop - 1
    if convention == "cube":
        return Fraction(bins * (t - start), stop - start) - Fraction(1, 2)
    if convention == "tonic":
        return Fraction(bins * (t - start), last - start) if last > start else None
    return Fraction((bins - 1) * (t - start), last - start) if last > start else Fraction(0)


def tent(a: Any, b: Any) -> Any:
    """Return the bilinear weight of two places, one pixel or bin wide."""
    return max(0, 1 - abs(a - b))


def slow_voxels(
    ev: Events,
    bins: int,
    size: tuple[int, int],
    *,
    convention: str = "zhu",
    clamp: bool = False,
    window: tuple[int, int] | None = None,
) -> NDArray[np.float64]:
    """Return (B, 2, H, W), OFF and ON apart: every event weighs ``1 - |b - tau|`` in bin b."""
    start, stop = window or whole(ev)
    grid = np.zeros((bins, 2, size[1], size[0]))
    for x, y, t, p in rows(ev):
        tau = tau_of(convention, t, start, stop, bins) if start <= t < stop else None
        if tau is None:
            continue
        if clamp:  # in the first half bin the rest goes to bin 1, in the last to none but the last
            tau = min(abs(tau), Fraction(bins - 1))
        for b in range(bins):
            grid[b, p, y, x] += float(tent(tau, b))
    return grid


def signed(split: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ON minus OFF of (B, 2, H, W)."""
    difference: NDArray[np.float64] = split[:, 1] - split[:, 0]
    return difference


def slow_spatial(
    ev: Events, xy: NDArray[np.float32], bins: int, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return (B, H, W): ``max(0, 1 - |.|)`` in time, row and column."""
    start, stop = whole(ev)
    grid = np.zeros((bins, size[1], size[0]))
    for (fx, fy), (_, _, t, p) in zip(xy.tolist(), rows(ev), strict=True):
        tau = tau_of("zhu", t, start, stop, bins)
        for b, row, column in product(range(bins), range(size[1]), range(size[0])):
            share = float(tent(tau, b)) * tent(fy, row) * tent(fx, column)
            grid[b, row, column] += share * (2 * p - 1)
    return grid


def slow_nonzero(grid: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cells that are not zero with mean 0 and deviation 1, as E-RAFT does it."""
    out = grid.astype(np.float64)
    mask = out != 0
    if not mask.any():
        return out
    cells = out[mask]
    deviation = cells.std(ddof=1) if cells.size > 1 else 0.0
    out[mask] = (cells - cells.mean()) / (deviation if deviation > 0 else 1.0)
    return out


def rounding(ev: Events) -> float:
    """Return the most that float32 sums of these events can be off.

    Every event adds two values below one to a cell, each rounded to 2^-24 of a partial sum that
    is at most the number of events.
    """
    return 2 * max(1, len(ev)) ** 2 * 2.0**-24
