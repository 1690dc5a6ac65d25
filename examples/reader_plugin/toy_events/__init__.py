"""The toy format: ``TOY1``, width and height, then 13 bytes an event.

A header of 8 bytes (magic, uint16 width, uint16 height) and packed little-endian records: x uint16,
y uint16, t int64 microseconds, p uint8. What a reader has to do is all here; order, places, drops,
repairs, chunks, seeking and compressed files are done by eventkit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eventkit.columns import Buffer
from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source

MAGIC = b"TOY1"
HEADER_BYTES = 8
RECORD = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "u1")])
PIECE_BYTES = RECORD.itemsize << 14


class ToyReader:
    """Reader of toy recordings."""

    name = "toy"
    suffixes = (".toy",)
    holds = ("events",)
    takes = ()
    unit = "us"

    def recognise(self, source: Source) -> str | None:
        """Look for the magic bytes."""
        return "magic bytes TOY1" if source.head.startswith(MAGIC) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open a file; only the header is read."""
        head = source.head[:HEADER_BYTES]
        if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
            msg = f"expected a header of {HEADER_BYTES} bytes that begins with TOY1, got {head!r}"
            raise FormatError(msg, path=source, offset=0, reason="bad_header")
        stated = int.from_bytes(head[4:6], "little"), int.from_bytes(head[6:8], "little")
        found = geometry.settle(
            source, options.sensor_size, (stated if all(stated) else None, "header")
        )
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
            ),
        )


def _decode(source: Source, buffer: Buffer, mark: object) -> Iterator[RawChunk]:
    """Yield the events; a mark is the byte of a record, and enough to start again there."""
    start = mark if isinstance(mark, int) else HEADER_BYTES
    stride = RECORD.itemsize
    for offset, piece in source.records(stride, PIECE_BYTES, start=start):
        records = piece.view(RECORD)
        room = buffer.room(records.size)
        room.x[:], room.y[:] = records["x"], records["y"]
        room.t[:], room.p[:] = records["t"], records["p"] != 0
        yield RawChunk(*room, words=records.size, offset=offset, stride=stride, mark=offset)


def write(events: Events, sensor_size: tuple[int, int], path: Path) -> None:
    """Write a toy recording."""
    records = np.empty(len(events), RECORD)
    for name in RECORD.names or ():
        records[name] = getattr(events, name)
    size = b"".join(side.to_bytes(2, "little") for side in sensor_size)
    path.write_bytes(MAGIC + size + records.tobytes())
