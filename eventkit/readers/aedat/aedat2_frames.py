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
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.frames import Frames, Picture
from eventkit.kernels import aedat
from eventkit.readers.aedat.jaer import Chip, Records
from eventkit.readers.aedat.tables import Table, to_read_at
from eventkit.readers.base import ReadOptions

MAX_ADC = 1023
ROW = np.dtype(
    [("start", "<i8"), ("stop", "<i8"), ("first", "<i8"), ("resets", "<i4"), ("signals", "<i4")]
)
"""A frame: its exposure, the record of its first read, how many reads it has of each kind."""


def read_frames(
    records: Records, chip: Chip, options: ReadOptions
) -> tuple[Frames | None, list[str]]:
    """Find the frames in one pass, without their pixels; None if there are none.

    A frame is kept if it has as many signal reads as reset reads, and at least half of what the
    largest one has; a note tells how many were cut.
    """
    table = _find(records, chip, options)
    if not table.size:
        return None, []
    resets, signals = table["resets"], table["signals"]
    whole = (resets == signals) & (2 * signals >= signals.max()) & (signals > 0)
    cut = int((~whole).sum())
    notes = [f"{cut} frames are cut, as at the start and end of a recording: left out"]
    if not whole.any():
        return None, notes
    ends = np.append(table["first"][1:], np.iinfo(np.int64).max)
    return _frames(records, chip, table[whole], ends[whole]), notes if cut else []


def _find(records: Records, chip: Chip, options: ReadOptions) -> NDArray[np.void]:
    width, height = chip.size
    seen = np.zeros((2, height, width), np.int64)
    frame = np.zeros(8, np.int64)
    found = np.empty((0, 8), np.int64)
    table = Table.of_frames(records.source, ROW)
    with options.booking():
        for offset, address, times in records.whole(options):
            first = (offset - records.start) // records.kind.itemsize
            samples = address >= np.uint32(0x8000_0000)
            if not samples.any():
                continue
            if len(found) < address.size + 1:
                found = np.empty((address.size + 1, 8), np.int64)
            n = aedat.find_frames(address, times, first, seen, frame, found)
            if n:
                _add(table, records, found[:n])
        if frame[aedat.NUMBER]:
            _add(table, records, frame[None])
    return table.rows


def _add(table: Table, records: Records, found: NDArray[np.int64]) -> None:
    rows = np.empty(len(found), ROW)
    together = found[:, aedat.BEFORE] == found[:, aedat.RESETS]
    rows["start"] = np.where(together, found[:, aedat.EXPOSED], found[:, aedat.START])
    rows["stop"] = np.maximum(found[:, aedat.READ], rows["start"])
    rows["first"] = found[:, aedat.FIRST]
    rows["resets"], rows["signals"] = found[:, aedat.RESETS], found[:, aedat.SIGNALS]
    last = int(rows["first"][min(table.room, len(rows) - 1)])  # that there is room for, or not
    table.add(rows.tobytes(), records.start + last * records.kind.itemsize)


def _frames(
    records: Records, chip: Chip, table: NDArray[np.void], ends: NDArray[np.int64]
) -> Frames:
    middle = table["start"] + (table["stop"] - table["start"]) // 2
    order = np.argsort(middle, kind="stable")
    first, ends = table["first"][order], ends[order]

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        walk = _Walk(replace(records, source=to_read_at(records.source, first)))
        for index in indices:
            yield Picture(_picture(walk, chip, int(first[index]), int(ends[index])))

    start, stop = table["start"][order], table["stop"][order]
    return Frames(middle[order], start, stop, chip.size, 1, "recorded", reader)


class _Walk:
    """Addresses of records by number; one pass for numbers that go up, a jump where that is less.

    What is compressed can only be entered from its beginning, so there a pass is never given up
    for a place further on.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._pieces: Iterator[tuple[int, NDArray[np.uint32]]] | None = None
        self._first, self._address = 0, np.empty(0, np.uint32)

    def between(self, first: int, end: int) -> Iterator[NDArray[np.uint32]]:
        """Yield the addresses of records ``[first, end)``, piece by piece, as far as there are."""
        behind = first >= self._first + self._address.size
        jump = first < self._first or (behind and not self._records.source.is_sequential)
        if self._pieces is None or jump:
            self._pieces = self._from(first)
            self._first, self._address = first, np.empty(0, np.uint32)
        while True:
            start, stop = first - self._first, end - self._first
            if start < self._address.size:
                yield self._address[max(start, 0) : stop]
            if stop <= self._address.size:
                return
            number, address = next(self._pieces, (0, None))
            if address is None:
                return
            self._first, self._address = number, address

    def _from(self, first: int) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        """Yield (number of the first record, addresses) from a record on."""
        stride = self._records.kind.itemsize
        start = self._records.start
        try:
            for offset, _, address, _ in self._records.pieces(at=start + first * stride):
                yield (offset - start) // stride, address
        except FormatError:
            pass  # behind the last whole record, as the pass for times found


def _picture(walk: _Walk, chip: Chip, first: int, end: int) -> NDArray[np.uint16]:
    """Read one frame, from record ``first`` up to ``end``."""
    reads = np.zeros((2, chip.size[1], chip.size[0]), np.int64)
    for address in walk.between(first, end):
        aedat.fill_frame(address, reads)
    sample = np.clip(reads[0] - reads[1], 0, MAX_ADC).astype(np.uint16)
    deep: NDArray[np.uint16] = sample << 6 | sample >> 4
    return deep[:, :, None]
