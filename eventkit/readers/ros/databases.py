"""ROS2's ``.db3``: an SQLite database with a table of topics and one of messages.

SQLite evaluates what the schema of a file says, so that 8 kB of a forged one take gigabytes or go
on for ever; what is read are therefore tables that hold their bytes themselves, and nothing else.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eventkit._optional import require
from eventkit.readers.ros.chunks import CHUNK_BYTES, ChunkError, Lost, Record, tell
from eventkit.readers.ros.index_file import IndexFile
from eventkit.sources import Source

_STORED = ("CREATE TABLE", "CREATE INDEX", "CREATE UNIQUE INDEX")
_READ = ("messages", "topics", "schema", "message_definitions")


class Db3File(IndexFile):
    """A database of ROS2, with the interface of the reader of `rosbags`, which reads its topics.

    Parameters
    ----------
    path : Path
    lost : callable, optional
        Told of rows that are no messages; without it they are an error.
    """

    def __init__(self, path: Path, lost: Lost | None = None) -> None:
        rosbag2 = require("rosbags.rosbag2", extra="ros", purpose="ROS bags")
        # It puts the name into a URI as it is.
        index = rosbag2.Reader.STORAGE_PLUGINS[".db3"](Path(quote(str(path))))
        super().__init__(index, path, lost)

    def open(self) -> None:
        """Read the topics of a database that is whole."""
        rest = _cut_bytes(self._path)
        if rest:
            # SQLite fills such a page up with zeros.
            msg = f"the file ends after {rest} bytes of a page"
            raise ChunkError(msg)
        with closing(_database(self._path)) as connection:
            _check_tables(connection)
        self._index.open()

    def messages(
        self, connections: Collection[Any], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        """Yield (connection, nanoseconds, bytes) in the order of their times."""
        known = {conn.id: conn for conn in connections}
        wanted = f"topic_id IN ({','.join('?' * len(known))})"
        late = "" if start is None else " AND timestamp >= ?"
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE {wanted}{late}"
        values = [*known, *([] if start is None else [start])]
        with closing(_database(self._path)) as database:
            for topic, time, data in database.execute(f"{query} ORDER BY timestamp, id", values):
                if not _is_message(time, data):
                    tell(self._lost, _no_message(time, data))
                    continue
                if stop is not None and time >= stop:
                    return
                yield known[topic], time, data


def db3_records(source: Source, lost: Lost) -> Iterator[Record]:
    """Yield the rows of a damaged database one after the other until a page is missing."""
    import sqlite3

    query = "SELECT topic_id, timestamp, data FROM messages ORDER BY id"
    with _whole_pages(source.local()) as path, closing(_database(path)) as connection:
        try:
            # Otherwise a file that is shorter than its header says is not read at all.
            connection.execute("PRAGMA writable_schema=ON")
            _check_tables(connection)
            names = connection.execute("SELECT id, name, type FROM topics").fetchall()
            known = {row[0]: (str(row[1]), str(row[2])) for row in names}
            for topic, time, data in connection.execute(query):
                if topic in known and _is_message(time, data):
                    yield Record(*known[topic], time, data)
                elif topic in known:
                    lost(_no_message(time, data))
        except (sqlite3.Error, UnicodeDecodeError, OverflowError, ChunkError):
            return


def _is_message(time: object, data: object) -> bool:
    """Return whether a row has what its columns are for; SQLite stores anything in any column."""
    return isinstance(time, int) and isinstance(data, bytes)


def _no_message(time: object, data: object) -> ChunkError:
    return ChunkError(f"a row with {type(time).__name__} as time, {type(data).__name__} as data")


def _database(path: Path) -> Any:
    """Open a database, in which nothing is longer than its file."""
    import sqlite3

    name = f"file:{quote(str(path))}?mode=ro&immutable=1"
    connection = sqlite3.connect(name, uri=True, check_same_thread=False)
    longest = min(path.stat().st_size, CHUNK_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
    return connection


def _check_tables(connection: Any) -> None:
    """Refuse views, virtual tables and generated columns, which compute what they hold.

    Raises
    ------
    ChunkError
    sqlite3.Error
        If the schema cannot be read.
    """
    for name, kind, sql in connection.execute("SELECT name, type, sql FROM sqlite_master"):
        # By the statement: SQLite goes by that, and in a damaged file by nothing else.
        if sql is not None and not str(sql).upper().startswith(_STORED):
            msg = f"{name} is a {kind} and no table that holds its rows"
            raise ChunkError(msg)
    for table in _READ:
        for _, column, *_, hidden in connection.execute(f"PRAGMA table_xinfo({table})"):
            if hidden:
                msg = f"the column {column} of {table} is generated"
                raise ChunkError(msg)


def _cut_bytes(path: Path) -> int:
    """Return how many bytes of a cut page stand at the end of a database."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
    size = 65536 if size == 1 else size
    # What is no size is left to SQLite.
    return path.stat().st_size % size if size >= 512 and size & (size - 1) == 0 else 0


@contextmanager
def _whole_pages(path: Path) -> Iterator[Path]:
    """Give a copy without a cut page at the end, which SQLite would fill up with zeros."""
    rest = _cut_bytes(path)
    if not rest:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="eventkit-") as folder:
        copy = Path(folder) / "whole.db3"
        with path.open("rb") as file, copy.open("wb") as whole:
            shutil.copyfileobj(file, whole, 1 << 20)
            whole.truncate(path.stat().st_size - rest)
        yield copy
