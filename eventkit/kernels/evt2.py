"""Kernels of EVT2 and EVT2.1: words with a kind, six bits of time and a place; TIME_HIGH the rest.

Both have the same word of 32 bits: kind 4, low time 6, x 11, y 11; in EVT2.1 a mask of 32 pixels to
the right of x stands beside it. State, int64 (5,): last raw TIME_HIGH (-1 before the first), wraps
in units of TIME_HIGH, TIME_HIGH before the last wrap, microseconds to add, TIME_HIGH before the
last long step forward.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

LAST, WRAPS, LEFT, OFFSET = 0, 1, 2, 3

HIGH_BITS, LOW_BITS = 28, 6
BLOCK = 256
_EVENTS_END = 2 << 28
_SPAN = 1 << HIGH_BITS
_NO_WRAP = -(1 << 62)


@kernel
def _time(raw: int, state: NDArray[np.int64]) -> int:
    """Take a new TIME_HIGH, by the rule of `eventkit.readers.clock`; return its microseconds."""
    last = state[0]
    if last - raw > _SPAN >> 1:
        if raw - last + _SPAN > _SPAN >> 4 and abs(raw - state[4]) <= _SPAN >> 4:
            state[4] = _NO_WRAP
        else:
            state[1] += _SPAN
            state[2] = last
    elif raw - last > _SPAN >> 1 and last >= 0:
        if abs(raw - state[2]) <= _SPAN >> 4 and state[1] > 0:
            state[1] -= _SPAN
            state[2] = _NO_WRAP
        else:
            state[4] = last
    state[0] = raw
    return int(((raw + state[1]) << LOW_BITS) + state[3])


@kernel
def count(words: NDArray[np.uint32], found: NDArray[np.int64]) -> int:
    """Return the events of EVT2 words before the clock is asked.

    ``found`` receives the numbers of: EXT_TRIGGER, OTHERS, CONTINUED, anything unpublished.
    """
    events = highs = triggers = others = continued = np.uint32(0)
    one, none = np.uint32(1), np.uint32(0)
    for i in range(words.size):
        kind = words[i] >> np.uint32(28)
        events += one if kind < 2 else none
        highs += one if kind == 8 else none
        triggers += one if kind == 10 else none
        others += one if kind == 14 else none
        continued += one if kind == 15 else none
    found[0], found[1], found[2] = triggers, others, continued
    found[3] = words.size - np.int64(events + highs + triggers + others + continued)
    return int(events)


@kernel
def fill(
    words: NDArray[np.uint32],
    state: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> int:
    """Decode EVT2 words; return the number of events, at most `count`, which is the room needed.

    Returns -1, and writes nothing beyond it, where there is less room.
    Events before the first TIME_HIGH are left out.
    """
    # Events and their TIME_HIGH are put side by side first, and taken apart in vectors then.
    event, high = np.empty(BLOCK + 1, np.uint32), np.empty(BLOCK + 1, np.int64)
    first = 0
    while state[0] < 0 and first < words.size:
        if words[first] >> np.uint32(28) == 8:
            _time(int(np.int64(words[first] & np.uint32(0x0FFFFFFF))), state)
        first += 1
    n, one = 0, np.uint64(1)
    for a in range(first, words.size, BLOCK):
        block, m = words[a : a + BLOCK], np.uint64(0)
        if _goes_on(block, state[0]):
            base, now = (state[1] << LOW_BITS) + state[3], np.uint32(state[0])
            # No branch: TIME_HIGH words come at any time, and each would be guessed wrong.
            for i in range(block.size):
                w = block[i]
                now = w & np.uint32(0x0FFFFFFF) if w >> np.uint32(28) == 8 else now
                event[m], high[m] = w, now
                m += np.uint64(w < _EVENTS_END)
            state[0] = now
            for i in range(np.int64(m)):
                high[i] = (high[i] << LOW_BITS) + base
        else:
            time = ((state[0] + state[1]) << LOW_BITS) + state[3]
            for i in range(block.size):
                w = block[i]
                if w >> np.uint32(28) == 8:
                    time = _time(int(np.int64(w & np.uint32(0x0FFFFFFF))), state)
                event[m], high[m] = w, time
                m += one if w < _EVENTS_END else np.uint64(0)
        stop = n + int(np.int64(m))
        if stop > x.size:
            return -1
        es, hs = event[: stop - n], high[: stop - n]
        xs, ys, ts, ps = x[n:stop], y[n:stop], t[n:stop], p[n:stop]
        for i in range(es.size):
            xs[i] = (es[i] >> np.uint32(11)) & np.uint32(0x7FF)
        for i in range(es.size):
            ys[i] = es[i] & np.uint32(0x7FF)
        for i in range(es.size):
            ts[i] = hs[i] + np.int64((es[i] >> np.uint32(22)) & np.uint32(63))
        for i in range(es.size):
            ps[i] = es[i] >> np.uint32(28)
        n = stop
    return n


@kernel
def _goes_on(block: NDArray[np.uint32], last: int) -> bool:
    """Return whether no two TIME_HIGH are further apart than half the range: nothing to decide."""
    top, low = np.uint32(last), np.uint32(last)
    for i in range(block.size):
        w = block[i]
        raw = w & np.uint32(0x0FFFFFFF)
        is_high = w >> np.uint32(28) == 8
        top = max(top, raw if is_high else np.uint32(0))
        low = min(low, raw if is_high else np.uint32(0x0FFFFFFF))
    return bool(top - low <= np.uint32(_SPAN >> 1))


@kernel
def count_vectors(
    words: NDArray[np.uint32], head: int, found: NDArray[np.int64], masks: NDArray[np.uint8]
) -> int:
    """Return the events of EVT2.1 words, (N, 2); ``head`` is the column that has the kind.

    ``found`` as in `count`; ``masks`` are the numbers of bits of 0 to 65,535.
    """
    events, tail = np.int64(0), 1 - head
    found[:] = 0
    for i in range(words.shape[0]):
        kind = words[i, head] >> np.uint32(28)
        if kind < 2:
            mask = words[i, tail]
            events += np.int64(masks[mask & np.uint32(0xFFFF)]) + np.int64(
                masks[mask >> np.uint32(16)]
            )
        elif kind == 10:
            found[0] += 1
        elif kind == 14:
            found[1] += 1
        elif kind == 15:
            found[2] += 1
        elif kind != 8:
            found[3] += 1
    return int(events)


@kernel
def fill_vectors(
    words: NDArray[np.uint32],
    head: int,
    state: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    index: NDArray[np.int64],
) -> int:
    """Decode EVT2.1 words, (N, 2); the room needed is `count_vectors`, and -1 if there is less.

    ``index`` receives the word of each event where it has the same room, and nothing where it is
    empty. Places may lie up to 31 pixels beyond 2047.
    """
    n, tail, now = 0, 1 - head, 0
    if state[0] >= 0:
        now = int(((state[0] + state[1]) << LOW_BITS) + state[3])
    for i in range(words.shape[0]):
        w = words[i, head]
        kind = w >> np.uint32(28)
        if kind == 8:
            now = _time(int(np.int64(w & np.uint32(0x0FFFFFFF))), state)
        elif kind < 2 and state[0] >= 0:
            mask, place = words[i, tail], (w >> np.uint32(11)) & np.uint32(0x7FF)
            when = now + np.int64((w >> np.uint32(22)) & np.uint32(63))
            while mask:
                if not mask & np.uint32(0xFF):  # masks are sparse: eight empty pixels at once
                    mask >>= np.uint32(8)
                    place += np.uint32(8)
                    continue
                if mask & np.uint32(1):
                    if n == x.size:
                        return -1
                    x[n], y[n] = place, w & np.uint32(0x7FF)
                    t[n], p[n] = when, kind
                    if index.size:
                        index[n] = i
                    n += 1
                mask >>= np.uint32(1)
                place += np.uint32(1)
    return n


@kernel
def triggers(
    words: NDArray[np.uint32],
    state: NDArray[np.int64],
    t: NDArray[np.int64],
    source: NDArray[np.int16],
    p: NDArray[np.int8],
) -> int:
    """Decode EXT_TRIGGER of EVT2 words, or of the column of EVT2.1 words that has the kind.

    The columns have room for every such word; those before the first TIME_HIGH are left out.
    """
    n, now = 0, 0
    if state[0] >= 0:
        now = int(((state[0] + state[1]) << LOW_BITS) + state[3])
    for i in range(words.size):
        w = words[i]
        kind = w >> np.uint32(28)
        if kind == 8:
            now = _time(int(np.int64(w & np.uint32(0x0FFFFFFF))), state)
        elif kind == 10 and state[0] >= 0 and n < t.size:
            t[n] = now + np.int64((w >> np.uint32(22)) & np.uint32(63))
            source[n] = (w >> np.uint32(8)) & np.uint32(31)
            p[n] = w & np.uint32(1)
            n += 1
    return n
