"""Averaged time surfaces: for each event the decayed events around it, summed by cell.

N events of one window, in time order within each group of cell and polarity (``order`` lists event
numbers group by group, ``bounds`` (G + 1,) where each begins). Every pair of events of a group that
are near in time is met once; how far back to look only moves forward.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

# ``reach`` is below 2^62, so from here on ``now - reach`` is an int64.
FAR = -(1 << 62)


@kernel
def group_by_cell(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    cell: int,
    across: int,
    down: int,
    order: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> None:
    """Fill ``order`` (N,) and ``bounds`` (2 * down * across + 1,) by a stable counting sort.

    Group ``(p * down + row) * across + column``. Events lie on the sensor.
    """
    bounds[:] = 0
    for i in range(x.size):
        g = (np.int64(p[i]) * down + np.int64(y[i]) // cell) * across + np.int64(x[i]) // cell
        bounds[g + 1] += 1
    for n in range(1, bounds.size):
        bounds[n] += bounds[n - 1]
    place = bounds[:-1].copy()
    for i in range(x.size):
        g = (np.int64(p[i]) * down + np.int64(y[i]) // cell) * across + np.int64(x[i]) // cell
        order[place[g]] = i
        place[g] += 1


@kernel
def average(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    order: NDArray[np.int64],
    bounds: NDArray[np.int64],
    across: int,
    radius: int,
    reach: int,
    rate: float,
    linear: bool,  # noqa: FBT001
    out: NDArray[np.float32],
) -> None:
    """Write the averaged surface of each group to its tile of ``out`` (2 * down * K, across * K).

    An event adds 1 to the centre and, at the offset of each earlier event of its group at most
    ``reach`` us older and ``radius`` pixels away, ``exp(-rate * age)`` or ``1 - rate * age``.
    """
    side = 2 * radius + 1
    tile = np.zeros((side, side), np.float64)
    for g in range(bounds.size - 1):
        first, stop = bounds[g], bounds[g + 1]
        tile[:, :] = 0
        oldest = first
        for n in range(first, stop):
            i = order[n]
            tx, ty, now = np.int64(x[i]), np.int64(y[i]), t[i]
            # Two forms of one test: neither difference can pass 2^63.
            if now > FAR:
                while t[order[oldest]] < now - reach:
                    oldest += 1
            else:
                while now - t[order[oldest]] > reach:
                    oldest += 1
            for m in range(oldest, n):
                j = order[m]
                dx, dy = np.int64(x[j]) - tx + radius, np.int64(y[j]) - ty + radius
                if 0 <= dx < side and 0 <= dy < side:
                    age = np.float64(now - t[j]) * rate
                    tile[dy, dx] += 1.0 - age if linear else math.exp(-age)
            tile[radius, radius] += 1.0
        count = max(stop - first, 1)
        top, left = (g // across) * side, (g % across) * side
        for v in range(side):
            for u in range(side):
                out[top + v, left + u] = np.float32(tile[v, u] / count)
