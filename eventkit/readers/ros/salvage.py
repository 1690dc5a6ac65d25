"""Messages of a bag in the order of the file, where there is no index to go by.

Recorders write the index last, so a recording that was killed and a copy that was cut have none,
while nearly all of their messages are whole; and MCAP files may be written without one, or with
messages of ROS1. Layouts: see `eventkit.readers.ros.chunks`, of ``.db3``
`eventkit.readers.ros.databases`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

from eventkit.errors import FormatError
from eventkit.readers.ros import chunks
from eventkit.readers.ros.chunks import ChunkError, EndError, Lost, Record, take, u32
from eventkit.readers.ros.databases import db3_records
from eventkit.sources import Source

_DAMAGE = (ValueError, KeyError, IndexError, struct.error, OverflowError)


def records(source: Source, kind: str, lost: Lost) -> Iterator[Record]:
    """Yield the whole messages of a ``bag``, ``mcap`` or ``db3`` up to the damage.

    Parameters
    ----------
    source : Source
    kind : str
    lost : callable
        Told of a chunk that is damaged inside; the next one follows.

    Raises
    ------
    ChunkError
        Where nothing says what follows; all before it was yielded. A database ends in silence.
    FormatError
        Where what the bag is compressed with is damaged.
    """
    if kind == "db3":
        yield from db3_records(source, lost)
        return
    walk = _bag if kind == "bag" else _mcap
    try:
        with source.open() as file, source.faults():
            yield from walk(file, lost)
    except (ChunkError, FormatError):
        raise
    except _DAMAGE as err:
        raise ChunkError(str(err) or type(err).__name__) from err


def _chunk(file: Any, end: int, lost: Lost, inside: Iterator[Record]) -> Iterator[Record]:
    """Yield the records of a chunk that ends at a known byte; damage in it is told."""
    try:
        yield from inside
    except _DAMAGE as err:
        chunks.go_to(file, end - 1)
        if not file.read(1):  # it is cut: nothing follows
            raise
        lost(err if isinstance(err, ChunkError) else ChunkError(str(err) or type(err).__name__))
    chunks.go_to(file, end)


# ROS1


def _bag(file: Any, lost: Lost) -> Iterator[Record]:
    file.readline(64)
    known: dict[int, tuple[str, str]] = {}
    while True:
        at = file.tell()
        header = chunks.bag_header(take(file, u32(take(file, 4))))
        size = u32(take(file, 4))
        end = file.tell() + size
        if header[b"op"] == b"\x05" and header[b"compression"] == b"none":
            yield from _chunk(file, end, lost, _bag_records(_Part(file, size), size, known))
        elif header[b"op"] == b"\x05":
            yield from _chunk(file, end, lost, _bag_chunk(file, at, known))
        else:
            data = take(file, size)
            if header[b"op"] == b"\x07":
                _learn(header, data, known)


def _bag_chunk(file: Any, at: int, known: dict[int, tuple[str, str]]) -> Iterator[Record]:
    file.seek(at)
    data = chunks.bag_chunk(file)[1]
    yield from _bag_records(io.BytesIO(data), len(data), known)


def _bag_records(file: Any, size: int, known: dict[int, tuple[str, str]]) -> Iterator[Record]:
    while size > 0:
        length = u32(take(file, 4))
        header = chunks.bag_header(take(file, length))
        inner = u32(take(file, 4))
        data = take(file, inner)
        size -= 8 + length + inner
        if header[b"op"] == b"\x07":
            _learn(header, data, known)
        elif header[b"op"] == b"\x02":
            topic, type_ = known[u32(header[b"conn"])]
            yield Record(topic, type_, chunks.bag_time(header), data)


def _learn(header: dict[bytes, bytes], data: bytes, known: dict[int, tuple[str, str]]) -> None:
    topic, type_ = header[b"topic"].decode(), chunks.bag_header(data)[b"type"].decode()
    known[u32(header[b"conn"])] = (topic, type_)


# MCAP


class _Channels:
    """What the records of an MCAP file have told so far of schemas and channels."""

    def __init__(self) -> None:
        self._types: dict[int, str] = {}
        self._known: dict[int, tuple[str, str, str]] = {}

    def take(self, kind: int, data: bytes) -> Iterator[Record]:
        """Learn from a record, or yield it if it is a message."""
        if kind == chunks.SCHEMA:
            self._types[struct.unpack_from("<H", data)[0]] = chunks.mcap_string(data, 2)[0]
        elif kind == chunks.CHANNEL:
            channel, schema = struct.unpack_from("<HH", data)
            topic, at = chunks.mcap_string(data, 4)
            encoding = chunks.mcap_string(data, at)[0]
            self._known[channel] = (topic, self._types.get(schema, ""), encoding)
        elif kind == chunks.MESSAGE:
            channel, time = chunks.mcap_message(data, 0)
            topic, type_, encoding = self._known[channel]
            yield Record(topic, type_, time, data[22:], encoding)


def _mcap(file: Any, lost: Lost) -> Iterator[Record]:
    take(file, 8)
    known = _Channels()
    while True:
        kind, size = chunks.mcap_head(file)
        if kind == chunks.FOOTER:
            return
        if kind == -1:
            msg = "the file ends before its footer"
            raise ChunkError(msg)
        if kind == chunks.CHUNK:
            yield from _chunk(file, file.tell() + size, lost, _mcap_chunk(file, size, known))
        elif kind in (chunks.SCHEMA, chunks.CHANNEL, chunks.MESSAGE):
            data = take(file, size)
            if kind == chunks.MESSAGE and size < 22:
                msg = f"a message of {size} bytes"
                raise ChunkError(msg)
            yield from known.take(kind, data)
        else:
            _skip(file, kind, size)


def _skip(file: Any, kind: int, size: int) -> None:
    """Pass over a record; attachments may be large. No record is of kind 0."""
    if not kind:
        msg = "a record of kind 0"
        raise ChunkError(msg)
    while size:
        size -= len(take(file, min(size, 1 << 24)))


def _mcap_chunk(file: Any, size: int, known: _Channels) -> Iterator[Record]:
    at = file.tell()
    try:
        content = chunks.mcap_chunk(file, size)
    except EndError:
        file.seek(at + 28)
        if take(file, u32(take(file, 4))):
            raise
        take(file, 8)  # it is not compressed, so that a part of it still has whole messages
        yield from _mcap_plain(file, known)
        raise
    for kind, start, end in chunks.mcap_records(content):
        yield from known.take(kind, content[start:end])


def _mcap_plain(file: Any, known: _Channels) -> Iterator[Record]:
    while (head := chunks.mcap_head(file))[0] in (chunks.SCHEMA, chunks.CHANNEL, chunks.MESSAGE):
        data = take(file, head[1])
        if head[0] == chunks.MESSAGE and len(data) < 22:
            return
        yield from known.take(head[0], data)


class _Part:
    """What `_take` needs of a file, over the next bytes of one."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        part = bytes(self._file.read(min(size, self._left)))
        self._left -= len(part)
        return part
