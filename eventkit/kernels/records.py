"""Kernel of arrays of records and of columns: integers of any width, any bytes apart.

Which bytes hold what is data (``layout``), not types, so that one compiled kernel reads them all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel
from eventkit.kernels.check import note

ODD = -2
"""In place of the lower polarity: some value needs a closer look."""

BLOCK = 1024
"""Events at once: what is read and written stays in the first cache."""


@kernel
def _load(
    raw: NDArray[np.uint8], at: int, stride: int, width: int, signed: int, out: NDArray[np.int64]
) -> None:
    """Read little-endian integers of ``width`` bytes from byte ``at`` on, ``stride`` bytes apart.

    Unsigned ones of 8 bytes come out negative from 2^63 on.
    """
    # An index without a sign needs no look whether it counts from the end; the compiler makes one
    # load of the bytes then.
    k, step, one = np.uint64(at), np.uint64(stride), np.uint64(1)
    if width == 1:
        for i in range(out.size):
            out[i] = raw[k]
            k += step
    elif width == 2:
        for i in range(out.size):
            out[i] = np.uint16(raw[k]) | np.uint16(raw[k + one]) << np.uint16(8)
            k += step
    elif width == 4:
        for i in range(out.size):
            word = np.uint32(0)
            for b in range(4):
                word |= np.uint32(raw[k + np.uint64(b)]) << np.uint32(8 * b)
            out[i] = word
            k += step
    else:
        for i in range(out.size):
            long = np.uint64(0)
            for b in range(8):
                long |= np.uint64(raw[k + np.uint64(b)]) << np.uint64(8 * b)
            out[i] = np.int64(long)
            k += step
    if signed and width < 8:
        shift = 64 - 8 * width
        for i in range(out.size):
            out[i] = out[i] << shift >> shift


@kernel
def _narrow(values: NDArray[np.int64], out: NDArray[np.uint16]) -> bool:
    """Write places; return whether one is not in 0..65535."""
    every = np.int64(0)
    for i in range(values.size):
        every |= values[i]
        out[i] = values[i]
    return bool(every >> 16 != 0)


@kernel
def _sign(values: NDArray[np.int64], low: int, out: NDArray[np.int8]) -> int:
    """Write polarities; return the lower one (1 if none was met), or `ODD` if there is a third."""
    for i in range(values.size):
        if low != 1:
            break
        low = values[i]
    if low < -1 or low > 1:
        return ODD
    odd = False
    for i in range(values.size):
        odd |= (values[i] != 1) & (values[i] != low)
        out[i] = np.int8(values[i] == 1)
    return ODD if odd else int(low)


@kernel
def fill(
    xs: NDArray[np.uint8],
    ys: NDArray[np.uint8],
    ts: NDArray[np.uint8],
    ps: NDArray[np.uint8],
    layout: NDArray[np.int64],
    low: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    seen: NDArray[np.int64],
) -> int:
    """Decode events whose every value is as most are; stop at the first block with another one.

    Parameters
    ----------
    xs, ys, ts, ps : (bytes,) uint8
        What holds each column; of records the same four times.
    layout : (4, 4) int64
        Of x, y, t and p: the first byte, the bytes from one to the next, the bytes of each, and 1
        where they have a sign.
    low : int
        The lower polarity so far: -1 or 0; 1 if none was met.
    x, y, t, p : (N,) arrays
        Receive the events; ``t`` as it stands.
    seen : (4,) int64
        See `eventkit.kernels.check.note`.

    Returns
    -------
    int
        The lower polarity; `ODD` if a place is not in 0..65535, a time without a sign not below
        2^62, or a polarity neither 1 nor the lower one.
    """
    block = np.empty(BLOCK, np.int64)
    for a in range(0, t.size, BLOCK):
        z = min(a + BLOCK, t.size)
        part, bx, by, bt, bp = block[: z - a], x[a:z], y[a:z], t[a:z], p[a:z]
        at = layout[:, 0] + a * layout[:, 1]
        _load(xs, at[0], layout[0, 1], layout[0, 2], layout[0, 3], part)
        odd = _narrow(part, bx)
        _load(ys, at[1], layout[1, 1], layout[1, 2], layout[1, 3], part)
        odd |= _narrow(part, by)
        _load(ts, at[2], layout[2, 1], layout[2, 2], layout[2, 3], bt)
        if not layout[2, 3]:
            every = np.int64(0)
            for i in range(bt.size):
                every |= bt[i]
            odd |= every >> 62 != 0
        _load(ps, at[3], layout[3, 1], layout[3, 2], layout[3, 3], part)
        low = _sign(part, low, bp)
        if odd or low == ODD:
            return ODD
        note(bx, by, bt, seen)
    return low
