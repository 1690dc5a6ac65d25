"""Kernels of text: rows of numbers to columns of events, and back.

`parse` reads whole lines. Rows of four plain whole numbers take a short way; everything else
(signs, fractions, exponents, words, quotes, comments) takes a careful one. Both compute with
integers only: a time in seconds is as exact as its digits. No index leaves the lines: the last byte
has to be a newline, every loop ends there, and no more rows are written than there is room for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

EVENT, BLANK, COMMENT, BAD, OUTSIDE = 0, 1, 2, 3, 4
LOW, FAULT = 5, 6
STATE_SIZE = 7
"""State, int64: counts by the kinds above, the lower polarity met (0, -1), and why it stopped."""
NO_LOW = 1

IGNORED, X, Y, T, P = 0, 1, 2, 3, 4
"""What a column of the file holds."""

ROW_BYTES = 35
"""The longest row written: 20 characters of time, 5 of each place, 1 of polarity, separators."""

_NEWLINE, _RETURN, _SPACE, _TAB, _QUOTE = 10, 13, 32, 9, 34
_ROOM_FOR_DIGIT = (2**63 - 10) // 10
_LAST = 1 << 62
_TOP_SHIFT = 18


@kernel
def count_lines(raw: NDArray[np.uint8]) -> Any:
    """Return the number of newlines."""
    lines = np.uint32(0)
    for i in range(raw.size):
        lines += np.uint32(raw[i] == _NEWLINE)
    return np.int64(lines)


@kernel
def plain_rows(
    raw: NDArray[np.uint8],
    begin: Any,
    separator: int,
    order: NDArray[np.int64],
    cell: NDArray[np.int64],
    n: Any,
    x: NDArray[Any],
    y: NDArray[Any],
    t: NDArray[Any],
    p: NDArray[Any],
) -> tuple[Any, Any, Any]:
    """Read rows of four whole numbers as far as they go.

    ``order`` is which of the four is x, y, t, p. Returns where the first other row starts, the
    number of rows so far, and the lowest polarity.
    """
    # Unsigned indices: with signed ones every load would test for a wrap-around.
    at, end, one = np.uint64(begin), np.uint64(raw.size), np.uint64(1)
    most = np.uint64(18)
    row, room = np.uint64(n), np.uint64(x.size)
    ix, iy, it, ip = order[0], order[1], order[2], order[3]
    start = at
    low = np.int64(1)
    while at < end and row < room:
        start = at
        for k in range(4):
            value, first = np.int64(0), at
            stop = min(at + most, end)
            while at < stop:
                digit = raw[at] ^ np.uint8(48)
                if digit > 9:
                    break
                value = value * 10 + np.int64(digit)
                at += one
            if k == ip and at > first + one:
                return np.int64(start), np.int64(row), low
            if k == 3 and at + one < end and raw[at] == _RETURN:
                at += one
            if at == first or at >= end or raw[at] != (separator if k < 3 else _NEWLINE):
                return np.int64(start), np.int64(row), low
            cell[k] = value
            at += one
        if cell[ix] > 65535 or cell[iy] > 65535 or cell[ip] > 1:
            return np.int64(start), np.int64(row), low
        x[row], y[row], t[row], p[row] = cell[ix], cell[iy], cell[it], cell[ip]
        low = min(low, cell[ip])
        row += one
    return np.int64(at), np.int64(row), low


@kernel
def number(raw: NDArray[np.uint8], at: Any, stop: Any, scale: int) -> tuple[Any, Any, bool]:
    """Read a decimal number times 10^scale, rounded to the nearest; halves away from zero.

    Returns the number, where it ends (-1 for none, or for one past 2^62), and whether it was whole.
    A whole number of a unit below one, as nanoseconds, is rounded down, as in other formats.
    """
    nothing = (np.int64(0), np.int64(-1), False)
    negative = False
    if at < stop and (raw[at] == 45 or raw[at] == 43):
        negative = raw[at] == 45
        at += 1
    value, digits, shift = np.int64(0), 0, np.int64(scale)
    whole, plain, point = True, True, False
    left_out, up = False, False
    while at < stop:
        digit = np.int64(raw[at] ^ np.uint8(48))
        if digit <= 9:
            digits += 1
            if value <= _ROOM_FOR_DIGIT:
                value = value * 10 + digit
                shift -= point
            else:  # more digits than 64 bits hold; the first of them still rounds
                if not left_out:
                    up = bool(digit >= 5)
                left_out = True
                whole = whole and digit == 0
                shift += not point
        elif raw[at] == 46 and not point:
            point, plain = True, False
        else:
            break
        at += 1
    if digits == 0:
        return nothing
    if at < stop and (raw[at] | 32) == 101:  # e, E
        plain = False
        at += 1
        down = at < stop and raw[at] == 45
        if at < stop and (raw[at] == 45 or raw[at] == 43):
            at += 1
        exponent, first = np.int64(0), at
        while at < stop and (raw[at] ^ np.uint8(48)) <= 9:
            exponent = min(exponent * 10 + np.int64(raw[at] ^ np.uint8(48)), np.int64(9999))
            at += 1
        if at == first:
            return nothing
        shift += -exponent if down else exponent
    if value == 0:
        shift = np.int64(0)
    for _ in range(min(shift, np.int64(_TOP_SHIFT + 1))):
        if value > _LAST // 10:
            return nothing
        value *= 10
    if shift > _TOP_SHIFT:
        return nothing
    if shift == 0 and up:
        value += 1
    if shift < -_TOP_SHIFT:
        value, whole = np.int64(0), False
    elif shift < 0:
        unit = np.int64(1)
        for _ in range(-shift):
            unit *= 10
        rest = value % unit
        value //= unit
        whole = whole and rest == 0
        if plain:
            value += negative and rest > 0
        else:
            value += rest >= unit - rest
    if value > _LAST:
        return nothing
    return (-value if negative else value), np.int64(at), whole


@kernel
def word(raw: NDArray[np.uint8], at: Any, stop: Any) -> tuple[Any, Any]:
    """Read true, false, on, off in any case; return the polarity and where it ends, -1 for none."""
    size = np.int64(0)
    code = np.int64(0)
    while at + size < stop and size < 6 and 97 <= (raw[at + size] | 32) <= 122:
        code = code * 32 + np.int64((raw[at + size] | 32) - 96)
        size += 1
    # Letters as digits of base 32: on, true; off, false.
    if code == 15 * 32 + 14 or code == ((20 * 32 + 18) * 32 + 21) * 32 + 5:
        return np.int64(1), at + size
    if code == (15 * 32 + 6) * 32 + 6 or code == (((6 * 32 + 1) * 32 + 12) * 32 + 19) * 32 + 5:
        return np.int64(0), at + size
    return np.int64(0), np.int64(-1)


@kernel
def careful_row(
    raw: NDArray[np.uint8],
    at: Any,
    separator: int,
    roles: NDArray[np.int64],
    scale: int,
    found: NDArray[np.int64],
) -> tuple[Any, Any]:
    """Read one line; return what it is and where the next one starts.

    ``roles`` is what each column holds; ``found`` receives the numbers at the index of their role.
    """
    stop = np.int64(at)
    while raw[stop] != _NEWLINE:  # the last byte is one
        stop += 1
    after = stop + 1
    while stop > at and (raw[stop - 1] <= _SPACE):
        stop -= 1
    while at < stop and (raw[at] == _SPACE or raw[at] == _TAB):
        at += 1
    if at == stop:
        return BLANK, after
    if raw[at] == 35 or raw[at] == 37:  # '#', '%'
        return COMMENT, after
    for k in range(roles.size):
        while at < stop and (raw[at] == _SPACE or raw[at] == _TAB):
            at += 1
        role = roles[k]
        quoted = role != IGNORED and at < stop and raw[at] == _QUOTE
        at += quoted
        first = at
        if role == IGNORED:
            while at < stop and raw[at] != separator and raw[at] != _SPACE and raw[at] != _TAB:
                at += 1
        else:
            value, ends, whole = number(raw, at, stop, scale if role == T else 0)
            if ends < 0 and role == P:
                value, ends = word(raw, at, stop)
                whole = True
            if ends < 0 or (role != T and not whole):
                return BAD, after
            # No 01: a cut row that ends in 0 would not be told from a whole one.
            digit = first + (raw[first] == 43 or raw[first] == 45)
            if role == P and raw[digit] == 48 and (raw[digit + 1] ^ np.uint8(48)) <= 9:
                return BAD, after
            if quoted and (ends >= stop or raw[ends] != _QUOTE):
                return BAD, after
            found[role], at = value, ends + quoted
        gap = at
        while at < stop and (raw[at] == _SPACE or raw[at] == _TAB):
            at += 1
        if k == roles.size - 1:
            break
        if separator == _SPACE:
            if at in (gap, first):
                return BAD, after
        elif at < stop and raw[at] == separator:
            at += 1
        else:
            return BAD, after
    if at != stop or found[P] < -1 or found[P] > 1:
        return BAD, after
    inside = 0 <= found[X] <= 65535 and 0 <= found[Y] <= 65535
    return (EVENT if inside else OUTSIDE), after


@kernel
def parse(
    raw: NDArray[np.uint8],
    at: Any,
    separator: int,
    plain: int,
    roles: NDArray[np.int64],
    order: NDArray[np.int64],
    scale: int,
    strict: int,
    state: NDArray[np.int64],
    x: NDArray[Any],
    y: NDArray[Any],
    t: NDArray[Any],
    p: NDArray[Any],
    lost: NDArray[np.int64],
) -> tuple[Any, Any]:
    """Read lines from byte ``at`` until they, or the room in the columns, end.

    Parameters
    ----------
    raw : (B,) uint8
        Whole lines; a last byte that is no newline raises.
    separator : int
        The byte between columns; a space stands for any number of spaces and tabs.
    plain : int
        The byte between columns where most rows are four whole numbers of microseconds, and
        nothing else; 0 where they are not.
    roles : (K,) int64
        What each column holds.
    order : (4,) int64
        The column of x, y, t, p in plain rows, 0..3.
    scale : int
        Times are multiplied by 10^scale.
    strict : 0 or 1
        Stop before the first row that is no event, with ``state[FAULT]`` set.
    state : (STATE_SIZE,) int64
        Carried from call to call.
    lost : (L,) int64
        Receives the times of events at places outside 0..65535; L >= lines.

    Returns
    -------
    at : int
        The start of the first line that was not read.
    n : int
        Events written.
    """
    if raw.size == 0 or raw[raw.size - 1] != _NEWLINE:
        raise ValueError("expected whole lines")  # noqa: EM101
    if order.size != 4 or order.min() < 0 or order.max() > 3 or roles.min() < 0 or roles.max() > P:
        raise ValueError("expected four columns")  # noqa: EM101
    n, cell, found = np.int64(0), np.zeros(4, np.int64), np.zeros(5, np.int64)
    while at < raw.size and n < x.size:
        if plain and state[LOW] != -1:
            before = n
            at, n, low = plain_rows(raw, at, plain, order, cell, n, x, y, t, p)
            state[EVENT] += n - before
            if low == 0:
                state[LOW] = 0
            if at >= raw.size or n >= x.size:
                break
        kind, after = careful_row(raw, at, separator, roles, scale, found)
        low = found[P]
        # {0, 1} or {-1, 1}: a file that has both has no polarities.
        if kind == EVENT and low < 1 and state[LOW] != NO_LOW and state[LOW] != low:
            kind = BAD
        if strict and kind in (BAD, OUTSIDE):
            state[FAULT] = kind
            break
        if kind == OUTSIDE and state[OUTSIDE] >= lost.size:
            break
        at = after
        if kind == EVENT:
            if low < 1:
                state[LOW] = low
            x[n], y[n], t[n], p[n] = found[X], found[Y], found[T], max(low, np.int64(0))
            n += 1
        elif kind == OUTSIDE:
            lost[state[OUTSIDE]] = found[T]
        state[kind] += 1
    return at, n


@kernel
def format_rows(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    out: NDArray[np.uint8],
) -> int:
    """Write rows ``t,x,y,p`` and return the bytes; ``out`` has `ROW_BYTES` for each event."""
    at = 0
    digits = np.zeros(20, np.uint8)
    for i in range(t.size):
        if out.size - at < ROW_BYTES:
            raise ValueError("expected more room")  # noqa: EM101
        for k in range(4):
            value = t[i] if k == 0 else np.int64(x[i] if k == 1 else y[i] if k == 2 else p[i])
            if value < 0:
                out[at] = 45
                at += 1
            size = 0
            while True:
                # Python's and Numba's remainders of negative numbers count from below.
                rest = value % 10
                if value < 0 and rest > 0:
                    rest = 10 - rest
                    value = value // 10 + 1
                else:
                    value //= 10
                digits[size] = 48 + rest
                size += 1
                if value == 0:
                    break
            for j in range(size):
                out[at + j] = digits[size - 1 - j]
            at += size
            out[at] = 44 if k < 3 else _NEWLINE
            at += 1
    return at
