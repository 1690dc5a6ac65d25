"""AEDAT3.1 (cAER, 2016): polarity events, frames, IMU samples, external signals.

The container is `eventkit.readers.aedat.aedat3_packets`. (0, 0) is the upper left corner, as here.
The time of an event is ``overflows << 31 | time``; each packet says how often its clock has
overflown, so nothing is guessed. An event whose lowest bit is 0 is invalid: dropped, and counted.

After a TIMESTAMP_RESET the times start from zero again, and nothing says how long the reset took:
what follows goes backwards, and by the policy. Frames hold 16 bits a pixel, "normalized to 16 bit
depth", red first. The size of the sensor is that of the source in the header, else of the frames,
else assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer
from eventkit.errors import FormatError, SettingsError
from eventkit.frames import Frames, Picture
from eventkit.kernels.aedat import pick_polarity
from eventkit.readers import geometry
from eventkit.readers.aedat.aedat3_packets import (
    FRAME,
    FRAME_HEAD_BYTES,
    IMU6,
    IMU9,
    KINDS,
    MAGIC,
    POLARITY,
    SPECIAL,
    Header,
    Packet,
    bodies,
    packets,
    read_header,
    size_of,
)
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source
from eventkit.triggers import KIND_DTYPE

GROUP_EVENTS = 1 << 16
KNOWN = (("DVS128", (128, 128)), ("DAVIS240", (240, 180)), ("DAVIS346", (346, 260)),
         ("DAVIS640", (640, 480)))  # fmt: skip

EDGES = {2: 1, 3: 2, 4: 3, 6: 1, 7: 2, 8: 3, 9: 1, 10: 2, 11: 3, 12: 4, 13: 5, 14: 6, 15: 7, 16: 8,
         17: 9}  # fmt: skip
"""Types of special events -> numbers of AEDAT4; clock wraps, resets and lone rows are left out."""

_AXES = [f"{sensor}_{axis}" for sensor in ("accelerometer", "gyroscope") for axis in "xyz"]
_COMPASS = [f"magnetometer_{axis}" for axis in "xyz"]
IMU_RAW = np.dtype(
    [("info", "<u4"), ("time", "<i4")]
    + [(name, "<f4") for name in (*_AXES, "temperature", *_COMPASS)]
)
IMU = np.dtype(
    [("t", "<i8"), ("temperature", "<f4")] + [(name, "<f4") for name in (*_AXES, *_COMPASS)]
)
FRAME_HEAD = np.dtype(
    [("info", "<u4"), ("start", "<i4"), ("end", "<i4"), ("expose", "<i4"), ("read", "<i4")]
    + [(name, "<i4") for name in ("width", "height", "left", "top")]
)


class Aedat3Reader:
    """Reader of AEDAT3.1 recordings; ``topic`` is the number of the source."""

    name = "aedat3"
    suffixes = (".aedat", ".aedat3")
    holds = ("events", "frames")

    def recognise(self, source: Source) -> str | None:
        """Go by the version line."""
        return "version line #!AER-DAT3" if source.head.startswith(MAGIC) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file: the header, and a walk over the packets' heads for frame times."""
        header = read_header(source)
        survey = _survey(source, header, options)
        number, named, notes = _choose(source, header, survey.sources, options.topic)
        frames, more = _read_frames(source, survey.frames, number)
        of_frames = None if frames is None else frames.size
        found = geometry.settle(
            source,
            options.sensor_size,
            size_of(header, named),
            (of_frames, "size of the frames"),
        )
        if found.size is None:
            found = _assume(source, header, number)
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why if found.size else "",
            source=EventStream(
                lambda buffer, mark: _events(source, header, number, buffer, mark),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=lambda: (source.size or 8 << 20) // 8,
            ),
            frames=frames,
            side_data=lambda: _read_side(source, header, number, options),
            notes=[*notes, *found.notes, *more],
        )


def _choose(
    source: Source, header: Header, found: set[int], topic: str | None
) -> tuple[int | None, int | None, list[str]]:
    """Return the source to read, None for any; the one whose size counts; and notes.

    ``found`` are the sources that packets have: files are relogged and merged under headers that
    name another one.
    """
    numbers = sorted(header.sources)
    if topic is not None:
        if not (topic.isascii() and topic.isdecimal()) or int(topic) not in numbers:
            names = ", ".join(map(str, numbers)) or "none"
            msg = f"{source}: expected --topic among the sources {names}, got {topic!r}"
            raise SettingsError(msg)
        return int(topic), int(topic), []
    if not numbers:
        return None, None, []
    known = [number for number in numbers if number in found]
    if found and not known:
        note = (
            f"the header names source {', '.join(map(str, numbers))}, the packets have "
            f"{', '.join(map(str, sorted(found)))}: packets of any source are read"
        )
        return None, numbers[0], [note]
    first = known[0] if known else numbers[0]
    notes = []
    if len(numbers) > 1:
        notes.append(f"sources {numbers}: source {first} is read; --topic chooses")
    if strange := sorted(found - set(numbers)):
        notes.append(f"packets of sources {strange}, which the header does not name, are not read")
    return first, first, notes


class _Part(NamedTuple):
    """Polarity events that stand together: their byte, what goes to their times, their words."""

    at: int
    base: int
    words: NDArray[np.uint32]


def _events(
    source: Source, header: Header, number: int | None, buffer: Buffer, mark: object
) -> Iterator[RawChunk]:
    """Yield polarity events, packets joined; a fault comes after what stands before it."""
    start = mark if isinstance(mark, int) else header.start
    parts: list[_Part] = []
    skipped: Counter[str] = Counter()
    held, begin = 0, start
    found = bodies(source, start, (POLARITY,), number)
    while True:
        fault = None
        try:
            packet, first, body = next(found, (None, 0, b""))
        except FormatError as err:
            packet, first, body, fault = None, 0, b"", err
        # A way back in must be a packet's head.
        if packet is None or (held >= GROUP_EVENTS and first == 0):
            if parts or skipped:
                yield _chunk(parts, dict(skipped), buffer, begin)
            if fault is not None:
                raise fault
            if packet is None:
                return
            parts, held, begin = [], 0, packet.offset
            skipped.clear()
        elif held >= 4 * GROUP_EVENTS:  # one packet of that many events: no way in at its middle
            yield _chunk(parts, dict(skipped), buffer, begin)
            parts, held, begin = [], 0, -1
            skipped.clear()
        if packet.kind == POLARITY and (number is None or packet.source == number):
            words = np.frombuffer(body, "<u4").reshape(-1, 2)
            if len(words):  # packets without events would pile up
                parts.append(_Part(packet.start + first * packet.size, packet.base, words))
            held += len(words)
        else:
            skipped[_reason(packet)] += packet.whole


def _reason(packet: Packet) -> str:
    if packet.kind == POLARITY:
        return "other source"
    return KINDS[packet.kind] if packet.kind < len(KINDS) else "other type"


def _chunk(parts: list[_Part], skipped: dict[str, int], buffer: Buffer, begin: int) -> RawChunk:
    room = buffer.room(sum(len(part.words) for part in parts))
    ends = np.zeros(len(parts), np.int64)
    invalid: list[NDArray[np.int64]] = []
    n = 0
    for i, part in enumerate(parts):
        kept = pick_polarity(part.words, part.base, *room.part(n, n + len(part.words)))
        if kept < len(part.words):
            lost = part.words[part.words[:, 0] & np.uint32(1) == 0, 1]
            invalid.append(lost.astype(np.int32).astype(np.int64) + part.base)
        n += kept
        ends[i] = n

    def locate(event: int) -> int:
        i = int(np.searchsorted(ends, event, side="right"))
        inside = event - (int(ends[i - 1]) if i else 0)
        valid = np.flatnonzero(parts[i].words[:, 0] & np.uint32(1))
        return parts[i].at + 8 * int(valid[inside])

    columns = room.part(0, n)
    return RawChunk(
        x=columns.x,
        y=columns.y,
        t=columns.t,
        p=columns.p,
        words=sum(len(part.words) for part in parts) + sum(skipped.values()),
        skipped={reason: count for reason, count in skipped.items() if count},
        dropped={"invalid": np.concatenate(invalid)} if invalid else {},
        locate=locate,
        mark=begin if begin >= 0 else None,
    )


def _assume(source: Source, header: Header, number: int | None) -> geometry.Geometry:
    """Assume the smallest published sensor that holds every event."""
    right, bottom = -1, -1
    try:
        for _, _, body in bodies(source, header.start, (POLARITY,), number):
            words = np.frombuffer(body, "<u4")[::2]
            words = words[words & np.uint32(1) != 0]
            if words.size:
                right = max(right, int((words >> np.uint32(17)).max()))
                bottom = max(bottom, int((words >> np.uint32(2) & np.uint32(0x7FFF)).max()))
    except FormatError:
        pass  # met again, with its offset, by whoever reads the events
    if right < 0:
        return geometry.Geometry()
    return geometry.assume(right, bottom, KNOWN, path=source)


def _read_side(
    source: Source, header: Header, number: int | None, options: ReadOptions
) -> dict[str, NDArray[Any]]:
    """Collect external signals and IMU samples."""
    parts: dict[str, list[NDArray[Any]]] = {"triggers": [], "imu": []}
    kinds = (SPECIAL, IMU6, IMU9)
    for packet, _, body in options.whole(bodies(source, header.start, kinds, number)):
        if body and packet.kind == SPECIAL:
            parts["triggers"].append(_external(packet, body))
        elif body:
            parts["imu"].append(_samples(packet, body))
    side = {name: np.concatenate(found) for name, found in parts.items() if found}
    return {name: rows for name, rows in side.items() if rows.size}


def _external(packet: Packet, body: bytes) -> NDArray[Any]:
    words = np.frombuffer(body, "<u4").reshape(-1, 2)
    numbers = np.zeros(128, np.uint8)
    for kind, name in EDGES.items():
        numbers[kind] = name
    source = numbers[words[:, 0] >> np.uint32(1) & np.uint32(0x7F)]
    wanted = (words[:, 0] & np.uint32(1) != 0) & (source > 0)
    rows = np.zeros(int(wanted.sum()), KIND_DTYPE)
    rows["t"] = words[wanted, 1].astype(np.int32).astype(np.int64) + packet.base
    rows["source"] = source[wanted]
    return rows


def _samples(packet: Packet, body: bytes) -> NDArray[Any]:
    names = list(IMU_RAW.names or ())[: packet.size // 4]
    raw = np.frombuffer(body, [(name, IMU_RAW[name]) for name in names])
    raw = raw[raw["info"] & np.uint32(1) != 0]
    rows = np.zeros(raw.size, IMU)
    rows["t"] = raw["time"].astype(np.int64) + packet.base
    for name in names[2:]:
        rows[name] = raw[name]
    return rows


class _Frame(NamedTuple):
    """Where the pixels of a frame stand, its exposure and its shape; ``filtered`` by colours."""

    at: int
    start: int
    stop: int
    shape: tuple[int, int, int]
    filtered: bool


@dataclass(slots=True)
class _Survey:
    """What a walk over the heads finds: sources, and frames with theirs, None for invalid ones."""

    sources: set[int] = field(default_factory=set)
    frames: list[tuple[int, _Frame | None]] = field(default_factory=list)


def _survey(source: Source, header: Header, options: ReadOptions) -> _Survey:
    found = _Survey()
    for packet, file in options.whole(packets(source, header.start)):
        found.sources.add(packet.source)
        for i in range(packet.whole if packet.kind == FRAME else 0):
            at = packet.start + i * packet.size
            with source.faults():
                file.seek(at)
                data = file.read(FRAME_HEAD_BYTES)
            if len(data) < FRAME_HEAD_BYTES:
                break
            found.frames.append((packet.source, _frame(packet, at, data)))
    return found


def _read_frames(
    source: Source, found: list[tuple[int, _Frame | None]], number: int | None
) -> tuple[Frames | None, list[str]]:
    """Keep the frames of a source; those of another size than most are left out."""
    here = [frame for origin, frame in found if number is None or origin == number]
    valid = [frame for frame in here if frame is not None]
    if not valid:
        return None, []
    shape = Counter(frame.shape for frame in valid).most_common(1)[0][0]
    kept = [frame for frame in valid if frame.shape == shape]
    odd = len(here) - len(kept)
    notes = [f"{odd} frames are invalid or of another size than most: left out"] if odd else []
    if any(frame.filtered for frame in valid) and shape[2] == 1:
        notes.append("the sensor has a colour filter: frames are its raw gray samples")
    return _frames(source, kept, shape), notes


def _frame(packet: Packet, at: int, data: bytes) -> _Frame | None:
    """Return a frame by what stands before its pixels."""
    head = np.frombuffer(data, FRAME_HEAD)[0]
    info = int(head["info"])
    channels, width, height = info >> 1 & 7, int(head["width"]), int(head["height"])
    room = packet.size - FRAME_HEAD_BYTES
    sound = info & 1 and channels in (1, 3, 4) and width > 0 and height > 0
    if not sound or 2 * width * height * channels > room:
        return None
    start, stop = int(head["expose"]), int(head["read"])
    if stop <= start:
        start = stop = int(head["end"])
    shape = (height, width, channels)
    times = (start + packet.base, stop + packet.base)
    return _Frame(at + FRAME_HEAD_BYTES, *times, shape, filtered=bool(info >> 4 & 15))


def _frames(source: Source, kept: list[_Frame], shape: tuple[int, int, int]) -> Frames:
    start = np.array([frame.start for frame in kept], np.int64)
    stop = np.array([frame.stop for frame in kept], np.int64)
    middle = start + (stop - start) // 2
    order = np.argsort(middle, kind="stable")
    height, width, channels = shape

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        with source.open() as file:
            for index in indices:
                with source.faults():
                    file.seek(kept[order[index]].at)
                    data = file.read(2 * width * height * channels)
                if len(data) < 2 * width * height * channels:
                    at = kept[order[index]].at
                    msg = "expected a whole frame, got the end of the file; copy it again"
                    raise FormatError(msg, path=source, offset=at, reason="truncated")
                pixels = np.frombuffer(data, "<u2").reshape(shape)[:, :, :3]
                yield Picture(np.array(pixels, np.uint16, order="C"))

    size = (width, height)
    count = 1 if channels == 1 else 3
    return Frames(middle[order], start[order], stop[order], size, count, "recorded", reader)
