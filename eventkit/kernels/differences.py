"""Differences of frames, without a wider type.

``max - min`` cannot wrap in an unsigned type, and LLVM turns the loop into the same vector
instructions as a hand-written one. ``frames`` are (T, N), ``out`` is (T - 1, N). The
other frame of frame ``k + 1`` is ``frames[step * k]``: the one before for a step of 1, frame 0 for
a step of 0.

Frames that all fit the cache between memory and kernel are taken in short blocks through all of
T, so that the older frame of a pair is still in the fastest cache (1.15x at 346x260). Longer frames
gain nothing from it and lose to the jumps in memory (0.5x at 1280x720): one block a frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

BLOCK_BYTES = 1 << 13
SMALL_FRAME_BYTES = 1 << 19


@kernel
def absolute_difference(frames: NDArray[Any], step: int, out: NDArray[Any]) -> None:
    """``out[i] = |frames[i + 1] - other|`` in the type of the frames."""
    size = out.shape[1]
    small = size * frames.itemsize <= SMALL_FRAME_BYTES
    block = BLOCK_BYTES // frames.itemsize if small else size
    for a in range(0, size, block):
        z = min(a + block, size)
        for k in range(out.shape[0]):
            old, new = frames[step * k, a:z], frames[k + 1, a:z]
            difference = out[k, a:z]
            for i in range(difference.size):
                v, w = old[i], new[i]
                difference[i] = max(v, w) - min(v, w)


@kernel
def signed_difference(frames: NDArray[Any], step: int, out: NDArray[Any]) -> None:
    """``out[i] = frames[i + 1] - other`` in a wider signed type."""
    for k in range(out.shape[0]):
        old, new, difference = frames[step * k], frames[k + 1], out[k]
        for i in range(difference.size):
            difference[i] = np.int64(new[i]) - np.int64(old[i])


@kernel
def exceeds(frames: NDArray[Any], step: int, limit: Any, out: NDArray[np.uint8]) -> None:
    """``out[i] = |frames[i + 1] - other| > limit``; ``limit`` has the type of the frames."""
    for k in range(out.shape[0]):
        old, new, difference = frames[step * k], frames[k + 1], out[k]
        for i in range(difference.size):
            a, b = old[i], new[i]
            difference[i] = max(a, b) - min(a, b) > limit


@kernel
def normalised_difference(
    frames: NDArray[np.uint8], step: int, add: int, out: NDArray[np.float32]
) -> None:
    """``out[i] = |frames[i + 1] - other| / 127.5``, or that added to ``out``."""
    for k in range(out.shape[0]):
        old, new, difference = frames[step * k], frames[k + 1], out[k]
        for i in range(difference.size):
            a, b = old[i], new[i]
            value = np.float32(max(a, b) - min(a, b)) / np.float32(127.5)
            difference[i] = difference[i] + value if add else value
