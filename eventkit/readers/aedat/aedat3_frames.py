"""Frames of AEDAT3.1: what stands before their pixels in one pass, pixels when they are asked for.

Frames hold 16 bits a pixel, "normalized to 16 bit depth", red first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.frames import Frames, Picture
from eventkit.readers.aedat.aedat3_packets import (
    FRAME,
    FRAME_HEAD_BYTES,
    Header,
    Packet,
    packets,
)
from eventkit.readers.aedat.tables import Table, most_common, to_read_at
from eventkit.readers.base import ReadOptions
from eventkit.sources import Source

MAX_PICTURE_BYTES = 256 << 20
"""Ten times a frame of 4096x3072; a forged size must not take memory for what zeros inflate to."""
HEAD = np.dtype(
    [("info", "<u4"), ("start", "<i4"), ("end", "<i4"), ("expose", "<i4"), ("read", "<i4")]
    + [(name, "<i4") for name in ("width", "height", "left", "top")]
)
PLACE = struct.Struct("<qqih")
ROW = np.dtype([("at", "<i8"), ("base", "<i8"), ("size", "<i4"), ("source", "<i2"), ("head", HEAD)])
"""A frame: its byte, what goes to its times, its length and source (as `PLACE` packs them)."""


class Survey(NamedTuple):
    """What a walk over the heads finds: the sources that there are, and frames as `ROW`."""

    sources: set[int]
    frames: NDArray[np.void]


def survey(source: Source, header: Header, options: ReadOptions) -> Survey:
    """Walk over the heads of packets and frames."""
    sources: set[int] = set()
    frames = Table.of_frames(source, ROW)
    with options.booking():
        for packet, file in packets(source, header.start):
            sources.add(packet.source)
            if packet.kind == FRAME:
                _add(frames, source, packet, file)
    return Survey(sources, frames.rows)


def _add(frames: Table, source: Source, packet: Packet, file: BinaryIO) -> None:
    for at in range(packet.start, packet.start + packet.whole * packet.size, packet.size):
        with source.faults():
            file.seek(at)
            head = file.read(FRAME_HEAD_BYTES)
            end = file.seek(at + packet.size)
        if end < at + packet.size:  # what is compressed ends in it; of others the length is known
            return
        frames.add(PLACE.pack(at, packet.base, packet.size, packet.source) + head, at)


def read_frames(
    source: Source, found: NDArray[np.void], number: int | None
) -> tuple[Frames | None, list[str]]:
    """Keep the frames of a source; those of another size than most are left out.

    Returns
    -------
    frames : Frames or None
    notes : list of str
    """
    here = np.ones(found.size, np.bool_) if number is None else found["source"] == number
    shapes = _shapes(found)
    valid = here & (shapes != 0)
    if not valid.any():
        return None, []
    common = most_common(shapes[valid])
    kept = valid & (shapes == common)
    odd = int(here.sum() - kept.sum())
    notes = [f"{odd} frames are invalid or of another size than most: left out"] if odd else []
    shape = (common >> 3 & (1 << 29) - 1, common >> 32, common & 7)
    filters = found["head"]["info"][valid] >> np.uint32(4) & np.uint32(15)
    if filters.any() and shape[2] == 1:
        notes.append("the sensor has a colour filter: frames are its raw gray samples")
    return _frames(source, found, kept, shape), notes


def _shapes(found: NDArray[np.void]) -> NDArray[np.int64]:
    """Return width, height and channels of each frame as one number; 0 for what is no frame."""
    head = found["head"]
    width, height = head["width"].astype(np.int64), head["height"].astype(np.int64)
    channels = (head["info"] >> np.uint32(1) & np.uint32(7)).astype(np.int64)
    room = np.minimum(found["size"] - FRAME_HEAD_BYTES, MAX_PICTURE_BYTES)
    sound = (head["info"] & np.uint32(1) != 0) & (width > 0) & (height > 0)
    sound &= (channels == 1) | (channels == 3) | (channels == 4)
    sound &= width * height <= room // (2 * np.maximum(channels, 1))
    # In a picture of so many bytes no side is longer than 2^27.
    return np.where(sound, width << 32 | height << 3 | channels, 0)


def _frames(
    source: Source, found: NDArray[np.void], kept: NDArray[np.bool_], shape: tuple[int, int, int]
) -> Frames:
    base = found["base"][kept]
    start, stop, end = (found["head"][name][kept] + base for name in ("expose", "read", "end"))
    known = stop > start
    start, stop = np.where(known, start, end), np.where(known, stop, end)
    middle = start + (stop - start) // 2
    order = np.argsort(middle, kind="stable")
    places = found["at"][kept][order] + FRAME_HEAD_BYTES
    height, width, channels = shape
    size = 2 * width * height * channels

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        with to_read_at(source, places).open() as file:
            for index in indices:
                at = int(places[index])
                with source.faults():
                    file.seek(at)
                    data = file.read(size)
                if len(data) < size:
                    msg = "expected a whole frame, got the end of the file; copy it again"
                    raise FormatError(msg, path=source, offset=at, reason="truncated")
                pixels = np.frombuffer(data, "<u2").reshape(shape)[:, :, :3]
                yield Picture(np.array(pixels, np.uint16, order="C"))

    count = 1 if channels == 1 else 3
    return Frames(
        middle[order], start[order], stop[order], (width, height), count, "recorded", reader
    )
