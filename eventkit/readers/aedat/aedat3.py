"""AEDAT3.1 (cAER, 2016): polarity events, frames, IMU samples, external signals.

The container is `eventkit.readers.aedat.aedat3_packets`; frames are read in `.aedat3_frames`.
(0, 0) is the upper left corner, as here. The time of an event is ``overflows << 31 | time``; each
packet says how often its clock has overflown, so nothing is guessed. An event whose lowest bit is 0
is invalid: dropped, and counted.

After a TIMESTAMP_RESET the times start from zero again, and nothing says how long the reset took:
what follows goes backwards, and by the policy. The size of the sensor is that of the source in the
header, else of the frames, else assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer
from eventkit.errors import FormatError, SettingsError
from eventkit.kernels.aedat import pick_polarity
from eventkit.readers import geometry
from eventkit.readers.aedat.aedat3_frames import read_frames, survey
from eventkit.readers.aedat.aedat3_packets import (
    IMU6,
    IMU9,
    KINDS,
    MAGIC,
    POLARITY,
    SPECIAL,
    Header,
    Packet,
    bodies,
    read_header,
    size_of,
)
from eventkit.readers.aedat.tables import Table
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


class Aedat3Reader:
    """Reader of AEDAT3.1 recordings; ``topic`` is the number of the source."""

    name = "aedat3"
    suffixes = (".aedat", ".aedat3")
    holds = ("events", "frames")
    takes = ("topic",)
    unit = "us"

    def recognise(self, source: Source) -> str | None:
        """Go by the version line."""
        return "version line #!AER-DAT3" if source.head.startswith(MAGIC) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file: the header, and a walk over the packets' heads for frame times."""
        header = read_header(source)
        surveyed = survey(source, header, options)
        number, named, notes = _choose(source, header, surveyed.sources, options.topic)
        frames, more = read_frames(source, surveyed.frames, number)
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
            packet, first, body, fault = None, 0, b"", err.anew()
        # A way back in must be a packet's head.
        if packet is None or (held >= GROUP_EVENTS and first == 0):
            if parts or skipped:
                yield _chunk(parts, dict(skipped), buffer, begin)
            if fault is not None:
                raise fault.anew()
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
    signals = Table.of_side(source, "external signals", KIND_DTYPE)
    samples = Table.of_side(source, "IMU samples", IMU)
    kinds = (SPECIAL, IMU6, IMU9)
    with options.booking():
        for packet, _, body in bodies(source, header.start, kinds, number):
            if body and packet.kind == SPECIAL:
                signals.add(_external(packet, body).tobytes(), packet.offset)
            elif body:
                samples.add(_samples(packet, body).tobytes(), packet.offset)
    side = {"triggers": signals.rows, "imu": samples.rows}
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
