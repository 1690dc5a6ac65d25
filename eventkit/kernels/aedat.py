"""Kernels of the AEDAT formats: records to columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel


@kernel
def unpack_structs(
    words: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> bool:
    """Unpack AEDAT4 events, (N, 2) words: the time; x, y int16 and the polarity byte.

    The columns are (N,). Returns whether a place is below zero, which the columns cannot hold.
    """
    signs = np.int64(0)
    for i in range(words.shape[0]):
        rest = words[i, 1]
        t[i] = words[i, 0]
        x[i] = rest & 0xFFFF
        y[i] = (rest >> 16) & 0xFFFF
        p[i] = np.int8((rest >> 32) & 0xFF != 0)
        signs |= rest
    return bool(signs & 0x8000_8000)


@kernel
def pick_events(
    address: NDArray[np.uint32],
    times: NDArray[np.int64],
    layout: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> tuple[int, bool]:
    """Take the events out of AEDAT1 and 2 records; columns have room for one a record.

    ``layout`` is the bits that no event has, shift and mask of x and of y, shift of the polarity,
    the bit that means ON, the last column, the last row: places count from the other corner.
    Returns the number of events, and whether a place is below zero, which the columns cannot hold.
    """
    other, x_shift, x_mask = layout[0], layout[1], layout[2]
    y_shift, y_mask, p_shift, on = layout[3], layout[4], layout[5], layout[6]
    right, bottom = layout[7], layout[8]
    n = 0
    signs = np.int64(0)
    for i in range(address.size):
        word = np.int64(address[i])
        if word & other:
            continue
        column = right - ((word >> x_shift) & x_mask)
        row = bottom - ((word >> y_shift) & y_mask)
        signs |= column | row
        x[n] = column & 0xFFFF
        y[n] = row & 0xFFFF
        t[n] = times[i]
        p[n] = np.int8(((word >> p_shift) & 1) == on)
        n += 1
    return n, bool(signs < 0)


START, EXPOSED, READ, RESETS, SIGNALS, BEFORE, FIRST, NUMBER = range(8)
"""Columns of a frame in `find_frames`: times of the first and the last reset read and of the first
signal read, numbers of both, reset reads before the first signal read, the record of its first
read, its number."""


@kernel
def find_frames(
    address: NDArray[np.uint32],
    times: NDArray[np.int64],
    first: int,
    seen: NDArray[np.int64],
    frame: NDArray[np.int64],
    found: NDArray[np.int64],
) -> int:
    """Follow the reads of AEDAT2 frames; a second read of a kind at a pixel starts a new frame.

    ``first`` is the number of the first record; ``seen`` (2, H, W) holds the frame that last read a
    pixel; ``frame`` (8,) is the frame under way; ``found`` (N + 1, 8) receives those that ended.
    Returns how many.
    """
    height, width = seen.shape[1], seen.shape[2]
    n = 0
    for i in range(address.size):
        word = np.int64(address[i])
        kind = (word >> 10) & 3
        column = (word >> 12) & 0x3FF
        row = (word >> 22) & 0x1FF
        if word < 0x8000_0000 or kind > 1 or column >= width or row >= height:
            continue
        if frame[NUMBER] == 0 or seen[kind, row, column] == frame[NUMBER]:
            if frame[NUMBER] > 0:
                for k in range(8):
                    found[n, k] = frame[k]
                n += 1
            number = frame[NUMBER] + 1
            for k in range(8):
                frame[k] = 0
            frame[START] = times[i]
            frame[EXPOSED] = times[i]
            frame[READ] = times[i]
            frame[FIRST] = first + i
            frame[NUMBER] = number
        seen[kind, row, column] = frame[NUMBER]
        if kind == 0:
            frame[EXPOSED] = times[i]
            frame[RESETS] += 1
        else:
            if frame[SIGNALS] == 0:
                frame[READ] = times[i]
                frame[BEFORE] = frame[RESETS]
            frame[SIGNALS] += 1
    return n


@kernel
def fill_frame(address: NDArray[np.uint32], reads: NDArray[np.int64]) -> None:
    """Put the reset and signal reads of an AEDAT2 frame into ``reads`` (2, H, W), rows flipped."""
    height, width = reads.shape[1], reads.shape[2]
    for i in range(address.size):
        word = np.int64(address[i])
        kind = (word >> 10) & 3
        column = (word >> 12) & 0x3FF
        row = (word >> 22) & 0x1FF
        if word < 0x8000_0000 or kind > 1 or column >= width or row >= height:
            continue
        reads[kind, height - 1 - row, column] = word & 0x3FF


@kernel
def pick_polarity(
    words: NDArray[np.uint32],
    base: int,
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
) -> int:
    """Take the valid ones of AEDAT3 polarity events, (N, 2) words; the columns have room for N.

    ``base`` is what the packet adds to its signed 31-bit times. Returns how many are valid.
    """
    n = 0
    for i in range(words.shape[0]):
        word = np.int64(words[i, 0])
        if word & 1 == 0:
            continue
        time = np.int64(words[i, 1])
        x[n] = (word >> 17) & 0x7FFF
        y[n] = (word >> 2) & 0x7FFF
        p[n] = np.int8((word >> 1) & 1)
        t[n] = base + time - ((time >> 31) << 32)
        n += 1
    return n
