"""Time surfaces: the latest time of each cell, how it decays, and the speed-invariant update.

N events, cells = 2*H*W (polarity, row, column). ``last`` (cells,) holds ``t - origin`` of the
latest event, -1 where there was none; int32 while the span allows (half the memory under the
scattered writes), int64 beyond 2^31 us.

``last`` and the surface may be one memory, seen as int32 and as float32: the decay goes through
buffers of a block, so that no loop reads and writes the same array and LLVM vectorises both. exp is
2^e with e split into a whole part, which becomes exponent bits, and a polynomial of degree 6 over
[-1/2, 1/2]: it vectorises without a vector maths library.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

BLOCK = 512
# Cells a row of the speed-invariant patch is padded to: one vector of bytes.
LANES = 16


@kernel
def latest(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    origin: int,
    last: NDArray[Any],
) -> int:
    """Write ``t - origin`` of each event to its cell; later events overwrite.

    Returns -1, or the first event of the block that holds one outside the sensor.
    """
    index = np.empty(BLOCK, np.uint32)
    w, h = np.uint32(width), np.uint32(height)
    area = np.uint32(width * height)
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        bad = np.uint32(0)
        for i in range(xs.size):
            px, py, pp = np.uint32(xs[i]), np.uint32(ys[i]), np.uint32(ps[i])
            bad |= np.uint32(px >= w) | np.uint32(py >= h) | np.uint32(pp > 1)
            index[i] = pp * area + py * w + px
        if bad:
            return a
        for i in range(ts.size):
            last[index[i]] = ts[i] - origin
    return -1


@kernel
def decay_exp(
    last: NDArray[Any], now: Any, floor: Any, scale: np.float32, out: NDArray[np.float32]
) -> None:
    """Write ``2 ** (-scale * (now - last))``, and 0 where ``last < floor``.

    ``floor`` is at least 0 and leaves no exponent below -126. ``now`` and ``floor`` have the type
    of ``last``.
    """
    bits = np.empty(BLOCK, np.int32)
    power = bits.view(np.float32)
    value = np.empty(BLOCK, np.float32)
    age = np.empty(BLOCK, last.dtype)  # not widened: int32 converts to float32 in vectors anywhere
    half, lowest = np.float32(0.5), np.float32(-126.0)
    for a in range(0, last.size, BLOCK):
        old, new = last[a : a + BLOCK], out[a : a + BLOCK]
        for i in range(old.size):
            age[i] = old[i] - now
            e = max(np.float32(age[i]) * scale, lowest)
            whole = np.int32(e - half)  # e <= 0: truncation rounds to the nearest
            f = e - np.float32(whole)
            exponent = whole + np.int32(127) if old[i] >= floor else np.int32(0)
            bits[i] = exponent << np.int32(23)
            q = np.float32(1.5403530e-4) * f + np.float32(1.3333558e-3)
            q = (q * f + np.float32(9.6181291e-3)) * f + np.float32(5.5504109e-2)
            q = (q * f + np.float32(2.4022651e-1)) * f + np.float32(6.9314718e-1)
            value[i] = q * f + np.float32(1.0)
        for i in range(new.size):
            new[i] = value[i] * power[i]


@kernel
def decay_linear(
    last: NDArray[Any], now: Any, floor: Any, scale: np.float32, out: NDArray[np.float32]
) -> None:
    """Write ``max(0, 1 - scale * (now - last))``, and 0 where ``last < floor``."""
    value = np.empty(BLOCK, np.float32)
    age = np.empty(BLOCK, last.dtype)
    one, zero = np.float32(1.0), np.float32(0.0)
    for a in range(0, last.size, BLOCK):
        old, new = last[a : a + BLOCK], out[a : a + BLOCK]
        for i in range(old.size):
            age[i] = now - old[i]
            left = max(one - np.float32(age[i]) * scale, zero)
            value[i] = left if old[i] >= floor else zero
        for i in range(new.size):
            new[i] = value[i]


@kernel
def speed_invariant(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    width: int,
    height: int,
    radius: int,
    above: int,
    split: int,
    table: NDArray[Any],
    pitch: int,
) -> int:
    """Update ``table`` (1 or 2 padded planes, flat) event by event.

    A plane has ``height + 2 radius`` rows of ``pitch >= width + 2 radius + LANES`` cells; pixel
    (0, 0) lies at row ``radius``, column ``radius``. Padding is 0 and stays 0: only cells of at
    least 1 decrease. ``above`` is 1 where a neighbour must be larger than the pixel, else 0.
    Returns -1, or the first event outside the sensor.
    """
    side = 2 * radius + 1
    plane = (height + 2 * radius) * pitch
    lanes = -(-side // LANES) * LANES
    # In the type of the table: a wider one would keep the inner loop from being vectorised.
    typed = np.zeros(4, table.dtype)
    typed[1], typed[2] = 1, side * side
    zero, one, top = typed[0], typed[1], typed[2]
    for i in range(x.size):
        px, py, pp = np.int64(x[i]), np.int64(y[i]), np.int64(p[i])
        if px >= width or py >= height or pp < 0 or pp > 1:
            return i
        corner = pp * split * plane + py * pitch + px
        centre = corner + radius * pitch + radius
        typed[3] = max(np.int64(table[centre]) + above, 1)
        limit = typed[3]
        for r in range(corner, corner + side * pitch, pitch):
            row = table[r : r + lanes]
            for j in range(row.size):
                value = row[j]
                row[j] = value - (one if (value >= limit) & (j < side) else zero)
        table[centre] = top
    return -1
