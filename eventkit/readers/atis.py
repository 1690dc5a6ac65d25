"""ATIS ``.bin`` files: N-MNIST and N-Caltech101, 5 bytes an event, big-endian, no header.

Layout (Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets
using saccades", and the authors' reader): byte 0 is x, byte 1 is y, bit 23 of the last three bytes
is the polarity, bits 22..0 are the time in microseconds. A record with y = 240, one past the last
row of the sensor, is no event but an overflow marker: 2^13 us are added to all that follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eventkit.errors import FormatError
from eventkit.ledger import Ledger
from eventkit.readers.base import EVENT_CHUNK, ReadOptions, read_pieces
from eventkit.readers.policy import RawChunk, checked
from eventkit.recording import Chunk, Recording

RECORD_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13

# The format has no header; these are the two published sets that use it.
_KNOWN_SENSORS = {"N-MNIST": (34, 34), "N-Caltech101": (240, 180)}


class AtisReader:
    """Reader of ATIS ``.bin`` recordings."""

    name = "atis-bin"
    suffixes = (".bin",)
    holds = ("events",)

    def matches(self, path: Path, head: bytes) -> bool:
        """Go by suffix: the format has no magic bytes."""
        return path.suffix.lower() in self.suffixes

    def open(self, path: Path, options: ReadOptions) -> Recording:
        """Open a ``.bin`` file; the geometry is settled by a first pass over its places."""
        size, why = options.sensor_size, "given"
        notes: list[str] = []
        if size is None:
            size, why = _assume_sensor(path)
            notes.append(f"no geometry in the file: {why}; --sensor-size overrides")

        def source(ledger: Ledger) -> Iterator[Chunk]:
            return checked(
                _decode(path), ledger, path=path, sensor_size=size, on_error=options.on_error
            )

        return Recording(
            path=path,
            format=self.name,
            sensor_size=size,
            geometry_source=why,
            source=source,
            notes=notes,
        )


def _decode(path: Path) -> Iterator[RawChunk]:
    offset, overflows = 0, 0
    for piece in read_pieces(path, RECORD_BYTES * EVENT_CHUNK):
        whole = len(piece) // RECORD_BYTES
        records = np.frombuffer(piece, np.uint8, whole * RECORD_BYTES).reshape(whole, RECORD_BYTES)
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
        )
        offset += whole * RECORD_BYTES
        if len(piece) != whole * RECORD_BYTES:
            rest = len(piece) - whole * RECORD_BYTES
            msg = (
                f"expected records of {RECORD_BYTES} bytes, got {rest} bytes at the end: the "
                "file is cut; --on-error skip keeps the whole records"
            )
            raise FormatError(msg, path=path, offset=offset, reason="truncated")


def _assume_sensor(path: Path) -> tuple[tuple[int, int], str]:
    """Choose among the published sensors the first one that holds every event."""
    right, bottom = -1, -1
    for piece in read_pieces(path, RECORD_BYTES * EVENT_CHUNK):
        whole = len(piece) // RECORD_BYTES
        records = np.frombuffer(piece, np.uint8, whole * RECORD_BYTES).reshape(whole, RECORD_BYTES)
        rows = records[:, 1]
        event = rows != OVERFLOW_ROW
        if event.any():
            right = max(right, int(records[event, 0].max()))
            bottom = max(bottom, int(rows[event].max()))
    for name, (width, height) in _KNOWN_SENSORS.items():
        if right < width and bottom < height:
            return (width, height), f"assumed {name}'s {width}x{height}, which holds every event"
    msg = (
        f"expected events of N-MNIST (34x34) or N-Caltech101 (240x180), got x up to {right} and y "
        f"up to {bottom}; the format has no geometry, give --sensor-size WxH"
    )
    raise FormatError(msg, path=path, offset=0, reason="no_geometry")
