"""ATIS ``.bin`` files: N-MNIST and N-Caltech101, 5 bytes an event, big-endian, no header.

Layout (Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets
using saccades", and the authors' reader): byte 0 is x, byte 1 is y, bit 23 of the last three bytes
is the polarity, bits 22..0 are the time in microseconds. A record with y = 240, one past the last
row of the sensor, is no event but an overflow marker: 2^13 us are added to all that follows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from eventkit.errors import FormatError
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source

RECORD_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13

PIECE_BYTES = RECORD_BYTES << 16

# The format has no header; these are the two published sets that use it.
_KNOWN_SENSORS = (("N-MNIST's 34x34", (34, 34)), ("N-Caltech101's 240x180", (240, 180)))


class AtisReader:
    """Reader of ATIS ``.bin`` recordings."""

    name = "atis-bin"
    suffixes = (".bin",)
    holds = ("events",)

    def recognise(self, source: Source) -> str | None:
        """Go by suffix: the format has no magic bytes."""
        return "suffix .bin, without a header" if source.suffix in self.suffixes else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open a ``.bin`` file; the geometry is settled by a first pass over its places."""
        found = geometry.settle(source, options.sensor_size)
        if found.size is None:
            found = _assume(source)
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda _, mark: _decode(source, mark),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
            ),
            notes=found.notes,
        )


def _decode(source: Source, mark: object) -> Iterator[RawChunk]:
    start, overflows = mark if isinstance(mark, tuple) else (0, 0)
    for offset, piece in source.pieces(PIECE_BYTES, start=start):
        mark = (offset, overflows)
        whole = len(piece) // RECORD_BYTES
        records = piece[: whole * RECORD_BYTES].reshape(whole, RECORD_BYTES)
        y = records[:, 1]
        marker = y == OVERFLOW_ROW
        t = (
            (records[:, 2].astype(np.int64) & 0x7F) << 16
            | records[:, 3].astype(np.int64) << 8
            | records[:, 4].astype(np.int64)
        )
        p = (records[:, 2] >> 7).astype(np.int8)
        index = None
        x16, y16 = records[:, 0].astype(np.uint16), y.astype(np.uint16)
        if marker.any() or overflows:
            wraps = overflows + np.cumsum(marker)
            overflows = int(wraps[-1]) if whole else overflows
            index = np.flatnonzero(~marker)
            t = (t + OVERFLOW_US * wraps)[index]
            x16, y16, p = x16[index], y16[index], p[index]
        yield RawChunk(
            x=x16,
            y=y16,
            t=t,
            p=p,
            words=whole,
            offset=offset,
            stride=RECORD_BYTES,
            index=index,
            skipped={"overflow": int(marker.sum())} if marker.any() else {},
            mark=mark,
        )
        if len(piece) != whole * RECORD_BYTES:
            rest = len(piece) - whole * RECORD_BYTES
            msg = (
                f"expected records of {RECORD_BYTES} bytes, got {rest} bytes at the end: the "
                "file is cut; --on-error skip keeps the whole records"
            )
            at = offset + whole * RECORD_BYTES
            raise FormatError(msg, path=source.name, offset=at, reason="truncated")


def _assume(source: Source) -> geometry.Geometry:
    right, bottom = -1, -1
    for _, piece in source.pieces(PIECE_BYTES):
        whole = len(piece) // RECORD_BYTES
        records = piece[: whole * RECORD_BYTES].reshape(whole, RECORD_BYTES)
        rows = records[:, 1]
        event = rows != OVERFLOW_ROW
        if event.any():
            right = max(right, int(records[event, 0].max()))
            bottom = max(bottom, int(rows[event].max()))
    return geometry.assume(right, bottom, _KNOWN_SENSORS, path=source)
