"""AEDAT4 (iniVation) through the `aedat` package: events, frames, IMU, triggers.

`aedat` decodes packets one after the other, so memory holds one packet whatever the length of the
file. It gives no byte offsets; where decoding stops, the packet headers are walked to find the one
that could not be read (format: 14 bytes version line, a size-prefixed header, then packets of
stream id and size, both u32).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import FormatError
from eventkit.frames import Frames, Picture
from eventkit.readers import geometry
from eventkit.readers.base import EVENT_CHUNK, ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import OnError, Recording
from eventkit.sources import Source

MAGIC = b"#!AER-DAT4.0\r\n"
MAX_HEADER_BYTES = 16 << 20


class Aedat4Reader:
    """Reader of AEDAT4 recordings."""

    name = "aedat4"
    suffixes = (".aedat4",)
    holds = ("events", "frames")

    def recognise(self, source: Source) -> str | None:
        """Go by the version line."""
        return "version line #!AER-DAT4.0" if source.head.startswith(MAGIC) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file: the header at once, and a pass for frame times where it has frames."""
        path = source.local()
        streams = _decoder(path).id_to_stream()
        events = sorted(i for i, s in streams.items() if s["type"] == "events")
        notes = []
        if len(events) > 1:
            notes.append(f"event streams {events}: stream {events[0]} is read")
        header = None
        if events:
            header = (int(streams[events[0]]["width"]), int(streams[events[0]]["height"]))
        found = geometry.settle(source, options.sensor_size, (header, "header of the event stream"))
        stream = None
        if events:
            stream = EventStream(
                lambda _buffer, _mark: _event_packets(path, events[0]),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
            )
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why if found.size else "",
            source=stream,
            frames=_read_frames(path, streams, options.on_error),
            # `source` is held by this function: a temporary copy lives as long as the recording.
            side_data=lambda: _read_side(source.local(), options.on_error),
            notes=notes,
        )


def _decoder(path: Path) -> Any:
    aedat = require("aedat", extra="aedat4", purpose="reading AEDAT4 files")
    _check_header(path)
    try:
        return aedat.Decoder(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as err:  # a panic of the extension is no Exception
        msg = f"expected an AEDAT4 header, got one that cannot be read ({err}); copy the file again"
        raise FormatError(msg, path=path, offset=len(MAGIC), reason="bad_header") from err


def _check_header(path: Path) -> None:
    """Refuse a header that would abort the process: the decoder dies on bad UTF-8."""
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + 4)
        size = int.from_bytes(start[len(MAGIC) :], "little")
        header = file.read(min(size, MAX_HEADER_BYTES))
    cut = len(start) < len(MAGIC) + 4 or len(header) < size
    # Numbers stand before the text, and any of them may hold the byte of "<".
    xml = header[max(header.find(b"<dv"), 0) : header.rfind(b">") + 1]
    try:
        xml.decode("utf-8")
        fault = "it is cut or its length is damaged" if cut else ""
    except UnicodeDecodeError as err:
        fault = f"its text is damaged ({err})"
    if fault:
        msg = f"expected an AEDAT4 header, got one that cannot be read: {fault}; copy it again"
        raise FormatError(msg, path=path, offset=len(MAGIC), reason="bad_header")


def _packets(path: Path) -> Iterator[dict[str, Any]]:
    """Yield decoded packets; a damaged one ends the stream with its byte offset."""
    decoder = _decoder(path)
    number = 0
    while True:
        try:
            packet = next(decoder, None)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as err:  # RuntimeError, OSError, and panics that are no Exception
            offset, reason = _locate(path, number)
            msg = (
                f"expected packet {number} to be whole, it cannot be decoded ({err}); "
                "--on-error skip keeps what comes before it"
            )
            raise FormatError(msg, path=path, offset=offset, reason=reason) from err
        if packet is None:
            return
        number += 1
        yield packet


def _locate(path: Path, number: int) -> tuple[int | None, str]:
    """Return the byte offset of a packet, and whether the file ends inside it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        (header,) = struct.unpack("<I", file.read(4))
        offset = len(MAGIC) + 4 + header
        for _ in range(number):
            file.seek(offset)
            words = file.read(8)
            if len(words) < 8:
                return offset, "truncated"
            offset += 8 + struct.unpack("<II", words)[1]
        file.seek(offset)
        words = file.read(8)
    cut = len(words) < 8 or offset + 8 + struct.unpack("<II", words)[1] > size
    return offset, "truncated" if cut else "corrupt"


def _event_packets(path: Path, stream: int) -> Iterator[RawChunk]:
    """Yield the events of one stream, packets joined up to `EVENT_CHUNK`.

    Packets hold a few hundred to 10^5 events; joined they cost a tenth of the calls. A fault
    comes after what was decoded before it.
    """
    waiting: list[tuple[int, NDArray[Any]]] = []
    held = 0
    packets = enumerate(_packets(path))
    while True:
        try:
            number, packet = next(packets, (-1, None))
        except FormatError:
            if waiting:
                yield _raw(path, waiting)
            raise
        if packet is None:
            break
        if packet["stream_id"] != stream or "events" not in packet:
            continue
        waiting.append((number, packet["events"]))
        held += packet["events"].size
        if held >= EVENT_CHUNK:
            yield _raw(path, waiting)
            waiting, held = [], 0
    if waiting:
        yield _raw(path, waiting)


def _raw(path: Path, packets: list[tuple[int, NDArray[Any]]]) -> RawChunk:
    columns = [events for _, events in packets]
    ends = np.cumsum([events.size for events in columns])
    on = "on" if "on" in (columns[0].dtype.fields or {}) else "p"

    def locate(event: int) -> int | None:
        number, _ = packets[int(np.searchsorted(ends, event, side="right"))]
        return _locate(path, number)[0]

    return RawChunk(
        x=np.concatenate([events["x"] for events in columns]),
        y=np.concatenate([events["y"] for events in columns]),
        t=np.concatenate([events["t"] for events in columns]).astype(np.int64),
        p=np.concatenate([events[on] for events in columns]).astype(np.int8),
        words=len(packets),
        locate=locate,
    )


def _read_frames(path: Path, streams: dict[int, Any], on_error: OnError) -> Frames | None:
    """Collect times and shape of the first frame stream; the pixels are let go."""
    stream = min((i for i, s in streams.items() if s["type"] == "frame"), default=None)
    if stream is None:
        return None
    times: list[tuple[int, int, int]] = []
    shapes: set[tuple[int, int, int]] = set()
    for packet in _until_fault(path, on_error):
        if packet["stream_id"] == stream and "frame" in packet:
            frame = packet["frame"]
            start, stop = int(frame["exposure_begin_t"]), int(frame["exposure_end_t"])
            times.append((int(frame["t"]), start, stop))
            shapes.add(_pixels(frame).shape)
    return _frames(path, stream, times, shapes) if times else None


def _read_side(path: Path, on_error: OnError) -> dict[str, NDArray[Any]]:
    """Collect triggers and IMU samples."""
    parts: dict[str, list[NDArray[Any]]] = {"triggers": [], "imu": []}
    for packet in _until_fault(path, on_error):
        for name, key in (("triggers", "triggers"), ("imu", "imus")):
            if key in packet:
                parts[name].append(packet[key])
    return {name: _joined(found) for name, found in parts.items() if found}


def _until_fault(path: Path, on_error: OnError) -> Iterator[dict[str, Any]]:
    try:
        yield from _packets(path)
    except FormatError:
        if on_error == "raise":
            raise


def _frames(
    path: Path, stream: int, times: list[tuple[int, int, int]], shapes: set[tuple[int, int, int]]
) -> Frames:
    if len(shapes) > 1:
        msg = f"expected frames of one shape, got {sorted(shapes)}; a region of interest moved"
        raise FormatError(msg, path=path, reason="bad_value")
    height, width, channels = shapes.pop()
    table = np.array(times, np.int64)
    known = table[:, 2] > table[:, 1]
    start = np.where(known, table[:, 1], table[:, 0])
    stop = np.where(known, table[:, 2], table[:, 0])
    middle = start + (stop - start) // 2
    order = np.argsort(middle, kind="stable")

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        wanted = {int(order[i]): i for i in indices}
        return _pictures(path, stream, wanted, list(indices))

    return Frames(
        middle[order], start[order], stop[order], (width, height), channels, "recorded", reader
    )


def _pictures(
    path: Path, stream: int, wanted: dict[int, int], order: list[int]
) -> Iterator[Picture]:
    """Yield frames in ``order``; one that stands early in the file waits for its turn."""
    waiting: dict[int, Picture] = {}
    position, number = 0, 0
    for packet in _packets(path):
        if position == len(order):
            return
        if "frame" not in packet or packet["stream_id"] != stream:
            continue
        if number in wanted:
            waiting[wanted[number]] = Picture(_pixels(packet["frame"]))
        number += 1
        while position < len(order) and order[position] in waiting:
            yield waiting.pop(order[position])
            position += 1


def _pixels(frame: dict[str, Any]) -> NDArray[Any]:
    """Return (H, W, C); an alpha channel carries no picture and is left out."""
    pixels = frame["pixels"]
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels[:, :, None])
    return np.ascontiguousarray(pixels[:, :, :3])


def _joined(packets: list[NDArray[Any]]) -> NDArray[Any]:
    joined = np.concatenate(packets)
    fields = [(n, "<i8" if n == "t" else joined.dtype[n]) for n in joined.dtype.names or ()]
    return joined.astype(np.dtype(fields))
