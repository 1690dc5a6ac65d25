"""Absolute difference of neighbouring frames, without a wider type.

``max - min`` cannot wrap in an unsigned type, and LLVM turns the loop into the same vector
instructions as a hand-written one.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from eventkit.kernels._jit import kernel


@kernel
def absolute_difference(frames: NDArray[Any], out: NDArray[Any]) -> None:
    """``out[i] = |frames[i + 1] - frames[i]|``; (T, N) in, (T - 1, N) out."""
    for k in range(out.shape[0]):
        old, new, difference = frames[k], frames[k + 1], out[k]
        for i in range(difference.size):
            a, b = old[i], new[i]
            difference[i] = max(a, b) - min(a, b)
