"""Kernels of the policy of readers: a quick look at every event, a second one where needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

KEEP, JITTER, BACKWARDS, SPIKE = 0, 1, 2, 3

LONGEST_SPIKE = 1024
LOOKS_PER_EVENT = 32


@kernel
def look(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    latest: int,
    width: int,
    height: int,
) -> tuple[bool, bool]:
    """Return whether any event lies outside, and whether any comes before the one before it."""
    right, bottom = np.uint16(width - 1), np.uint16(height - 1)
    outside = False
    for i in range(x.size):
        outside |= x[i] > right
    for i in range(y.size):
        outside |= y[i] > bottom
    back = t.size > 0 and t[0] < latest
    before, after = t[:-1], t[1:]
    for i in range(after.size):
        back |= after[i] < before[i]
    return outside, back


@kernel
def judge(t: NDArray[np.int64], latest: int, jitter_us: int, verdict: NDArray[Any]) -> None:
    """Write for each event: keep, jitter, backwards, or spike; see `eventkit.readers.policy`."""
    high = latest
    budget = LOOKS_PER_EVENT * t.size
    for j in range(t.size):
        now = t[j]
        if now >= high:
            verdict[j] = KEEP
            high = now
            continue
        if high - now <= jitter_us:
            verdict[j] = JITTER
            continue
        # The events above `now`: were they the ones that went wrong?
        first = j
        while first > 0 and j - first < LONGEST_SPIKE and budget > 0:
            budget -= 1
            if verdict[first - 1] == KEEP and t[first - 1] <= now:
                break
            first -= 1
        floor = latest
        for i in range(first - 1, -1, -1):
            if verdict[i] == KEEP:
                floor = t[i]
                break
        spike = first < j and floor <= now
        needed = j - first + 1
        low = t[first]
        for i in range(first, j):
            if verdict[i] == KEEP:
                low = min(low, t[i])
        if spike and j + needed <= t.size:
            for i in range(j, j + needed):
                budget -= 1
                if t[i] >= low or t[i] < now - jitter_us:
                    spike = False
                    break
        else:
            spike = False
        if spike:
            for i in range(first, j):
                if verdict[i] == KEEP:
                    verdict[i] = SPIKE
            verdict[j] = KEEP
            high = now
        else:
            verdict[j] = BACKWARDS
