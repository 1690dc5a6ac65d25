"""The container of AEDAT4: the header, a walk over its packets, and the tables in them.

Format (https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html):
a version line of 14 bytes; a header of its own size (compression, where the packets end, XML that
names the streams); packets of stream u32, size u32 and so many bytes; a table of the packets.
Header and packets are FlatBuffers with their size in front (`eventkit.readers.aedat.flatbuffers`),
packets are compressed one by one. A packet says how long it is before it is decompressed, so where
its content is damaged the next one is still found.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, TypeVar
from xml.etree import ElementTree as ET

import numpy as np

from eventkit._optional import require
from eventkit.errors import FormatError
from eventkit.readers.aedat.flatbuffers import BrokenTableError, root, rows
from eventkit.sources import Source

Item = TypeVar("Item")

MAGIC = b"#!AER-DAT4.0\r\n"
MAX_HEADER_BYTES = 16 << 20
READ_BYTES = 16 << 20
"""A forged size must not take memory before the bytes are there."""
MAX_PACKET_BYTES = 256 << 20
"""The largest content of a packet: 16 million events, or four times a frame of 4096x3072 in 16 bit
colour. Packets of cameras are a thousandth of it, and nothing else bounds what ZSTD grows to."""
MAX_TABLE_BYTES = 16 << 20
"""The packet table is but a hint: one of 300,000 packets is read, a longer one is done without."""
PADDING_BYTES = 64
"""What a writer may leave behind a FlatBuffer to bring it to a multiple of its alignment."""
LZ4_RATIO = 255
"""No LZ4 block grows by more."""
COMPRESSIONS = ("none", "LZ4", "LZ4 high", "ZSTD", "ZSTD high")


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream as the header names it.

    ``kind`` is ``EVTS``, ``FRME``, ``IMUS``, ``TRIG`` ...; ``source`` is the camera it comes from.
    """

    number: int
    kind: str
    size: tuple[int, int] | None
    source: str = ""


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
    """A packet: its place among all, its byte, its stream, and its content as it is stored."""

    number: int
    offset: int
    stream: int
    stored: bytes


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
        source = node.findtext("./node[@name='info']/attr[@key='source']", "").strip()
        streams.append(Stream(int(name), kind, size, source))
    return tuple(streams)


def packets(
    source: Source, header: Header, wanted: Collection[int], *, start: tuple[int, int] | None = None
) -> Iterator[Packet]:
    """Yield the packets of the ``wanted`` streams, not decompressed; others are passed over.

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
        At a packet that is cut or whose head is damaged, so that the next one is not found, with
        its number and byte; those before were yielded.
    """
    if not wanted:
        return
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
                if size > MAX_PACKET_BYTES:
                    raise _fault(source, number, offset, f"it has {size} bytes", "corrupt")
                with source.faults():
                    stored = _read(file, size)
                if len(stored) < size:
                    raise _fault(source, number, offset, "the file ends in it", "truncated")
                yield Packet(number, offset, stream, stored)
            number, offset = number + 1, after


def parsed(
    source: Source, header: Header, packet: Packet, parse: Callable[[bytes], Item]
) -> Item | FormatError:
    """Return what a packet holds, or what is wrong with it; the next one is not concerned.

    Parameters
    ----------
    source : Source
    header : Header
    packet : Packet
    parse : callable
        ``parse(content)``; raises BrokenTableError.
    """
    try:
        return parse(decompress(packet.stored, header.compression))
    except (RuntimeError, EOFError, ValueError, MemoryError, BrokenTableError) as err:
        msg = (
            f"expected packet {packet.number} to be whole, got one that cannot be decoded ({err}); "
            "--on-error skip leaves it out"
        )
        return FormatError(msg, path=source, offset=packet.offset, reason="corrupt")


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
            stored = _read(file, min(source.size - header.stop, MAX_TABLE_BYTES + 1))
        body = decompress(stored, header.compression, limit=MAX_TABLE_BYTES)
        table = rows(body, b"FTAB", TABLE_ROW)
    except (RuntimeError, EOFError, ValueError, MemoryError, BrokenTableError):
        return 0  # FormatError is a ValueError
    here = table["elements"][table["packet"] & 0xFFFFFFFF == stream]
    if here.size and (here.min() < 0 or here.max() > source.size * LZ4_RATIO):
        return 0
    return min(int(here.sum()), source.size * LZ4_RATIO // 16)


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


def decompress(stored: bytes, compression: int, *, limit: int = MAX_PACKET_BYTES) -> bytes:
    """Return the content of a packet, a FlatBuffer with its size in front.

    No more is decompressed than it says it has, and not more than ``limit``.

    Raises
    ------
    BrokenTableError, RuntimeError
        If it is damaged, longer than ``limit``, or not as long as it says.
    """
    if compression == 0:
        body, more = stored, False
    else:
        body, more = (_lz4 if compression <= 2 else _zstd)(stored, limit)
    said = _said(body, limit)
    if more or not said <= len(body) <= said + PADDING_BYTES:
        got = len(body) if len(body) < said else "more"
        msg = f"expected {said} bytes, as it says, got {got}"
        raise BrokenTableError(msg)
    return body


def _said(body: bytes, limit: int) -> int:
    """Return how many bytes a FlatBuffer with its size in front says it has."""
    said = 4 + int.from_bytes(body[:4], "little")
    if said > limit:
        msg = f"expected at most {limit} bytes, got a packet of {said}"
        raise BrokenTableError(msg)
    return said


def _lz4(stored: bytes, limit: int) -> tuple[bytes, bool]:
    frame = require("lz4.frame", extra="aedat4", purpose="reading AEDAT4 files with LZ4")
    decoder = frame.LZ4FrameDecompressor()
    # Nearly all packets are done with that: to ask for their size first costs a third more.
    body: bytes = decoder.decompress(stored, min(4 * len(stored), limit))
    if not decoder.eof:
        left = _said(body, min(limit, LZ4_RATIO * len(stored))) + PADDING_BYTES - len(body)
        body += decoder.decompress(b"", max(left, 0))
    return body, not decoder.eof


def _zstd(stored: bytes, limit: int) -> tuple[bytes, bool]:
    zstandard = require("zstandard", extra="aedat4", purpose="reading AEDAT4 files with ZSTD")
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(stored)
        body = reader.read(4)
        left = _said(body, limit) + PADDING_BYTES - len(body)
        parts = [body]
        while left > 0 and (part := reader.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts), bool(reader.read(1))
    except zstandard.ZstdError as err:
        raise BrokenTableError(str(err)) from err
