"""Kernels of the policy of readers: a quick look at every event, a second one where needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

KEEP, JITTER, BACKWARDS, SPIKE = 0, 1, 2, 3

LONGEST_SPIKE = 1024

NOTED = 4096
"""Events that are noted at once: still in the cache, and 0.15 ns each; 256 at once cost twice."""

NEVER = -(1 << 63)
"""The latest time kept, before anything was."""
_LAST = (1 << 63) - 1


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
    # 0 to 65,535 always fits a side of 65,536, so the last column and row are what is compared.
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
def note(
    x: NDArray[np.uint16], y: NDArray[np.uint16], t: NDArray[np.int64], seen: NDArray[np.int64]
) -> None:
    """Take in events that were just written and are still in the cache; see `unseen`."""
    if not t.size:
        return
    right = bottom = np.uint16(0)
    for i in range(x.size):  # not by `max`, which LLVM does not vectorise here
        right = x[i] if x[i] > right else right
    for i in range(y.size):
        bottom = y[i] if y[i] > bottom else bottom
    back = t[0] < seen[3]
    before, after = t[:-1], t[1:]
    for i in range(after.size):
        back |= after[i] < before[i]
    seen[0], seen[1] = max(seen[0], np.int64(right)), max(seen[1], np.int64(bottom))
    seen[2] |= np.int64(back)
    seen[3] = t[t.size - 1]


def unseen() -> NDArray[np.int64]:
    """Return (4,): the largest x and y so far, whether any time stepped back, the last time."""
    return np.array([-1, -1, 0, NEVER], np.int64)


@kernel
def within(early: int, late: int, distance: int) -> bool:
    """Return whether ``late`` is at most ``distance`` after ``early``; no sum leaves int64."""
    return early > _LAST - distance or early + distance >= late


@kernel
def goes_on(t: NDArray[np.int64], first: int, j: int, jitter_us: int) -> int:
    """Return whether events go on below the spike ``first`` to ``j``: 1, 0, or -1 for unknown."""
    now, low = t[j], t[first]
    stop = j + (j - first) + 1
    for i in range(j, min(stop, t.size)):
        if t[i] >= low or (t[i] < now and not within(t[i], now, jitter_us)):
            return 0
    return 1 if stop <= t.size else -1


@kernel
def judge(
    t: NDArray[np.int64],
    latest: int,
    jitter_us: int,
    verdict: NDArray[np.uint8],
    hold: int,
) -> int:
    """Write for each event: keep, jitter, backwards, or spike; see `eventkit.readers.policy`.

    Parameters
    ----------
    latest : int
        Latest time kept before these; `NEVER` if there is none.
    hold : int
        How many events from the last jump on may be left undecided; 0 where nothing follows.

    Returns
    -------
    int
        How many events from the front have their verdict whatever follows.
    """
    kept = np.empty(t.size, np.int64)  # positions of what is kept; their times do not decrease
    count, end = 0, t.size
    for j in range(t.size):
        now = t[j]
        high = t[kept[count - 1]] if count else latest
        if now >= high:
            verdict[j] = KEEP
            kept[count] = j
            count += 1
            continue
        if within(now, high, jitter_us):
            verdict[j] = JITTER
            continue
        verdict[j] = BACKWARDS
        low, top = 0, count  # to the first one above `now`
        while low < top:
            middle = (low + top) // 2
            if t[kept[middle]] > now:
                top = middle
            else:
                low = middle + 1
        before = t[kept[low - 1]] if low else latest
        if low == count or before > now or j - kept[low] > LONGEST_SPIKE:
            continue
        first = kept[low]
        if before != NEVER and within(before, t[first], jitter_us):
            continue
        more = goes_on(t, first, j, jitter_us)
        if more < 0 and hold:
            end = j
            break
        if more == 1:
            for i in range(first, j):
                if verdict[i] != BACKWARDS:
                    verdict[i] = SPIKE
            verdict[j] = KEEP
            kept[low] = j
            count = low + 1
    settled = end
    for k in range(count - 1, -1, -1):
        if end - kept[k] > hold:
            break
        before = t[kept[k - 1]] if k else latest
        if before == NEVER or not within(before, t[kept[k]], jitter_us):
            settled = kept[k]
    return settled
