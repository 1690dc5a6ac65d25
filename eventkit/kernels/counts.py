"""Count frames.

N events, T windows, H rows, W columns. ``ranges`` (T, 2) int64 are index ranges into the columns.

The columns are cut into blocks before they are indexed: ``xs[i]`` with ``i`` from
``range(xs.size)`` cannot be negative, so LLVM drops the wrap-around test and vectorises the first
loop; flat indices first, scatter second is 2x faster than one loop. Whether an event lies outside
is OR-ed over the block and tested once a block, before anything is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

BLOCK = 512


@kernel
def count(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    ranges: NDArray[np.int64],
    width: int,
    height: int,
    top: int,
    binned: NDArray[np.int64],
    clipped: NDArray[np.int64],
    out: NDArray[Any],
) -> int:
    """Add events to ``out`` (T, 2*H*W), stopping each cell at ``top``.

    ``binned`` and ``clipped`` (T,) receive the events met and those that found a full cell.
    Returns -1, or the first event of the block that holds one outside the sensor.
    """
    index = np.empty(BLOCK, np.uint32)
    w, h = np.uint32(width), np.uint32(height)
    area = np.uint32(width * height)
    for b in range(ranges.shape[0]):
        frame = out[b]
        full_cells = 0
        for a in range(ranges[b, 0], ranges[b, 1], BLOCK):
            z = min(a + BLOCK, ranges[b, 1])
            xs, ys, ps = x[a:z], y[a:z], p[a:z]
            bad = np.uint32(0)
            for i in range(xs.size):
                px, py, pp = np.uint32(xs[i]), np.uint32(ys[i]), np.uint32(ps[i])
                bad |= np.uint32(px >= w) | np.uint32(py >= h) | np.uint32(pp > 1)
                index[i] = pp * area + py * w + px
            if bad:
                return a
            for i in range(xs.size):
                old = frame[index[i]]
                full = old >= top
                frame[index[i]] = old + (not full)
                full_cells += full
        clipped[b] += full_cells
        binned[b] += ranges[b, 1] - ranges[b, 0]
    return -1
