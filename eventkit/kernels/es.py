"""Kernels of Event Stream: a state machine's bytes to events, and events to bytes.

Streams of DVS and of ATIS differ in how many low bits of an event's first byte are no time: one
(the polarity) or two. That ``shift`` gives the rest: first bytes from 256 - 2^shift on are a reset
(the first of them) or overflows, each of which adds 2^(8 - shift) - 1 us once, twice or thrice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

EVENT_BYTES = 5
OVERFLOWS, RESETS, CROSSINGS = 0, 1, 2


@kernel
def decode(
    raw: NDArray[np.uint8],
    shift: int,
    height: int,
    state: NDArray[np.int64],
    held: NDArray[np.uint8],
    counts: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> int:
    """Decode one piece; return the number of events.

    ``state`` (2,): the time, and how many bytes of an event the last piece ended with, which are
    the first of ``held`` (5,). The columns have (state[1] + raw.size) // 5 places at least. Words
    that are no events are added to ``counts`` (3,). y is turned over; from ``height`` on it stays
    outside the sensor.
    """
    special = 256 - (1 << shift)
    tick = (1 << (8 - shift)) - 1
    now, kept = state[0], state[1]
    i, n = 0, 0
    while i < raw.size or kept == EVENT_BYTES:
        if kept == 0 and raw[i] >= special:
            times = np.int64(raw[i]) - special
            now += times * tick
            counts[OVERFLOWS if times else RESETS] += 1
            i += 1
            continue
        if kept == 0 and i + EVENT_BYTES <= raw.size:
            word = raw[i : i + EVENT_BYTES]
            i += EVENT_BYTES
        elif kept == EVENT_BYTES:
            word = held[:EVENT_BYTES]
            kept = 0
        else:
            held[kept] = raw[i]
            kept += 1
            i += 1
            continue
        first = np.int64(word[0])
        now += first >> shift
        if shift == 2 and first & 1:
            counts[CROSSINGS] += 1
            continue
        x[n] = np.int64(word[1]) | np.int64(word[2]) << 8
        up = np.int64(word[3]) | np.int64(word[4]) << 8
        y[n] = (height - 1 - up) & 0xFFFF
        t[n] = now
        p[n] = (first >> (shift - 1)) & 1
        n += 1
    state[0], state[1] = now, kept
    return n


@kernel
def encode(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    height: int,
    state: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Write DVS events until all are written or ``out`` is full; return the number of bytes.

    ``state`` (2,): the next event, and the time that the bytes so far have reached.
    """
    i, now = state[0], state[1]
    at = 0
    while i < t.size and at + EVENT_BYTES <= out.size:
        gap = t[i] - now
        if gap >= 127:
            out[at] = 255
            at += 1
            now += 127
            continue
        up = height - 1 - np.int64(y[i])
        out[at] = gap << 1 | np.int64(p[i])
        out[at + 1] = np.int64(x[i]) & 255
        out[at + 2] = np.int64(x[i]) >> 8
        out[at + 3] = up & 255
        out[at + 4] = (up >> 8) & 255
        at += EVENT_BYTES
        now = t[i]
        i += 1
    state[0], state[1] = i, now
    return at
