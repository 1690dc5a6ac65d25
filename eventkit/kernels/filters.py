"""Filters: which events stay, and their columns side by side.

N events, H rows, W columns. Every kernel works in blocks: it computes the cells and whether an
event lies outside (as `counts` does, tested once a block, before anything is decided), writes one
byte an event, then moves the kept events of the block together. Moving writes every event and
advances the position by the byte, so there is no branch to mispredict, and one pass serves all four
columns; boolean masks cost one pass and one allocation a column. The outputs therefore have room
for one event more than is kept, N + 1 at most.

A kernel returns how many events it kept, or ``-1 - a`` if an event in the block that begins at
``a`` lies outside the sensor.

Times are relative to the first event of the stream, int32 while they fit. ``never``, the smallest
value, is older than any limit: limits are at most the largest value, so ``now - limit`` neither
reaches it nor wraps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

BLOCK = 512
# Where the number of time steps starts again from 1, and the map from 0.
LAST_STEP = (1 << 32) - 1


@kernel
def _outside(
    xs: NDArray[np.uint16], ys: NDArray[np.uint16], ps: NDArray[np.int8], width: int, height: int
) -> bool:
    """Return whether an event lies outside or has a polarity that is none."""
    w, h = np.uint32(width), np.uint32(height)
    bad = np.uint32(0)
    for i in range(xs.size):
        px, py, pp = np.uint32(xs[i]), np.uint32(ys[i]), np.uint32(ps[i] & -2 != 0)
        bad |= np.uint32(px >= w) | np.uint32(py >= h) | pp
    return bool(bad != 0)


@kernel
def _cells(
    xs: NDArray[np.uint16],
    ys: NDArray[np.uint16],
    ps: NDArray[np.int8],
    stride: int,
    plane: int,
    cell: NDArray[np.uint32],
) -> None:
    """Fill ``cell[i] = p * plane + y * stride + x``."""
    s, a = np.uint32(stride), np.uint32(plane)
    for i in range(xs.size):
        cell[i] = np.uint32(ps[i] & 1) * a + np.uint32(ys[i]) * s + np.uint32(xs[i])


@kernel
def _together(
    xs: NDArray[np.uint16],
    ys: NDArray[np.uint16],
    ts: NDArray[np.int64],
    ps: NDArray[np.int8],
    keep: NDArray[np.uint8],
    at: int,
    ox: NDArray[np.uint16],
    oy: NDArray[np.uint16],
    ot: NDArray[np.int64],
    op: NDArray[np.int8],
) -> int:
    """Write the kept events from position ``at`` on; return the position behind them."""
    n = np.uint64(at)
    for i in range(xs.size):
        ox[n] = xs[i]
        oy[n] = ys[i]
        ot[n] = ts[i]
        op[n] = ps[i]
        n += np.uint64(keep[i])
    return int(n)


@kernel
def background(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    origin: int,
    within: int,
    corners: int,
    last: NDArray[Any],
    ox: NDArray[np.uint16],
    oy: NDArray[np.uint16],
    ot: NDArray[np.int64],
    op: NDArray[np.int8],
) -> int:
    """Keep events that have a neighbour at most ``within`` old.

    ``last`` ((H + 2) * (W + 2),) holds the latest time of each pixel; its rim, which no event
    reaches, spares the tests for the border. ``cell`` is the upper left neighbour, so that all
    nine are reached by adding.
    """
    cell = np.empty(BLOCK, np.uint32)
    keep = np.empty(BLOCK, np.uint8)
    stride = np.uint64(width + 2)
    n = 0
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        if _outside(xs, ys, ps, width, height):
            return -1 - a
        _cells(xs, ys, ps, width + 2, 0, cell)
        for i in range(xs.size):
            top = np.uint64(cell[i])
            here = top + stride
            low = here + stride
            now = ts[i] - origin
            latest = max(
                max(last[top + np.uint64(1)], last[low + np.uint64(1)]),
                max(last[here], last[here + np.uint64(2)]),
            )
            if corners:
                above = max(last[top], last[top + np.uint64(2)])
                latest = max(latest, max(above, max(last[low], last[low + np.uint64(2)])))
            last[here + np.uint64(1)] = now
            keep[i] = latest >= now - within
        n = _together(xs, ys, ts, ps, keep, n, ox, oy, ot, op)
    return n


@kernel
def refractory(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    origin: int,
    period: int,
    plane: int,
    always: int,
    last: NDArray[Any],
    ox: NDArray[np.uint16],
    oy: NDArray[np.uint16],
    ot: NDArray[np.int64],
    op: NDArray[np.int8],
) -> int:
    """Keep events whose cell was last set at least ``period`` ago.

    ``last`` (H * W,), or (2 * H * W,) with ``plane`` H * W for a dead time by polarity, is set by
    kept events, or by all if ``always``.
    """
    cell = np.empty(BLOCK, np.uint32)
    keep = np.empty(BLOCK, np.uint8)
    n = 0
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        if _outside(xs, ys, ps, width, height):
            return -1 - a
        _cells(xs, ys, ps, width, plane, cell)
        for i in range(xs.size):
            k = cell[i]
            now = ts[i] - origin
            before = last[k]
            good = before <= now - period
            last[k] = now if good or always else before
            keep[i] = good
        n = _together(xs, ys, ts, ps, keep, n, ox, oy, ot, op)
    return n


@kernel
def masked(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    good: NDArray[np.uint8],
    ox: NDArray[np.uint16],
    oy: NDArray[np.uint16],
    ot: NDArray[np.int64],
    op: NDArray[np.int8],
) -> int:
    """Keep events of pixels whose byte in ``good`` (H * W,) is 1, not 0."""
    cell = np.empty(BLOCK, np.uint32)
    keep = np.empty(BLOCK, np.uint8)
    n = 0
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        if _outside(xs, ys, ps, width, height):
            return -1 - a
        _cells(xs, ys, ps, width, 0, cell)
        for i in range(xs.size):
            keep[i] = good[cell[i]]
        n = _together(xs, ys, ts, ps, keep, n, ox, oy, ot, op)
    return n


@kernel
def tally(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
    width: int,
    height: int,
    counts: NDArray[np.int64],
) -> int:
    """Add the events of each pixel to ``counts`` (H * W,); return the number of events."""
    cell = np.empty(BLOCK, np.uint32)
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ps = x[a:z], y[a:z], p[a:z]
        if _outside(xs, ys, ps, width, height):
            return -1 - a
        _cells(xs, ys, ps, width, 0, cell)
        for i in range(xs.size):
            counts[cell[i]] += 1
    return x.size


@kernel
def boxed(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    box: NDArray[np.int64],
    ox: NDArray[np.uint16],
    oy: NDArray[np.uint16],
    ot: NDArray[np.int64],
    op: NDArray[np.int8],
) -> int:
    """Keep events in ``box`` (x, y, w, h), and count places from its corner."""
    dx, dy = np.empty(BLOCK, np.uint16), np.empty(BLOCK, np.uint16)
    keep = np.empty(BLOCK, np.uint8)
    left, top, w, h = np.int32(box[0]), np.int32(box[1]), np.int32(box[2]), np.int32(box[3])
    n = 0
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        if _outside(xs, ys, ps, width, height):
            return -1 - a
        for i in range(xs.size):
            px, py = np.int32(xs[i]) - left, np.int32(ys[i]) - top
            keep[i] = (px >= 0) & (px < w) & (py >= 0) & (py < h)
            dx[i] = px & 65535
            dy[i] = py & 65535
        n = _together(dx[: z - a], dy[: z - a], ts, ps, keep, n, ox, oy, ot, op)
    return n


@kernel
def of_polarity(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    wanted: int,
    ox: NDArray[np.uint16],
    oy: NDArray[np.uint16],
    ot: NDArray[np.int64],
    op: NDArray[np.int8],
) -> int:
    """Keep events of polarity ``wanted``."""
    keep = np.empty(BLOCK, np.uint8)
    n = 0
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        if _outside(xs, ys, ps, width, height):
            return -1 - a
        for i in range(xs.size):
            keep[i] = ps[i] == wanted
        n = _together(xs, ys, ts, ps, keep, n, ox, oy, ot, op)
    return n


@kernel
def thinned(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    factor: int,
    step_us: int,
    clock: NDArray[np.int64],
    seen: NDArray[np.uint32],
    ox: NDArray[np.uint16],
    oy: NDArray[np.uint16],
    ot: NDArray[np.int64],
    op: NDArray[np.int8],
) -> int:
    """Divide places by ``factor``; keep the first event of each cell and polarity in each step.

    ``clock`` (2,) is the start of the present step and its number, counted over steps that have
    events; ``seen`` (2 * ceil(H / factor) * ceil(W / factor),) the number of the step in which each
    cell last kept one.
    """
    dx, dy = np.empty(BLOCK, np.uint16), np.empty(BLOCK, np.uint16)
    cell = np.empty(BLOCK, np.uint32)
    # n * inverse >> 32 is n // factor for n and factor below 2^16, and vectorises.
    inverse, shift = np.uint64(((1 << 32) + factor - 1) // factor), np.uint64(32)
    small = (width + factor - 1) // factor
    plane = small * ((height + factor - 1) // factor)
    keep = np.empty(BLOCK, np.uint8)
    start, step = clock[0], clock[1]
    n = 0
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        if _outside(xs, ys, ps, width, height):
            return -1 - a
        for i in range(xs.size):
            dx[i] = (np.uint64(xs[i]) * inverse) >> shift
            dy[i] = (np.uint64(ys[i]) * inverse) >> shift
        _cells(dx[: z - a], dy[: z - a], ps, small, plane, cell)
        for i in range(xs.size):
            past = ts[i] - start
            if past >= step_us:
                start += past // step_us * step_us
                step += 1
                if step > LAST_STEP:
                    seen[:] = 0
                    step = 1
            k = cell[i]
            keep[i] = seen[k] != step
            seen[k] = step
        n = _together(dx[: z - a], dy[: z - a], ts, ps, keep, n, ox, oy, ot, op)
    clock[0], clock[1] = start, step
    return n


@kernel
def limited(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    width: int,
    height: int,
    per_us: int,
    limit: int,
    clock: NDArray[np.int64],
    ox: NDArray[np.uint16],
    oy: NDArray[np.uint16],
    ot: NDArray[np.int64],
    op: NDArray[np.int8],
) -> int:
    """Keep the first ``limit`` events of each interval.

    ``clock`` (2,) is the start of the present interval and how many events were met in it.
    """
    keep = np.empty(BLOCK, np.uint8)
    start, met = clock[0], clock[1]
    n = 0
    for a in range(0, x.size, BLOCK):
        z = min(a + BLOCK, x.size)
        xs, ys, ts, ps = x[a:z], y[a:z], t[a:z], p[a:z]
        if _outside(xs, ys, ps, width, height):
            return -1 - a
        for i in range(xs.size):
            past = ts[i] - start
            if past >= per_us:
                start += past // per_us * per_us
                met = 0
            keep[i] = met < limit
            met += 1
        n = _together(xs, ys, ts, ps, keep, n, ox, oy, ot, op)
    clock[0], clock[1] = start, met
    return n
