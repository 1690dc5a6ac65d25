"""Which topics of a bag are read."""

from __future__ import annotations

from dataclasses import dataclass, field

from eventkit.errors import FormatError, SettingsError
from eventkit.readers.base import ReadOptions
from eventkit.readers.ros import messages as ros_messages
from eventkit.readers.ros import packets as ros_packets
from eventkit.readers.ros.bags import Bag, Topic, pass_over
from eventkit.readers.ros.messages import EVENT_ARRAYS, EVENT_PACKETS, IMAGES, IMUS, MessageError


@dataclass(slots=True)
class Choice:
    """Which topics are read, by name but for the events.

    Parameters
    ----------
    events : Topic or None
    images, imu : str or None
    signals : list of str
        Topics with external signals.
    notes : list of str
        What was chosen where there was a choice.
    """

    events: Topic | None
    images: str | None
    imu: str | None
    signals: list[str]
    notes: list[str] = field(default_factory=list)


def choose(bag: Bag, options: ReadOptions) -> Choice:
    """Choose by what the bag has and the caller says: ``EVENTS``, ``EVENTS,IMAGES``, ``,IMAGES``.

    Raises
    ------
    SettingsError
        If there are several topics of events, or none of the name given; lists what there is.
    FormatError
        If there are neither events nor images.
    """
    wanted, _, images = (options.topic or "").partition(",")
    packets = _of(bag, EVENT_PACKETS)
    encodings = {topic.name: _encoding(bag, topic) for topic in packets}
    known = [*_of(bag, EVENT_ARRAYS), *packets]
    known = [topic for topic in known if encodings.get(topic.name) != ros_packets.TRIGGER]
    events = _events_topic(bag, known, wanted.strip())
    name = "" if events is None else events.name
    chosen = Choice(events, None, None, [])
    pictures = [topic.name for topic in _of(bag, IMAGES)]
    if images.strip() and images.strip() not in pictures:
        msg = f"expected a topic of images, got {images.strip()!r}; {_listed(bag)}"
        raise SettingsError(msg)
    chosen.images = images.strip() or _nearest(name, pictures)
    if len(pictures) > 1 and not images.strip():
        chosen.notes.append(
            f"image topics {', '.join(sorted(pictures))}: {chosen.images} is read; "
            "--topic EVENTS,IMAGES chooses"
        )
    samples = [topic.name for topic in _of(bag, IMUS)]
    chosen.imu = _nearest(name, samples)
    if len(samples) > 1:
        chosen.notes.append(f"IMU topics {', '.join(sorted(samples))}: {chosen.imu} is read")
    chosen.signals = [n for n, encoding in encodings.items() if encoding == ros_packets.TRIGGER]
    if encodings.get(name) == "evt3":
        chosen.signals.insert(0, name)
    if events is None and not pictures:
        msg = f"expected a topic of events or images, got none; {_listed(bag)}"
        raise FormatError(msg, path=bag.path, reason="empty")
    return chosen


def _events_topic(bag: Bag, known: list[Topic], wanted: str) -> Topic | None:
    if wanted:
        found = [topic for topic in known if topic.name == wanted]
        if not found:
            msg = f"expected a topic of events, got {wanted!r}; {_listed(bag)}"
            raise SettingsError(msg)
        return found[0]
    known = [topic for topic in known if topic.count] or known
    if len(known) > 1:
        names = ", ".join(f"{t.name} ({t.type}, {t.count} messages)" for t in known)
        msg = f"{bag.path}: expected one topic of events, got {names}; --topic chooses one"
        raise SettingsError(msg)
    return known[0] if known else None


def _of(bag: Bag, types: tuple[str, ...]) -> list[Topic]:
    return [topic for _, topic in sorted(bag.topics.items()) if topic.type in types]


def _listed(bag: Bag) -> str:
    names = [f"{t.name} ({t.type}, {t.count} messages)" for _, t in sorted(bag.topics.items())]
    return f"{bag.path} has {', '.join(names[:20]) or 'no topics'}"


def _nearest(events: str, names: list[str]) -> str | None:
    """Return the name that shares most of its parts with the events', then the shortest."""

    def shared(name: str) -> tuple[int, int, str]:
        pairs = zip(events.split("/"), name.split("/"), strict=False)
        equal = [a == b for a, b in pairs]
        return (-(equal.index(False) if False in equal else len(equal)), len(name), name)

    return min(names, key=shared, default=None)


def _encoding(bag: Bag, topic: Topic) -> str:
    """Return the encoding of the first message; empty where it cannot be read."""
    try:
        message = next(iter(bag.messages([topic.name], lost=pass_over)), None)
        return "" if message is None else ros_packets.parse_packet(message.data, bag.ros).encoding
    except (FormatError, MessageError):
        return ""


def check_definition(bag: Bag, topic: Topic) -> None:
    """Refuse a message type of a known name with other fields: they would be read as noise."""
    if not topic.digest:
        return
    store = ros_messages.typestore(bag.ros)
    if bag.ros == 1:
        ours = str(store.generate_msgdef(topic.type)[1])
    else:
        ours = str(store.hash_rihs01(topic.type))
    if topic.digest not in (ours, "*"):
        msg = (
            f"expected {topic.type} as published (hash {ours}), got other fields (hash "
            f"{topic.digest}) on {topic.name}"
        )
        raise FormatError(msg, path=bag.path, reason="bad_header")
