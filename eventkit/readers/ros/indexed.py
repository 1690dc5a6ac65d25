"""Messages by the index of a bag, which `rosbags` reads, out of chunks, which it does not.

The two classes have the interface of the readers of `rosbags`, so that they stand in for them, in
its reader of folders too. A chunk that is damaged inside is handed to ``lost``, and the next one,
whose place the index says, follows.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from eventkit._optional import require
from eventkit.readers.ros import chunks
from eventkit.readers.ros.chunks import ChunkError
from eventkit.sources import Source

Lost = Callable[[ChunkError], None]

_DAMAGE = (ValueError, KeyError, struct.error, OverflowError)  # ChunkError is a ValueError


def profile_of(source: Source) -> str:
    """Return the profile of an MCAP file, ``ros1`` or ``ros2``; empty where there is none."""
    try:
        with source.open() as file, source.faults():
            chunks.take(file, 8)
            _, size = chunks.mcap_head(file)
            return chunks.mcap_string(chunks.take(file, min(size, 1 << 16)), 0)[0]
    except _DAMAGE:
        return ""


def has_index(source: Source) -> bool:
    """Return whether an MCAP file can be read by its index.

    It can not, and is whole nevertheless, where the profile is not that of ROS2, or where it ends
    in a sound footer and a summary without channels, or without an index of chunks that there are.
    What is damaged counts as an index, so that whoever reads it says so.
    """
    if profile_of(source) != "ros2":
        return False
    try:
        kinds = _summary(source.local())
    except (*_DAMAGE, OSError):
        return True
    return chunks.CHANNEL in kinds and bool(kinds & {chunks.CHUNK_INDEX, chunks.STATISTICS})


def _summary(path: Path) -> set[int]:
    """Return the kinds of records in the summary; statistics only if there are no chunks."""
    kinds: set[int] = set()
    with path.open("rb") as file:
        end = file.seek(-37, 2)
        footer = struct.unpack("<BQQQI8s", chunks.take(file, 37))
        if footer[0] != chunks.FOOTER or footer[5] != chunks.MAGIC:
            msg = "no footer"
            raise ChunkError(msg)
        at = footer[2] or end
        while at < end:
            chunks.go_to(file, at)
            kind, size = chunks.mcap_head(file)
            counted = kind == chunks.STATISTICS and chunks.take(file, size)
            if not counted or not struct.unpack_from("<QHIIII", counted)[5]:
                kinds.add(kind)
            at += 9 + size
    return kinds


class McapFile:
    """An MCAP file of ROS2 with an index of chunks.

    Parameters
    ----------
    path : Path
    lost : callable, optional
        Told of chunks that are damaged; without it they are an error.
    """

    def __init__(self, path: Path, lost: Lost | None = None) -> None:
        rosbag2 = require("rosbags.rosbag2", extra="ros", purpose="ROS bags")
        self._index = rosbag2.Reader.STORAGE_PLUGINS[".mcap"](path)
        # It would walk the whole file and decompress all of it.
        self._index.meta_scan = self._refuse
        self._path = path
        self._lost = lost

    @staticmethod
    def _refuse() -> None:
        msg = "not indexed"
        raise ChunkError(msg)

    @property
    def connections(self) -> Any:
        """As `rosbags` has them."""
        return self._index.connections

    @property
    def metadata(self) -> Any:
        """As `rosbags` has them."""
        return self._index.metadata

    def open(self) -> None:
        """Read the index."""
        self._index.open()
        if not self._index.chunks and self._index.statistics.chunk_count:
            self.close()
            self._refuse()

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):  # it closes itself at a fault
            self._index.close()

    def messages(
        self, connections: Collection[Any], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        """Yield (connection, nanoseconds, bytes) in the order of their times."""
        known = {conn.id: conn for conn in connections}
        first = 0 if start is None else start
        with self._path.open("rb") as file:
            found = self._merged if self._index.chunks else self._plain
            for time, channel, data in found(file, known, first):
                if stop is not None and time >= stop:
                    return
                yield known[channel], time, data

    def _merged(
        self, file: Any, known: Collection[int], first: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield (nanoseconds, channel, bytes) of all chunks."""
        places: dict[int, int] = {}
        for info in self._index.chunks:
            has = not info.channel_count or any(info.channel_count.get(n) for n in known)
            if has and info.message_end_time >= first:
                places.setdefault(info.chunk_start_offset, info.message_start_time)
        found = [self._chunk(file, at, time, known, first) for at, time in places.items()]
        for message in heapq.merge(*found, key=lambda message: message[0]):
            if message[1] >= 0:
                yield message

    def _plain(
        self, file: Any, known: Collection[int], first: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield the same of a file without chunks, which is in the order of its times."""
        file.seek(self._index.data_start)
        latest = 0
        while file.tell() < self._index.data_end:
            kind, size = chunks.mcap_head(file)
            if kind != chunks.MESSAGE or size < 22:
                if kind in (chunks.CHUNK, chunks.MESSAGE, -1):
                    msg = f"a record of kind {kind} and {size} bytes that the index does not have"
                    raise ChunkError(msg)
                chunks.go_to(file, file.tell() + size)
                continue
            channel, _, time = struct.unpack_from("<HIQ", data := chunks.take(file, size))
            if time < latest:
                msg = "not indexed, and not in the order of its times"
                raise ChunkError(msg)
            latest = time
            if channel in known and time >= first:
                yield time, channel, data[22:]

    def _chunk(
        self, file: Any, at: int, time: int, known: Collection[int], first: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield (nanoseconds, channel, bytes), a blank one first: a chunk waits for its time."""
        yield time, -1, b""
        try:
            chunks.go_to(file, at)
            kind, size = chunks.mcap_head(file)
            if kind != chunks.CHUNK:
                msg = f"a record of kind {kind} where the index has a chunk"
                raise ChunkError(msg)
            found = _messages(chunks.mcap_chunk(file, size), known, first)
        except _DAMAGE as err:
            _tell(self._lost, err)
            return
        yield from found


def _messages(content: bytes, known: Collection[int], first: int) -> list[tuple[int, int, bytes]]:
    found = []
    head = struct.Struct("<HIQ")
    for kind, start, end in chunks.mcap_records(content):
        if kind == chunks.MESSAGE:
            channel, _, time = head.unpack_from(content, start)
            if channel in known and time >= first:
                found.append((time, channel, content[start + 22 : end]))
    return sorted(found, key=lambda message: message[0])


class Bag1File:
    """A ROS1 bag with an index.

    Parameters
    ----------
    path : Path
    lost : callable, optional
        Told of chunks that are damaged, once each; without it they are an error.
    """

    def __init__(self, path: Path, lost: Lost | None = None) -> None:
        self._index = require("rosbags.rosbag1", extra="ros", purpose="ROS bags").Reader(path)
        self._path = path
        self._lost = lost

    @property
    def connections(self) -> Any:
        """As `rosbags` has them."""
        return self._index.connections

    def open(self) -> None:
        """Read the index."""
        self._index.open()

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):  # it closes itself at a fault
            self._index.close()

    def messages(
        self, connections: Collection[Any], start: int | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        """Yield (connection, nanoseconds, bytes) in the order of their times."""
        known = {conn.id: conn for conn in connections}
        damaged: set[int] = set()
        place, content = -1, b""
        with self._path.open("rb") as file:
            for entry in heapq.merge(*(self._index.indexes[number] for number in known)):
                if entry.chunk_pos in damaged or (start is not None and entry.time < start):
                    continue
                try:
                    if place != entry.chunk_pos:
                        chunks.go_to(file, entry.chunk_pos)
                        place, content = entry.chunk_pos, chunks.bag_chunk(file)[1]
                    number, data = _message(content, entry)
                    connection = known[number]
                except _DAMAGE as err:
                    _tell(self._lost, err)
                    damaged.add(entry.chunk_pos)
                    continue
                yield connection, entry.time, data


def _message(content: bytes, entry: Any) -> tuple[int, bytes]:
    """Return the connection and the bytes of the message that the index has at this place."""
    at = entry.offset
    while True:
        start = at + 4 + chunks.u32(content[at : at + 4])
        header = chunks.bag_header(content[at + 4 : start])
        end = start + 4 + chunks.u32(content[start : start + 4])
        if end > len(content):
            msg = "a message that runs out of its chunk"
            raise ChunkError(msg)
        if header[b"op"] != b"\x07":  # connections may stand before a message
            break
        at = end
    if header[b"op"] != b"\x02" or chunks.bag_time(header) != entry.time:
        msg = "another record where the index has a message"
        raise ChunkError(msg)
    return chunks.u32(header[b"conn"]), content[start + 4 : end]


def _tell(lost: Lost | None, err: Exception) -> None:
    fault = err if isinstance(err, ChunkError) else ChunkError(str(err) or type(err).__name__)
    if lost is None:
        raise fault from err
    lost(fault)
