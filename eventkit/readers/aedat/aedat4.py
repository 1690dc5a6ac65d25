"""AEDAT4 (iniVation): events, frames, IMU and triggers.

The container is `eventkit.readers.aedat.aedat4_packets`. Only packets of the stream that is asked
for are decompressed, and decoding starts again at any packet, so `between` seeks. The schemas are
those of https://gitlab.com/inivation/dv/dv-processing (``data/*.fbs``): an event is a struct of 16
bytes; a frame has an OpenCV type number as its format, and colours are blue, green, red.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import check_installed
from eventkit.columns import EVENT_CHUNK, Buffer, Columns
from eventkit.errors import FormatError, SettingsError
from eventkit.frames import Frames, Picture
from eventkit.kernels.aedat import unpack_structs
from eventkit.readers import geometry
from eventkit.readers.aedat.aedat4_packets import (
    MAGIC,
    BrokenTableError,
    Header,
    Packet,
    damaged,
    expected_elements,
    packets,
    read_header,
    root,
    rows,
)
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source
from eventkit.triggers import KIND_DTYPE

Item = TypeVar("Item")

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
FRAME_TYPES = {
    0: (1, "u1"),
    2: (1, "<u2"),
    16: (3, "u1"),
    18: (3, "<u2"),
    24: (4, "u1"),
    26: (4, "<u2"),
}
"""OpenCV type number -> channels and type of a pixel; others hold signed or floating numbers."""


class Aedat4Reader:
    """Reader of AEDAT4 recordings; ``topic`` is the number of the event stream."""

    name = "aedat4"
    suffixes = (".aedat4",)
    holds = ("events", "frames")

    def recognise(self, source: Source) -> str | None:
        """Go by the version line."""
        return "version line #!AER-DAT4.0" if source.head.startswith(MAGIC) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file: the header at once, and a pass for frame times where it has frames."""
        check_installed(("lz4",), extra="aedat4", purpose="reading AEDAT4 files")
        header = read_header(source)
        number, notes = _choose(source, header, options.topic)
        sizes = {stream.number: stream.size for stream in header.streams}
        found = geometry.settle(
            source,
            options.sensor_size,
            (sizes.get(-1 if number is None else number), "header of the event stream"),
        )
        stream = None
        if number is not None:
            stream = EventStream(
                lambda buffer, mark: _events(source, header, number, buffer, mark),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=lambda: expected_elements(source, header, number) or EVENT_CHUNK,
            )
        frames, odd = _read_frames(source, header, options)
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why if found.size else "",
            source=stream,
            frames=frames,
            side_data=lambda: _read_side(source, header, options),
            notes=notes + odd,
        )


def _choose(source: Source, header: Header, topic: str | None) -> tuple[int | None, list[str]]:
    """Return the event stream to read, and a note where there was a choice."""
    streams = header.of("EVTS")
    if topic is not None:
        if not topic.isdecimal() or int(topic) not in streams:
            names = ", ".join(map(str, streams)) or "none"
            msg = f"{source}: expected --topic among the event streams {names}, got {topic!r}"
            raise SettingsError(msg)
        return int(topic), []
    if len(streams) < 2:
        return (streams[0] if streams else None), []
    return streams[0], [f"event streams {streams}: stream {streams[0]} is read; --topic chooses"]


class _Block(NamedTuple):
    """The events of one packet, as words."""

    packet: int
    offset: int
    words: NDArray[np.int64]


def _events(
    source: Source, header: Header, stream: int, buffer: Buffer, mark: object
) -> Iterator[RawChunk]:
    """Yield the events of one stream, packets joined; a fault comes after what stands before it."""
    waiting: list[_Block] = []
    held = 0
    start = mark if isinstance(mark, tuple) else None
    found = packets(source, header, (stream,), start=start)
    while True:
        try:
            packet = next(found, None)
            block = None if packet is None else _block(source, packet)
        except FormatError:
            if waiting:
                yield _chunk(waiting, buffer)
            raise
        if block is not None:
            waiting.append(block)
            held += len(block.words)
        if waiting and (block is None or held >= GROUP_EVENTS):
            yield _chunk(waiting, buffer)
            waiting, held = [], 0
        if block is None:
            return


def _block(source: Source, packet: Packet) -> _Block:
    try:
        at, count = root(packet.body, b"EVTS").vector(0, EVENT_BYTES)
    except BrokenTableError as err:
        raise damaged(source, packet, err) from err
    words = np.frombuffer(packet.body, "<i8", 2 * count, at).reshape(count, 2)
    return _Block(packet.number, packet.offset, np.require(words, requirements="A"))


def _chunk(blocks: list[_Block], buffer: Buffer) -> RawChunk:
    ends = np.cumsum([len(block.words) for block in blocks])
    columns = buffer.room(int(ends[-1]))
    negative = False
    for block, end in zip(blocks, ends, strict=True):
        part = columns.part(int(end) - len(block.words), int(end))
        negative |= unpack_structs(block.words, *part)
    x, y = _signed(columns) if negative else (columns.x, columns.y)
    places = [block.offset for block in blocks]
    return RawChunk(
        x=x,
        y=y,
        t=columns.t,
        p=columns.p,
        words=len(blocks),
        locate=lambda event: places[int(np.searchsorted(ends, event, side="right"))],
        mark=(blocks[0].packet, blocks[0].offset),
    )


def _signed(columns: Columns) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return places as the file has them; below zero is outside every sensor."""
    return columns.x.view(np.int16), columns.y.view(np.int16)


def _read_side(source: Source, header: Header, options: ReadOptions) -> dict[str, NDArray[Any]]:
    """Collect triggers and IMU samples."""
    kinds = dict.fromkeys(header.of("TRIG"), "TRIG")
    kinds.update((number, "IMUS") for number in header.of("IMUS"))
    names = {"TRIG": ("triggers", KIND_DTYPE), "IMUS": ("imu", IMU)}
    parts: dict[str, list[NDArray[Any]]] = {"triggers": [], "imu": []}

    def sample(packet: Packet) -> tuple[str, NDArray[Any]]:
        kind = kinds[packet.stream]
        name, fields = names[kind]
        return name, rows(packet.body, kind.encode(), fields)

    for name, found in options.whole(_parsed(source, header, list(kinds), sample)):
        parts[name].append(found)
    return {name: np.concatenate(found) for name, found in parts.items() if found}


def _parsed(
    source: Source, header: Header, wanted: list[int], parse: Callable[[Packet], Item]
) -> Iterator[Item]:
    """Yield what the packets of some streams hold."""
    for packet in packets(source, header, wanted) if wanted else ():
        try:
            yield parse(packet)
        except BrokenTableError as err:
            raise damaged(source, packet, err) from err


class _Frame(NamedTuple):
    """What one frame packet holds; ``shape`` is (H, W, C), None for a format without a picture."""

    number: int
    offset: int
    t: int
    start: int
    stop: int
    form: int
    shape: tuple[int, int, int] | None
    at: int


def _frame(packet: Packet) -> _Frame:
    """Read the fields of a frame; raises BrokenTableError."""
    table = root(packet.body, b"FRME")
    t, start, stop = (table.number(field, "<q", 0) for field in (0, 3, 4))
    form = table.number(5, "<b", 0)
    width, height = table.number(6, "<h", 0), table.number(7, "<h", 0)
    at, count = table.vector(10, 1)
    head = (packet.number, packet.offset, t, start, stop, form)
    if form not in FRAME_TYPES:
        return _Frame(*head, None, at)
    channels, kind = FRAME_TYPES[form]
    expected = width * height * channels * np.dtype(kind).itemsize
    if width < 1 or height < 1 or count != expected:
        msg = f"expected {width}x{height} pixels of {expected} bytes, got {count} bytes"
        raise BrokenTableError(msg)
    return _Frame(*head, (height, width, channels), at)


def _pixels(packet: Packet) -> NDArray[Any]:
    """Return (H, W, C), red first; an alpha channel carries no picture and is left out."""
    frame = _frame(packet)
    assert frame.shape is not None
    kind = FRAME_TYPES[frame.form][1]
    count = int(np.prod(frame.shape))
    pixels = np.frombuffer(packet.body, kind, count, frame.at).reshape(frame.shape)
    if frame.shape[2] > 1:
        pixels = pixels[:, :, 2::-1]
    return np.array(pixels, np.dtype(kind).newbyteorder("="), order="C")


def _read_frames(
    source: Source, header: Header, options: ReadOptions
) -> tuple[Frames | None, list[str]]:
    """Collect times and shapes of the first frame stream; the pixels are let go."""
    stream = min(header.of("FRME"), default=None)
    if stream is None:
        return None, []
    found = list(options.whole(_parsed(source, header, [stream], _frame)))
    shapes = Counter((frame.shape, frame.form) for frame in found if frame.shape is not None)
    if not shapes:
        return None, _odd(found, None)
    common = shapes.most_common(1)[0][0]
    kept = [frame for frame in found if (frame.shape, frame.form) == common]
    return _frames(source, header, stream, kept), _odd(found, common)


def _odd(found: list[_Frame], common: object) -> list[str]:
    """Say which frames are left out: formats without a picture, regions of another size."""
    formats = Counter(frame.form for frame in found if frame.shape is None)
    notes = [
        f"{count} frames of OpenCV type {form} are left out: expected 8 or 16 bit, 1, 3 or 4 "
        "channels"
        for form, count in sorted(formats.items())
    ]
    others = sum(f.shape is not None and (f.shape, f.form) != common for f in found)
    if others:
        notes.append(f"{others} frames of another size or format than most are left out")
    return notes


def _frames(source: Source, header: Header, stream: int, kept: list[_Frame]) -> Frames:
    assert kept[0].shape is not None
    height, width, channels = kept[0].shape
    table = np.array([frame[2:5] for frame in kept], np.int64)
    known = table[:, 2] > table[:, 1]
    start = np.where(known, table[:, 1], table[:, 0])
    stop = np.where(known, table[:, 2], table[:, 0])
    middle = start + (stop - start) // 2
    order = np.argsort(middle, kind="stable")
    places = [(kept[i].number, kept[i].offset) for i in order]

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        # One walk for neighbours, a jump for the rest: a walk reads 8 bytes of each packet.
        walk: Iterator[Packet] = iter(())
        last: tuple[int, int] | None = None
        for index in indices:
            place = places[index]
            if last is None or place < last or place[0] > last[0] + 1000:
                walk = packets(source, header, (stream,), start=place)
            packet = next(p for p in walk if p.number == place[0])
            last = place
            yield Picture(_pixels(packet))

    return Frames(
        middle[order],
        start[order],
        stop[order],
        (width, height),
        1 if channels == 1 else 3,
        "recorded",
        reader,
    )
