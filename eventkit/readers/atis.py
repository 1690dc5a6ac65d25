"""ATIS ``.bin`` files: N-MNIST and N-Caltech101, 5 bytes an event, big-endian, no header.

Layout (Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets
using saccades", and the authors' reader): byte 0 is x, byte 1 is y, bit 23 of the last three bytes
is the polarity, bits 22..0 are the time in microseconds. A record with y = 240, one past the last
row of the sensor, is no event but an overflow marker: 2^13 us are added to all that follows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer
from eventkit.errors import FormatError
from eventkit.kernels import atis as kernels
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source

RECORD_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13
TIME_BITS = 23

PIECE_BYTES = RECORD_BYTES << 15

# The format has no header; these are the two published sets that use it.
KNOWN_SENSORS = (("N-MNIST's 34x34", (34, 34)), ("N-Caltech101's 240x180", (240, 180)))

# What is not of this format has every other time below the one before it; a damaged file has few.
_LOOKED_AT = 256
_TELLING = 16
_FEW = 8


class AtisReader:
    """Reader of ATIS ``.bin`` recordings."""

    name = "atis-bin"
    suffixes = (".bin",)
    holds = ("events",)
    takes = ()
    unit = "us"

    def recognise(self, source: Source) -> str | None:
        """Go by suffix, as there are no magic bytes, and by whether the first times can be."""
        if source.suffix not in self.suffixes:
            return None
        records = min(len(source.head) // RECORD_BYTES, _LOOKED_AT)
        if records < _TELLING:
            return f"suffix .bin, without a header; too short to tell more ({records} records)"
        first = np.frombuffer(source.head, np.uint8, records * RECORD_BYTES)
        back = kernels.steps_back(first.reshape(-1, RECORD_BYTES), OVERFLOW_ROW)
        if back > records // _FEW:
            return None
        if back:
            return f"suffix .bin, and {back} of the first {records} times step back"
        return f"suffix .bin, and the first {records} times do not step back"

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open a ``.bin`` file; the geometry is settled by a first pass over its places."""
        found = geometry.settle(source, options.sensor_size)
        if found.size is None:
            found = _assume(source, strict=options.strict)
        size = source.size
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda buffer, mark: _decode(source, buffer, mark),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=None if size is None else lambda: size // RECORD_BYTES,
            ),
            notes=found.notes,
        )


def _records(source: Source, start: int = 0) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield ``(offset, records)``, (N, 5)."""
    for offset, piece in source.records(RECORD_BYTES, PIECE_BYTES, start=start):
        yield offset, piece.reshape(-1, RECORD_BYTES)


def _decode(source: Source, buffer: Buffer, mark: object) -> Iterator[RawChunk]:
    start, added_us = mark if isinstance(mark, tuple) else (0, 0)
    for offset, records in _records(source, start):
        mark = (offset, added_us)
        room = buffer.room(len(records))
        n, added_us = kernels.fill(records, OVERFLOW_ROW, OVERFLOW_US, added_us, *room)
        markers = len(records) - n
        yield RawChunk(
            *(room.part(0, n) if markers else room),
            words=len(records),
            offset=offset,
            stride=RECORD_BYTES,
            index=np.flatnonzero(records[:, 1] != OVERFLOW_ROW) if markers else None,
            skipped={"overflow": markers} if markers else {},
            mark=mark,
        )


def _assume(source: Source, *, strict: bool) -> geometry.Geometry:
    right, bottom = -1, -1
    for records in _sound(source):
        found = kernels.extent(records, OVERFLOW_ROW)
        right, bottom = max(right, found[0]), max(bottom, found[1])
    places = () if strict else ((records[:, 0], records[:, 1]) for records in _sound(source))
    return geometry.assume(right, bottom, KNOWN_SENSORS, path=source, places=places)


def _sound(source: Source) -> Iterator[NDArray[np.uint8]]:
    try:
        for _, records in _records(source):
            yield records
    except FormatError:
        pass  # met again, with its offset, by whoever reads the events
