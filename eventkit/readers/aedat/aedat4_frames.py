"""Frames of AEDAT4: times in one pass, pixels when they are asked for.

A frame has an OpenCV type number as its format, and colours are blue, green, red.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.frames import Frames, Picture
from eventkit.readers.aedat.aedat4_packets import Header, Packet, packets, parsed
from eventkit.readers.aedat.flatbuffers import BrokenTableError, root
from eventkit.readers.aedat.tables import Table, most_common, to_read_at
from eventkit.readers.base import ReadOptions
from eventkit.sources import Source

FRAME_TYPES = {
    0: (1, "u1"),
    2: (1, "<u2"),
    16: (3, "u1"),
    18: (3, "<u2"),
    24: (4, "u1"),
    26: (4, "<u2"),
}
"""OpenCV type number -> channels and type of a pixel; others hold signed or floating numbers."""
FAR_PACKETS = 1000
"""A walk reads 8 bytes of each packet; a jump opens the file again."""
PACKED = struct.Struct("<qqqqqbhh")
ROW = np.dtype(
    [(name, "<i8") for name in ("number", "offset", "t", "start", "stop")]
    + [("form", "i1"), ("height", "<i2"), ("width", "<i2")]
)
"""A frame: number and byte of its packet, times, type and size (as `PACKED` packs them)."""


def read_frames(
    source: Source, header: Header, stream: int | None, options: ReadOptions
) -> tuple[Frames | None, list[str]]:
    """Collect times and shapes of a frame stream; the pixels are let go.

    Returns
    -------
    frames : Frames or None
    notes : list of str
        Which frames are left out.
    """
    if stream is None:
        return None, []
    rows = _find(source, header, stream, options)
    known = np.isin(rows["form"], list(FRAME_TYPES))
    kinds = rows["form"].astype(np.int64) << 32 | rows["height"].astype(np.int64) << 16
    kinds |= rows["width"]
    kept = known & (kinds == most_common(kinds[known])) if known.any() else known
    notes = _odd(rows["form"][~known], int((known & ~kept).sum()))
    return _frames(source, header, stream, rows[kept]) if kept.any() else None, notes


def _find(source: Source, header: Header, stream: int, options: ReadOptions) -> NDArray[np.void]:
    table = Table.of_frames(source, ROW)
    with options.booking():
        for packet in packets(source, header, [stream]):
            frame = parsed(source, header, packet, _frame)
            if isinstance(frame, FormatError):
                options.book(frame)
                continue
            row = PACKED.pack(packet.number, packet.offset, *frame[:4], *frame.size)
            table.add(row, packet.offset)
    return table.rows


class _Frame(NamedTuple):
    """What one frame packet holds: times, type, (H, W), and where its pixels are."""

    t: int
    start: int
    stop: int
    form: int
    size: tuple[int, int]
    at: int


def _frame(body: bytes) -> _Frame:
    """Read the fields of a frame; raises BrokenTableError."""
    table = root(body, b"FRME")
    t, start, stop, exposure = (table.number(field, "<q", 0) for field in (0, 3, 4, 11))
    if start >= stop and 0 < exposure < 1 << 62 and abs(t) < 1 << 62:
        # The schema of dv-processing has the length; 1.7 and 2.0 write both times as well.
        start, stop = t, t + exposure
    form = table.number(5, "<b", 0)
    width, height = table.number(6, "<h", 0), table.number(7, "<h", 0)
    at, count = table.vector(10, 1)
    frame = _Frame(t, start, stop, form, (height, width), at)
    if form not in FRAME_TYPES:
        return frame
    channels, kind = FRAME_TYPES[form]
    expected = width * height * channels * np.dtype(kind).itemsize
    if width < 1 or height < 1 or count != expected:
        msg = f"expected {width}x{height} pixels of {expected} bytes, got {count} bytes"
        raise BrokenTableError(msg)
    return frame


def _pixels(body: bytes) -> NDArray[Any]:
    """Return (H, W, C), red first; an alpha channel carries no picture and is left out."""
    frame = _frame(body)
    channels, kind = FRAME_TYPES[frame.form]
    shape = (*frame.size, channels)
    pixels = np.frombuffer(body, kind, int(np.prod(shape)), frame.at).reshape(shape)
    if channels > 1:
        pixels = pixels[:, :, 2::-1]
    return np.array(pixels, np.dtype(kind).newbyteorder("="), order="C")


def _odd(forms: NDArray[np.int8], others: int) -> list[str]:
    """Say which frames are left out: formats without a picture, regions of another size."""
    notes = [
        f"{count} frames of OpenCV type {form} are left out: expected 8 or 16 bit, 1, 3 or 4 "
        "channels"
        for form, count in zip(*np.unique(forms, return_counts=True), strict=True)
    ]
    if others:
        notes.append(f"{others} frames of another size or format than most are left out")
    return notes


def _frames(source: Source, header: Header, stream: int, rows: NDArray[np.void]) -> Frames:
    known = rows["stop"] > rows["start"]
    start = np.where(known, rows["start"], rows["t"])
    stop = np.where(known, rows["stop"], rows["t"])
    middle = start + (stop - start) // 2
    order = np.argsort(middle, kind="stable")
    numbers, offsets = rows["number"][order], rows["offset"][order]

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        file = to_read_at(source, numbers)
        # One walk for neighbours, a jump for the rest, where the file can be entered there.
        far = FAR_PACKETS if not file.is_sequential else np.iinfo(np.int64).max
        walk: Iterator[Packet] = iter(())
        last: int | None = None
        for index in indices:
            number = int(numbers[index])
            if last is None or not last < number <= last + far:
                walk = packets(file, header, (stream,), start=(number, int(offsets[index])))
            packet = next(p for p in walk if p.number == number)
            last = number
            pixels = parsed(source, header, packet, _pixels)
            if isinstance(pixels, FormatError):
                raise pixels
            yield Picture(pixels)

    size = (int(rows["width"][0]), int(rows["height"][0]))
    channels = 1 if FRAME_TYPES[int(rows["form"][0])][0] == 1 else 3
    return Frames(middle[order], start[order], stop[order], size, channels, "recorded", reader)
