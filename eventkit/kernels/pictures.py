"""Pictures of events: what each pixel met last, or most darkly.

N events, H rows, W columns. Blocks, flat indices and checks are as in `eventkit.kernels.counts`.
While events arrive one plane of the picture is the only state; the others follow at the end.
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
    index: NDArray[np.uint32],
) -> bool:
    """Fill ``index[i] = y * W + x``; return whether an event lies outside."""
    w, h = np.uint32(width), np.uint32(height)
    bad = np.uint32(0)
    for i in range(xs.size):
        px, py, pp = np.uint32(xs[i]), np.uint32(ys[i]), np.uint32(ps[i])
        bad |= np.uint32(px >= w) | np.uint32(py >= h) | np.uint32(pp > 1)
        index[i] = py * w + px
    return bool(bad)


@kernel
def paint(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    width: int,
    height: int,
    off: int,
    on: int,
    last_wins: int,
    plane: NDArray[np.uint8],
) -> int:
    """Paint ``plane`` (H*W,) with ``off`` and ``on``: the later value, or the smaller one.

    Returns -1, or the first event of the block that holds one outside the sensor.
    """
    index, value = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint8)
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        ps = p[a:z]
        if _indices(x[a:z], y[a:z], ps, width, height, index):
            return a
        for i in range(ps.size):
            value[i] = on if ps[i] else off
        if last_wins:
            for i in range(ps.size):
                plane[index[i]] = value[i]
        else:
            for i in range(ps.size):
                k = index[i]
                plane[k] = min(plane[k], value[i])
    return -1


@kernel
def colour(
    red: NDArray[np.uint8],
    off: NDArray[np.uint8],
    on: NDArray[np.uint8],
    green: NDArray[np.uint8],
    blue: NDArray[np.uint8],
) -> None:
    """Complete a picture from its red plane (H*W,): ``off`` and ``on`` (3,) RGB on white.

    The three reds must differ.
    """
    white = np.uint8(255)
    # Read once: as far as LLVM knows, a store to the planes may change them.
    off_red, off_green, off_blue = off[0], off[1], off[2]
    on_red, on_green, on_blue = on[0], on[1], on[2]
    for i in range(red.size):
        green[i] = off_green if red[i] == off_red else (on_green if red[i] == on_red else white)
    for i in range(red.size):
        blue[i] = off_blue if red[i] == off_red else (on_blue if red[i] == on_red else white)


@kernel
def remember(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    origin: int,
    latest: NDArray[Any],
) -> int:
    """Keep the latest event of each pixel (H*W,) as ``2 (t - origin) + p + 1``, unsigned.

    Returns -1, or the first event of the block that holds one outside the sensor.
    """
    index, value = np.empty(BLOCK, np.uint32), np.empty(BLOCK, latest.dtype)
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        ts, ps = t[a:z], p[a:z]
        if _indices(x[a:z], y[a:z], ps, width, height, index):
            return a
        for i in range(ts.size):
            value[i] = (((ts[i] - origin) << 1) | ps[i]) + 1
        for i in range(ts.size):
            latest[index[i]] = value[i]
    return -1


@kernel
def shade(
    latest: NDArray[Any],
    span: int,
    scale: float,
    first_ages: NDArray[np.int64],
    red: NDArray[np.uint8],
    green: NDArray[np.uint8],
    blue: NDArray[np.uint8],
) -> None:
    """Turn what `remember` kept (H*W,) into a picture, and clear it.

    The last event came ``span`` after the origin. Green g begins at age ``first_ages[g]``, (257,):
    floating point, ``scale`` times the age, only guesses it, to within one.
    """
    one = np.uint64(1)
    for i in range(red.size):
        kept = np.uint64(latest[i])
        latest[i] = 0
        code = kept - (one if kept else kept)
        on = np.uint8(code & one)
        seen = np.uint8(kept != 0)
        age = span - np.int64(code >> one)
        guess = np.uint64(np.int64(np.float64(age) * scale + 0.5))
        shift = np.int64(age >= first_ages[guess + one]) - np.int64(age < first_ages[guess])
        red[i] = 255 * (seen & on)
        green[i] = (np.int64(guess) + shift) * seen
        blue[i] = 255 * (seen & (1 - on))
