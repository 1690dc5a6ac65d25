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
from eventkit.sources import HEAD_BYTES, Source

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

    def recognise(self, source: Source) -> str | None:
        """Go by suffix, as there are no magic bytes, and by whether the first times can be."""
        if source.suffix not in self.suffixes:
            return None
        records = min(len(source.head) // RECORD_BYTES, _LOOKED_AT)
        if records < _TELLING:
            return f"suffix .bin, without a header; too short to tell more ({records} records)"
        back = _steps_back(source.head, records)
        if back > records // _FEW:
            return None
        if back:
            return f"suffix .bin, and {back} of the first {records} times step back"
        return f"suffix .bin, and the first {records} times do not step back"

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open a ``.bin`` file; the geometry is settled by a first pass over its places."""
        found = geometry.settle(source, options.sensor_size)
        if found.size is None:
            found = _assume(source)
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


def _steps_back(head: bytes, records: int) -> int:
    """Count times below the one before them, unless there is an overflow marker between."""
    words = np.ndarray(records, ">u4", head, 1, (RECORD_BYTES,)).astype(np.uint32)
    marker, t = words >> 24 == OVERFLOW_ROW, words & ((1 << TIME_BITS) - 1)
    return int(((t[1:] < t[:-1]) & ~marker[1:] & ~marker[:-1]).sum())


def _pieces(source: Source, start: int = 0) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield ``(offset, bytes)``; a small file, of which a set has thousands, is read once only."""
    if source.is_plain and len(source.head) < HEAD_BYTES:
        if start < len(source.head):
            yield start, np.frombuffer(source.head, np.uint8, offset=start)
        return
    yield from source.pieces(PIECE_BYTES, start=start)


def _whole(piece: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the whole records of a piece, (N, 5)."""
    records = len(piece) // RECORD_BYTES
    return piece[: records * RECORD_BYTES].reshape(records, RECORD_BYTES)


def _decode(source: Source, buffer: Buffer, mark: object) -> Iterator[RawChunk]:
    start, added_us = mark if isinstance(mark, tuple) else (0, 0)
    for offset, piece in _pieces(source, start):
        mark = (offset, added_us)
        records = _whole(piece)
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
        rest = len(piece) - records.size
        if rest:
            msg = (
                f"expected records of {RECORD_BYTES} bytes, got {rest} bytes at the end: the "
                "file is cut; --on-error skip keeps the whole records"
            )
            at = offset + records.size
            raise FormatError(msg, path=source.name, offset=at, reason="truncated")


def _assume(source: Source) -> geometry.Geometry:
    right, bottom = -1, -1
    for _, piece in _pieces(source):
        found = kernels.extent(_whole(piece), OVERFLOW_ROW)
        right, bottom = max(right, found[0]), max(bottom, found[1])
    return geometry.assume(right, bottom, KNOWN_SENSORS, path=source)
