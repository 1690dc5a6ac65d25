"""Detection stacks: channels of time bins, counted with a limit or summed by sign.

N events, B bins, H rows, W columns. ``ranges`` (B, 2) int64 are the index ranges of the bins, found
by integer edges outside, so no time is looked at here.

A plane is cleared or written right before it is scattered into, while it is in the cache. Events
are taken in blocks, cut before they are indexed, flat indices first and scatter second (see
`eventkit.kernels.counts`); whether one lies outside the sensor is tested once a block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

BLOCK = 512


@kernel
def _indices(
    xs: NDArray[np.uint16],
    ys: NDArray[np.uint16],
    ps: NDArray[np.int8],
    width: int,
    height: int,
    base: int,
    step: int,
    index: NDArray[np.uint32],
) -> bool:
    """Fill ``index[i] = base + p * step + y * W + x``; return whether an event lies outside."""
    w, h = np.uint32(width), np.uint32(height)
    first, between = np.uint32(base), np.uint32(step)
    bad = np.uint32(0)
    for i in range(xs.size):
        px, py, pp = np.uint32(xs[i]), np.uint32(ys[i]), np.uint32(ps[i])
        bad |= np.uint32(px >= w) | np.uint32(py >= h) | np.uint32(pp > 1)
        index[i] = first + pp * between + py * w + px
    return bool(bad)


@kernel
def histogram(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    ranges: NDArray[np.int64],
    width: int,
    height: int,
    top: int,
    out: NDArray[np.uint8],
) -> int:
    """Count into ``out`` (2, B, H*W), channel ``p * B + bin``, each cell stopping at ``top``.

    Returns how many events found a full cell, or ``-1 - i`` where i is the first event of the block
    that holds one outside the sensor.
    """
    index = np.empty(BLOCK, np.uint32)
    bins, area = out.shape[1], out.shape[2]
    cells = out.reshape(-1)
    clipped = 0
    for b in range(bins):
        out[0, b] = 0
        out[1, b] = 0
        for a in range(ranges[b, 0], ranges[b, 1], BLOCK):
            z = min(a + BLOCK, ranges[b, 1])
            if _indices(x[a:z], y[a:z], p[a:z], width, height, b * area, bins * area, index):
                return -1 - a
            for i in range(z - a):
                k = index[i]
                old = cells[k]
                full = old >= top
                cells[k] = old + (not full)
                clipped += full
    return clipped


@kernel
def mixed_density(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    ranges: NDArray[np.int64],
    width: int,
    height: int,
    top: int,
    total: NDArray[np.int32],
    out: NDArray[np.int8],
) -> int:
    """Write sums of signs up to and with each bin to ``out`` (B, H*W), limited to ``-top .. top``.

    ``total`` (H*W,) is scratch. Returns how many cells were limited, or ``-1 - i`` where i is the
    first event of the block that holds one outside the sensor.
    """
    index = np.empty(BLOCK, np.uint32)
    total[:] = 0
    limited, here = 0, 0
    for b in range(out.shape[0]):
        first, stop = ranges[b, 0], ranges[b, 1]
        plane = out[b]
        if first == stop:
            if b:
                plane[:] = out[b - 1]
            else:
                plane[:] = 0
            limited += here
            continue
        for a in range(first, stop, BLOCK):
            z = min(a + BLOCK, stop)
            ps = p[a:z]
            if _indices(x[a:z], y[a:z], ps, width, height, 0, 0, index):
                return -1 - a
            for i in range(ps.size):
                total[index[i]] += 2 * np.int32(ps[i]) - 1
        here = 0
        for i in range(plane.size):
            value = total[i]
            kept = min(max(value, -top), top)
            plane[i] = kept
            here += kept != value
        limited += here
    return limited
