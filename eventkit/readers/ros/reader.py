"""ROS recordings: ROS1 ``.bag``, ROS2 ``.db3`` and MCAP, single files or folders of a split one.

Events are ``EventArray`` of `dvs_msgs` and `prophesee_event_msgs`, or ``EventPacket`` of
`event_camera_msgs` (see `eventkit.readers.ros.packets`). Where there are several topics of events,
the caller names one; the images are those of the one image topic, or of the one that shares most of
its name with the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from eventkit.columns import Buffer
from eventkit.errors import FormatError
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.ros import packets as ros_packets
from eventkit.readers.ros import sides as ros_sides
from eventkit.readers.ros.bags import Bag, Topic, kind_of, open_bag, pass_over
from eventkit.readers.ros.messages import EVENT_PACKETS, MessageError
from eventkit.readers.ros.packets import Decoder, EventMessage
from eventkit.readers.ros.topics import check_definition, choose
from eventkit.readers.stream import INDEX_EVENTS, EventStream
from eventkit.recording import Recording
from eventkit.sources import Source

_EVIDENCE = {
    "bag": "first bytes #ROSBAG V",
    "mcap": "magic bytes of MCAP",
    "db3": "an SQLite database with the tables of rosbag2",
    "folder": "metadata.yaml of rosbag2",
}


class RosReader:
    """Reader of ROS bags that are one file."""

    name = "ros"
    suffixes = (".bag", ".db3", ".mcap")
    holds = ("events", "frames")
    takes = ("topic",)
    unit = "ns"

    def recognise(self, source: Source) -> str | None:
        """Go by the first bytes, and for SQLite by the tables in its first page."""
        kind = None if source.is_dir else kind_of(source)
        return None if kind is None else _EVIDENCE[kind]

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the bag: its index, one message of events, and a pass for the times of images."""
        return _open(source, options, self.name)


class RosFolderReader:
    """Reader of folders that ``ros2 bag record`` writes: metadata.yaml and one file or more."""

    name = "ros2"
    suffixes = ()
    holds = ("events", "frames")
    takes = ("topic",)
    unit = "ns"

    def recognise(self, source: Source) -> str | None:
        """Go by the metadata."""
        return _EVIDENCE["folder"] if source.is_dir and kind_of(source) == "folder" else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the bag; see `RosReader.open`."""
        return _open(source, options, self.name)


def _open(source: Source, options: ReadOptions, name: str) -> Recording:
    bag = open_bag(source, keep_whole=not options.strict)
    chosen = choose(bag, options)
    notes = chosen.notes
    if bag.fault is not None:
        notes.append("the bag or its index is damaged: it is read in the order of the file")
    first, stream, offset = None, None, 0
    if chosen.events is not None:
        check_definition(bag, chosen.events)
        first = _first(bag, chosen.events, strict=options.strict)
        offset = 0 if first is None else ros_packets.clock_offset_us(first)
    header = first.size if first is not None and all(0 < n <= 65536 for n in first.size) else None
    found = geometry.settle(source, options.sensor_size, (header, "the messages of events"))
    if chosen.events is not None:
        stream = EventStream(
            _Decode(bag, chosen.events, options.strict),
            path=source.name,
            sensor_size=found.size,
            on_error=options.on_error,
        )
    frames = None
    if chosen.images is not None:
        frames, why = ros_sides.read_frames(bag, chosen.images, options)
        notes.extend(why)
    if frames is not None and offset:
        frames = frames.shifted(-offset)
    if offset:
        notes.append(
            f"the events are on the sensor's clock; ROS time is {offset} us later, by the stamp of "
            "the first packet, which is its time of arrival"
        )
    return Recording(
        path=source.path,
        format=name,
        sensor_size=found.size,
        geometry_source=found.why if found.size else "",
        source=stream,
        frames=frames,
        side_data=lambda: ros_sides.read_side(bag, chosen.imu, chosen.signals, offset, options),
        t_offset_us=offset,
        notes=[*notes, *found.notes],
    )


def _first(bag: Bag, topic: Topic, *, strict: bool) -> EventMessage | None:
    """Return the first message, for the geometry and the clock."""
    lost = None if strict else pass_over
    try:
        for number, message in enumerate(bag.messages([topic.name], lost=lost)):
            try:
                return _parse(bag, topic, message.data, number)
            except FormatError:
                if strict:
                    raise
    except FormatError:
        if strict:
            raise
    return None


def _parse(bag: Bag, topic: Topic, data: bytes, number: int) -> EventMessage:
    try:
        return ros_packets.parse(data, bag.ros, packet=topic.type in EVENT_PACKETS)
    except MessageError as err:
        msg = (
            f"message {number} of {topic.name}: {err}; --on-error skip drops such messages and "
            "counts them"
        )
        raise FormatError(msg, path=bag.path, reason="corrupt") from err


@dataclass(frozen=True, slots=True)
class _Mark:
    """A way back in: message ``number``, the ``nth`` that was recorded at ``time_ns``."""

    time_ns: int
    nth: int
    number: int
    decoder: Decoder


@dataclass(slots=True)
class _Batch:
    """Messages that are decoded at once."""

    mark: _Mark | None
    messages: list[EventMessage] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    bound: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class _Decode:
    """The decoder of one topic, for `EventStream`; messages are joined up to `INDEX_EVENTS`."""

    bag: Bag
    topic: Topic
    strict: bool

    def __call__(self, buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        """Yield the events from the beginning, or from a mark."""
        start = mark if isinstance(mark, _Mark) else None
        decoder = Decoder() if start is None else start.decoder.copy()
        batch: _Batch | None = None
        lost: list[FormatError] = []
        try:
            for time_ns, nth, number, message in self._messages(start, lost):
                if batch is None:
                    batch = _Batch(_Mark(time_ns, nth, number, decoder.copy()))
                if message is None:
                    batch.damaged += 1
                    continue
                batch.messages.append(message)
                batch.numbers.append(number)
                batch.bound += ros_packets.bound(message)
                if batch.bound >= INDEX_EVENTS:
                    yield self._decoded(batch, lost, decoder, buffer)
                    batch = None
        except FormatError:
            if batch is not None or lost:
                yield self._decoded(batch or _Batch(None), lost, decoder, buffer)
            raise
        if batch is not None or lost:
            yield self._decoded(batch or _Batch(None), lost, decoder, buffer)

    def _messages(
        self, start: _Mark | None, lost: list[FormatError]
    ) -> Iterator[tuple[int, int, int, EventMessage | None]]:
        """Yield time, number among those of that time, number, and the message or its damage.

        ``lost`` receives damaged chunks, unless the first fault is the end.
        """
        latest, nth = -1, 0
        number = 0 if start is None else start.number - start.nth
        found = self.bag.messages(
            [self.topic.name],
            start=start.time_ns if start else None,
            lost=None if self.strict else lost.append,
        )
        for message in found:
            nth = nth + 1 if message.time_ns == latest else 0
            latest = message.time_ns
            if start is None or number >= start.number:
                yield latest, nth, number, self._parsed(message.data, number)
            number += 1
        if number < self.topic.count and self.bag.fault is None:
            msg = (
                f"expected {self.topic.count} messages on {self.topic.name}, as the index of the "
                f"bag says, got {number}; --on-error skip keeps these"
            )
            raise FormatError(msg, path=self.bag.path, reason="truncated")

    def _parsed(self, data: bytes, number: int) -> EventMessage | None:
        try:
            return _parse(self.bag, self.topic, data, number)
        except FormatError:
            if self.strict:
                raise
            return None

    def _decoded(
        self, batch: _Batch, lost: list[FormatError], decoder: Decoder, buffer: Buffer
    ) -> RawChunk:
        room = buffer.room(batch.bound)
        end, words = 0, 0
        damage = {"damaged message": batch.damaged, "damaged chunk": len(lost)}
        skipped = Counter({reason: count for reason, count in damage.items() if count})
        lost.clear()
        for message in batch.messages:
            count, others = decoder.decode(message, room.part(end, batch.bound))
            end += count
            words += ros_packets.word_count(message)
            skipped.update(others)
        return RawChunk(
            *room.part(0, end),
            words=words,
            skipped=skipped,
            mark=batch.mark if self.bag.ordered else None,
        )
