"""Kernels of the word codecs of ``event_camera_msgs``: EVT3 in packets, and ``libcaer_cmp``.

Both are streams of 16-bit words, the kind in the highest four bits. Specification: the headers
``evt3_types.h`` and ``libcaer_cmp_types.h`` of https://github.com/ros-event-camera/event_camera_codecs
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

NO_WRAP = -(1 << 62)
# Places in the state of EVT3.
HIGH, LOW, ROW, BASE, POLARITY, WRAPS, LEFT, HAS_HIGH, HAS_TIME = 0, 1, 2, 3, 4, 5, 6, 7, 8
AHEAD = 9
# Places in what a call books.
TRIGGERS, OTHERS, UNKNOWN, EARLY = 0, 1, 2, 3


@kernel
def count_bits(words: NDArray[np.uint16], single: int, wide: int, narrow: int) -> int:
    """Return the most events that words can hold: one each, or as many as vectors have bits."""
    n = 0
    for i in range(words.size):
        word = np.int64(words[i])
        kind = word >> 12
        if kind == single:
            n += 1
        elif kind in (wide, narrow):
            bits = word & (0xFFF if kind == wide else 0xFF)
            while bits:
                bits &= bits - 1
                n += 1
    return n


@kernel
def evt3(
    words: NDArray[np.uint16],
    state: NDArray[np.int64],
    booked: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    triggers: NDArray[np.int64],
) -> int:
    """Decode EVT3 words and return the number of events; ``t`` in microseconds.

    The columns hold what `count_bits` says, ``triggers`` (n, 3) as many rows as there are trigger
    words, or none. Words before the first whole time have no time and are booked as early. The
    12-bit high time wraps by the rule of `eventkit.readers.clock`.
    """
    n, found = 0, 0
    high, low, row, base = state[HIGH], state[LOW], state[ROW], state[BASE]
    polarity, wraps, left = state[POLARITY], state[WRAPS], state[LEFT]
    has_high, has_time, ahead = state[HAS_HIGH], state[HAS_TIME], state[AHEAD]
    for i in range(words.size):
        word = np.int64(words[i])
        kind, value = word >> 12, word & 0xFFF
        now = ((wraps + high) << 12) | low
        if kind == 8:
            if has_high and high - value > 2048:
                if value - high + 4096 > 256 and abs(value - ahead) <= 256:
                    ahead = NO_WRAP
                else:
                    wraps += 4096
                    left = high
            elif has_high and value - high > 2048:
                if abs(value - left) <= 256 and wraps > 0:
                    wraps -= 4096
                    left = NO_WRAP
                else:
                    ahead = high
            high, has_high = value, 1
        elif kind == 6:
            low = value
            has_time |= has_high
        elif kind == 0:
            row = value & 0x7FF
        elif kind == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif kind == 2 or kind == 4 or kind == 5:
            if not has_time:
                booked[EARLY] += 1
            elif kind == 2:
                x[n], y[n], t[n], p[n] = value & 0x7FF, row, now, value >> 11
                n += 1
            else:
                bits = value if kind == 4 else value & 0xFF
                at = base
                while bits:
                    if bits & 1:
                        x[n], y[n], t[n], p[n] = at & 0xFFFF, row, now, polarity
                        n += 1
                    bits >>= 1
                    at += 1
            if kind != 2:
                # Kept within 16 bits: a base that no word renews cannot grow without end.
                base = (base + (12 if kind == 4 else 8)) & 0xFFFF
        elif kind == 10:
            booked[TRIGGERS] += 1
            if has_time and found < triggers.shape[0]:
                triggers[found, 0] = now
                triggers[found, 1] = value >> 8
                triggers[found, 2] = value & 1
                found += 1
        elif kind == 7 or kind == 14 or kind == 15:
            booked[OTHERS] += 1
        else:
            booked[UNKNOWN] += 1
    state[HIGH], state[LOW], state[ROW], state[BASE] = high, low, row, base
    state[POLARITY], state[WRAPS], state[LEFT] = polarity, wraps, left
    state[HAS_HIGH], state[HAS_TIME], state[AHEAD] = has_high, has_time, ahead
    return n


@kernel
def first_time(words: NDArray[np.uint16]) -> int:
    """Return the first whole time of EVT3 words, microseconds, or -1."""
    high = np.int64(-1)
    for i in range(words.size):
        word = np.int64(words[i])
        if word >> 12 == 8:
            high = word & 0xFFF
        elif word >> 12 == 6 and high >= 0:
            return int((high << 12) | (word & 0xFFF))
    return -1


@kernel
def libcaer_cmp(
    words: NDArray[np.uint16],
    state: NDArray[np.int64],
    booked: NDArray[np.int64],
    start_us: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> int:
    """Decode the words of one packet and return the number of events.

    ``state`` (3,): column, first row of vectors and their polarity, which outlive a packet; times
    count from the packet's ``start_us``. The columns hold what `count_bits` says.
    """
    n = 0
    high, low = np.int64(0), np.int64(0)
    column, base, polarity = state[0], state[1], state[2]
    for i in range(words.size):
        word = np.int64(words[i])
        kind, value = word >> 12, word & 0xFFF
        if kind == 0:
            high = value
        elif kind == 1:
            low = value
        elif kind == 2:
            column = value & 0x7FF
        elif kind == 3:
            x[n], y[n], t[n], p[n] = (
                column,
                value & 0x7FF,
                start_us + (high << 12 | low),
                value >> 11,
            )
            n += 1
        elif kind == 4:
            base, polarity = value & 0x7FF, value >> 11
        elif kind == 5:
            for k in range(8):
                if value >> k & 1:
                    now = start_us + (high << 12 | low)
                    x[n], y[n], t[n], p[n] = column, (base + k) & 0xFFFF, now, polarity
                    n += 1
            base = (base + 8) & 0xFFFF
        else:
            booked[UNKNOWN] += 1
    state[0], state[1], state[2] = column, base, polarity
    return n
