"""AEDAT4 (iniVation): events, frames, IMU and triggers in one file, LZ4.

Written from the published format (https://docs.inivation.com, AEDAT 4.0; FlatBuffers as structs of
fixed layout) rather than through dv-processing, whose Python interface ties a frame's exposure to
its time. Packets carry the checksum of their content, which no camera software
writes but every LZ4 decoder checks: a damaged byte is found on reading.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.frames import Frames, Picture
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.triggers import as_kinds
from eventkit.writers.base import Contents, event_parts
from eventkit.writers.imu import has_imu, imu_columns, imu_losses

MAGIC = b"#!AER-DAT4.0\r\n"
LZ4 = 1
PACKET_EVENTS = 1 << 15
PACKET_ROWS = 1 << 12
MAX_SIDE = 32767
TABLE_POSITION_AT = len(MAGIC) + 32
"""Where the header holds the byte of the packet table, known at the end only."""

EVENT = np.dtype(
    {
        "names": ["t", "x", "y", "p"],
        "formats": ["<i8", "<i2", "<i2", "u1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)


def _layout(itemsize: int, **fields: tuple[str, int]) -> np.dtype[Any]:
    """Return a FlatBuffer table as a struct: the way back to its vtable, then the fields."""
    places = {"back": ("<i4", 0), **fields}
    return np.dtype(
        {
            "names": list(places),
            "formats": [form for form, _ in places.values()],
            "offsets": [at for _, at in places.values()],
            "itemsize": itemsize,
        }
    )


_SENSORS = [f"{s}_{a}" for s in ("accelerometer", "gyroscope", "magnetometer") for a in "xyz"]
# In the order of the schemas; places keep 8-byte fields on multiples of 8.
TRIGGER = _layout(16, t=("<i8", 8), source=("u1", 4))
IMU = _layout(
    56,
    t=("<i8", 8),
    temperature=("<f4", 4),
    **{name: ("<f4", 16 + 4 * i) for i, name in enumerate(_SENSORS)},
)
IMU_COLUMNS = (IMU.names or ())[2:]
PACKET = _layout(
    48,
    offset=("<i8", 8),
    packet=("<u8", 40),
    elements=("<i8", 16),
    first=("<i8", 24),
    last=("<i8", 32),
)

STREAMS = (
    (0, "events", "EVTS", "Array of events (polarity ON/OFF)."),
    (1, "frames", "FRME", "Standard frame (8-bit image)."),
    (2, "imu", "IMUS", "Inertial Measurement Unit data samples."),
    (3, "triggers", "TRIG", "External triggers and special signals."),
)


class Aedat4Writer:
    """Writer of AEDAT4; bytes depend on the recording and the version of the lz4 package only."""

    name = "aedat4"
    suffixes = (".aedat4",)

    def losses(self, contents: Contents) -> list[str]:
        """Return what becomes of channels of triggers, and of columns of IMU samples.

        Raises
        ------
        SettingsError
            For times before zero, places past 32,767, larger pictures, or a sensor of unknown size.
        """
        spans = {"events": contents.times(), **contents.spans}
        side = min(spans, key=lambda name: spans[name][0])
        if spans[side][0] < 0:
            msg = (
                "expected times from 0 on (most AEDAT4 readers take them as unsigned), got "
                f"{spans[side][0]} us of {side}; shift the times, or write npz"
            )
            raise SettingsError(msg)
        sides = [contents.right, contents.bottom, *(s - 1 for s in contents.sensor_size or ())]
        if max(sides) > MAX_SIDE:
            msg = f"expected places up to {MAX_SIDE} (int16), got {max(sides)}; write npz"
            raise SettingsError(msg)
        if max(contents.frame_size or (0, 0)) > MAX_SIDE:
            width, height = contents.frame_size or (0, 0)
            msg = (
                f"expected pictures of at most {MAX_SIDE} a side (int16), got {width}x{height}; "
                "--frames png writes them beside the events"
            )
            raise SettingsError(msg)
        if contents.events and contents.sensor_size is None:
            msg = "expected a sensor size, which AEDAT4 states; give --sensor-size WxH"
            raise SettingsError(msg)
        lost = imu_losses(contents, IMU_COLUMNS, "AEDAT4", absent_as="has 0 there")
        if contents.channels:
            told = f"{contents.triggers} triggers keep their time and edge, not their channel"
            lost.append(told)
        return lost

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write in one pass: packets of 32,768 events, the other streams between them by time.

        Parameters
        ----------
        recording : Recording
        path : Path
            Does not exist.
        ledger : Ledger
            Receives the counts of the reading.

        Raises
        ------
        SettingsError
            If the frames have no times on the clock of the events.
        """
        frames = recording.frames
        if frames is not None and frames.timing != "recorded":
            msg = (
                "expected frames with times on the clock of the events, got "
                f"{frames.timing!r}; align them first, or leave them out"
            )
            raise SettingsError(msg)
        with path.open("xb") as file:
            out = _Packets(file, _header(recording))
            side = _Side(out, recording)
            for events in event_parts(recording, ledger):
                for start in range(0, len(events), PACKET_EVENTS):
                    part = events[start : start + PACKET_EVENTS]
                    out.add(0, _events(part), part.t)
                    side.until(int(part.t[-1]))
            side.until(None)
            out.finish()


class _Packets:
    """Writes packets and remembers where each stands."""

    def __init__(self, file: BinaryIO, header: bytes) -> None:
        self._file = file
        self._lz4 = require("lz4.frame", extra="aedat4", purpose="writing AEDAT4 files")
        self._at = file.write(MAGIC) + file.write(header)
        self._table: list[tuple[int, int, int, int, int]] = []

    def add(self, stream: int, body: bytes, t: NDArray[np.int64]) -> None:
        """Append one packet whose elements have these times."""
        stored = self._compressed(body)
        self._file.write(struct.pack("<II", stream, len(stored)))
        self._file.write(stored)
        row = (self._at + 8, stream | len(stored) << 32, t.size, int(t[0]), int(t[-1]))
        self._table.append(row)
        self._at += 8 + len(stored)

    def finish(self) -> None:
        """Append the table of packets and note in the header where it is."""
        rows = np.zeros(len(self._table), PACKET)
        for name, column in zip((PACKET.names or ())[1:], _columns(self._table), strict=True):
            rows[name] = column
        self._file.write(self._compressed(_rows(b"FTAB", rows)))
        self._file.seek(TABLE_POSITION_AT)
        self._file.write(struct.pack("<q", self._at))

    def _compressed(self, body: bytes) -> bytes:
        stored: bytes = self._lz4.compress(body, content_checksum=True, store_size=False)
        return stored


class _Side:
    """Frames, IMU and triggers, handed on as far as the events have come."""

    def __init__(self, out: _Packets, recording: Recording) -> None:
        self._out = out
        self._frames, signals = recording.frames, recording.triggers
        self._pictures: Iterator[Picture] = iter(())
        if self._frames is not None:
            self._pictures = self._frames.pictures(range(len(self._frames)))
        self._frame = 0
        self._rows: list[tuple[int, bytes, NDArray[Any]]] = []
        if recording.imu is not None and has_imu(recording.imu, IMU_COLUMNS):
            self._rows.append((2, b"IMUS", _samples(recording.imu)))
        if signals is not None:
            self._rows.append((3, b"TRIG", _signals(signals)))
        self._latest = [np.maximum.accumulate(rows["t"]) for _, _, rows in self._rows]
        self._done = [0] * len(self._rows)

    def until(self, t: int | None) -> None:
        """Write what is not later than ``t``; None writes the rest."""
        for i, (stream, kind, rows) in enumerate(self._rows):
            start = self._done[i]
            stop = rows.size
            if (
                t is not None
            ):  # rows may overtake each other a little: up to the first that is later
                stop = int(np.searchsorted(self._latest[i], t, side="right"))
            for at in range(start, stop, PACKET_ROWS):
                part = rows[at : min(at + PACKET_ROWS, stop)]
                self._out.add(stream, _rows(kind, part), part["t"])
            self._done[i] = stop
        frames = self._frames
        while frames is not None and self._frame < len(frames):
            i = self._frame
            if t is not None and int(frames.t_us[i]) > t:
                return
            body = _frame(frames, i, next(self._pictures).pixels)
            self._out.add(1, body, frames.t_us[i : i + 1])
            self._frame += 1


def _columns(table: list[tuple[int, int, int, int, int]]) -> NDArray[np.int64]:
    return np.array(table, np.int64).reshape(-1, 5).T


def _samples(imu: NDArray[Any]) -> NDArray[Any]:
    rows = np.zeros(imu.size, IMU)
    rows["t"] = imu["t"]
    for name, column in imu_columns(imu, IMU_COLUMNS).items():
        rows[name] = column
    return rows


def _signals(triggers: NDArray[Any]) -> NDArray[Any]:
    kinds = as_kinds(triggers)
    rows = np.zeros(kinds.size, TRIGGER)
    rows["t"], rows["source"] = kinds["t"], kinds["source"]
    return rows


def _header(recording: Recording) -> bytes:
    xml = _xml(recording).encode()
    body = struct.pack("<I4s", 20, b"IOHE") + struct.pack("<HHHHHxx", 10, 20, 4, 8, 16)
    body += struct.pack("<iiqI", 12, LZ4, -1, 4) + struct.pack("<I", len(xml)) + xml + b"\0"
    return struct.pack("<I", len(body)) + body


def _xml(recording: Recording) -> str:
    frames = recording.frames
    sides = {
        "events": recording.sensor_size,
        "frames": None if frames is None else frames.size,
        "imu": None,
        "triggers": None,
    }
    there = {
        "events": recording.has_events,
        "frames": frames is not None,
        "imu": has_imu(recording.imu, IMU_COLUMNS),
        "triggers": recording.triggers is not None,
    }
    streams = "".join(
        _node(number, name, kind, text, sides[name])
        for number, name, kind, text in STREAMS
        if there[name]
    )
    return f'<dv version="2.0"><node name="outInfo" path="/outInfo/">{streams}</node></dv>'


def _node(number: int, name: str, kind: str, text: str, size: tuple[int, int] | None) -> str:
    def attr(key: str, value: object, form: str = "string") -> str:
        return f'<attr key="{key}" type="{form}">{escape(str(value))}</attr>'

    sides = attr("sizeX", size[0], "int") + attr("sizeY", size[1], "int") if size else ""
    path = f"/outInfo/{number}/"
    return (
        f'<node name="{number}" path="{path}">'
        + attr("compression", "LZ4")
        + attr("originalModuleName", "eventkit")
        + attr("originalOutputName", name)
        + attr("typeDescription", text)
        + attr("typeIdentifier", kind)
        + f'<node name="info" path="{path}info/">{sides}{attr("source", "eventkit")}</node></node>'
    )


def _events(events: Events) -> bytes:
    packed = np.zeros(len(events), EVENT)
    packed["t"], packed["x"], packed["y"] = events.t, events.x, events.y
    packed["p"] = events.p > 0
    return _vector(b"EVTS", len(events), packed.tobytes())


def _vector(kind: bytes, count: int, content: bytes) -> bytes:
    """Return a FlatBuffer of one table whose only field is a vector; it starts at byte 32."""
    head = struct.pack("<I4sxxHHHiII", 16, kind, 6, 8, 4, 6, 4, count)
    return struct.pack("<I", len(head) + len(content)) + head + content


def _rows(kind: bytes, rows: NDArray[Any]) -> bytes:
    """Return a FlatBuffer with a vector of tables, which share one vtable."""
    layout = rows.dtype
    fields: Mapping[str, Any] = layout.fields or {}
    names = (layout.names or ())[1:]
    slots = struct.pack(
        f"<{len(names) + 2}H",
        4 + 2 * len(names),
        layout.itemsize,
        *(fields[name][1] for name in names),
    )
    # Behind 32 bytes of head: one offset a table, the vtable, the tables on a multiple of 8.
    vtable = 4 * rows.size
    first = -(-(vtable + len(slots)) // 8) * 8
    places = first + layout.itemsize * np.arange(rows.size)
    rows["back"] = places - vtable
    offsets = (places - 4 * np.arange(rows.size)).astype("<u4")
    gap = b"\0" * (first - vtable - len(slots))
    return _vector(kind, rows.size, offsets.tobytes() + slots + gap + rows.tobytes())


def _frame(frames: Frames, index: int, pixels: NDArray[Any]) -> bytes:
    """Return a frame packet: the fields in 64 bytes from byte 40 on, then the pixels."""
    height, width, channels = pixels.shape
    deep = pixels.dtype != np.uint8
    start, stop = int(frames.start_us[index]), int(frames.stop_us[index])
    t = int(frames.t_us[index])
    kind = (2 if deep else 0) + 8 * (channels - 1)
    content = np.ascontiguousarray(pixels[:, :, ::-1], "<u2" if deep else "u1").tobytes()
    slots = struct.pack("<14H", 28, 64, 8, 16, 24, 32, 40, 60, 56, 58, 0, 0, 4, 48)
    fields = struct.pack(
        "<iI6qhhbxxx", 28, 60, t, start, stop, start, stop, stop - start, width, height, kind
    )
    body = struct.pack("<I4s", 36, b"FRME") + slots + fields
    body += struct.pack("<I", len(content)) + content
    return struct.pack("<I", len(body)) + body
