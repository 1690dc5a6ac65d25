"""Messages by the index of a bag, which `rosbags` reads, out of chunks, which it does not.

The two classes have the interface of the readers of `rosbags`, so that they stand in for them, in
its reader of folders too. A chunk that is damaged inside is handed to ``lost``, and the next one,
whose place the index says, follows.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from eventkit._optional import require
from eventkit.readers.ros import chunks
from eventkit.readers.ros.chunks import ChunkError, Lost
from eventkit.readers.ros.index_file import IndexFile
from eventkit.readers.ros.merge import DAMAGE, Found, merged
from eventkit.sources import Source


def profile_of(source: Source) -> str:
    """Return the profile of an MCAP file, ``ros1`` or ``ros2``; empty where there is none."""
    try:
        with source.open() as file, source.faults():
            chunks.take(file, 8)
            _, size = chunks.mcap_head(file)
            return chunks.mcap_string(chunks.take(file, min(size, 1 << 16)), 0)[0]
    except DAMAGE:
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
    except (*DAMAGE, OSError):
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


class McapFile(IndexFile):
    """An MCAP file of ROS2 with an index of chunks.

    Parameters
    ----------
    path : Path
    lost : callable, optional
        Told of chunks that are damaged; without it they are an error.
    """

    def __init__(self, path: Path, lost: Lost | None = None) -> None:
        rosbag2 = require("rosbags.rosbag2", extra="ros", purpose="ROS bags")
        super().__init__(rosbag2.Reader.STORAGE_PLUGINS[".mcap"](path), path, lost)
        # It would walk the whole file and decompress all of it.
        self._index.meta_scan = self._refuse

    @staticmethod
    def _refuse() -> None:
        msg = "not indexed"
        raise ChunkError(msg)

    def open(self) -> None:
        """Read the index."""
        self._index.open()
        if not self._index.chunks and self._index.statistics.chunk_count:
            self.close()
            self._refuse()

    def messages(
        self, connections: Collection[Any], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        """Yield (connection, nanoseconds, bytes) in the order of their times."""
        known = {conn.id: conn for conn in connections}
        first = 0 if start is None else start
        with self._path.open("rb") as file:
            found = self._chunks if self._index.chunks else self._plain
            for time, channel, data in found(file, known, first):
                if stop is not None and time >= stop:
                    return
                yield known[channel], time, data

    def _chunks(self, file: Any, known: Collection[int], first: int) -> Iterator[Found]:
        """Yield the messages of all chunks."""
        begins: dict[int, int] = {}
        for info in self._index.chunks:
            has = not info.channel_count or any(info.channel_count.get(n) for n in known)
            if has and info.message_end_time >= first:
                begins.setdefault(info.chunk_start_offset, info.message_start_time)
        return merged(partial(_mcap_chunk, file, known, first), begins, self._lost)

    def _plain(self, file: Any, known: Collection[int], first: int) -> Iterator[Found]:
        """Yield the messages of a file without chunks, which is in the order of its times."""
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
            channel, time = chunks.mcap_message(data := chunks.take(file, size), 0)
            if time < latest:
                msg = "not indexed, and not in the order of its times"
                raise ChunkError(msg)
            latest = time
            if channel in known and time >= first:
                yield time, channel, data[22:]


def _mcap_chunk(file: Any, known: Collection[int], first: int, at: int) -> list[Found]:
    """Return the messages of some channels, recorded at ``first`` or later, of the chunk here."""
    chunks.go_to(file, at)
    kind, size = chunks.mcap_head(file)
    if kind != chunks.CHUNK:
        msg = f"a record of kind {kind} where the index has a chunk"
        raise ChunkError(msg)
    content = chunks.mcap_chunk(file, size)
    found = []
    for kind, start, end in chunks.mcap_records(content):
        if kind == chunks.MESSAGE:
            channel, time = chunks.mcap_message(content, start)
            if channel in known and time >= first:
                found.append((time, channel, content[start + 22 : end]))
    return sorted(found, key=lambda message: message[0])


class Bag1File(IndexFile):
    """A ROS1 bag with an index.

    Parameters
    ----------
    path : Path
    lost : callable, optional
        Told of chunks that are damaged, once each; without it they are an error.
    """

    def __init__(self, path: Path, lost: Lost | None = None) -> None:
        rosbag1 = require("rosbags.rosbag1", extra="ros", purpose="ROS bags")
        super().__init__(rosbag1.Reader(path), path, lost)

    def open(self) -> None:
        """Read the index."""
        self._index.open()

    def messages(
        self, connections: Collection[Any], start: int | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        """Yield (connection, nanoseconds, bytes) in the order of their times."""
        known = {conn.id: conn for conn in connections}
        places: dict[int, list[_Place]] = {at: [] for at in self._index.chunks}
        for number in known:
            for entry in self._index.indexes[number]:
                places[entry.chunk_pos].append(_Place(entry.time, number, entry.offset))
        begins = {
            at: min(inside).time
            for at, inside in places.items()
            if inside and (start is None or max(inside).time >= start)
        }
        with self._path.open("rb") as file:
            read = partial(_bag_chunk, file, places)
            for time, number, data in merged(read, begins, self._lost):
                if start is None or time >= start:
                    yield known[number], time, data


class _Place(NamedTuple):
    """What the index says of a message: its time, its connection, its place in the chunk."""

    time: int
    number: int
    offset: int


def _bag_chunk(file: Any, places: dict[int, list[_Place]], at: int) -> list[Found]:
    """Return the messages that the index has in the chunk here, each with a place of its own."""
    chunks.go_to(file, at)
    content = chunks.bag_chunk(file)[1]
    found: dict[int, Found] = {}
    for place in places[at]:
        start, end = _span(content, place)
        if start in found:
            msg = "two entries of the index for one message"
            raise ChunkError(msg)
        found[start] = (place.time, place.number, content[start:end])
    return sorted(found.values(), key=lambda message: message[0])


def _span(content: bytes, place: _Place) -> tuple[int, int]:
    at = place.offset
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
    said = (chunks.bag_time(header), chunks.u32(header[b"conn"]))
    if header[b"op"] != b"\x02" or said != (place.time, place.number):
        msg = "another record where the index has a message"
        raise ChunkError(msg)
    return start + 4, end
