"""TORE volumes: the K latest times of each cell, kept in the memory of the frame itself.

cells = 2*H*W (polarity, row, column); ``times`` (2, K, H*W) holds ``t - origin``: int32, the frame
seen as integers, or int64 of its own beyond 2^31 us. The K values of a cell are a ring, so that an
event writes one value and one byte. ``slot`` (2*H*W,) says where the ring stands: below K so many
values, in the last planes, the others being garbage; from K on all K hold a time or -1, and plane
``2 K - 1 - slot`` has the oldest. Thus memory need not be cleared first.

Times never decrease, so that sorting the values of a cell, newest first, undoes the ring: a network
of compare and exchange over as many planes as a block has used, which vectorises. log is the
exponent plus a polynomial in the mantissa, exp as in the time surfaces: both vectorise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

BLOCK = 512


@kernel
def push(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    origin: int,
    depth: int,
    slot: NDArray[np.uint8],
    times: NDArray[Any],
) -> int:
    """Put ``t - origin`` of each event in place of the oldest time of its cell.

    ``times`` is flat. Returns -1, or the first event of the block that holds one outside.
    """
    index, place = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    w, h = np.uint32(width), np.uint32(height)
    area, skip = np.uint32(width * height), np.uint32((depth - 1) * width * height)
    following, offset = np.zeros(2 * depth, np.uint8), np.zeros(2 * depth, np.uint32)
    for s in range(2 * depth):
        following[s] = s + 1 if s + 1 < 2 * depth else depth
        offset[s] = (depth - 1 - s % depth) * width * height
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        bad = np.uint32(0)
        for i in range(xs.size):
            px, py, pp = np.uint32(xs[i]), np.uint32(ys[i]), np.uint32(ps[i])
            bad |= np.uint32(px >= w) | np.uint32(py >= h) | np.uint32(pp > 1)
            k = pp * area + py * w + px
            index[i] = k
            place[i] = k + pp * skip
        if bad:
            return a
        for i in range(ts.size):
            s = slot[index[i]]
            slot[index[i]] = following[s]
            place[i] = place[i] + offset[s]
        for i in range(ts.size):
            times[place[i]] = ts[i] - origin
    return -1


@kernel
def _newest_first(
    times: NDArray[Any],
    slot: NDArray[np.uint8],
    start: int,
    stop: int,
    floor: Any,
    ring: NDArray[Any],
) -> int:
    """Sort cells ``start`` to ``stop`` of ``times`` (K, H*W) into ``ring`` (K, BLOCK).

    Times below ``floor`` become -1. Returns how many planes may hold more than -1.
    """
    depth = times.shape[0]
    n = stop - start
    here = slot[start:stop]
    most = np.int64(0)
    for i in range(here.size):
        most = max(most, np.int64(here[i]))
    used = min(int(most), depth)
    ring[0, 0] = -1
    unseen = ring[0, 0]  # in the type of the times
    for k in range(used):
        plane = depth - used + k
        old, new = times[plane][start:stop], ring[k][:n]
        least = np.uint8(depth - plane)
        for i in range(old.size):
            new[i] = old[i] if (here[i] >= least) & (old[i] >= floor) else unseen
    for turn in range(used):
        for k in range(turn & 1, used - 1, 2):
            upper, lower = ring[k][:n], ring[k + 1][:n]
            for i in range(upper.size):
                big, small = max(upper[i], lower[i]), min(upper[i], lower[i])
                upper[i] = big
                lower[i] = small
    return int(used)


@kernel
def _logs(
    number: NDArray[np.float32], bits: NDArray[np.int32], whole: NDArray[np.float32], n: int
) -> None:
    """Replace the first n of ``number``, all at least 1, by their logarithms.

    ``bits`` is ``number`` seen as integers, ``whole`` is scratch.
    """
    middle = np.int32(0x3F3504F3)  # sqrt(1/2): mantissas are brought to [sqrt(1/2), sqrt(2))
    half, one = np.float32(0.5), np.float32(1.0)
    some, scales = bits[:n], whole[:n]
    for i in range(some.size):
        exponent = (some[i] - middle) >> np.int32(23)
        some[i] = some[i] - (exponent << np.int32(23))
        scales[i] = np.float32(exponent)
    values = number[:n]
    for i in range(values.size):
        f = values[i] - one
        q = np.float32(7.0376836292e-2) * f - np.float32(1.1514610310e-1)
        q = (q * f + np.float32(1.1676998740e-1)) * f - np.float32(1.2420140846e-1)
        q = (q * f + np.float32(1.4249322787e-1)) * f - np.float32(1.6668057665e-1)
        q = (q * f + np.float32(2.0000714765e-1)) * f - np.float32(2.4999993993e-1)
        q = (q * f + np.float32(3.3333331174e-1)) * f - half
        values[i] = q * f * f + f + scales[i] * np.float32(0.69314718)


@kernel
def close_log(
    times: NDArray[Any],
    slot: NDArray[np.uint8],
    now: Any,
    least: float,
    most: float,
    carry: NDArray[Any],
    out: NDArray[np.float32],
) -> None:
    """Write ``max(0, log(1 + min(age, most)) - log(1 + least))``; age is ``most`` where unseen.

    ``carry`` (2, K, H*W), or empty, receives the sorted times, all of them. ``times`` may share
    the memory of ``out`` (2, K, H*W) or be ``carry``.
    """
    depth, cells = times.shape[1], times.shape[2]
    ring = np.empty((depth, BLOCK), times.dtype)
    age = np.zeros(BLOCK, times.dtype)
    number = np.empty(BLOCK, np.float32)
    bits, whole = number.view(np.int32), np.empty(BLOCK, np.float32)
    top, base = np.float32(most), np.float32(np.log1p(least))
    zero, one = np.float32(0.0), np.float32(1.0)
    floor = age[0]
    number[0] = one + top
    _logs(number, bits, whole, 1)
    unseen = max(number[0] - base, zero)
    for p in range(2):
        for start in range(0, cells, BLOCK):
            stop = min(start + BLOCK, cells)
            here = slot[p * cells : (p + 1) * cells]
            used = _newest_first(times[p], here, start, stop, floor, ring)
            if carry.size:
                for k in range(depth):
                    kept, old = carry[p, k][start:stop], ring[k]
                    for i in range(kept.size):
                        kept[i] = old[i] if k < used else -1
            for k in range(depth):
                old, new = ring[k][: stop - start], out[p, k][start:stop]
                if k >= used:
                    new[:] = unseen
                    continue
                for i in range(old.size):
                    age[i] = now - old[i]
                    number[i] = one + (min(np.float32(age[i]), top) if old[i] >= 0 else top)
                _logs(number, bits, whole, old.size)
                for i in range(new.size):
                    new[i] = max(number[i] - base, zero)


@kernel
def close_exp(
    times: NDArray[Any],
    slot: NDArray[np.uint8],
    now: Any,
    floor: Any,
    scale: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Write ``2 ** (-scale * age)``, and 0 where unseen; ``times`` may share the memory of ``out``.

    ``floor`` is at least 0 and leaves no exponent below -126.
    """
    depth, cells = times.shape[1], times.shape[2]
    ring = np.empty((depth, BLOCK), times.dtype)
    age = np.empty(BLOCK, times.dtype)
    bits, value = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    power = bits.view(np.float32)
    half, lowest = np.float32(0.5), np.float32(-126.0)
    for p in range(2):
        for start in range(0, cells, BLOCK):
            stop = min(start + BLOCK, cells)
            here = slot[p * cells : (p + 1) * cells]
            used = _newest_first(times[p], here, start, stop, floor, ring)
            for k in range(depth):
                old, new = ring[k][: stop - start], out[p, k][start:stop]
                if k >= used:
                    new[:] = 0
                    continue
                for i in range(old.size):
                    age[i] = old[i] - now
                    e = max(np.float32(age[i]) * scale, lowest)
                    whole = np.int32(e - half)  # e <= 0: truncation rounds to the nearest
                    f = e - np.float32(whole)
                    exponent = whole + np.int32(127) if old[i] >= 0 else np.int32(0)
                    bits[i] = exponent << np.int32(23)
                    q = np.float32(1.5403530e-4) * f + np.float32(1.3333558e-3)
                    q = (q * f + np.float32(9.6181291e-3)) * f + np.float32(5.5504109e-2)
                    q = (q * f + np.float32(2.4022651e-1)) * f + np.float32(6.9314718e-1)
                    value[i] = q * f + np.float32(1.0)
                for i in range(new.size):
                    new[i] = value[i] * power[i]
