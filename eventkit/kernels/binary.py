"""Whether there was an event: planes of ones, and planes of bits.

N events, B bins, H rows, W columns. ``ranges`` (B, 2) int64 are the index ranges of the bins.
Blocks, flat indices and checks are as in `eventkit.kernels.counts`.
"""

from __future__ import annotations

from typing import Any

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
    step: int,
    index: NDArray[np.uint32],
) -> bool:
    """Fill ``index[i] = p * step + y * W + x``; return whether an event lies outside."""
    w, h = np.uint32(width), np.uint32(height)
    between = np.uint32(step)
    bad = np.uint32(0)
    for i in range(xs.size):
        px, py, pp = np.uint32(xs[i]), np.uint32(ys[i]), np.uint32(ps[i])
        bad |= np.uint32(px >= w) | np.uint32(py >= h) | np.uint32(pp > 1)
        index[i] = pp * between + py * w + px
    return bool(bad)


@kernel
def mark(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    ranges: NDArray[np.int64],
    width: int,
    height: int,
    fresh: NDArray[np.bool_],
    planes: NDArray[np.uint8],
) -> int:
    """Set the cells of ``planes`` (B, H*W) that have an event to 1.

    ``fresh`` (B,) says which planes hold nothing of use yet. Returns -1, or the first event of the
    block that holds one outside the sensor.
    """
    index = np.empty(BLOCK, np.uint32)
    for b in range(ranges.shape[0]):
        first, stop = ranges[b, 0], ranges[b, 1]
        plane = planes[b]
        if stop > first and fresh[b]:
            plane[:] = 0
            fresh[b] = False
        for a in range(first, stop, BLOCK):
            z = min(a + BLOCK, stop)
            if _indices(x[a:z], y[a:z], p[a:z], width, height, 0, index):
                return a
            for i in range(z - a):
                plane[index[i]] = 1
    return -1


@kernel
def set_bits(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    ranges: NDArray[np.int64],
    width: int,
    height: int,
    codes: NDArray[Any],
) -> int:
    """Set bit ``B - 1 - b`` of ``codes`` (2*H*W,) where bin b has an event; OFF cells come first.

    Returns -1, or the first event of the block that holds one outside the sensor.
    """
    index = np.empty(BLOCK, np.uint32)
    bins = ranges.shape[0]
    for b in range(bins):
        bit = np.uint32(1 << (bins - 1 - b))
        for a in range(ranges[b, 0], ranges[b, 1], BLOCK):
            z = min(a + BLOCK, ranges[b, 1])
            if _indices(x[a:z], y[a:z], p[a:z], width, height, width * height, index):
                return a
            for i in range(z - a):
                codes[index[i]] |= bit
    return -1


@kernel
def take_codes(codes: NDArray[Any], top: int, out: NDArray[np.float32]) -> None:
    """Set ``out[i] = codes[i] / top`` in float32 and clear the codes (N,)."""
    divisor = np.float32(top)
    for i in range(out.size):
        out[i] = np.float32(codes[i]) / divisor
        codes[i] = 0
