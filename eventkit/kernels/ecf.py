"""Kernels of Prophesee's ECF: runs and packed words to columns and back; see `eventkit.ecf`.

Every function takes the place it starts at and returns the place behind what it read or wrote;
readers return ``-1 - place`` where the data cannot be right. Nothing is read behind the data, and
nothing is written behind ``n`` events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel

LAST_US = 1 << 61


@kernel
def _read_times(data: NDArray[np.uint8], at: int, n: int, t: NDArray[np.int64]) -> int:
    if at + 8 > data.size:
        return -1 - at
    top = np.int64(data[at + 7])
    now = (top - 256 if top > 127 else top) << 56
    for k in range(7):
        now += np.int64(data[at + k]) << (8 * k)
    if now > LAST_US or now < -LAST_US:
        return -1 - at
    at += 8
    i = 0
    while i < n:
        if at >= data.size:
            return -1 - at
        step = np.int64(data[at]) >> 4
        count: Any = np.int64(data[at]) & 15
        at += 1
        if step == 15:
            # A long step, four bits a byte, low bits first.
            long, shift = count, 4
            while at < data.size and np.int64(data[at]) >> 4 == 15:
                count = np.int64(data[at]) & 15
                if shift > 60 or (shift == 60 and count > 7):
                    return -1 - at
                long += count << shift
                shift += 4
                at += 1
            if long > 2 * LAST_US or now + long > LAST_US:
                return -1 - at
            now += long
            continue
        if count == 15:
            if at + 2 > data.size:
                return -1 - at
            count = np.int64(data[at]) | np.int64(data[at + 1]) << 8
            at += 2
        now += step
        if count > n - i or now > LAST_US:
            return -1 - at
        for j in range(i, i + count):
            t[j] = now
        i += count
    return at


@kernel
def _read_rows(data: NDArray[np.uint8], at: int, n: int, y: NDArray[np.uint16]) -> int:
    i = 0
    while i < n:
        if at + 2 > data.size:
            return -1 - at
        word = np.int64(data[at]) | np.int64(data[at + 1]) << 8
        at += 2
        count: Any = word & 31
        if count == 31:
            if at + 2 > data.size:
                return -1 - at
            count = np.int64(data[at]) | np.int64(data[at + 1]) << 8
            at += 2
        if count > n - i:
            return -1 - at
        for j in range(i, i + count):
            y[j] = word >> 5
        i += count
    return at


@kernel
def _read_masked(data: NDArray[np.uint8], at: int, n: int, x: NDArray[np.uint16]) -> int:
    i = 0
    while i < n:
        if at + 2 > data.size:
            return -1 - at
        word = np.int64(data[at]) | np.int64(data[at + 1]) << 8
        at += 2
        x[i] = word >> 5
        i += 1
        for j in range(5):
            # The last group may name pixels behind the last event; they are no events.
            if word & (16 >> j) and i < n:
                x[i] = (word >> 5) + j + 1
                i += 1
    return at


@kernel
def _read_signs(data: NDArray[np.uint8], at: int, n: int, p: NDArray[np.int8]) -> int:
    i = 0
    while i < n:
        if at >= data.size:
            return -1 - at
        sign = np.int64(data[at]) >> 7
        count: Any = np.int64(data[at]) & 127
        at += 1
        if count == 127:
            if at + 2 > data.size:
                return -1 - at
            count = np.int64(data[at]) | np.int64(data[at + 1]) << 8
            at += 2
        if count > n - i:
            return -1 - at
        for j in range(i, i + count):
            p[j] = sign
        i += count
    return at


@kernel
def _read_pairs(
    data: NDArray[np.uint8], at: int, n: int, x: NDArray[np.uint16], p: NDArray[np.int8]
) -> int:
    """Four times 12 bits (x and sign) in three 16-bit words."""
    for first in range(0, n, 4):
        if at + 6 > data.size:
            return -1 - at
        a = np.int64(data[at]) | np.int64(data[at + 1]) << 8
        b = np.int64(data[at + 2]) | np.int64(data[at + 3]) << 8
        c = np.int64(data[at + 4]) | np.int64(data[at + 5]) << 8
        at += 6
        four = (
            a >> 4,
            (a & 15) | (b >> 8) << 4,
            (b & 255) | (c >> 12) << 8,
            c & 4095,
        )
        for j in range(min(4, n - first)):
            x[first + j] = four[j] >> 1
            p[first + j] = four[j] & 1
    return at


@kernel
def _read_packed(
    data: NDArray[np.uint8],
    at: int,
    n: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.int8],
) -> int:
    """Four times 24 bits (y, x, sign) in three 32-bit words."""
    for first in range(0, n, 4):
        if at + 12 > data.size:
            return -1 - at
        words = (_word(data, at), _word(data, at + 4), _word(data, at + 8))
        at += 12
        four = (
            words[0] >> 8,
            (words[0] & 0xFF) | (words[1] >> 16) << 8,
            (words[1] & 0xFFFF) | (words[2] >> 24) << 16,
            words[2] & 0xFFFFFF,
        )
        for j in range(min(4, n - first)):
            y[first + j] = (four[j] >> 12) & 2047
            x[first + j] = (four[j] >> 1) & 2047
            p[first + j] = four[j] & 1
    return at


@kernel
def _word(data: NDArray[np.uint8], at: int) -> Any:
    return (
        np.int64(data[at])
        | np.int64(data[at + 1]) << 8
        | np.int64(data[at + 2]) << 16
        | np.int64(data[at + 3]) << 24
    )


@kernel
def read(
    data: NDArray[np.uint8],
    n: int,
    style: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> int:
    """Decode ``n`` events that follow a 4-byte header; the columns have room for them."""
    at = _read_times(data, 4, n, t)
    if at < 0:
        return at
    if style & 2:
        return _read_packed(data, at, n, x, y, p)
    at = _read_rows(data, at, n, y)
    if at < 0:
        return at
    if style & 1:
        return _read_pairs(data, at, n, x, p)
    at = _read_masked(data, at, n, x)
    if at < 0:
        return at
    return _read_signs(data, at, n, p)


@kernel
def write_times(t: NDArray[np.int64], out: NDArray[np.uint8]) -> int:
    """Write times that do not decrease; ``out`` has 8 bytes and 19 for each event."""
    at = 0
    for k in range(8):
        out[at] = (t[0] >> (8 * k)) & 255
        at += 1
    now, i, n = t[0], 0, t.size
    while i < n:
        step = t[i] - now
        now = t[i]
        if step >= 15:
            while step > 0:
                out[at] = 240 | (step & 15)
                at += 1
                step >>= 4
        j = i + 1
        while j < n and t[j] == now:
            j += 1
        at = _write_count(out, at, step << 4, j - i, 15)
        i = j
    return at


@kernel
def _write_count(out: NDArray[np.uint8], at: int, high: Any, count: int, most: int) -> int:
    """Write one byte of a value in the high bits and a count, which may need two bytes more."""
    out[at] = high | min(count, most)
    if count < most:
        return at + 1
    out[at + 1] = count & 255
    out[at + 2] = count >> 8
    return at + 3


@kernel
def write_rows(y: NDArray[np.uint16], out: NDArray[np.uint8]) -> int:
    """Write runs of rows; ``out`` has 4 bytes for each event."""
    at, i, n = 0, 0, y.size
    while i < n:
        j = i + 1
        while j < n and y[j] == y[i]:
            j += 1
        word = np.int64(y[i]) << 5 | min(j - i, 31)
        out[at], out[at + 1] = word & 255, word >> 8
        at += 2
        if j - i >= 31:
            out[at], out[at + 1] = (j - i) & 255, (j - i) >> 8
            at += 2
        i = j
    return at


@kernel
def write_masked(x: NDArray[np.uint16], out: NDArray[np.uint8]) -> int:
    """Write columns with a mask of the five pixels after each; ``out`` has 2 bytes an event."""
    at, i, n = 0, 0, x.size
    while i < n:
        first, mask = np.int64(x[i]), 0
        i += 1
        for j in range(5):
            if i < n and np.int64(x[i]) == first + j + 1:
                mask |= 16 >> j
                i += 1
        word = first << 5 | mask
        out[at], out[at + 1] = word & 255, word >> 8
        at += 2
    return at


@kernel
def write_signs(p: NDArray[np.int8], out: NDArray[np.uint8]) -> int:
    """Write runs of polarities; ``out`` has 3 bytes for each event."""
    at, i, n = 0, 0, p.size
    while i < n:
        j = i + 1
        while j < n and p[j] == p[i]:
            j += 1
        at = _write_count(out, at, np.int64(p[i]) << 7, j - i, 127)
        i = j
    return at


@kernel
def write_pairs(x: NDArray[np.uint16], p: NDArray[np.int8], out: NDArray[np.uint8]) -> int:
    """Write 12 bits an event; ``out`` has 6 bytes for each four events begun."""
    at, n = 0, x.size
    four = np.zeros(4, np.int64)
    for first in range(0, n, 4):
        four[:] = 0
        for j in range(min(4, n - first)):
            four[j] = np.int64(x[first + j]) << 1 | np.int64(p[first + j])
        words = (
            four[0] << 4 | four[1] & 15,
            four[1] >> 4 << 8 | four[2] & 255,
            four[2] >> 8 << 12 | four[3],
        )
        for k in range(3):
            out[at], out[at + 1] = words[k] & 255, words[k] >> 8
            at += 2
    return at


@kernel
def write_packed(
    x: NDArray[np.uint16], y: NDArray[np.uint16], p: NDArray[np.int8], out: NDArray[Any]
) -> int:
    """Write 24 bits an event; ``out`` has 12 bytes for each four events begun."""
    at, n = 0, x.size
    four = np.zeros(4, np.int64)
    for first in range(0, n, 4):
        four[:] = 0
        for j in range(min(4, n - first)):
            four[j] = (
                np.int64(y[first + j]) << 12 | np.int64(x[first + j]) << 1 | np.int64(p[first + j])
            )
        words = (
            four[0] << 8 | four[1] & 0xFF,
            four[1] >> 8 << 16 | four[2] & 0xFFFF,
            four[2] >> 16 << 24 | four[3],
        )
        for k in range(3):
            for shift in range(0, 32, 8):
                out[at] = (words[k] >> shift) & 255
                at += 1
    return at
