"""Kernel of Prophesee DAT: 8-byte records of a 32-bit time and a packed place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel


@kernel
def fill(
    words: NDArray[np.uint64],
    before: int,
    x_bits: int,
    y_bits: int,
    p_bits: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> tuple[bool, int, int, int]:
    """Unpack ``words``, the time low; the columns have as many places.

    Returns whether any raw time is below the one before it (``before`` is that of the first), the
    bits of all polarities together: above 1 where one of them is neither 0 nor 1, and the largest
    x and y.

    One loop a column over 64-bit words: 2.5 times as fast as one loop over pairs of 32 bits, which
    LLVM does not vectorise well.
    """
    one, low = np.uint64(1), np.uint64(0xFFFFFFFF)
    to_x, to_y = np.uint64(32), np.uint64(32 + x_bits)
    to_p = np.uint64(32 + x_bits + y_bits)
    x_mask = (one << np.uint64(x_bits)) - one
    y_mask = (one << np.uint64(y_bits)) - one
    p_mask = (one << np.uint64(p_bits)) - one
    for i in range(words.size):
        t[i] = words[i] & low
    back = t.size > 0 and t[0] < before
    earlier, later = t[:-1], t[1:]
    for i in range(later.size):
        back |= later[i] < earlier[i]
    right = bottom = np.uint64(0)
    for i in range(words.size):
        place = (words[i] >> to_x) & x_mask
        x[i] = place
        right = max(right, place)
    for i in range(words.size):
        place = (words[i] >> to_y) & y_mask
        y[i] = place
        bottom = max(bottom, place)
    signs = np.uint64(0)
    for i in range(words.size):
        sign = (words[i] >> to_p) & p_mask
        p[i] = sign
        signs |= sign
    return bool(back), int(signs), int(right), int(bottom)
