"""Bags: which topics there are, and their messages in time order.

`rosbags` reads the index at the end of a file, and `eventkit.readers.ros.indexed` the messages;
whatever is raised at damaged bytes becomes a `FormatError`. Where there is no index (an MCAP file
may be written without, a recorder was killed, a copy was cut), `eventkit.readers.ros.salvage`
reads in the order of the file instead; where it is damaged, only for a caller that keeps what is
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from eventkit.errors import EventKitError, FormatError
from eventkit.readers.ros import salvage as ros_salvage
from eventkit.readers.ros.chunks import ChunkError, of_system
from eventkit.readers.ros.databases import Db3File
from eventkit.readers.ros.folders import Folder, FolderFile, check_folder, first_bytes
from eventkit.readers.ros.indexed import Bag1File, McapFile, has_index, profile_of
from eventkit.sources import Source

ROS1_MAGIC = b"#ROSBAG V"
MCAP_MAGIC = b"\x89MCAP0\r\n"
SQLITE_MAGIC = b"SQLite format 3\0"

Lost = Callable[[FormatError], None]
"""Told of what is damaged where the container says what follows."""
LostChunk = Callable[[ChunkError], None]


def pass_over(_: FormatError) -> None:
    """Pass over what is damaged: another pass over the same messages tells of it."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its type as in ``dvs_msgs/msg/EventArray``, and how many messages it has."""

    name: str
    type: str
    count: int
    digest: str = ""


class Message(NamedTuple):
    """One message: nanoseconds when it was recorded, and its bytes."""

    topic: str
    time_ns: int
    data: bytes


class Bag(Protocol):
    """A bag, indexed or not."""

    @property
    def path(self) -> str:
        """For messages."""
        ...

    @property
    def ros(self) -> int:
        """``1`` or ``2``: how messages are serialised."""
        ...

    @property
    def topics(self) -> dict[str, Topic]:
        """All topics by name."""
        ...

    @property
    def ordered(self) -> bool:
        """Whether messages come in the order of their times, so that ``start`` finds a place."""
        ...

    @property
    def fault(self) -> FormatError | None:
        """Why a bag is read without its index."""
        ...

    def messages(
        self, topics: Collection[str], *, start: int | None = None, lost: Lost | None = None
    ) -> Iterator[Message]:
        """Yield messages of some topics, recorded at ``start`` nanoseconds or later.

        Damaged chunks are told to ``lost``, and the next one follows; without it they are raised.
        """
        ...


def kind_of(source: Source) -> str | None:
    """Return ``bag``, ``mcap``, ``db3``, ``folder`` or None, by content."""
    if source.is_dir:
        head = first_bytes(source.path, 65536) if source.is_plain else b""
        return "folder" if b"rosbag2_bagfile_information" in head else None
    head = source.head
    if head.startswith(ROS1_MAGIC):
        return "bag"
    if head.startswith(MCAP_MAGIC):
        return "mcap"
    # The first page of the database has the statement that made the table of topics.
    if head.startswith(SQLITE_MAGIC) and b"serialization_format" in head:
        return "db3"
    return None


def open_bag(source: Source, *, keep_whole: bool) -> Bag:
    """Open a bag.

    Parameters
    ----------
    source : Source
    keep_whole : bool
        Read a bag whose index is missing or damaged in the order of the file.

    Raises
    ------
    FormatError
        If it is no bag, or its index cannot be read and ``keep_whole`` is not set.
    """
    kind = kind_of(source)
    if kind is None:
        msg = "expected a ROS bag (#ROSBAG, MCAP, or SQLite with a table of topics), got other data"
        raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
    if kind == "mcap" and not has_index(source):
        bag = SequentialBag.open(source, kind)
        if bag.fault is not None and not keep_whole:
            raise bag.fault.anew()
        return bag
    try:
        return IndexedBag.open(source, kind)
    except FormatError as err:
        if not keep_whole or kind == "folder":
            raise
        return SequentialBag.open(source, kind, err.anew())


@dataclass(slots=True)
class IndexedBag:
    """A bag as its index says."""

    source: Source
    kind: str
    topics: dict[str, Topic]
    ordered: bool
    opener: Callable[[LostChunk | None], Any]
    fault: FormatError | None = None

    @classmethod
    def open(cls, source: Source, kind: str) -> IndexedBag:
        """Read the index."""
        opener = _opener(source, kind)
        reader = opener(None)
        topics: dict[str, Topic] = {}
        try:
            with _Faults(source, "the index of the bag"):
                reader.open()
                for conn in reader.connections:
                    if not isinstance(conn.topic, str):
                        msg = f"a topic whose name is {type(conn.topic).__name__} and no text"
                        raise ChunkError(msg)
                    known = topics.get(conn.topic)
                    if known is not None and known.type != _full(conn.msgtype):
                        continue
                    count = int(conn.msgcount) + (known.count if known else 0)
                    digest = str(conn.digest or "")
                    topics[conn.topic] = Topic(conn.topic, _full(conn.msgtype), count, digest)
                ordered = _ordered(reader)
        finally:
            _close(reader)
        return cls(source, kind, topics, ordered, opener)

    @property
    def path(self) -> str:
        """For messages."""
        return self.source.name

    @property
    def ros(self) -> int:
        """``1`` or ``2``."""
        return 1 if self.kind == "bag" else 2

    def messages(
        self, topics: Collection[str], *, start: int | None = None, lost: Lost | None = None
    ) -> Iterator[Message]:
        """Yield messages in the order of their times; opens the file anew."""
        tell = None if lost is None else partial(_tell_lost, self.source, lost)
        reader = self.opener(tell)
        number = 0
        try:
            with _Faults(self.source, "the index of the bag"):
                reader.open()
                wanted = [
                    conn
                    for conn in reader.connections
                    if conn.topic in topics and _full(conn.msgtype) == self.topics[conn.topic].type
                ]
                found = reader.messages(wanted, start) if wanted else iter(())
            while True:
                with _Faults(self.source, f"message {number} of {', '.join(sorted(topics))}"):
                    item = next(found, None)
                    if item is None:
                        return
                    message = Message(item[0].topic, int(item[1]), bytes(item[2]))
                number += 1
                yield message
        finally:
            _close(reader)


@dataclass(slots=True)
class SequentialBag:
    """A bag without a sound index, in the order of the file.

    ``fault`` is what is wrong with the file, raised after all that is whole.
    """

    source: Source
    kind: str
    topics: dict[str, Topic]
    fault: FormatError | None
    ros: int
    ordered: bool = False

    @classmethod
    def open(cls, source: Source, kind: str, fault: FormatError | None = None) -> SequentialBag:
        """Read the file once for its topics, and for what is wrong with it."""
        counts: dict[tuple[str, str], int] = {}
        damage: list[FormatError] = []
        ros = 1 if kind == "bag" or (kind == "mcap" and profile_of(source) == "ros1") else 2
        try:
            for record in ros_salvage.records(
                source, kind, lambda err: damage.append(_fault(source, "the bag", err))
            ):
                if _serialised(record.encoding, ros):
                    key = (record.topic, _full(record.type))
                    counts[key] = counts.get(key, 0) + 1
        except ChunkError as err:
            damage.append(_fault(source, "the bag", err))
        except FormatError as err:  # what is compressed around it
            fault = fault or err.anew()
        topics: dict[str, Topic] = {}
        for (name, type_), count in counts.items():
            topics.setdefault(name, Topic(name, type_, count))
        if fault is None and damage:
            fault = damage[0]
        return cls(source, kind, topics, fault, ros)

    @property
    def path(self) -> str:
        """For messages."""
        return self.source.name

    def messages(
        self, topics: Collection[str], *, start: int | None = None, lost: Lost | None = None
    ) -> Iterator[Message]:
        """Yield what is whole, then raise what is wrong with the file."""
        tell = partial(_tell_lost, self.source, lost or pass_over)
        with suppress(ChunkError):  # which is the fault
            for record in ros_salvage.records(self.source, self.kind, tell):
                topic = self.topics.get(record.topic)
                if topic is None or record.topic not in topics or _full(record.type) != topic.type:
                    continue
                late = start is None or record.time_ns >= start
                if late and _serialised(record.encoding, self.ros):
                    yield Message(record.topic, record.time_ns, record.data)
        if self.fault is not None:
            raise self.fault.anew()


def _serialised(encoding: str, ros: int) -> bool:
    """Return whether the messages of a channel are those of ROS1 or ROS2; others say nothing."""
    return encoding in ("", "ros1" if ros == 1 else "cdr")


def _tell_lost(source: Source, lost: Lost, err: ChunkError) -> None:
    lost(_fault(source, "the chunks of the bag", err))


def _opener(source: Source, kind: str) -> Callable[[LostChunk | None], Any]:
    """Return what makes a reader of the bag, for each pass over it."""
    if kind == "folder":
        check_folder(source)
        with _Faults(source, "the index of the bag"):
            return partial(FolderFile, Folder(source.path))
    files = {"bag": Bag1File, "mcap": McapFile, "db3": Db3File}
    return partial(files[kind], source.local())


def _full(type_: str) -> str:
    """Bring ``dvs_msgs/EventArray`` to ``dvs_msgs/msg/EventArray``."""
    package, _, name = type_.rpartition("/")
    return type_ if package.endswith("/msg") or not package else f"{package}/msg/{name}"


def _ordered(reader: Any) -> bool:
    """Return whether the files of a split recording follow each other without overlap."""
    parts = [storage.metadata for storage in getattr(reader, "storages", [])]
    parts = [part for part in parts if part.message_count]
    return all(a.end_time <= b.start_time for a, b in pairwise(parts))


def _close(reader: Any) -> None:
    with suppress(Exception):  # it was never opened, or closed itself at a fault
        reader.close()


class _Faults:
    """Turns what `rosbags` raises at damage into `FormatError`; entered once a message: a class."""

    def __init__(self, source: Source, what: str) -> None:
        self._source, self._what = source, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, err: BaseException | None, _: Any) -> None:
        if not isinstance(err, Exception):
            return
        if isinstance(err, EventKitError) or of_system(err):
            return
        raise _fault(self._source, self._what, err) from err


def _fault(source: Source, what: str, err: Exception) -> FormatError:
    why = str(err) or type(err).__name__
    cut = ("Truncated", "Got only", "not indexed", "end magic", "the file ends")
    msg = (
        f"expected {what} to be whole, got damaged data ({why}); copy the file again, "
        "or --on-error skip keeps what can be read"
    )
    reason = "truncated" if any(word in why for word in cut) else "corrupt"
    return FormatError(msg, path=source.name, reason=reason)
