"""Kernels of EVT3: words of 16 bits that each change one thing - row, time, place.

State, int64 (8,): last raw TIME_HIGH (-1 before the first), wraps in units of TIME_HIGH, TIME_HIGH
before the last wrap, TIME_LOW, row (-1 before the first), vector base with the polarity in bit 11
(-1 before the first), microseconds to add, TIME_HIGH before the last long step forward.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel
from eventkit.kernels.check import NOTED, note

HIGH_BITS, LOW_BITS = 12, 12
BLOCK = 256
FURTHEST = 4096
"""Vector bases stop here: beyond every sensor, and within the bits that places have below."""

_SPAN = 1 << HIGH_BITS
_NO_WRAP = -(1 << 62)

# An event is packed as: x 11 bits, polarity, row 11, two more bits of x for vectors that leave the
# sensor, time 39. A word replaces the field of its kind, by table, so that plain words take no
# branch: 2.4 times as fast as asking for each kind.
_MORE, _TIME = 23, 25
_PLACE = 0xFFF | 3 << _MORE
_EARLIER = 1 << 38
"""Times are packed relative to a moment before the block: a clock may step back in it."""


def tables() -> NDArray[np.uint64]:
    """Return (2, 16): the field that a word of each kind replaces, and its place."""
    table = np.zeros((2, 16), np.uint64)
    for kind, field, place in ((2, _PLACE, 0), (0, 0x7FF << 12, 12), (6, 0xFFF << _TIME, _TIME)):
        table[0, kind], table[1, kind] = field, place
    return table


@kernel
def _high(raw: int, state: NDArray[np.int64]) -> int:
    """Take a new TIME_HIGH, by the rule of `eventkit.readers.clock`; return it with its wraps."""
    last = state[0]
    if last - raw > _SPAN >> 1:
        if raw - last + _SPAN > _SPAN >> 4 and abs(raw - state[7]) <= _SPAN >> 4:
            state[7] = _NO_WRAP
        else:
            state[1] += _SPAN
            state[2] = last
    elif raw - last > _SPAN >> 1 and last >= 0:
        if abs(raw - state[2]) <= _SPAN >> 4 and state[1] > 0:
            state[1] -= _SPAN
            state[2] = _NO_WRAP
        else:
            state[7] = last
    state[0] = raw
    return int(raw + state[1])


@kernel
def count(words: NDArray[np.uint16], found: NDArray[np.int64]) -> int:
    """Return the events of words: one for ADDR_X, one for each bit of a vector.

    ``found`` receives the numbers of: EXT_TRIGGER, OTHERS, CONTINUED, anything unpublished.
    """
    total, zero = np.int64(0), np.uint16(0)
    found[:] = 0
    for a in range(0, words.size, 2048):  # 16-bit sums: twice the lanes, and 2048 * 12 fit
        block = words[a : a + 2048]
        events = triggers = others = continued = odd = np.uint16(0)
        for i in range(block.size):
            kind = np.uint16(block[i] >> np.uint16(12))
            bits = np.uint16(0xFFF) if kind == 4 else np.uint16(0xFF) if kind == 5 else zero
            v = np.uint16(block[i] & bits)
            v = np.uint16(v - ((v >> np.uint16(1)) & np.uint16(0x555)))
            v = np.uint16((v & np.uint16(0x333)) + ((v >> np.uint16(2)) & np.uint16(0x333)))
            v = np.uint16(
                (v & np.uint16(15)) + ((v >> np.uint16(4)) & np.uint16(15)) + (v >> np.uint16(8))
            )
            events = np.uint16(events + v + np.uint16(kind == 2))
            triggers = np.uint16(triggers + np.uint16(kind == 10))
            others = np.uint16(others + np.uint16(kind == 14))
            continued = np.uint16(continued + np.uint16((kind | np.uint16(8)) == 15))
            unknown = (kind == 1) | (kind == 9) | ((kind >= 11) & (kind <= 13))
            odd = np.uint16(odd + np.uint16(unknown))
        total += np.int64(events)
        found[0] += np.int64(triggers)
        found[1] += np.int64(others)
        found[2] += np.int64(continued)
        found[3] += np.int64(odd)
    return int(total)


@kernel
def _careful(
    words: NDArray[np.uint16],
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
    """Decode word by word, from event ``n`` on; word 0 is word ``first`` of the piece."""
    for i in range(words.size):
        w = int(np.int64(words[i]))
        kind, value = w >> 12, w & 0xFFF
        if kind == 8:
            if value != state[0]:
                _high(value, state)
                state[3] = 0  # TIME_LOW follows; until then the old one would be ahead of it
        elif kind == 6:
            state[3] = value
        elif kind == 0:
            state[4] = value & 0x7FF
        elif kind == 1:
            state[4] = -1
        elif kind == 3:
            state[5] = value
        elif kind == 2 or kind == 4 or kind == 5:
            if state[0] < 0:
                lost[0] += 1
                continue
            if state[4] < 0 or (kind != 2 and state[5] < 0):
                lost[1] += 1
                continue
            when = ((state[0] + state[1]) << LOW_BITS) + state[3] + state[6]
            place, bits = (value, 1) if kind == 2 else (state[5], value)
            up, polarity = place & 0x800, (place >> 11) & 1
            # The base may have gone past bit 11, which is the polarity: bits 12 and up hold that.
            where = (place & 0x7FF) | ((place >> 1) & ~0x7FF)
            if kind == 5:
                bits &= 0xFF
            if kind != 2:
                beyond = min(where + (12 if kind == 4 else 8), FURTHEST)
                state[5] = (beyond & 0x7FF) | up | ((beyond & ~0x7FF) << 1)
            while bits:
                if bits & 1:
                    if n == x.size:
                        return -1
                    x[n], y[n], t[n], p[n] = where, state[4], when, polarity
                    if index.size:
                        index[n] = first + i
                    n += 1
                bits >>= 1
                where += 1
    return n


@kernel
def _other_rows(block: NDArray[np.uint16]) -> bool:
    """Return whether a row of another kind of event begins: places behind it are not of ours.

    Kind 1, unpublished; OpenEB's decoder takes what follows it for exposure measurements.
    """
    found = np.uint16(0)
    for i in range(block.size):
        found |= np.uint16(np.uint16(block[i] >> np.uint16(12)) == 1)
    return bool(found != 0)


@kernel
def _any_rare(block: NDArray[np.uint16], last_word: np.uint16) -> bool:
    """Return whether any word is more than a field to replace: of a vector, or a new TIME_HIGH."""
    rare = np.uint16(0)
    for i in range(block.size):
        kind = np.uint16(block[i] >> np.uint16(12))
        rare |= np.uint16((kind >= 3) & (kind <= 5))
        rare |= np.uint16((kind == 8) & (block[i] != last_word))
    return bool(rare != 0)


@kernel
def _next_rare(block: NDArray[np.uint16], first: int, last_word: np.uint16) -> int:
    while first + 32 <= block.size and not _any_rare(block[first : first + 32], last_word):
        first += 32
    for i in range(first, block.size):
        kind = np.uint16(block[i] >> np.uint16(12))
        vector = (kind >= 3) & (kind <= 5)
        if vector | ((kind == 8) & (block[i] != last_word)):
            return i
    return block.size


@kernel
def fill(
    table: NDArray[np.uint64],
    words: NDArray[np.uint16],
    state: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    index: NDArray[np.int64],
    lost: NDArray[np.int64],
    seen: NDArray[np.int64],
) -> int:
    """Decode words; return the number of events, at most `count`, which is the room needed.

    Returns -1, and writes nothing beyond it, where there is less room.
    ``index`` receives the word of each event where it has the same room, and nothing where it is
    empty. ``lost`` receives the words that stand before the first TIME_HIGH, and before the first
    row or vector base. ``seen`` is that of `note`.
    """
    packed = np.empty(BLOCK * 12 + 1, np.uint64)
    put, shift = table[0], table[1]
    keep, one = ~put, np.uint64(1)
    n = noted = 0
    for a in range(0, words.size, BLOCK):
        block = words[a : a + BLOCK]
        if index.size or state[0] < 0 or state[4] < 0 or _other_rows(block):
            n = _careful(block, a, n, state, x, y, t, p, index, lost)
            if n < 0:
                return -1
            continue
        origin = ((state[0] + state[1]) << LOW_BITS) - _EARLIER
        last_word = np.uint16(0x8000 | state[0])
        s = np.uint64((_EARLIER + state[3]) << _TIME) | np.uint64(state[4] << 12)
        m, i = np.uint64(0), 0
        rare = _any_rare(block, last_word)
        while i < block.size:
            stop = _next_rare(block, i, last_word) if rare else block.size
            plain = block[i:stop]
            for j in range(plain.size):
                w = np.uint64(plain[j])
                kind = w >> np.uint64(12)
                s = (s & keep[kind]) | ((w << shift[kind]) & put[kind])
                packed[m] = s
                m += np.uint64(kind == 2)
            i = stop + 1
            if stop == block.size:
                break
            word = int(np.int64(block[stop]))
            what, value = word >> 12, word & 0xFFF
            if what == 8:
                last_word = block[stop]
                now = (_high(value, state) << LOW_BITS) - origin
                s = (s & np.uint64(0x7FFFFF)) | (np.uint64(now) << np.uint64(_TIME))
            elif what == 3:
                state[5] = value
            elif state[5] < 0:
                lost[1] += 1
            else:
                place = state[5]
                where = (place & 0x7FF) | ((place >> 1) & ~0x7FF)
                rest = (s & ~np.uint64(_PLACE)) | np.uint64(place & 0x800)
                bits = np.uint64(value if what == 4 else value & 0xFF)
                beyond = min(where + (12 if what == 4 else 8), FURTHEST)
                state[5] = (beyond & 0x7FF) | (place & 0x800) | ((beyond & ~0x7FF) << 1)
                far = np.uint64(where)
                while bits:
                    high = (far >> np.uint64(11)) << np.uint64(_MORE)
                    packed[m] = rest | (far & np.uint64(0x7FF)) | high
                    m += bits & one
                    bits >>= one
                    far += one
        state[3] = np.int64((s >> np.uint64(_TIME)) & np.uint64(0xFFF))
        state[4] = np.int64((s >> np.uint64(12)) & np.uint64(0x7FF))
        origin += state[6]
        stop = n + int(np.int64(m))
        if stop > x.size:
            return -1
        found = packed[: stop - n]
        xs, ys, ts, ps = x[n:stop], y[n:stop], t[n:stop], p[n:stop]
        for i in range(found.size):
            v = found[i]
            xs[i] = (v & np.uint64(0x7FF)) | ((v >> np.uint64(12)) & np.uint64(0x1800))
        for i in range(found.size):
            ys[i] = (found[i] >> np.uint64(12)) & np.uint64(0x7FF)
        for i in range(found.size):
            ts[i] = np.int64(found[i] >> np.uint64(_TIME)) + origin
        for i in range(found.size):
            ps[i] = (found[i] >> np.uint64(11)) & one
        n = stop
        if n - noted >= NOTED:
            note(x[noted:n], y[noted:n], t[noted:n], seen)
            noted = n
    note(x[noted:n], y[noted:n], t[noted:n], seen)
    return n


@kernel
def triggers(
    words: NDArray[np.uint16],
    state: NDArray[np.int64],
    t: NDArray[np.int64],
    source: NDArray[np.int16],
    p: NDArray[np.int8],
) -> int:
    """Decode EXT_TRIGGER; the columns have room for every such word.

    Those before the first TIME_HIGH are left out.
    """
    n = 0
    for i in range(words.size):
        w = int(np.int64(words[i]))
        kind, value = w >> 12, w & 0xFFF
        if kind == 8:
            if value != state[0]:
                _high(value, state)
                state[3] = 0
        elif kind == 6:
            state[3] = value
        elif kind == 10 and state[0] >= 0 and n < t.size:
            t[n] = ((state[0] + state[1]) << LOW_BITS) + state[3] + state[6]
            source[n] = value >> 8
            p[n] = value & 1
            n += 1
    return n
