"""The container of AEDAT3.1: a text header, then packets of events of one type and one length.

Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-3.1.html.
Little-endian. A packet has a head of 28 bytes: type, source (i16), size of an event, place of its
time in it, overflows of the 31-bit clock, capacity, number, number of valid ones (i32), and then
``number`` events: cAER's own reader goes on by the number (``modules/misc/in/input_common.c`` of
cAER). Writers leave the capacity equal to it or larger, as the packet was made; where it is larger,
the next head has to be sound too, so that a damaged number is told from a true one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from eventkit.errors import FormatError
from eventkit.readers.aedat.jaer import chip_named
from eventkit.sources import Source

MAGIC = b"#!AER-DAT3."
END = b"#!END-HEADER"
MAX_HEADER_BYTES = 16 << 20
LINE_BYTES = 1 << 16
HEAD = struct.Struct("<hhiiiiii")
PIECE_EVENTS = 1 << 15

SPECIAL, POLARITY, FRAME, IMU6, IMU9 = range(5)
KINDS = ("special", "polarity", "frame", "imu6", "imu9", "sample", "ear", "config", "point1d",
         "point2d", "point3d", "point4d", "spike")  # fmt: skip
SIZES = {SPECIAL: 8, POLARITY: 8, IMU6: 36, IMU9: 48}
FRAME_HEAD_BYTES = 36


@dataclass(frozen=True, slots=True)
class Header:
    """Where the packets start, and the sources by number, the older names of a source last."""

    start: int
    sources: dict[int, tuple[str, ...]]


class Packet(NamedTuple):
    """The head of a packet; ``start`` is the byte of its first event, ``base`` goes to its times.

    ``whole`` is how many of its ``number`` events are in the file.
    """

    offset: int
    kind: int
    source: int
    size: int
    base: int
    number: int
    whole: int

    @property
    def start(self) -> int:
        """Byte of the first event."""
        return self.offset + HEAD.size


def read_header(source: Source) -> Header:
    """Read the text header.

    Raises
    ------
    FormatError
        If it is of another version or format, or does not end.
    """
    start = 0
    lines: list[bytes] = []
    with source.open() as file, source.faults():
        while start < MAX_HEADER_BYTES:
            line = file.readline(LINE_BYTES)
            start += len(line)
            if not line.startswith(b"#") or not line.endswith(b"\n"):
                break
            if line.strip() == END:
                return _header(source, start, lines)
            lines.append(line.strip())
            if len(lines) == 1 and line.strip() != MAGIC + b"1":
                msg = (
                    f"expected AEDAT 3.1, got {line.strip()[2:].decode('latin-1')}, whose header "
                    "has no end and whose rows count from the bottom; convert it with DV"
                )
                raise FormatError(msg, path=source, offset=0, reason="bad_header")
    msg = f"expected lines up to {END.decode()}, got another line or the end; copy the file again"
    raise FormatError(msg, path=source, offset=start, reason="bad_header")


def _header(source: Source, start: int, lines: list[bytes]) -> Header:
    sources: dict[int, tuple[str, ...]] = {}
    older: list[str] = []
    for line in lines:
        text = line.decode("latin-1")
        if match := re.fullmatch(r"#\s*Format:\s*(\S+)", text):
            if match[1].upper() != "RAW":
                msg = f"expected the format RAW, got {match[1]}, of which no description exists"
                raise FormatError(msg, path=source, offset=0, reason="bad_header")
        elif match := re.fullmatch(r"#\s*(-*)\s*Source (\d{1,5}):\s*(.*)", text):
            if match[1]:
                older.append(match[3].strip())
            else:
                sources[int(match[2])] = (match[3].strip(),)
    return Header(start, {number: (*names, *older) for number, names in sources.items()})


def size_of(header: Header, number: int | None) -> tuple[tuple[int, int] | None, str]:
    """Return the size of the sensor that the header names, and the words for it."""
    for name in header.sources.get(-1 if number is None else number, ()):
        chip = chip_named(name.partition(" ")[0])
        if chip is not None:
            return chip.size, f"{chip.name} in the header"
    return None, ""


def packets(source: Source, start: int) -> Iterator[tuple[Packet, BinaryIO]]:
    """Yield each packet's head and the file, from which its events may be read.

    Raises
    ------
    FormatError
        At a damaged head; and after a packet that the file ends in, which was yielded.
    """
    offset, length = start, source.size
    with ExitStack() as files:
        file = files.enter_context(source.open())
        ahead: BinaryIO | None = None
        while True:
            with source.faults():
                at = file.seek(offset)
                head = file.read(HEAD.size)
            if not head and at == offset:
                return
            if len(head) < HEAD.size:  # decompressed, a file cannot be entered past its end
                raise _cut(source, offset)
            fields = HEAD.unpack(head)
            packet = _packet(source, offset, fields, length)
            end = packet.start + packet.number * packet.size
            if _capacity(fields) != packet.number:
                # By a file of its own: what is compressed is inflated anew for every step back.
                ahead = ahead or files.enter_context(source.open())
                if not _leads_on(source, ahead, end):
                    raise _damaged(source, offset, fields)
            yield packet, file
            offset = end
            if packet.whole < packet.number:
                raise _cut(source, packet.start + packet.whole * packet.size)


def _packet(source: Source, offset: int, fields: tuple[int, ...], length: int | None) -> Packet:
    if not _sound(fields):
        raise _damaged(source, offset, fields)
    kind, origin, size, _, overflow, _, number, _ = fields
    whole = number
    if length is not None:
        whole = max(0, min(number, (length - offset - HEAD.size) // size))
    return Packet(offset, kind, origin, size, overflow << 31, number, whole)


def _sound(fields: tuple[int, ...]) -> bool:
    """Return whether the fields of a head may stand together."""
    kind, _, size, at, overflow, capacity, number, valid = fields
    return (
        kind >= 0
        and size >= 4
        and 0 <= at <= size - 4
        and overflow >= 0
        and 0 <= valid <= number <= capacity
        and SIZES.get(kind, size) == size
        and (kind not in SIZES or at == 4)
        and (kind != FRAME or size >= FRAME_HEAD_BYTES)
    )


def _capacity(fields: tuple[int, ...]) -> int:
    return fields[5]


def _leads_on(source: Source, file: BinaryIO, end: int) -> bool:
    """Return whether another head, cut or not, or the end of the file stands at this byte."""
    if source.size is not None and end >= source.size:  # too far away for a file system to seek
        return True
    with source.faults():
        file.seek(end)
        head = file.read(HEAD.size)
    return len(head) < HEAD.size or _sound(HEAD.unpack(head))


def _damaged(source: Source, offset: int, fields: tuple[int, ...]) -> FormatError:
    kind, _, size, _, _, capacity, number, _ = fields
    msg = (
        f"expected the head of a packet, got type {kind}, {number} events of {size} bytes in "
        f"room for {capacity}; --on-error skip keeps what comes before it"
    )
    return FormatError(msg, path=source, offset=offset, reason="corrupt")


def _cut(source: Source, offset: int) -> FormatError:
    msg = (
        "expected a whole packet, got the end of the file: it is cut; --on-error skip keeps the "
        "whole events"
    )
    return FormatError(msg, path=source, offset=offset, reason="truncated")


def bodies(
    source: Source, start: int, kinds: Collection[int], number: int | None = None
) -> Iterator[tuple[Packet, int, bytes]]:
    """Yield (packet, first event, whole events) in pieces; nothing of packets not wanted.

    Parameters
    ----------
    source : Source
    start : int
        Byte of a packet.
    kinds : collection of int
        Types whose events are wanted.
    number : int, optional
        The source that is wanted; default all.
    """
    for packet, file in packets(source, start):
        if packet.kind not in kinds or (number is not None and packet.source != number):
            yield packet, 0, b""
            continue
        step = max(1, PIECE_EVENTS * 8 // packet.size)
        if not packet.whole:
            yield packet, 0, b""
        for first in range(0, packet.whole, step):
            wanted = min(step, packet.whole - first) * packet.size
            with source.faults():
                body = file.read(wanted)
            whole = len(body) // packet.size * packet.size
            yield packet, first, body[:whole]
            if len(body) < wanted:
                raise _cut(source, packet.start + first * packet.size + whole)
