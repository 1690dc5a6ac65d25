"""Memory that files are read into.

Where it starts a few bytes into a page, as every large array does that the allocator maps (16), the
copy out of Linux's cache takes 0.55 ns a byte on AMD EPYC, else 0.05 to 0.15: ``rep movsb`` is slow
there. https://lunnova.dev/articles/ryzen-slow-short-rep-mov
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes: a line of the cache."""


def aligned(size: int) -> NDArray[np.uint8]:
    """Return (size,) uint8 with anything in them, at a multiple of `ALIGNMENT`.

    Examples
    --------
    >>> aligned(5).ctypes.data % ALIGNMENT
    0
    """
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]
