"""Frames of a DAVIS in AEDAT2: single reads of single pixels, put together.

Each pixel is read twice: after its reset and after the exposure; the picture is the difference of
the two, 10 bits. Nothing marks where a frame begins, so a second read of one kind at one pixel is
taken for the start of the next. The times follow the format's description: exposure starts at the
last reset read (global shutter: all resets before all signals) or at the first (rolling shutter),
and stops at the first signal read.

Values are brought to 16 bits by repeating the upper six: 0 stays 0, 1023 becomes 65535, and
``value >> 6`` is the sample again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.frames import Frames, Picture
from eventkit.kernels import aedat
from eventkit.readers.aedat.jaer import Chip, Records
from eventkit.readers.base import ReadOptions

MAX_ADC = 1023


def read_frames(
    records: Records, chip: Chip, options: ReadOptions
) -> tuple[Frames | None, list[str]]:
    """Find the frames in one pass, without their pixels; None if there are none.

    A frame is kept if it has as many signal reads as reset reads, and at least half of what the
    largest one has; a note tells how many were cut.
    """
    table = _find(records, chip, options)
    if not len(table):
        return None, []
    resets, signals = table[:, aedat.RESETS], table[:, aedat.SIGNALS]
    whole = (resets == signals) & (2 * signals >= signals.max()) & (signals > 0)
    cut = int((~whole).sum())
    notes = [f"{cut} frames are cut, as at the start and end of a recording: left out"]
    if not whole.any():
        return None, notes
    ends = np.append(table[1:, aedat.FIRST], np.iinfo(np.int64).max)
    spans = np.stack([table[:, aedat.FIRST], ends], 1)[whole]
    return _frames(records, chip, table[whole], spans), notes if cut else []


def _find(records: Records, chip: Chip, options: ReadOptions) -> NDArray[np.int64]:
    width, height = chip.size
    seen = np.zeros((2, height, width), np.int64)
    frame = np.zeros(8, np.int64)
    found = np.empty((0, 8), np.int64)
    parts = []
    for offset, address, times in records.whole(options):
        first = (offset - records.start) // records.kind.itemsize
        samples = address >= np.uint32(0x8000_0000)
        if not samples.any():
            continue
        if len(found) < address.size + 1:
            found = np.empty((address.size + 1, 8), np.int64)
        n = aedat.find_frames(address, times, first, seen, frame, found)
        if n:
            parts.append(found[:n].copy())
    if frame[aedat.NUMBER]:
        parts.append(frame[None].copy())
    return np.concatenate(parts) if parts else found[:0]


def _frames(
    records: Records, chip: Chip, table: NDArray[np.int64], spans: NDArray[np.int64]
) -> Frames:
    together = table[:, aedat.BEFORE] == table[:, aedat.RESETS]
    start = np.where(together, table[:, aedat.EXPOSED], table[:, aedat.START])
    stop = np.maximum(table[:, aedat.READ], start)
    middle = start + (stop - start) // 2
    order = np.argsort(middle, kind="stable")

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        for index in indices:
            first, end = spans[order[index]]
            yield Picture(_picture(records, chip, int(first), int(end)))

    return Frames(middle[order], start[order], stop[order], chip.size, 1, "recorded", reader)


def _picture(records: Records, chip: Chip, first: int, end: int) -> NDArray[np.uint16]:
    """Read one frame, from record ``first`` up to ``end``."""
    stride = records.kind.itemsize
    reads = np.zeros((2, chip.size[1], chip.size[0]), np.int64)
    at = records.start + first * stride
    try:
        for offset, _, address, _ in records.pieces(at=at):
            left = end - (offset - records.start) // stride
            aedat.fill_frame(address[:left], reads)
            if left <= address.size:
                break
    except FormatError:
        pass  # behind the last whole record, as the pass for times found
    sample = np.clip(reads[0] - reads[1], 0, MAX_ADC).astype(np.uint16)
    deep: NDArray[np.uint16] = sample << 6 | sample >> 4
    return deep[:, :, None]
