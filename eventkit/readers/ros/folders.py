"""Folders that ``ros2 bag record`` writes: metadata.yaml, and one file or more, compressed or not.

`rosbags` decompresses files and messages of such a folder without a limit, and the files anew for
every pass over the messages. Here a file is unpacked once, to a temporary one that goes with the
recording, and neither grows to more than a bag does.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from eventkit._optional import require
from eventkit.compression import compression_of
from eventkit.errors import FormatError
from eventkit.readers.ros.chunks import ChunkError, Lost, copy_unpacked, tell, unpacked_message
from eventkit.readers.ros.databases import Db3File
from eventkit.readers.ros.indexed import McapFile
from eventkit.sources import Source

METADATA_BYTES, METADATA_DEPTH = 1 << 22, 64
"""Of metadata.yaml: 4 MB name 20,000 files. Its parser is slow, slower still in the depth."""

_STORAGES: dict[str, type[Db3File] | type[McapFile]] = {"sqlite3": Db3File, "mcap": McapFile}
_PLAIN = ("", "none", "storage")
"""Modes in which files and messages stand as they are; the last compresses the chunks of MCAP."""


class _Topic(NamedTuple):
    """A topic as metadata.yaml has it, with the names of the connections of `rosbags`."""

    topic: str
    msgtype: str
    digest: str
    msgcount: int


class Folder:
    """What the metadata of a folder say, and its files.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ChunkError
        If the metadata are none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        said = _information(path)
        self.storage: type[Db3File] | type[McapFile] = _storage(said)
        self.mode = _mode(said)
        self.topics = [_topic(entry) for entry in _of(said, "topics_with_message_count", list)]
        self._names = [PurePath(name).name for name in _texts(said, "relative_file_paths")]

    @cached_property
    def files(self) -> list[Path]:
        """The files in their order, decompressed.

        Raises
        ------
        ChunkError
            If one is missing, or no bag.
        """
        stored = [self._path / name for name in self._names]
        if missing := [path.name for path in stored if not path.is_file()]:
            msg = f"metadata.yaml names {missing[0]}, which is missing"
            raise ChunkError(msg)
        return self._unpacked(stored) if self.mode == "file" else stored

    def _unpacked(self, stored: list[Path]) -> list[Path]:
        folder = tempfile.mkdtemp(prefix="eventkit-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        files = []
        for number, path in enumerate(stored):
            with path.open("rb") as file:
                packed = compression_of(file.read(4)) == "zstd"
            # The last file of a recorder that was killed is not compressed yet.
            files.append(Path(folder) / f"{number}-{path.stem}" if packed else path)
            if packed:
                copy_unpacked(path, files[-1])
        return files


class FolderFile:
    """The files of a folder one after the other, with the interface of `IndexFile`.

    Parameters
    ----------
    folder : Folder
    lost : callable, optional
        Told of what is damaged; without it that is an error.
    """

    def __init__(self, folder: Folder, lost: Lost | None = None) -> None:
        self._folder, self._lost = folder, lost
        self.connections = folder.topics
        self.storages: list[Db3File | McapFile] = []

    def open(self) -> None:
        """Open all files."""
        for path in self._folder.files:
            self.storages.append(self._folder.storage(path, self._lost))
            self.storages[-1].open()

    def close(self) -> None:
        """Close all files."""
        for storage in self.storages:
            storage.close()

    def messages(
        self, connections: Collection[_Topic], start: int | None = None
    ) -> Iterator[tuple[_Topic, int, bytes]]:
        """Yield (topic, nanoseconds, bytes), of each file in the order of their times."""
        for storage in self.storages:
            known = {
                conn.id: topic
                for conn in storage.connections
                for topic in connections
                if _same(conn, topic)
            }
            wanted = [conn for conn in storage.connections if conn.id in known]
            for conn, time, data in storage.messages(wanted, start) if wanted else ():
                try:
                    content = unpacked_message(data) if self._folder.mode == "message" else data
                except ChunkError as err:
                    tell(self._lost, err)
                    continue
                yield known[conn.id], time, content


def _same(conn: Any, topic: _Topic) -> bool:
    digests = {conn.digest, topic.digest} - {"", None}
    return (conn.topic, conn.msgtype) == (topic.topic, topic.msgtype) and len(digests) < 2


def first_bytes(folder: Path, size: int) -> bytes:
    """Return the first bytes of metadata.yaml; a pipe of that name would never give any."""
    path = folder / "metadata.yaml"
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def check_folder(source: Source) -> None:
    """Refuse a folder in which something waits for ever to be read, or takes minutes to parse.

    Raises
    ------
    FormatError
    """
    for path in sorted(source.path.iterdir()):
        if path.exists() and not path.is_file() and not path.is_dir():
            msg = f"expected files in the folder of a bag, got a pipe or device {path.name}"
            raise FormatError(msg, path=source.name, reason="bad_header")
    text = first_bytes(source.path, METADATA_BYTES + 1)
    depth = accumulate((mark in b"[{") - (mark in b"]}") for mark in re.findall(rb"[][{}]", text))
    if len(text) > METADATA_BYTES or max(depth, default=0) > METADATA_DEPTH:
        msg = (
            f"expected metadata.yaml of up to {METADATA_BYTES} bytes and {METADATA_DEPTH} levels, "
            "got more"
        )
        raise FormatError(msg, path=source.name, reason="bad_header")


def _information(path: Path) -> Mapping[str, Any]:
    yaml = require("ruamel.yaml", extra="ros", purpose="ROS bags")
    try:
        said = yaml.YAML(typ="safe").load(first_bytes(path, METADATA_BYTES).decode())
    except Exception as err:  # its errors have many bases, and tell of many lines
        msg = f"metadata.yaml is no YAML: {str(err).partition(chr(10))[0]}"
        raise ChunkError(msg) from err
    found: Mapping[str, Any] = _of(said, "rosbag2_bagfile_information", dict)
    return found


def _of(said: Any, key: str, kind: type) -> Any:
    """Return an entry of metadata.yaml; others go by their type: aliases make any endless."""
    value = said.get(key) if isinstance(said, dict) else None
    if not isinstance(value, kind):
        msg = f"metadata.yaml has {type(value).__name__} and no {kind.__name__} as {key}"
        raise ChunkError(msg)
    return value


def _text(said: Mapping[str, Any], key: str) -> str:
    """Return what older recorders leave out; empty then."""
    return str(_of({key: said.get(key) or ""}, key, str))


def _texts(said: Mapping[str, Any], key: str) -> list[str]:
    return [_of({key: name}, key, str) for name in _of(said, key, list)]


def _storage(said: Mapping[str, Any]) -> type[Db3File] | type[McapFile]:
    name = _of(said, "storage_identifier", str)
    if name not in _STORAGES:
        msg = f"metadata.yaml has the storage {name!r} and not {' or '.join(_STORAGES)}"
        raise ChunkError(msg)
    return _STORAGES[name]


def _mode(said: Mapping[str, Any]) -> str:
    """Return what is compressed with zstd: ``file``, ``message`` or nothing."""
    mode = _text(said, "compression_mode").lower()
    if mode in _PLAIN:
        return ""
    method = _text(said, "compression_format")
    if mode not in ("file", "message") or method != "zstd":
        msg = (
            f"metadata.yaml has the compression_mode {mode!r} with {method!r} and not file or "
            "message with zstd"
        )
        raise ChunkError(msg)
    return mode


def _topic(entry: Any) -> _Topic:
    said = _of(entry, "topic_metadata", dict)
    form = _of(said, "serialization_format", str)
    if form != "cdr":
        msg = f"metadata.yaml has messages serialised as {form!r} and not cdr"
        raise ChunkError(msg)
    return _Topic(
        _of(said, "name", str),
        _of(said, "type", str),
        _text(said, "type_description_hash"),
        _of(entry, "message_count", int),
    )
