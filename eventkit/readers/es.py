"""Event Stream ``.es``, version 2: DVS events, and the events of ATIS streams.

Layout (https://github.com/neuromorphic-paris/event_stream): 12 bytes ``Event Stream``, three bytes
version, one byte type, width and height as little-endian uint16, then the bytes of a state machine.
An event has five: the first has the time since the one before and the polarity, then x and y,
uint16. A first byte of ones adds time without an event, another one is a reset, which says nothing.
An ATIS stream has threshold crossings too, halves of an exposure measurement; they are counted and
passed over.

y goes up in these files: row ``height - 1`` is the top one. Events here have their origin top left,
so y is turned over.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer
from eventkit.errors import FormatError
from eventkit.kernels import es as kernels
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source

MAGIC = b"Event Stream"
HEADER_BYTES = 20
TYPES = ("generic", "DVS", "ATIS", "asynchronous display", "colour")
SHIFTS = {1: 1, 2: 2}
"""Bits of an event's first byte that are no time, by type of stream."""
# Twelve bytes of output for each of input: a piece half as large as usual.
PIECE_BYTES = 1 << 17


class _Mark(NamedTuple):
    """Where a piece starts, and the state of the decoder there."""

    offset: int
    state: NDArray[np.int64]
    held: NDArray[np.uint8]


class EsReader:
    """Reader of Event Stream 2, DVS and ATIS."""

    name = "es"
    suffixes = (".es",)
    holds = ("events",)
    takes = ()
    unit = "us"

    def recognise(self, source: Source) -> str | None:
        """Look for the magic bytes."""
        head = source.head
        if not head.startswith(MAGIC):
            return None
        version = ".".join(str(part) for part in head[12:15])
        return f"first bytes 'Event Stream', version {version}"

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open an ``.es`` file; reads the header only.

        Raises
        ------
        FormatError
            For another version, a stream of no DVS events, or no sensor size.
        """
        kind, size = _header(source)
        found = geometry.settle(source, options.sensor_size, (size, "header"))
        if found.size is None:
            msg = "expected the width and height of the sensor, got 0; give --sensor-size WxH"
            raise FormatError(msg, path=source.name, offset=16, reason="no_geometry")
        height, stored = found.size[1], source.size
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda buffer, mark: _decode(source, kind, height, buffer, mark),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=None
                if stored is None
                else lambda: max(0, stored - HEADER_BYTES) // kernels.EVENT_BYTES,
            ),
            notes=found.notes,
        )


def _header(source: Source) -> tuple[int, tuple[int, int] | None]:
    """Return the type of the stream and the sensor size, if that can be."""
    head = source.head
    if not head.startswith(MAGIC):
        msg = f"expected the first bytes {MAGIC!r}, got {head[:12]!r}"
        raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
    if len(head) > 12 and head[12] != 2:
        msg = f"expected Event Stream version 2, got version {head[12]}; convert it with its tools"
        raise FormatError(msg, path=source.name, offset=12, reason="bad_header")
    if len(head) > 15 and head[15] not in SHIFTS:
        kind = TYPES[head[15]] if head[15] < len(TYPES) else f"unknown ({head[15]})"
        msg = f"expected a stream of DVS (1) or ATIS (2) events, got the type {kind}"
        raise FormatError(msg, path=source.name, offset=15, reason="bad_header")
    if len(head) < HEADER_BYTES:
        msg = f"expected a header of {HEADER_BYTES} bytes, got {len(head)}: the file is cut"
        raise FormatError(msg, path=source.name, offset=len(head), reason="truncated")
    width = int.from_bytes(head[16:18], "little")
    height = int.from_bytes(head[18:20], "little")
    return head[15], (width, height) if width and height else None


def _decode(
    source: Source, kind: int, height: int, buffer: Buffer, mark: object
) -> Iterator[RawChunk]:
    start = HEADER_BYTES
    state, held = np.zeros(2, np.int64), np.zeros(kernels.EVENT_BYTES, np.uint8)
    if isinstance(mark, _Mark):
        start, state, held = mark.offset, mark.state.copy(), mark.held.copy()
    end = start
    for offset, piece in source.pieces(PIECE_BYTES, start=start):
        before = _Mark(offset, state.copy(), held.copy())
        counts = np.zeros(3, np.int64)
        room = buffer.room((int(state[1]) + len(piece)) // kernels.EVENT_BYTES)
        n = kernels.decode(piece, SHIFTS[kind], height, state, held, counts, *room)
        names = ("overflow", "reset", "threshold_crossing")
        skipped = {name: int(c) for name, c in zip(names, counts, strict=True) if c}

        def locate(event: int, piece: NDArray[np.uint8] = piece, before: _Mark = before) -> int:
            return next(islice(_starts(piece, kind, before), event, None))

        yield RawChunk(
            *room.part(0, n),
            words=n + int(counts.sum()),
            skipped=skipped,
            locate=locate,
            mark=before,
        )
        end = offset + len(piece)
    if state[1]:
        msg = (
            f"expected events of {kernels.EVENT_BYTES} bytes, got {int(state[1])} bytes at the "
            "end: the file is cut; --on-error skip keeps the whole events"
        )
        raise FormatError(msg, path=source.name, offset=end - int(state[1]), reason="truncated")


def _starts(piece: NDArray[np.uint8], kind: int, before: _Mark) -> Iterator[int]:
    """Yield the byte of each event of a piece: for messages only."""
    special = 256 - (1 << SHIFTS[kind])
    kept = int(before.state[1])
    data = before.held[:kept].tobytes() + piece.tobytes()
    at = 0
    while at + kernels.EVENT_BYTES <= len(data):
        if data[at] >= special:
            at += 1
            continue
        if SHIFTS[kind] == 1 or not data[at] & 1:
            yield before.offset - kept + at
        at += kernels.EVENT_BYTES
