"""Kernel of ``libcaer_cmp``, a codec of ``event_camera_msgs``: words of 16 bits, as in EVT3.

The kind stands in the highest four bits. Specification: the header ``libcaer_cmp_types.h`` of
https://github.com/ros-event-camera/event_camera_codecs
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel


@kernel
def count_compressed(words: NDArray[np.uint16]) -> int:
    """Return the most events that words can hold: one each, or as many as vectors have bits."""
    n = 0
    for i in range(words.size):
        word = np.int64(words[i])
        kind, bits = word >> 12, word & 0xFF
        if kind == 3:
            n += 1
        elif kind == 5:
            while bits:
                bits &= bits - 1
                n += 1
    return n


@kernel
def libcaer_cmp(
    words: NDArray[np.uint16],
    state: NDArray[np.int64],
    unknown: NDArray[np.int64],
    start_us: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> int:
    """Decode the words of one packet and return the number of events.

    ``state`` (3,): column, first row of vectors and their polarity, which outlive a packet; times
    count from the packet's ``start_us``. The columns hold what `count_compressed` says.
    ``unknown`` (1,) is raised by words of unpublished kinds.
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
            unknown[0] += 1
    state[0], state[1], state[2] = column, base, polarity
    return n
