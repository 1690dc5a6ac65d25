"""AEDAT4 (iniVation): events, frames, IMU and triggers.

The container is `eventkit.readers.aedat.aedat4_packets`. Only packets of the stream that is asked
for are decompressed, and decoding starts again at any packet, so `between` seeks. The schemas are
those of https://gitlab.com/inivation/dv/dv-processing (``data/*.fbs``): an event is a struct of 16
bytes. A packet that is damaged inside costs itself: where the next one stands is still known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import check_installed
from eventkit.columns import EVENT_CHUNK, Buffer, Columns
from eventkit.errors import FormatError
from eventkit.kernels.aedat import unpack_structs
from eventkit.readers import geometry
from eventkit.readers.aedat.aedat4_frames import read_frames
from eventkit.readers.aedat.aedat4_packets import (
    MAGIC,
    Header,
    expected_elements,
    packets,
    parsed,
    read_header,
)
from eventkit.readers.aedat.aedat4_streams import Choice, choose
from eventkit.readers.aedat.flatbuffers import root, rows
from eventkit.readers.aedat.tables import Table
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source
from eventkit.triggers import KIND_DTYPE

EVENT_BYTES = 16
GROUP_EVENTS = 1 << 16
"""Packets hold a few hundred to 10^5 events; joined they cost a tenth of the calls."""

IMU = np.dtype(
    [("t", "<i8"), ("temperature", "<f4")]
    + [
        (f"{sensor}_{axis}", "<f4")
        for sensor in ("accelerometer", "gyroscope", "magnetometer")
        for axis in "xyz"
    ]
)


class Aedat4Reader:
    """Reader of AEDAT4 recordings; ``topic`` is ``EVENTS`` or ``EVENTS,FRAMES``, as numbers."""

    name = "aedat4"
    suffixes = (".aedat4",)
    holds = ("events", "frames")
    takes = ("topic",)
    unit = "us"

    def recognise(self, source: Source) -> str | None:
        """Go by the version line."""
        return "version line #!AER-DAT4.0" if source.head.startswith(MAGIC) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file: the header at once, and a pass for frame times where it has frames."""
        check_installed(("lz4",), extra="aedat4", purpose="reading AEDAT4 files")
        header = read_header(source)
        chosen = choose(header, options.topic, source)
        number = chosen.events
        sizes = {stream.number: stream.size for stream in header.streams}
        found = geometry.settle(
            source,
            options.sensor_size,
            (sizes.get(-1 if number is None else number), "header of the event stream"),
        )
        stream = None
        if number is not None:
            stream = EventStream(
                lambda buffer, mark: _events(source, header, number, options, buffer, mark),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=lambda: expected_elements(source, header, number) or EVENT_CHUNK,
            )
        frames, odd = read_frames(source, header, chosen.frames, options)
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why if found.size else "",
            source=stream,
            frames=frames,
            side_data=lambda: _read_side(source, header, chosen, options),
            notes=chosen.notes + odd,
        )


@dataclass(slots=True)
class _Group:
    """Packets that are decoded at once: their events as words, and how many are damaged.

    Parameters
    ----------
    mark : (number, byte)
        Of the first packet.
    places : list of int
        Byte of each packet with events.
    words : list of (n, 2) int64
        Events of each packet with events.
    held : int
        Events.
    whole, damaged : int
        Packets, those without events too.
    """

    mark: tuple[int, int]
    places: list[int] = field(default_factory=list)
    words: list[NDArray[np.int64]] = field(default_factory=list)
    held: int = 0
    whole: int = 0
    damaged: int = 0


def _events(
    source: Source, header: Header, stream: int, options: ReadOptions, buffer: Buffer, mark: object
) -> Iterator[RawChunk]:
    """Yield the events of one stream, packets joined; a fault comes after what stands before it."""
    group: _Group | None = None
    start = mark if isinstance(mark, tuple) else None
    try:
        for packet in packets(source, header, (stream,), start=start):
            words = parsed(source, header, packet, _words)
            if isinstance(words, FormatError) and options.strict:
                raise words
            group = group or _Group((packet.number, packet.offset))
            if isinstance(words, FormatError):
                group.damaged += 1
                continue
            group.whole += 1
            if not len(words):  # packets without events would pile up
                continue
            group.places.append(packet.offset)
            group.words.append(words)
            group.held += len(words)
            if group.held >= GROUP_EVENTS:
                yield _chunk(group, buffer)
                group = None
    except FormatError:
        if group is not None:
            yield _chunk(group, buffer)
        raise
    if group is not None:
        yield _chunk(group, buffer)


def _words(body: bytes) -> NDArray[np.int64]:
    """Return the events of a packet, (n, 2); raises BrokenTableError."""
    at, count = root(body, b"EVTS").vector(0, EVENT_BYTES)
    words = np.frombuffer(body, "<i8", 2 * count, at).reshape(count, 2)
    return np.require(words, requirements="A")


def _chunk(group: _Group, buffer: Buffer) -> RawChunk:
    ends = np.cumsum([0, *(len(words) for words in group.words)])
    columns = buffer.room(int(ends[-1]))
    negative = False
    for words, first in zip(group.words, ends[:-1].tolist(), strict=True):
        negative |= unpack_structs(words, *columns.part(first, first + len(words)))
    x, y = _signed(columns) if negative else (columns.x, columns.y)
    return RawChunk(
        x=x,
        y=y,
        t=columns.t,
        p=columns.p,
        words=group.whole + group.damaged,
        skipped={"damaged packet": group.damaged} if group.damaged else {},
        locate=lambda event: group.places[int(np.searchsorted(ends, event, side="right")) - 1],
        mark=group.mark,
    )


def _signed(columns: Columns) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return places as the file has them; below zero is outside every sensor."""
    return columns.x.view(np.int16), columns.y.view(np.int16)


class _Kind(NamedTuple):
    """A kind of samples: name and words for it, identifier of its packets, and its fields."""

    name: str
    what: str
    identifier: bytes
    fields: np.dtype[Any]

    def samples(self, body: bytes) -> NDArray[Any]:
        """Return the samples of a packet; raises BrokenTableError."""
        return rows(body, self.identifier, self.fields)


def _read_side(
    source: Source, header: Header, chosen: Choice, options: ReadOptions
) -> dict[str, NDArray[Any]]:
    """Collect triggers and IMU samples."""
    kinds: dict[int, _Kind] = {}
    if chosen.triggers is not None:
        kinds[chosen.triggers] = _Kind("triggers", "external signals", b"TRIG", KIND_DTYPE)
    if chosen.imu is not None:
        kinds[chosen.imu] = _Kind("imu", "IMU samples", b"IMUS", IMU)
    tables = {
        number: Table.of_side(source, kind.what, kind.fields) for number, kind in kinds.items()
    }
    with options.booking():
        for packet in packets(source, header, list(kinds)):
            samples = parsed(source, header, packet, kinds[packet.stream].samples)
            if isinstance(samples, FormatError):
                options.book(samples)
            else:
                tables[packet.stream].add(samples.tobytes(), packet.offset)
    found = {kind.name: tables[number].rows for number, kind in kinds.items()}
    return {name: rows for name, rows in found.items() if rows.size}
