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
from eventkit.kernels.check import NOTED, note

HIGH_BITS, LOW_BITS = 28, 6
BLOCK, STEP = 512, 32
FEW = 8
"""TIME_HIGH words of a block up to which it is faster to decode what stands between them in one go:
1.2 ns an event against 2.2 where one comes every 87 events, 17 against 2.6 where one comes every 2.
"""
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
def _glance(block: NDArray[np.uint32], last: int) -> tuple[bool, int]:
    """Return whether the clock has nothing to decide in a block, and its TIME_HIGH.

    It has not where no two TIME_HIGH are further apart than half the range.
    """
    top, low, highs = np.uint32(last), np.uint32(last), np.uint32(0)
    for i in range(block.size):
        w = block[i]
        raw = w & np.uint32(0x0FFFFFFF)
        is_high = w >> np.uint32(28) == 8
        top = max(top, raw if is_high else np.uint32(0))
        low = min(low, raw if is_high else np.uint32(0x0FFFFFFF))
        highs += np.uint32(is_high)
    return bool(top - low <= np.uint32(_SPAN >> 1)), int(np.int64(highs))


@kernel
def _mixed(
    block: NDArray[np.uint32],
    n: int,
    state: NDArray[np.int64],
    event: NDArray[np.uint32],
    high: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> int:
    """Decode a block: events and their TIME_HIGH side by side first, taken apart in vectors then.

    No branch: TIME_HIGH words come at any time, and each would be guessed wrong.
    """
    base, now, m = (state[1] << LOW_BITS) + state[3], np.uint32(state[0]), np.uint64(0)
    for i in range(block.size):
        w = block[i]
        now = w & np.uint32(0x0FFFFFFF) if w >> np.uint32(28) == 8 else now
        event[m], high[m] = w, now
        m += np.uint64(w < _EVENTS_END)
    state[0] = now
    stop = n + int(np.int64(m))
    es, hs = event[: stop - n], high[: stop - n]
    xs, ys, ts, ps = x[n:stop], y[n:stop], t[n:stop], p[n:stop]
    for i in range(es.size):
        xs[i] = (es[i] >> np.uint32(11)) & np.uint32(0x7FF)
    for i in range(es.size):
        ys[i] = es[i] & np.uint32(0x7FF)
    for i in range(es.size):
        ts[i] = (hs[i] << LOW_BITS) + base + np.int64((es[i] >> np.uint32(22)) & np.uint32(63))
    for i in range(es.size):
        ps[i] = es[i] >> np.uint32(28)
    return stop


@kernel
def _end_of_run(words: NDArray[np.uint32], first: int) -> int:
    """Return where the events that begin at ``first`` end."""
    while first + STEP <= words.size:
        part = words[first : first + STEP]
        odd = np.uint32(0)
        for i in range(part.size):
            odd |= np.uint32(part[i] >= _EVENTS_END)
        if odd:
            break
        first += STEP
    while first < words.size and words[first] < _EVENTS_END:
        first += 1
    return first


@kernel
def _in_runs(
    block: NDArray[np.uint32],
    first: int,
    n: int,
    state: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    index: NDArray[np.int64],
    lost: NDArray[np.int64],
) -> int:
    """Decode a block run by run, from event ``n`` on; word 0 is word ``first`` of the piece."""
    now, i = ((state[0] + state[1]) << LOW_BITS) + state[3], 0
    while i < block.size:
        stop = _end_of_run(block, i)
        if state[0] < 0:
            lost[0] += stop - i
        elif stop > i:
            end = n + stop - i
            # A function of its own would cost as much again in counting references to five arrays.
            run, xs, ys, ts, ps = block[i:stop], x[n:end], y[n:end], t[n:end], p[n:end]
            for k in range(run.size):
                xs[k] = (run[k] >> np.uint32(11)) & np.uint32(0x7FF)
            for k in range(run.size):
                ys[k] = run[k] & np.uint32(0x7FF)
            for k in range(run.size):
                ts[k] = now + np.int64((run[k] >> np.uint32(22)) & np.uint32(63))
            for k in range(run.size):
                ps[k] = run[k] >> np.uint32(28)
            if index.size:
                for k in range(n, end):
                    index[k] = first + i + k - n
            n = end
        while stop < block.size and block[stop] >= _EVENTS_END:
            w = block[stop]
            if w >> np.uint32(28) == 8:
                now = _time(int(np.int64(w & np.uint32(0x0FFFFFFF))), state)
                lost[2] += 1
            stop += 1
        i = stop
    return n


@kernel
def fill(
    words: NDArray[np.uint32],
    state: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    index: NDArray[np.int64],
    lost: NDArray[np.int64],
    seen: NDArray[np.int64],
) -> int:
    """Decode EVT2 words; return the number of events, at most `count`, which is the room needed.

    Returns -1, and writes nothing beyond it, where there is less room.
    ``index`` receives the word of each event where it has the same room, and nothing where it is
    empty. ``lost`` receives the events before the first TIME_HIGH, which have no time, nothing in
    its second place, and the TIME_HIGH words. ``seen`` is that of `eventkit.kernels.check.note`.
    """
    event, high = np.empty(BLOCK + 1, np.uint32), np.empty(BLOCK + 1, np.int64)
    n = noted = 0
    for a in range(0, words.size, BLOCK):
        block = words[a : a + BLOCK]
        others = np.uint32(0)
        for i in range(block.size):
            others += np.uint32(block[i] >= _EVENTS_END)
        if n + block.size - np.int64(others) > x.size:
            return -1
        calm, highs = False, 0
        if others > FEW and not index.size and state[0] >= 0:
            calm, highs = _glance(block, state[0])
        if calm:
            n = _mixed(block, n, state, event, high, x, y, t, p)
            lost[2] += highs
        else:
            n = _in_runs(block, a, n, state, x, y, t, p, index, lost)
        if n - noted >= NOTED:
            note(x[noted:n], y[noted:n], t[noted:n], seen)
            noted = n
    note(x[noted:n], y[noted:n], t[noted:n], seen)
    return n


@kernel
def count_vectors(
    head: int, masks: NDArray[np.uint8], words: NDArray[np.uint32], found: NDArray[np.int64]
) -> int:
    """Return the events of EVT2.1 words, two halves each; half ``head`` has the kind.

    ``found`` as in `count`; ``masks`` are the numbers of bits of 0 to 65,535.
    """
    events, tail = np.int64(0), 1 - 2 * head
    found[:] = 0
    for i in range(head, words.size, 2):
        kind = words[i] >> np.uint32(28)
        if kind < 2:
            mask = words[i + tail]
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
    head: int,
    words: NDArray[np.uint32],
    state: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    index: NDArray[np.int64],
    lost: NDArray[np.int64],
    seen: NDArray[np.int64],
) -> int:
    """Decode EVT2.1 words; the room needed is `count_vectors`, and -1 if there is less.

    ``index`` receives the word of each event where it has the same room, and nothing where it is
    empty; ``lost`` the words before the first TIME_HIGH; ``seen`` is that of `note`. Places may lie
    up to 31 pixels beyond 2047.
    """
    n, tail, now = 0, 1 - 2 * head, 0
    if state[0] >= 0:
        now = int(((state[0] + state[1]) << LOW_BITS) + state[3])
    for i in range(head, words.size, 2):
        w = words[i]
        kind = w >> np.uint32(28)
        if kind == 8:
            now = _time(int(np.int64(w & np.uint32(0x0FFFFFFF))), state)
        elif kind < 2 and state[0] < 0:
            lost[0] += 1
        elif kind < 2:
            mask, place = words[i + tail], (w >> np.uint32(11)) & np.uint32(0x7FF)
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
                        index[n] = i // 2
                    n += 1
                mask >>= np.uint32(1)
                place += np.uint32(1)
    note(x[:n], y[:n], t[:n], seen)
    return n


@kernel
def triggers(
    first: int,
    step: int,
    words: NDArray[np.uint32],
    state: NDArray[np.int64],
    t: NDArray[np.int64],
    source: NDArray[np.int16],
    p: NDArray[np.int8],
) -> int:
    """Decode EXT_TRIGGER of EVT2 words, or of those halves of EVT2.1 words that have the kind.

    The columns have room for every such word; those before the first TIME_HIGH are left out.
    """
    n, now = 0, 0
    if state[0] >= 0:
        now = int(((state[0] + state[1]) << LOW_BITS) + state[3])
    for i in range(first, words.size, step):
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
