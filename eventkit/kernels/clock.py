"""Kernel of clocks that wrap: the low bits of a time to the whole time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

NO_WRAP = -(1 << 62)


@kernel
def unwrap(t: NDArray[np.int64], state: NDArray[np.int64], bits: int) -> None:
    """Add the wraps of a ``bits``-bit clock to raw times, in place.

    ``state`` is int64 (4,): the last raw time, the sum of wraps, the raw time before the last wrap
    and the one before the last long step forward (`NO_WRAP` where there is none);
    `eventkit.readers.clock` makes it and has the rule.
    """
    span = np.int64(1) << bits
    half, near = span >> 1, span >> 4
    last, wraps, left, ahead = state[0], state[1], state[2], state[3]
    for i in range(t.size):
        raw = t[i]
        if last - raw > half:
            if raw - last + span > near and abs(raw - ahead) <= near:
                ahead = NO_WRAP
            else:
                wraps += span
                left = last
        elif raw - last > half:
            if abs(raw - left) <= near and wraps > 0:
                wraps -= span
                left = NO_WRAP
            else:
                ahead = last
        last = raw
        t[i] = raw + wraps
    state[0], state[1], state[2], state[3] = last, wraps, left, ahead
