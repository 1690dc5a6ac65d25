"""Records and chunks of ROS1 bags and MCAP files, with every size checked before it is believed.

Layouts: http://wiki.ros.org/Bags/Format/2.0 and https://mcap.dev/spec. `rosbags` decompresses
without a limit and walks what comes out of it record by record, so that 2 kB of a forged file take
seconds and gigabytes; chunks are therefore opened here, whoever reads the index.
"""

from __future__ import annotations

import bz2
import errno
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from eventkit._optional import require

CHUNK_BYTES = 1 << 30
"""A chunk that says it is longer is damaged: recorders write 0.8 to 16 MB."""
UNPACKED_BYTES = 1 << 28
"""The same for what a compressed chunk grows to: it is held in memory."""
MAX_RATIO, FREE_BYTES = 1000, 1 << 26
"""Above 64 MB a chunk may not grow by more: black pictures do, noise of a sensor never does."""

MOST_RECORDS = 1 << 17
"""Of one chunk; they are walked one by one. Chunks of 16 MB have some thousand."""

_CLAIMED = (None, errno.EINVAL, errno.EOVERFLOW, errno.ENAMETOOLONG)
"""Numbers of an `OSError` for what a bag claims; bz2 gives none."""

FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS = 2, 3, 4, 5, 6, 8, 11
MAGIC = b"\x89MCAP0\r\n"


class ChunkError(ValueError):
    """Bytes that end too early or make no sense; says why."""


class EndError(ChunkError):
    """A file that ends early."""


Lost = Callable[[ChunkError], None]
"""Told of what is damaged where the container says what follows."""


def tell(lost: Lost | None, err: Exception) -> None:
    """Tell of damage; where nobody wants to know, it is an error."""
    if lost is None:
        raise _fault(err) from err
    lost(_fault(err))


def _fault(err: Exception) -> ChunkError:
    # A new one: it has no traceback, whose frames would hold the chunk until a collection.
    return ChunkError(str(err) or type(err).__name__)


class Record(NamedTuple):
    """One message and where it belongs; ``encoding`` is how it is serialised, as MCAP says it."""

    topic: str
    type: str
    time_ns: int
    data: bytes
    encoding: str = ""


def take(file: Any, size: int) -> bytes:
    """Read ``size`` bytes, in parts: a size that is a lie must not be allocated at once."""
    if size > CHUNK_BYTES:
        msg = f"a record of {size} bytes"
        raise ChunkError(msg)
    parts: list[bytes] = []
    left = size
    while left and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if left:
        msg = f"the file ends {left} bytes early"
        raise EndError(msg)
    return b"".join(parts)


def of_system(err: BaseException) -> bool:
    """Whether an error is one of disk, network or rights, and so says nothing about the bag."""
    if isinstance(err, TimeoutError | ConnectionError):
        return True
    return isinstance(err, OSError) and err.errno not in _CLAIMED


def go_to(file: Any, at: int) -> None:
    """Seek to a byte that the file claims; systems refuse what no file can have."""
    try:
        file.seek(at)
    except (OSError, OverflowError, ValueError) as err:
        if of_system(err):  # of a stream that is compressed, which reads up to there
            raise
        msg = f"the file ends before byte {at}"
        raise EndError(msg) from err


def u32(data: bytes) -> int:
    """Return four bytes as a number."""
    return int(struct.unpack("<I", data)[0])


def unpacked(data: bytes, method: str, size: int) -> bytes:
    """Decompress to exactly ``size`` bytes, and never to more."""
    if size > _most(len(data)):
        msg = f"a chunk of {len(data)} bytes that grows to {size}"
        raise ChunkError(msg)
    try:
        decoder = _decoder(method)
        # One byte more than it should have tells a chunk that goes on.
        found = decoder.decompress(data, size + 1)
    except Exception as err:  # every library has its own, some plain RuntimeError
        raise ChunkError(str(err)) from err
    if len(found) != size or not decoder.eof:
        msg = f"a chunk that does not grow to the {size} bytes it says"
        raise ChunkError(msg)
    return bytes(found)


def unpacked_message(data: bytes) -> bytes:
    """Decompress a message of zstd, which does not say what it grows to."""
    most = _most(len(data))
    try:
        decoder = _decoder("zstd")
        found = decoder.decompress(data, most + 1)
    except Exception as err:  # the library has its own
        raise ChunkError(str(err)) from err
    if len(found) > most:
        msg = f"a message of {len(data)} bytes that grows to more than {most}"
        raise ChunkError(msg)
    if not decoder.eof or decoder.unused_data:
        msg = "a message that is not one frame of zstd"
        raise ChunkError(msg)
    return bytes(found)


def copy_unpacked(stored: Path, copy: Path) -> None:
    """Decompress a file of zstd to another one, in parts."""
    size = stored.stat().st_size
    most = max(FREE_BYTES, MAX_RATIO * size)
    left = most
    try:
        with _zstd().open(stored, "rb") as file, copy.open("wb") as out:
            while part := file.read(1 << 20):
                left -= len(part)
                if left < 0:
                    msg = f"{stored.name} of {size} bytes grows to more than {most}"
                    raise ChunkError(msg)
                out.write(part)
    except EOFError as err:
        msg = f"{stored.name}: the file ends within a frame"
        raise EndError(msg) from err


def _most(size: int) -> int:
    """Return what so many bytes may grow to in memory."""
    return min(UNPACKED_BYTES, max(FREE_BYTES, MAX_RATIO * size))


def _zstd() -> Any:
    # What `rosbags` itself depends on; part of Python from 3.14 on.
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return require(name, extra="ros", purpose="ROS bags")


def _decoder(method: str) -> Any:
    if method == "bz2":
        return bz2.BZ2Decompressor()
    if method == "lz4":
        return require("lz4.frame", extra="ros", purpose="ROS bags").LZ4FrameDecompressor()
    if method == "zstd":
        return _zstd().ZstdDecompressor()
    msg = f"a compression {method!r}"
    raise ChunkError(msg)


# ROS1: records of header (fields "name=value"), data; both with their length before them.


def bag_header(data: bytes) -> dict[bytes, bytes]:
    """Take the header of a ROS1 record apart."""
    fields, at = {}, 0
    while at < len(data):
        size = u32(data[at : at + 4])
        name, equals, value = data[at + 4 : at + 4 + size].partition(b"=")
        if not equals or at + 4 + size > len(data):
            msg = "a header whose fields run out of it"
            raise ChunkError(msg)
        fields[name] = value
        at += 4 + size
    return fields


def bag_chunk(file: Any) -> tuple[dict[bytes, bytes], bytes]:
    """Read the header of the record that begins here, and what it holds, decompressed if chunk."""
    header = bag_header(take(file, u32(take(file, 4))))
    data = take(file, u32(take(file, 4)))
    method = header.get(b"compression", b"none").decode()
    if header[b"op"] != b"\x05" or method == "none":
        return header, data
    return header, unpacked(data, method, u32(header[b"size"]))


def bag_time(header: dict[bytes, bytes]) -> int:
    """Return the nanoseconds of a message."""
    seconds, nanoseconds = struct.unpack("<II", header[b"time"])
    return int(seconds) * 10**9 + int(nanoseconds)


# MCAP: records of one byte of kind, eight of length, content.


def mcap_head(file: Any) -> tuple[int, int]:
    """Read the kind and the length of a record; (-1, 0) at the end of the file."""
    kind = file.read(1)
    return (kind[0], struct.unpack("<Q", take(file, 8))[0]) if kind else (-1, 0)


def mcap_chunk(file: Any, size: int) -> bytes:
    """Read what a chunk record of ``size`` bytes holds, decompressed and checked."""
    head = take(file, 32)
    length, crc = struct.unpack_from("<QI", head, 16)
    method = take(file, u32(head[28:])).decode()
    (stored,) = struct.unpack("<Q", take(file, 8))
    if stored != size - 40 - len(method):
        msg = f"a chunk of {size} bytes that says it holds {stored}"
        raise ChunkError(msg)
    data = take(file, stored)
    content = unpacked(data, method, length) if method else data
    if crc and zlib.crc32(content) != crc:
        msg = "a chunk whose checksum does not fit"
        raise ChunkError(msg)
    return content


def mcap_records(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (kind, first byte, byte after the last) of the records of a chunk.

    A chunk holds schemas, channels and messages. Whatever else there is would be passed over in
    steps of as little as nine bytes.
    """
    at, end, count = 0, len(content), 0
    head = struct.Struct("<BQ")
    while at < end:
        count += 1
        if count > MOST_RECORDS:
            msg = f"more than {MOST_RECORDS} records in a chunk of {end} bytes"
            raise ChunkError(msg)
        if at + head.size > end:
            msg = "a record that runs out of its chunk"
            raise ChunkError(msg)
        kind, size = head.unpack_from(content, at)
        start = at + head.size
        at = start + size
        if at > end or kind not in (SCHEMA, CHANNEL, MESSAGE) or (kind == MESSAGE and size < 22):
            msg = f"a record of kind {kind} and {size} bytes in a chunk"
            raise ChunkError(msg)
        yield kind, start, at


def mcap_message(data: bytes, at: int) -> tuple[int, int]:
    """Return the channel and the nanoseconds of the message at a byte."""
    channel, _, time = struct.unpack_from("<HIQ", data, at)
    if time >= 1 << 63:
        msg = f"a message of {time} nanoseconds, which no clock shows before the year 2262"
        raise ChunkError(msg)
    return int(channel), int(time)


def mcap_string(data: bytes, at: int) -> tuple[str, int]:
    """Take a string, and return the byte behind it."""
    size = u32(data[at : at + 4])
    if at + 4 + size > len(data):
        msg = "a text that runs out of its record"
        raise ChunkError(msg)
    return data[at + 4 : at + 4 + size].decode(), at + 4 + size
