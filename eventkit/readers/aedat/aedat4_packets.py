"""The container of AEDAT4: the header, a walk over its packets, and the tables in them.

Format (https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html):
a version line of 14 bytes; a header of its own size (compression, where the packets end, XML that
names the streams); packets of stream u32, size u32 and so many bytes; a table of the packets.
Header and packets are FlatBuffers (https://flatbuffers.dev/internals/) with their size in front,
packets are compressed one by one. The few tables that there are (events, frame, IMU, triggers) are
walked here with every position checked against the bytes there are: a damaged file ends in
`FormatError`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import FormatError
from eventkit.sources import Source

MAGIC = b"#!AER-DAT4.0\r\n"
MAX_HEADER_BYTES = 16 << 20
READ_BYTES = 16 << 20
"""A forged size must not take memory before the bytes are there."""
LZ4_RATIO = 255
"""No LZ4 block grows by more."""
COMPRESSIONS = ("none", "LZ4", "LZ4 high", "ZSTD", "ZSTD high")


class BrokenTableError(Exception):
    """A position in a FlatBuffer that points out of it; turned into `FormatError` by callers."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream as the header names it: ``kind`` is ``EVTS``, ``FRME``, ``IMUS``, ``TRIG`` ..."""

    number: int
    kind: str
    size: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says; ``stop`` is the byte after the last packet, if it is known."""

    compression: int
    start: int
    stop: int | None
    streams: tuple[Stream, ...]

    def of(self, kind: str) -> list[int]:
        """Return the numbers of the streams of one kind, ascending."""
        return sorted(stream.number for stream in self.streams if stream.kind == kind)


class Packet(NamedTuple):
    """A packet: its place among all, its byte, its stream, and its content, decompressed."""

    number: int
    offset: int
    stream: int
    body: bytes


def read_header(source: Source) -> Header:
    """Read the header.

    Raises
    ------
    FormatError
        If it is cut, or damaged in any way.
    """
    try:
        with source.open() as file, source.faults():
            return _header(file.read(len(MAGIC) + 4), file)
    except (BrokenTableError, struct.error, UnicodeDecodeError, ET.ParseError) as err:
        msg = f"expected an AEDAT4 header, got one that cannot be read: {err}; copy the file again"
        raise FormatError(msg, path=source, offset=len(MAGIC), reason="bad_header") from err


def _header(start: bytes, file: BinaryIO) -> Header:
    size = int.from_bytes(start[len(MAGIC) :], "little")
    if len(start) < len(MAGIC) + 4 or size > MAX_HEADER_BYTES:
        msg = "it is cut or its length is damaged"
        raise BrokenTableError(msg)
    data = start[len(MAGIC) :] + file.read(size)
    if len(data) < 4 + size:
        msg = "it is cut or its length is damaged"
        raise BrokenTableError(msg)
    table = root(data, b"IOHE")
    stop = table.number(1, "<q", -1)
    compression = table.number(0, "<i", 0)
    if not 0 <= compression < len(COMPRESSIONS):
        msg = f"expected compression 0 to {len(COMPRESSIONS) - 1}, got {compression}"
        raise BrokenTableError(msg)
    at, count = table.vector(2, 1)
    streams = _streams(data[at : at + count].rstrip(b"\0"))
    first = len(MAGIC) + len(data)
    if stop > 0 and stop < first:
        msg = f"expected packets to end after byte {first}, got {stop}"
        raise BrokenTableError(msg)
    return Header(compression, first, stop if stop > 0 else None, streams)


def _streams(xml: bytes) -> tuple[Stream, ...]:
    text = xml.decode("utf-8").strip()
    if "<!" in text:  # no declarations: entities could grow without end
        msg = "expected plain XML, got a declaration in it"
        raise BrokenTableError(msg)
    tree = ET.fromstring(text) if text else ET.Element("dv")
    streams = []
    for node in tree.iterfind("./node[@name='outInfo']/node"):
        name = node.get("name", "")
        if not re.fullmatch(r"\d{1,9}", name):
            msg = f"expected streams with numbers, got {name[:20]!r}"
            raise BrokenTableError(msg)
        kind = node.findtext("./attr[@key='typeIdentifier']", "").strip()
        width, height = (
            node.findtext(f"./node[@name='info']/attr[@key='{key}']", "").strip()
            for key in ("sizeX", "sizeY")
        )
        size = None
        if re.fullmatch(r"[1-9]\d{0,4}", width) and re.fullmatch(r"[1-9]\d{0,4}", height):
            size = (int(width), int(height))
        streams.append(Stream(int(name), kind, size))
    return tuple(streams)


def packets(
    source: Source, header: Header, wanted: Collection[int], *, start: tuple[int, int] | None = None
) -> Iterator[Packet]:
    """Yield the packets of the ``wanted`` streams; others are passed over without decompressing.

    Parameters
    ----------
    source : Source
    header : Header
    wanted : collection of int
        Numbers of streams.
    start : (number, byte), optional
        A packet to start at instead of the first one.

    Raises
    ------
    FormatError
        At a packet that is cut or damaged, with its number and byte; those before were yielded.
    """
    known = {stream.number for stream in header.streams}
    number, offset = (0, header.start) if start is None else start
    stop = header.stop if header.stop is not None else source.size
    length = source.size
    with source.open() as file:
        while stop is None or offset < stop:
            with source.faults():
                at = file.seek(offset)
                words = file.read(8)
            if not words and at == offset and header.stop is None:
                return
            if len(words) < 8:
                raise _fault(source, number, offset, "the file ends in it", "truncated")
            stream, size = struct.unpack("<II", words)
            after = offset + 8 + size
            if length is not None and after > length:
                raise _fault(source, number, offset, "the file ends in it", "truncated")
            if stream not in known or (stop is not None and after > stop):
                raise _fault(source, number, offset, "its head is damaged", "corrupt")
            if stream in wanted:
                with source.faults():
                    stored = _read(file, size)
                if len(stored) < size:
                    raise _fault(source, number, offset, "the file ends in it", "truncated")
                try:
                    body = decompress(stored, header.compression)
                except (RuntimeError, EOFError, ValueError, MemoryError, BrokenTableError) as err:
                    raise _fault(source, number, offset, str(err), "corrupt") from err
                yield Packet(number, offset, stream, body)
            number, offset = number + 1, after


TABLE_ROW = np.dtype(
    [("offset", "<i8"), ("packet", "<u8"), ("elements", "<i8"), ("first", "<i8"), ("last", "<i8")]
)


def expected_elements(source: Source, header: Header, stream: int) -> int:
    """Return how many elements the table at the end promises; 0 where it is absent or damaged.

    A hint for columns of the right length, never more than the bytes could hold.
    """
    if header.stop is None or source.size is None or header.stop >= source.size:
        return 0
    try:
        with source.open() as file, source.faults():
            file.seek(header.stop)
            stored = _read(file, source.size - header.stop)
        table = rows(decompress(stored, header.compression), b"FTAB", TABLE_ROW)
    except (RuntimeError, EOFError, ValueError, MemoryError, BrokenTableError):
        return 0  # FormatError is a ValueError
    here = table["elements"][table["packet"] & 0xFFFFFFFF == stream]
    if here.size and (here.min() < 0 or here.max() > source.size * LZ4_RATIO):
        return 0
    return min(int(here.sum()), source.size * LZ4_RATIO // 16)


def damaged(source: Source, packet: Packet, why: object) -> FormatError:
    """Return the error for a packet whose content is not what it should be."""
    return _fault(source, packet.number, packet.offset, str(why), "corrupt")


def _fault(source: Source, number: int, offset: int, why: str, reason: str) -> FormatError:
    msg = (
        f"expected packet {number} to be whole, got one that cannot be decoded ({why}); "
        "--on-error skip keeps what comes before it"
    )
    return FormatError(msg, path=source, offset=offset, reason=reason)


def _read(file: BinaryIO, size: int) -> bytes:
    if size <= READ_BYTES:
        return file.read(size)
    parts = []
    while size and (part := file.read(min(size, READ_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def decompress(stored: bytes, compression: int) -> bytes:
    """Return the content of a packet."""
    if compression == 0:
        return stored
    if compression <= 2:
        return _lz4(stored)
    zstandard = require("zstandard", extra="aedat4", purpose="reading AEDAT4 files with ZSTD")
    parts = []
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(stored)
        while part := reader.read(1 << 20):
            parts.append(part)
    except zstandard.ZstdError as err:
        raise BrokenTableError(str(err)) from err
    return b"".join(parts)


def _lz4(stored: bytes) -> bytes:
    frame = require("lz4.frame", extra="aedat4", purpose="reading AEDAT4 files with LZ4")
    # Where the frame states its size, that much is taken at once.
    states_size = len(stored) > 14 and stored[4] & 0x08
    if states_size and int.from_bytes(stored[6:14], "little") > LZ4_RATIO * len(stored):
        msg = "its LZ4 frame claims more than it can hold"
        raise BrokenTableError(msg)
    body: bytes = frame.decompress(stored)
    return body


class Table:
    """One table of a FlatBuffer; every access is checked."""

    __slots__ = ("_at", "_data", "_fields")

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        back = self._unpack("<i", at)
        slots = at - back
        size = self._unpack("<H", slots)
        if size < 4 or size % 2:
            msg = "a FlatBuffer table without fields"
            raise BrokenTableError(msg)
        if slots + size > len(data):
            msg = "a FlatBuffer table runs out of its packet"
            raise BrokenTableError(msg)
        self._fields = struct.unpack_from(f"<{size // 2 - 2}H", data, slots + 4)

    def _unpack(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self._data) - struct.calcsize(form):
            msg = "a FlatBuffer position points out of its packet"
            raise BrokenTableError(msg)
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value

    def number(self, field: int, form: str, default: int) -> int:
        """Return an integer field."""
        place = self._fields[field] if field < len(self._fields) else 0
        return self._unpack(form, self._at + place) if place else default

    def vector(self, field: int, item: int) -> tuple[int, int]:
        """Return where a vector's items start and how many there are, of ``item`` bytes each."""
        place = self._fields[field] if field < len(self._fields) else 0
        if not place:
            return 0, 0
        at = self._at + place
        at += self._unpack("<I", at)
        count = self._unpack("<I", at)
        if at + 4 + count * item > len(self._data):
            msg = "a FlatBuffer vector runs out of its packet"
            raise BrokenTableError(msg)
        return at + 4, count


def root(data: bytes, kind: bytes) -> Table:
    """Return the root table of a FlatBuffer with its size in front."""
    if len(data) < 12 or int.from_bytes(data[:4], "little") > len(data) - 4:
        msg = "a FlatBuffer is shorter than it says"
        raise BrokenTableError(msg)
    if data[8:12] != kind:
        msg = f"expected a FlatBuffer {kind.decode()}, got {data[8:12]!r}"
        raise BrokenTableError(msg)
    return Table(data, 4 + int.from_bytes(data[4:8], "little"))


def rows(data: bytes, kind: bytes, fields: np.dtype[Any]) -> NDArray[Any]:
    """Return a vector of tables as a structured array: IMU samples, triggers.

    Parameters
    ----------
    data : bytes
        A packet.
    kind : bytes
        Its FlatBuffer identifier.
    fields : dtype
        Names and types of the tables' fields, in the order of the schema; absent ones are zero.
    """
    at, count = root(data, kind).vector(0, 4)
    content = np.frombuffer(data, np.uint8)
    places = at + 4 * np.arange(count, dtype=np.int64)
    tables = places + _gather(content, places, "<u4")
    slots = tables - _gather(content, tables, "<i4")
    sizes = _gather(content, slots, "<u2")
    found = np.zeros(count, fields)
    for number, name in enumerate(fields.names or ()):
        has = sizes >= 6 + 2 * number
        place = np.zeros(count, np.int64)
        place[has] = _gather(content, slots[has] + 4 + 2 * number, "<u2")
        has = place != 0
        found[name][has] = _gather(content, (tables + place)[has], fields[name].str, raw=True)
    return found


def _gather(
    content: NDArray[np.uint8], places: NDArray[np.int64], form: str, *, raw: bool = False
) -> NDArray[Any]:
    """Return the numbers at these bytes; int64 unless ``raw``."""
    form_of = np.dtype(form)
    if places.size and not (places.min() >= 0 and places.max() <= content.size - form_of.itemsize):
        msg = "a FlatBuffer position points out of its packet"
        raise BrokenTableError(msg)
    taken = content[places[:, None] + np.arange(form_of.itemsize)]
    values = np.ascontiguousarray(taken).view(form_of)[:, 0]
    return values if raw else values.astype(np.int64)
