"""Kernels of ATIS ``.bin``: 5-byte records, big-endian, overflow markers among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel


@kernel
def extent(records: NDArray[np.uint8], overflow_row: int) -> tuple[int, int]:
    """Return the largest x and y of the events of ``records`` (N, 5); -1 without an event."""
    right, bottom = np.int64(-1), np.int64(-1)
    for i in range(records.shape[0]):
        x, y = np.int64(records[i, 0]), np.int64(records[i, 1])
        if y != overflow_row:
            right, bottom = max(right, x), max(bottom, y)
    return int(right), int(bottom)


@kernel
def steps_back(records: NDArray[np.uint8], overflow_row: int) -> int:
    """Count times of ``records`` (N, 5) below the one before, without a marker between them."""
    back, before, known = 0, np.uint32(0), False
    for i in range(records.shape[0]):
        high = np.uint32(records[i, 2] & np.uint8(0x7F))
        low = (np.uint32(records[i, 3]) << np.uint32(8)) | np.uint32(records[i, 4])
        now, marker = (high << np.uint32(16)) | low, records[i, 1] == overflow_row
        if known and not marker and now < before:
            back += 1
        before, known = now, not marker
    return back


@kernel
def fill(
    records: NDArray[np.uint8],
    overflow_row: int,
    overflow_us: int,
    added_us: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> tuple[int, int]:
    """Decode ``records`` (N, 5) into columns with N places.

    ``added_us`` is what the markers so far add up to; returns the number of events and the new sum.
    """
    n, one, none = np.uint64(0), np.uint64(1), np.uint64(0)
    added = np.int64(added_us)
    for i in range(records.shape[0]):
        row = records[i, 1]
        # One big-endian load: the compiler makes it of the four bytes.
        word = (
            (np.uint32(row) << np.uint32(24))
            | (np.uint32(records[i, 2]) << np.uint32(16))
            | (np.uint32(records[i, 3]) << np.uint32(8))
            | np.uint32(records[i, 4])
        )
        # Always stored; a marker is stored over by the next event. n <= i, so it is in bounds.
        x[n] = records[i, 0]
        y[n] = row
        t[n] = np.int64(word & np.uint32(0x7FFFFF)) + added
        p[n] = (word >> np.uint32(23)) & np.uint32(1)
        marker = row == overflow_row
        added += overflow_us if marker else 0
        n += none if marker else one
    return int(n), int(added)
