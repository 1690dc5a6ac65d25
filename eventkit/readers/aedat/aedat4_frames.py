"""Frames of AEDAT4: times in one pass, pixels when they are asked for.

A frame has an OpenCV type number as its format, and colours are blue, green, red.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.frames import Frames, Picture
from eventkit.readers.aedat.aedat4_packets import Header, Packet, packets, parsed
from eventkit.readers.aedat.flatbuffers import BrokenTableError, root
from eventkit.readers.base import ReadOptions
from eventkit.sources import Source

Place = tuple[int, int]
"""Number and byte of a packet."""

FRAME_TYPES = {
    0: (1, "u1"),
    2: (1, "<u2"),
    16: (3, "u1"),
    18: (3, "<u2"),
    24: (4, "u1"),
    26: (4, "<u2"),
}
"""OpenCV type number -> channels and type of a pixel; others hold signed or floating numbers."""


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
    places: list[Place] = []
    found: list[_Frame] = []
    for packet in options.whole(packets(source, header, [] if stream is None else [stream])):
        frame = parsed(source, header, packet, _frame)
        if isinstance(frame, FormatError):
            options.book(frame)
            continue
        places.append((packet.number, packet.offset))
        found.append(frame)
    shapes = Counter((frame.shape, frame.form) for frame in found if frame.shape is not None)
    if stream is None or not shapes:
        return None, _odd(found, None)
    common = shapes.most_common(1)[0][0]
    kept = [i for i, frame in enumerate(found) if (frame.shape, frame.form) == common]
    frames = _frames(source, header, stream, [places[i] for i in kept], [found[i] for i in kept])
    return frames, _odd(found, common)


class _Frame(NamedTuple):
    """What one frame packet holds; ``shape`` is (H, W, C), None for a format without a picture."""

    t: int
    start: int
    stop: int
    form: int
    shape: tuple[int, int, int] | None
    at: int


def _frame(body: bytes) -> _Frame:
    """Read the fields of a frame; raises BrokenTableError."""
    table = root(body, b"FRME")
    t, start, stop = (table.number(field, "<q", 0) for field in (0, 3, 4))
    form = table.number(5, "<b", 0)
    width, height = table.number(6, "<h", 0), table.number(7, "<h", 0)
    at, count = table.vector(10, 1)
    head = (t, start, stop, form)
    if form not in FRAME_TYPES:
        return _Frame(*head, None, at)
    channels, kind = FRAME_TYPES[form]
    expected = width * height * channels * np.dtype(kind).itemsize
    if width < 1 or height < 1 or count != expected:
        msg = f"expected {width}x{height} pixels of {expected} bytes, got {count} bytes"
        raise BrokenTableError(msg)
    return _Frame(*head, (height, width, channels), at)


def _pixels(body: bytes) -> NDArray[Any]:
    """Return (H, W, C), red first; an alpha channel carries no picture and is left out."""
    frame = _frame(body)
    assert frame.shape is not None
    kind = FRAME_TYPES[frame.form][1]
    count = int(np.prod(frame.shape))
    pixels = np.frombuffer(body, kind, count, frame.at).reshape(frame.shape)
    if frame.shape[2] > 1:
        pixels = pixels[:, :, 2::-1]
    return np.array(pixels, np.dtype(kind).newbyteorder("="), order="C")


def _odd(found: Sequence[_Frame], common: object) -> list[str]:
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


def _frames(
    source: Source, header: Header, stream: int, places: list[Place], kept: list[_Frame]
) -> Frames:
    assert kept[0].shape is not None
    height, width, channels = kept[0].shape
    table = np.array([frame[:3] for frame in kept], np.int64)
    known = table[:, 2] > table[:, 1]
    start = np.where(known, table[:, 1], table[:, 0])
    stop = np.where(known, table[:, 2], table[:, 0])
    middle = start + (stop - start) // 2
    order = np.argsort(middle, kind="stable")
    where = [places[i] for i in order]

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        # One walk for neighbours, a jump for the rest: a walk reads 8 bytes of each packet.
        walk: Iterator[Packet] = iter(())
        last: Place | None = None
        for index in indices:
            place = where[index]
            if last is None or place < last or place[0] > last[0] + 1000:
                walk = packets(source, header, (stream,), start=place)
            packet = next(p for p in walk if p.number == place[0])
            last = place
            pixels = parsed(source, header, packet, _pixels)
            if isinstance(pixels, FormatError):
                raise pixels
            yield Picture(pixels)

    return Frames(
        middle[order],
        start[order],
        stop[order],
        (width, height),
        1 if channels == 1 else 3,
        "recorded",
        reader,
    )
