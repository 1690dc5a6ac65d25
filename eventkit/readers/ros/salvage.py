"""Messages of a bag whose index is missing or damaged, in the order of the file.

Recorders write the index last, so a recording that was killed and a copy that was cut have none,
while nearly all of their messages are whole. Layouts: http://wiki.ros.org/Bags/Format/2.0 and
https://mcap.dev/spec; ROS2's ``.db3`` is SQLite. Everything ends in silence at the first byte that
cannot be right; the caller knows that something is wrong and says so.
"""

from __future__ import annotations

import bz2
import io
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from eventkit._optional import require
from eventkit.sources import Source

CHUNK_BYTES = 1 << 30
"""A chunk that says it is longer, compressed or not, is damaged: recorders write 0.8 to 16 MB."""


class Record(NamedTuple):
    """One message and where it belongs."""

    topic: str
    type: str
    time_ns: int
    data: bytes


def records(source: Source, kind: str) -> Iterator[Record]:
    """Yield the whole messages of a ``bag``, ``mcap`` or ``db3`` up to the damage."""
    if kind == "db3":
        yield from _db3(source)
        return
    walk = _bag if kind == "bag" else _mcap
    try:
        with source.open() as file:
            yield from walk(file)
    except (ValueError, KeyError, IndexError, struct.error, UnicodeDecodeError, OverflowError):
        return


class _Cut(ValueError):
    """The bytes end here, or stop making sense."""


def _take(file: BinaryIO, size: int) -> bytes:
    if size > CHUNK_BYTES:
        raise _Cut
    # In parts: a size that is a lie must not be allocated at once.
    parts: list[bytes] = []
    left = size
    while left and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if left:
        raise _Cut
    return b"".join(parts)


# ROS1: records of header (fields "name=value"), data; both with their length before them.


def _bag(file: BinaryIO) -> Iterator[Record]:
    file.readline(64)
    known: dict[int, tuple[str, str]] = {}
    while True:
        header = _header(_take(file, _u32(_take(file, 4))))
        size = _u32(_take(file, 4))
        if header[b"op"] != b"\x05":
            data = _take(file, size)
            if header[b"op"] == b"\x07":
                _learn(header, data, known)
            continue
        if header[b"compression"] == b"none":
            yield from _bag_records(file, size, known)
        else:
            data = _unpacked(
                _take(file, size), header[b"compression"].decode(), _u32(header[b"size"])
            )
            yield from _bag_records(io.BytesIO(data), len(data), known)


def _bag_records(file: Any, size: int, known: dict[int, tuple[str, str]]) -> Iterator[Record]:
    while size > 0:
        length = _u32(_take(file, 4))
        header = _header(_take(file, length))
        inner = _u32(_take(file, 4))
        data = _take(file, inner)
        size -= 8 + length + inner
        if header[b"op"] == b"\x07":
            _learn(header, data, known)
        elif header[b"op"] == b"\x02":
            seconds, nanoseconds = struct.unpack("<II", header[b"time"])
            topic, type_ = known[_u32(header[b"conn"])]
            yield Record(topic, type_, seconds * 10**9 + nanoseconds, data)


def _learn(header: dict[bytes, bytes], data: bytes, known: dict[int, tuple[str, str]]) -> None:
    topic, type_ = header[b"topic"].decode(), _header(data)[b"type"].decode()
    known[_u32(header[b"conn"])] = (topic, type_)


def _header(data: bytes) -> dict[bytes, bytes]:
    fields, at = {}, 0
    while at < len(data):
        size = _u32(data[at : at + 4])
        name, equals, value = data[at + 4 : at + 4 + size].partition(b"=")
        if not equals or at + 4 + size > len(data):
            raise _Cut
        fields[name] = value
        at += 4 + size
    return fields


# MCAP: records of one byte of kind, eight of length, content.


def _mcap(file: BinaryIO) -> Iterator[Record]:
    _take(file, 8)
    types: dict[int, str] = {}
    known: dict[int, tuple[str, str]] = {}
    yield from _mcap_records(file, types, known, inside=False)


def _mcap_records(
    file: Any, types: dict[int, str], known: dict[int, tuple[str, str]], *, inside: bool
) -> Iterator[Record]:
    while op := file.read(1):
        (size,) = struct.unpack("<Q", _take(file, 8))
        if op == b"\x02" and not inside:  # the footer
            return
        if op == b"\x06" and not inside:
            yield from _mcap_chunk(file, size, types, known)
            continue
        data = _take(file, size)
        if op == b"\x03":
            types[struct.unpack_from("<H", data)[0]] = _string(data, 2)[0]
        elif op == b"\x04":
            channel, schema = struct.unpack_from("<HH", data)
            known[channel] = (_string(data, 4)[0], types.get(schema, ""))
        elif op == b"\x05":
            channel, _, time = struct.unpack_from("<HIQ", data)
            if len(data) < 22:
                raise _Cut
            topic, type_ = known[channel]
            yield Record(topic, type_, time, data[22:])


def _mcap_chunk(
    file: Any, size: int, types: dict[int, str], known: dict[int, tuple[str, str]]
) -> Iterator[Record]:
    head = _take(file, 32)
    (unpacked,) = struct.unpack_from("<Q", head, 16)
    method = _take(file, _u32(head[28:])).decode()
    (stored,) = struct.unpack("<Q", _take(file, 8))
    if stored != size - 40 - len(method):
        raise _Cut
    if method:
        content = _unpacked(_take(file, stored), method, unpacked)
        yield from _mcap_records(_Part(io.BytesIO(content), unpacked), types, known, inside=True)
    else:  # a cut chunk still has whole messages
        yield from _mcap_records(_Part(file, stored), types, known, inside=True)


def _string(data: bytes, at: int) -> tuple[str, int]:
    size = _u32(data[at : at + 4])
    if at + 4 + size > len(data):
        raise _Cut
    return data[at + 4 : at + 4 + size].decode(), at + 4 + size


# SQLite: rows one after the other until a page is missing.


def _db3(source: Source) -> Iterator[Record]:
    import sqlite3

    query = "SELECT topic_id, timestamp, data FROM messages ORDER BY id"
    with _whole_pages(source.local()) as path:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
        try:
            # Otherwise a file that is shorter than its header says is not read at all.
            connection.execute("PRAGMA writable_schema=ON")
            names = connection.execute("SELECT id, name, type FROM topics").fetchall()
            known = {row[0]: (str(row[1]), str(row[2])) for row in names}
            for topic, time, data in connection.execute(query):
                if topic in known and isinstance(time, int) and isinstance(data, bytes):
                    yield Record(*known[topic], time, data)
        except (sqlite3.Error, UnicodeDecodeError, OverflowError):
            return
        finally:
            connection.close()


def page_bytes(head: bytes) -> int:
    """Return the page size that the header of an SQLite database states; 1 if it is no size."""
    size = int.from_bytes(head[16:18], "big")
    size = 65536 if size == 1 else size
    return size if size >= 512 and size & (size - 1) == 0 else 1


@contextmanager
def _whole_pages(path: Path) -> Iterator[Path]:
    """Give a copy without a cut page at the end, which SQLite would fill up with zeros."""
    with path.open("rb") as file:
        rest = path.stat().st_size % page_bytes(file.read(100))
        if not rest:
            yield path
            return
        file.seek(0)
        with tempfile.TemporaryDirectory(prefix="eventkit-") as folder:
            copy = Path(folder) / "whole.db3"
            with copy.open("wb") as whole:
                shutil.copyfileobj(file, whole, 1 << 20)
                whole.truncate(path.stat().st_size - rest)
            yield copy


class _Part:
    """What `_take` needs of a file, over the next bytes of one."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        part = bytes(self._file.read(min(size, self._left)))
        self._left -= len(part)
        return part


def _u32(data: bytes) -> int:
    return int(struct.unpack("<I", data)[0])


def _unpacked(data: bytes, method: str, size: int) -> bytes:
    """Decompress at most ``size`` bytes."""
    if size > CHUNK_BYTES:
        raise _Cut
    found: bytes
    try:
        if method == "bz2":
            found = bz2.BZ2Decompressor().decompress(data, size)
        elif method == "lz4":
            lz4 = require("lz4.frame", extra="ros", purpose="ROS bags")
            found = lz4.LZ4FrameDecompressor().decompress(data, size)
        elif method == "zstd":
            found = _zstd()(data, size)
        else:
            raise _Cut
    except Exception as err:  # every library has its own, some plain RuntimeError
        raise _Cut from err
    if len(found) != size:
        raise _Cut
    return found


def _zstd() -> Callable[[bytes, int], bytes]:
    # What `rosbags` itself depends on; part of Python from 3.14 on.
    import sys

    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    zstd = require(name, extra="ros", purpose="ROS bags")
    return lambda data, size: bytes(zstd.ZstdDecompressor().decompress(data, size))
