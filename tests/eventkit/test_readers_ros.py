"""ROS bags: every kind of file and of event message, what stands beside them, and damage.

The bags are written by `rosbags` from message objects, one Python object an event; packets are
encoded here, word by word, from the description of the codecs.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gc
import gzip
import os
import re
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.errors import EventKitError, FormatError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers.ros import bags, chunks, folders, merge, pixels
from eventkit.readers.ros import packets as ros_packets
from eventkit.readers.ros.messages import MessageError, typestore
from eventkit.sources import Source
from eventkit.testing.files import known_events
from eventkit.testing.readers import ReaderTests

rosbag1 = pytest.importorskip("rosbags.rosbag1", reason="the rosbags package is not installed")
rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="the rosbags package is not installed")

ARRAY = "dvs_msgs/msg/EventArray"
PACKET = "event_camera_msgs/msg/EventPacket"
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
IMU = "sensor_msgs/msg/Imu"
START_US = 1_600_000_000_000_000
SIZE = (34, 30)
STORES = {ros: typestore(ros) for ros in (1, 2)}

Message = tuple[str, str, int, bytes]  # topic, type, nanoseconds, serialised


def header(ros: int, stamp_us: int) -> Any:
    types = STORES[ros].types
    seconds, rest = divmod(stamp_us, 1_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=rest * 1000)
    more = {"seq": 7} if ros == 1 else {}
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera", **more)


def serialise(ros: int, type_: str, stamp_us: int, **fields: Any) -> bytes:
    message = STORES[ros].types[type_](header=header(ros, stamp_us), **fields)
    store = STORES[ros]
    return bytes((store.serialize_ros1 if ros == 1 else store.serialize_cdr)(message, type_))


def array(ros: int, events: Events, type_: str = ARRAY, size: tuple[int, int] = SIZE) -> bytes:
    """Serialise one ``EventArray`` through message objects."""
    types = STORES[ros].types
    one = types[f"{type_.partition('/')[0]}/msg/Event"]
    rows = [
        one(
            x=x,
            y=y,
            ts=types["builtin_interfaces/msg/Time"](sec=t // 10**6, nanosec=t % 10**6 * 1000 + 999),
            polarity=bool(p),
        )
        for x, y, t, p in events.to_structured().tolist()
    ]
    stamp = int(events.t[0]) if len(events) else 0
    return serialise(ros, type_, stamp, width=size[0], height=size[1], events=rows)


def packet(ros: int, encoding: str, content: bytes, stamp_us: int, **fields: Any) -> bytes:
    fields = {"time_base": 0, "is_bigendian": False, "width": SIZE[0], "height": SIZE[1]} | fields
    events = np.frombuffer(content, np.uint8)
    return serialise(ros, PACKET, stamp_us, seq=3, encoding=encoding, events=events, **fields)


def write_bag(path: Path, kind: str, messages: Iterable[Message], lz4: bool = False) -> Path:
    """Write a bag of one file, whatever the suffix of ``path``."""
    if kind == "bag":
        writer = rosbag1.Writer(path)
        if lz4:
            writer.set_compression(rosbag1.Writer.CompressionFormat.LZ4)
    else:
        folder = path.with_name(f"{path.name}-folder")
        plugin = rosbag2.StoragePlugin.MCAP if kind == "mcap" else rosbag2.StoragePlugin.SQLITE3
        writer = rosbag2.Writer(folder, version=9, storage_plugin=plugin)
    with writer:
        known: dict[str, Any] = {}
        for topic, type_, time, data in messages:
            if topic not in known:
                store = STORES[1 if kind == "bag" else 2]
                known[topic] = writer.add_connection(topic, type_, typestore=store)
            writer.write(known[topic], time, data)
    if kind != "bag":
        (folder / f"{folder.name}.{kind}").rename(path)
        (folder / "metadata.yaml").unlink()
        folder.rmdir()
    return path


def event_messages(ros: int, events: Events, n: int = 500) -> list[Message]:
    """Cut events into messages, several of them recorded at one time."""
    cuts = range(0, len(events), n) if len(events) else [0]
    parts = [events[a : a + n] for a in cuts]
    return [
        ("/dvs/events", ARRAY, START_US * 1000 + i // 3 * 1000, array(ros, part))
        for i, part in enumerate(parts)
    ]


def absolute(n: int, seed: int = 0) -> Events:
    return known_events(n, sensor_size=SIZE, seed=seed, start_us=START_US)


class _RosTests(ReaderTests):
    format = "ros"
    kind = ""
    small = 4
    most_cuts = 60
    flips = 40

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        ros = 1 if self.kind == "bag" else 2
        n = max(500, len(events) // 20)
        if len(events) <= 3_000:
            messages = event_messages(ros, events, n)
        else:  # an object an event would take too long
            messages = [
                ("/dvs/events", ARRAY, 1000 + i, fast_array(ros, events[a : a + n]))
                for i, a in enumerate(range(0, len(events), n))
            ]
        write_bag(path, self.kind, messages)


def fast_array(ros: int, events: Events) -> bytes:
    """Serialise with `struct`, a record at a time, padding found by counting."""
    out = bytearray(array(ros, Events.empty()))
    out[-4:] = struct.pack("<I", len(events))
    for x, y, t, p in events.to_structured().tolist():
        if ros == 2:
            out += b"\0" * (len(out) % 2)
        out += struct.pack("<HH", x, y)
        if ros == 2:
            out += b"\0" * (-len(out) % 4)
        out += struct.pack("<IIB", t // 10**6, t % 10**6 * 1000, p)
    return bytes(out)


class TestRos1Bag(_RosTests):
    suffix, kind = ".bag", "bag"


class TestMcap(_RosTests):
    suffix, kind = ".mcap", "mcap"


class TestDb3(_RosTests):
    suffix, kind = ".db3", "db3"
    most_cuts = 30


# Messages


@pytest.mark.parametrize("ros", [1, 2])
@pytest.mark.parametrize("type_", [ARRAY, "prophesee_event_msgs/msg/EventArray"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_an_array_is_read_as_by_the_generic_parser(ros: int, type_: str, count: int) -> None:
    data = array(ros, absolute(count), type_)
    store = STORES[ros]
    generic = (store.deserialize_ros1 if ros == 1 else store.deserialize_cdr)(data, type_)

    message = ros_packets.parse_array(data, ros)

    rows = [row for part in message.records for row in part.tolist()]
    assert rows == [(e.x, e.y, e.ts.sec, e.ts.nanosec, int(e.polarity)) for e in generic.events]
    assert message.size == (generic.width, generic.height)


def test_a_big_endian_array_is_read() -> None:
    events = absolute(9)
    message = STORES[2].deserialize_cdr(array(2, events), ARRAY)
    data = bytes(STORES[2].serialize_cdr(message, ARRAY, little_endian=False))
    assert data[1] == 0

    rows = [row for part in ros_packets.parse_array(data, 2).records for row in part.tolist()]

    assert [row[:2] for row in rows] == [(e.x, e.y) for e in message.events]
    assert [row[2:4] for row in rows] == [(e.ts.sec, e.ts.nanosec) for e in message.events]


@pytest.mark.parametrize("ros", [1, 2])
def test_an_array_that_is_cut_or_lies_about_its_length_is_refused(ros: int) -> None:
    data = array(ros, absolute(5))

    for end in range(len(data)):
        with pytest.raises(MessageError):
            ros_packets.parse_array(data[:end], ros)
    at = data.index(struct.pack("<III", SIZE[1], SIZE[0], 5)) + 8
    for claim in (0, 3, 6, 2**32 - 1):
        forged = data[:at] + struct.pack("<I", claim) + data[at + 4 :]
        with pytest.raises(MessageError, match="expected"):
            ros_packets.parse_array(forged, ros)


# Packets: slow twins, from the README and the decoders of event_camera_codecs


def mono(events: Events, base_ns: int, order: str = "<") -> bytes:
    rows = events.to_structured().tolist()
    words = [p << 63 | y << 48 | x << 32 | (t * 1000 - base_ns) for x, y, t, p in rows]
    return struct.pack(f"{order}{len(words)}Q", *words)


def libcaer(events: Events, base_ns: int) -> bytes:
    out = b""
    for x, y, t, p in events.to_structured().tolist():
        since = (t - base_ns // 1000) % 2**31
        out += struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, since)
    return out


def libcaer_cmp_slow(words: Iterable[int], base_us: int) -> list[tuple[int, int, int, int]]:
    high = low = x = base = p = 0
    found = []
    for word in words:
        kind, rest = divmod(word, 4096)
        if kind == 0:
            high = rest
        elif kind == 1:
            low = rest
        elif kind == 2:
            x = rest % 2048
        elif kind == 3:
            found.append((x, rest % 2048, base_us + high * 4096 + low, rest // 2048))
        elif kind == 4:
            base, p = rest % 2048, rest // 2048
        elif kind == 5:
            found += [
                (x, base + k, base_us + high * 4096 + low, p) for k in range(8) if rest & 1 << k
            ]
            base += 8
    return found


def evt3_slow(words: Iterable[int]) -> list[tuple[int, int, int, int]]:
    """Without the rule of wraps: for times that do not reach 2^24."""
    high = y = base = p = None
    low = 0
    found = []
    for word in words:
        kind, rest = divmod(word, 4096)
        if kind == 8:
            low = low if rest == high else 0
            high = rest
        elif kind == 6:
            low = rest
        elif kind == 0:
            y = rest % 2048
        elif kind == 3:
            base, p = rest % 2048, rest // 2048
        elif kind in (2, 4, 5) and None not in (high, y):
            t = high * 4096 + low
            if kind == 2:
                found.append((rest % 2048, y, t, rest // 2048))
            elif base is not None:
                n = 12 if kind == 4 else 8
                found += [(base + k, y, t, p) for k in range(n) if rest & 1 << k]
                base += n
    return found


def decoded(data: bytes, ros: int = 2) -> list[tuple[int, int, int, int]]:
    message = ros_packets.parse_packet(data, ros)
    out = eventkit.columns.Columns.empty(ros_packets.bound(message))
    count, _ = ros_packets.Decoder().decode(message, out)
    return [tuple(row) for row in np.stack([c[:count].astype(np.int64) for c in out], 1).tolist()]


@pytest.mark.parametrize("ros", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_mono_packets_are_time_base_and_nanoseconds(ros: int, order: str) -> None:
    events = absolute(60)
    base = START_US * 1000 - 1
    data = packet(
        ros, "mono", mono(events, base, order), 5, time_base=base, is_bigendian=order == ">"
    )

    assert decoded(data, ros) == events.to_structured().tolist()


def test_libcaer_packets_go_on_where_31_bits_wrap() -> None:
    t = np.array(
        [START_US + 2**31 - 2, START_US + 2**31 - 1, START_US + 2**31, START_US + 2**31 + 5]
    )
    events = Events(x=[0, 32767, 3, 4], y=[32767, 0, 1, 2], t=t, p=[0, 1, 1, 0])

    data = packet(2, "libcaer", libcaer(events, START_US * 1000), 5, time_base=START_US * 1000)

    assert decoded(data) == events.to_structured().tolist()


@given(
    words=st.lists(
        st.integers(0, 6).flatmap(lambda kind: st.integers(kind << 12, (kind << 12) + 4095)),
        max_size=60,
    )
)
def test_libcaer_cmp_is_decoded_as_by_the_slow_twin(words: list[int]) -> None:
    content = struct.pack(f"<{len(words)}H", *words)

    found = decoded(packet(2, "libcaer_cmp", content, 5, time_base=START_US * 1000))

    assert found == libcaer_cmp_slow(words, START_US)


@given(
    words=st.lists(
        st.sampled_from([0, 2, 3, 4, 5, 6, 6, 8, 10, 14, 9, 15]).flatmap(
            lambda kind: st.integers(kind << 12, (kind << 12) + (1023 if kind == 8 else 4095))
        ),
        max_size=60,
    )
)
def test_evt3_is_decoded_as_by_the_slow_twin(words: list[int]) -> None:
    content = struct.pack(f"<{len(words)}H", *words)

    assert decoded(packet(2, "evt3", content, 5)) == evt3_slow(words)


def test_evt3_state_goes_on_from_packet_to_packet_and_over_a_wrap(tmp_path: Path) -> None:
    words = [
        [0x8FFF, 0x6001, 0x0005, 0x2003, 0xA301],  # event and trigger (channel 3, rising)
        [0x2804],  # nothing but an event: row and time are those of the packet before
        [0x8000, 0x6002, 0x2005, 0xE019, 0x9999],
    ]
    at = [START_US, START_US + 10, START_US + 4200]
    messages = [
        ("/cam/events", PACKET, t * 1000, packet(2, "evt3", struct.pack(f"<{len(w)}H", *w), t))
        for w, t in zip(words, at, strict=True)
    ]
    recording = eventkit.open(write_bag(tmp_path / "a.mcap", "mcap", messages))

    first = 0xFFF << 12 | 1
    assert recording.events.to_structured().tolist() == [
        (3, 5, first, 0),
        (4, 5, first, 1),
        (5, 5, (1 << 24) + 2, 0),
    ]
    assert recording.ledger.skipped == {"trigger": 1, "others": 1, "unknown": 1}
    assert recording.triggers.tolist() == [(first, 3, 1)]
    # The first packet arrived at its stamp: that is all there is to know of the camera's start.
    assert recording.t_offset_us == START_US - first
    assert "sensor's clock" in recording.notes[0]


def test_words_of_evt3_before_the_first_time_are_counted(tmp_path: Path) -> None:
    content = struct.pack("<6H", 0x2001, 0x4FFF, 0x8001, 0x2001, 0x0005, 0x2001)
    message = ("/e", PACKET, 5, packet(1, "evt3", content, START_US))

    recording = eventkit.open(write_bag(tmp_path / "a.bag", "bag", [message]))

    assert len(recording.events) == 1
    assert recording.ledger.skipped == {"before_time_high": 2, "before_row": 1}
    assert recording.ledger.words == 6


def test_a_real_evt3_file_in_packets_gives_the_events_of_its_dat(
    shared: Path, tmp_path: Path
) -> None:
    body = (shared / "evt" / "evt3_1280x720.raw").read_bytes()[:400_000]
    while body.startswith(b"%"):
        body = body.partition(b"\n")[2]
    body = body[: len(body) // 2 * 2]
    messages = [
        ("/e", PACKET, i, packet(2, "evt3", body[i : i + 9_998], i, width=1280, height=720))
        for i in range(0, len(body), 9_998)
    ]
    events = eventkit.open(write_bag(tmp_path / "a.mcap", "mcap", messages)).events

    dat = (shared / "dat" / "same_recording_as_evt3_1280x720.dat").read_bytes()
    while dat.startswith(b"%"):
        dat = dat.partition(b"\n")[2]
    words = np.frombuffer(dat[2:], "<u4", 2 * len(events)).reshape(-1, 2)
    assert len(events) > 50_000
    assert np.array_equal(events.x, words[:, 1] & 0x3FFF)
    assert np.array_equal(events.y, words[:, 1] >> 14 & 0x3FFF)
    assert np.array_equal(events.p, words[:, 1] >> 28 & 1)
    assert set((events.t - words[:, 0]).tolist()) == {11_194_368}


def test_unknown_encodings_and_odd_lengths_are_refused(tmp_path: Path) -> None:
    for encoding, content, why in (("evt9", b"", "encoding"), ("mono", b"123", "words of 8")):
        path = tmp_path / f"{encoding}.bag"
        write_bag(path, "bag", [("/e", PACKET, 5, packet(1, encoding, content, 5))])
        with pytest.raises(FormatError, match=why):
            _ = eventkit.open(path).events


# Bags


def test_a_folder_of_several_files_is_read_in_order(tmp_path: Path) -> None:
    events = absolute(900)
    messages = event_messages(2, events, 100)
    for number, part in enumerate((messages[:3], messages[3:])):
        write_bag(tmp_path / f"{number}.db3", "db3", part)
    whole = rosbag2.Writer(tmp_path / "bag", version=9)
    with whole:
        connection = whole.add_connection("/dvs/events", ARRAY, typestore=STORES[2])
        for _, _, time, data in messages:
            whole.write(connection, time, data)
    yaml = (tmp_path / "bag" / "metadata.yaml").read_text()
    yaml = yaml.replace(
        "relative_file_paths:\n  - bag.db3", "relative_file_paths:\n  - 0.db3\n  - 1.db3"
    )
    assert "1.db3" in yaml
    (tmp_path / "bag" / "metadata.yaml").write_text(yaml)
    for number in (0, 1):
        (tmp_path / f"{number}.db3").rename(tmp_path / "bag" / f"{number}.db3")

    recording = eventkit.open(tmp_path / "bag")

    assert recording.format == "ros2"
    assert recording.evidence == "metadata.yaml of rosbag2"
    assert recording.events == events
    assert (
        recording.between(START_US + 6_000, START_US + 9_000)
        == eventkit.open(tmp_path / "bag").events[
            int(np.searchsorted(events.t, START_US + 6_000)) : int(
                np.searchsorted(events.t, START_US + 9_000)
            )
        ]
    )


def test_a_database_without_definitions_is_read(tmp_path: Path) -> None:
    events = absolute(300)
    path = write_bag(tmp_path / "a.db3", "db3", event_messages(2, events))
    with sqlite3.connect(path) as connection:
        for table in ("schema", "message_definitions", "metadata"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
    connection.close()

    assert eventkit.open(path).events == events


def test_a_type_of_a_known_name_with_other_fields_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    with rosbag1.Writer(path) as writer:
        text = "uint64 other\n"
        topic = writer.add_connection("/e", ARRAY, msgdef=text, md5sum="0" * 32)
        writer.write(topic, 5, array(1, absolute(5)))

    with pytest.raises(FormatError, match="other fields"):
        eventkit.open(path)


def test_a_name_with_signs_of_urls_is_read(tmp_path: Path) -> None:
    events = absolute(20)
    path = write_bag(tmp_path / "a.db3", "db3", event_messages(2, events))

    assert eventkit.open(path.rename(tmp_path / "a %23 #1?.db3")).events == events


def test_a_later_part_is_found_by_its_mark(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("eventkit.readers.ros.reader.INDEX_EVENTS", 200)
    monkeypatch.setattr("eventkit.readers.stream.INDEX_EVENTS", 200)
    events = absolute(4_000)
    for kind in ("bag", "mcap", "db3"):
        messages = event_messages(1 if kind == "bag" else 2, events, 70)
        recording = eventkit.open(write_bag(tmp_path / f"a.{kind}", kind, messages))
        _ = recording.between(START_US, START_US + 10**9)
        for start in range(START_US, START_US + 80_000, 7_001):
            i, j = np.searchsorted(events.t, [start, start + 3_000]).tolist()
            ledger = Ledger()
            found = [c.events for c in recording.source(ledger, since_us=start)]
            assert recording.between(start, start + 3_000) == events[i:j]
            assert len(Events.concatenate(found)) >= len(events) - i
            assert ledger.decoded <= len(events) - i + 500


# Topics


def two_cameras(tmp_path: Path) -> Path:
    left, right = absolute(10), absolute(20, seed=1)
    pixels = np.arange(12, dtype=np.uint8)
    fields = {"height": 3, "width": 4, "encoding": "mono8", "is_bigendian": 0, "step": 4}
    image = serialise(1, IMAGE, START_US, data=pixels, **fields)
    other = serialise(1, IMAGE, START_US, data=pixels + 100, **fields)
    return write_bag(
        tmp_path / "a.bag",
        "bag",
        [
            ("/left/events", ARRAY, 5, array(1, left)),
            ("/right/events", ARRAY, 6, array(1, right)),
            ("/left/image_raw", IMAGE, 7, image),
            ("/right/image_raw", IMAGE, 8, other),
        ],
    )


def test_several_topics_of_events_have_to_be_chosen_from(tmp_path: Path) -> None:
    path = two_cameras(tmp_path)

    with pytest.raises(SettingsError, match=r"/left/events \(dvs_msgs.*1 messages\).*--topic"):
        eventkit.open(path)
    right = eventkit.open(path, topic="/right/events")
    crossed = eventkit.open(path, topic="/right/events,/left/image_raw")

    assert len(right.events) == 20
    assert int(right.frames.images.max()) == 111
    assert "/right/image_raw is read" in right.notes[0]
    assert int(crossed.frames.images.max()) == 11
    for wrong in ("/nowhere", "/left/image_raw", "/left/events,/nowhere"):
        with pytest.raises(SettingsError, match="has /left/events"):
            eventkit.open(path, topic=wrong)


def test_a_bag_without_events_or_images_says_what_it_has(tmp_path: Path) -> None:
    store = STORES[1]
    text = bytes(
        store.serialize_ros1(store.types["std_msgs/msg/String"](data="a"), "std_msgs/msg/String")
    )
    path = write_bag(tmp_path / "a.bag", "bag", [("/chatter", "std_msgs/msg/String", 5, text)])

    with pytest.raises(FormatError, match="/chatter"):
        eventkit.open(path)


# Images, inertial samples, signals


@pytest.mark.parametrize(
    ("encoding", "dtype", "values", "order"),
    [
        ("mono8", "<u1", 1, [0]),
        ("rgb8", "<u1", 3, [0, 1, 2]),
        ("bgr8", "<u1", 3, [2, 1, 0]),
        ("bgra8", "<u1", 4, [2, 1, 0]),
        ("mono16", "<u2", 1, [0]),
        ("mono16", ">u2", 1, [0]),
    ],
)
@pytest.mark.parametrize("kind", ["bag", "mcap"])
def test_images_have_their_pixels_and_stamps(
    tmp_path: Path, kind: str, encoding: str, dtype: str, values: int, order: list[int]
) -> None:
    ros = 1 if kind == "bag" else 2
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2 ** (8 * int(dtype[2])), (5, 3, 4, values)).astype(dtype)
    messages: list[Message] = [("/events", ARRAY, 1, array(ros, absolute(4)))]
    for i, picture in enumerate(pixels):
        rows = picture.reshape(3, -1)
        row = np.pad(rows, ((0, 0), (0, 2)))  # rows that are longer than the picture is wide
        data = serialise(
            ros,
            IMAGE,
            START_US + 10 * i,
            height=3,
            width=4,
            encoding=encoding,
            is_bigendian=int(dtype[0] == ">"),
            step=row.shape[1] * row.itemsize,
            data=np.frombuffer(row.tobytes(), np.uint8),
        )
        messages.append(("/image_raw", IMAGE, 10 + i // 2, data))
    recording = eventkit.open(write_bag(tmp_path / f"a.{kind}", kind, messages))
    frames = recording.frames

    assert frames.t_us.tolist() == [START_US + 10 * i for i in range(5)]
    assert (frames.size, frames.channels, frames.timing) == ((4, 3), len(order), "recorded")
    assert np.array_equal(frames.images, pixels[..., order])
    assert frames.images.dtype == np.dtype(dtype).newbyteorder("=")
    for wanted in ([1], [2], [0, 3], [4]):
        found = [picture.pixels for picture in frames.pictures(wanted)]
        assert np.array_equal(found, pixels[wanted][..., order])


def test_compressed_images_keep_their_bytes(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    file = BytesIO()
    image.fromarray(pixels).save(file, "PNG")
    data = np.frombuffer(file.getvalue(), np.uint8)
    messages = [
        ("/e", ARRAY, 1, array(2, absolute(4))),
        (
            "/i/compressed",
            COMPRESSED,
            2,
            serialise(2, COMPRESSED, START_US, format="png", data=data),
        ),
    ]

    frames = eventkit.open(write_bag(tmp_path / "a.mcap", "mcap", messages)).frames

    (picture,) = frames.pictures([0])
    assert frames.suffix == "png"
    assert np.array_equal(picture.pixels, pixels)
    assert picture.encoded == file.getvalue()


def demosaic_slow(raw: np.ndarray, pattern: str) -> np.ndarray:
    """Look around each pixel: the nearest samples of a colour, over the edge those of this side."""
    height, width = raw.shape
    out = np.zeros((height, width, 3), raw.dtype)
    for y in range(height):
        for x in range(width):
            for channel, colour in enumerate("rgb"):
                near: dict[int, list[int]] = {}
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if pattern[(y + dy) % 2 * 2 + (x + dx) % 2] == colour:
                            j = y - dy if not 0 <= y + dy < height else y + dy
                            i = x - dx if not 0 <= x + dx < width else x + dx
                            near.setdefault(dy * dy + dx * dx, []).append(int(raw[j, i]))
                values = near[min(near)]
                out[y, x, channel] = (2 * sum(values) + len(values)) // (2 * len(values))
    return out


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("shape", [(2, 2), (5, 7), (6, 4), (2, 9)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_bayer_filter_is_undone_as_by_the_slow_twin(
    pattern: str, shape: tuple[int, int], dtype: type
) -> None:
    raw = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)

    found = pixels.demosaic(raw, pattern)

    assert found.dtype == dtype
    assert np.array_equal(found, demosaic_slow(raw, pattern))


def test_a_picture_of_one_colour_stays_it_behind_a_bayer_filter() -> None:
    raw = np.empty((4, 6), np.uint8)
    raw[::2, ::2], raw[1::2, 1::2] = 200, 10  # red, blue
    raw[::2, 1::2] = raw[1::2, ::2] = 90

    assert np.unique(pixels.demosaic(raw, "rggb").reshape(-1, 3), axis=0).tolist() == [
        [200, 90, 10]
    ]


@pytest.mark.parametrize("order", ["uyvy", "yuyv"])
def test_yuv_becomes_rgb_by_bt601(order: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 2)).astype(np.uint8)
    y, u, v = (
        np.stack([values.reshape(20, 15, 4)[:, :, i] for i in places], -1).astype(float)
        for places in (
            [i for i, c in enumerate(order) if c == "y"],
            [order.index("u")] * 2,
            [order.index("v")] * 2,
        )
    )
    luma, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    kr, kb = 0.299, 0.114
    red, blue = luma + 2 * (1 - kr) * v, luma + 2 * (1 - kb) * u
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    expected = np.stack([c.reshape(20, 30) for c in (red, green, blue)], -1).clip(0, 255)

    found = pixels.from_yuv422(values, order)

    # Coefficients of 8 bits: half a step of rounding and a few thousandths of 255.
    assert np.abs(found - expected).max() < 1.2
    # White, black and the primaries of the standard's colour bars.
    for yuv, rgb in (((235, 128, 128), 255), ((16, 128, 128), 0)):
        pixel = np.array([[[yuv["yuv".index(c)] for c in order]]], np.uint8).reshape(1, 2, 2)
        assert np.unique(pixels.from_yuv422(pixel, order)).tolist() == [rgb]


@pytest.mark.parametrize(
    ("encoding", "dtype", "values"),
    [
        ("bayer_gbrg8", "<u1", 1),
        ("bayer_rggb16", ">u2", 1),
        ("yuv422", "<u1", 2),
        ("yuv422_yuy2", "<u1", 2),
        ("yuyv", "<u1", 2),
    ],
)
def test_colours_that_pixels_share_are_read_from_a_bag(
    tmp_path: Path, encoding: str, dtype: str, values: int
) -> None:
    whole = np.random.default_rng(1).integers(0, 2 ** (8 * int(dtype[2])), (2, 5, 6, values))
    whole = whole.astype(dtype)
    messages: list[Message] = [("/e", ARRAY, 1, array(2, absolute(4)))]
    for i, picture in enumerate(whole):
        rows = np.pad(picture.reshape(5, -1), ((0, 0), (0, 3)))
        fields = {"is_bigendian": int(dtype[0] == ">"), "step": rows.shape[1] * rows.itemsize}
        data = np.frombuffer(rows.tobytes(), np.uint8)
        fields |= {"height": 5, "width": 6, "encoding": encoding, "data": data}
        messages.append(("/i", IMAGE, 2 + i, serialise(2, IMAGE, START_US + i, **fields)))

    recording = eventkit.open(write_bag(tmp_path / "a.mcap", "mcap", messages))
    frames = recording.frames

    assert (frames.size, frames.channels, recording.notes) == ((6, 5), 3, [])
    native = whole.astype(np.dtype(dtype).newbyteorder("="))
    for found, raw in zip(frames.images, native, strict=True):
        if values == 2:
            order = "uyvy" if encoding == "yuv422" else "yuyv"
            assert np.array_equal(found, pixels.from_yuv422(raw, order))
        else:
            assert np.array_equal(found, demosaic_slow(raw[..., 0], encoding[6:10]))


def test_images_of_an_unknown_encoding_leave_the_events_readable(tmp_path: Path) -> None:
    data = serialise(
        1,
        IMAGE,
        5,
        height=1,
        width=1,
        encoding="32FC1",
        is_bigendian=0,
        step=1,
        data=np.zeros(1, np.uint8),
    )
    messages = [("/e", ARRAY, 1, array(1, absolute(4))), ("/i", IMAGE, 2, data)]

    recording = eventkit.open(write_bag(tmp_path / "a.bag", "bag", messages))

    assert recording.frames is None
    assert "32FC1" in recording.notes[0]
    assert len(recording.events) == 4


def gray(value: int, *, shape: tuple[int, int] = (2, 3), stamp_us: int = START_US) -> bytes:
    height, width = shape
    return serialise(
        2,
        IMAGE,
        stamp_us,
        height=height,
        width=width,
        encoding="mono8",
        is_bigendian=0,
        step=width,
        data=np.full(height * width, value, np.uint8),
    )


def test_images_without_a_named_encoding_are_none_and_that_is_said(tmp_path: Path) -> None:
    nameless = serialise(
        2, IMAGE, START_US, height=2, width=3, encoding="", is_bigendian=0, step=3,
        data=np.zeros(6, np.uint8),
    )  # fmt: skip
    messages = [("/e", ARRAY, 1, array(2, absolute(4))), ("/i", IMAGE, 2, nameless)]

    recording = eventkit.open(write_bag(tmp_path / "a.mcap", "mcap", messages))

    assert recording.frames is None
    assert any("of no named encoding" in note for note in recording.notes)
    assert len(recording.events) == 4


def test_a_damaged_image_costs_itself_and_is_noted(tmp_path: Path) -> None:
    messages: list[Message] = [("/e", ARRAY, 1, array(2, absolute(4)))]
    for i in range(6):
        shape = (4, 4) if i == 4 else (2, 3)
        data = gray(i, shape=shape, stamp_us=START_US + i)
        messages.append(("/i", IMAGE, 2 + i, data[:-3] if i == 1 else data))
    path = write_bag(tmp_path / "a.mcap", "mcap", messages)

    with pytest.raises(FormatError, match="message 1 of /i"):
        eventkit.open(path)
    recording = eventkit.open(path, on_error="skip")

    assert len(recording.events) == 4
    assert [int(picture[0, 0, 0]) for picture in recording.frames.images] == [0, 2, 3, 5]
    assert recording.frames.t_us.tolist() == [START_US + i for i in (0, 2, 3, 5)]
    assert [f["reason"] for f in recording.side_faults] == ["corrupt", "bad_value"]
    (picture,) = recording.frames.pictures([2])
    assert int(picture.pixels[0, 0, 0]) == 3


def imu(ros: int, stamp_us: int) -> bytes:
    types = STORES[ros].types
    vector, nine = types["geometry_msgs/msg/Vector3"], np.zeros(9)
    return serialise(
        ros,
        IMU,
        stamp_us,
        orientation=types["geometry_msgs/msg/Quaternion"](x=0.1, y=0.2, z=0.3, w=0.4),
        orientation_covariance=nine,
        angular_velocity=vector(x=1.0, y=2.0, z=3.0),
        angular_velocity_covariance=nine,
        linear_acceleration=vector(x=4.0, y=5.0, z=6.0),
        linear_acceleration_covariance=nine,
    )


@pytest.mark.parametrize("ros", [1, 2])
def test_inertial_samples_and_signals_are_on_the_clock_of_the_events(
    tmp_path: Path, ros: int
) -> None:
    signal = struct.pack("<2Q", 1 << 63 | 7_000, 9_000)
    events = Events(x=[1], y=[2], t=[3], p=[1])
    messages = [
        ("/c/events", PACKET, 1, packet(ros, "mono", mono(events, 0), START_US)),
        ("/c/imu", IMU, 2, imu(ros, START_US + 50)),
        ("/c/trigger", PACKET, 3, packet(ros, "trigger", signal, START_US)),
    ]
    kind = "bag" if ros == 1 else "db3"

    recording = eventkit.open(write_bag(tmp_path / f"a.{kind}", kind, messages))

    assert recording.events.t.tolist() == [3]
    assert recording.t_offset_us == START_US
    assert recording.imu.tolist() == [(50, 0.1, 0.2, 0.3, 0.4, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]
    assert recording.triggers.tolist() == [(7, 0, 1), (9, 0, 0)]


# Damage


@pytest.fixture(scope="module")
def sound() -> Events:
    return absolute(400)


@pytest.mark.parametrize(
    ("kind", "lz4"), [("bag", False), ("bag", True), ("mcap", False), ("db3", False)]
)
def test_a_cut_bag_keeps_its_whole_messages(
    tmp_path: Path, sound: Events, kind: str, lz4: bool
) -> None:
    messages = event_messages(1 if kind == "bag" else 2, sound, 40)
    data = write_bag(tmp_path / f"a.{kind}", kind, messages, lz4=lz4).read_bytes()
    path = tmp_path / f"cut.{kind}"
    kept = []
    for end in np.linspace(len(data) * 0.05, len(data) - 1, 30).astype(int).tolist():
        path.write_bytes(data[:end])
        try:
            recording = eventkit.open(path, on_error="skip")
            events = recording.events
        except EventKitError:
            continue
        kept.append(len(events))
        assert len(events) % 40 == 0
        assert events == sound[: len(events)]
        assert recording.ledger.faults[0]["reason"] in ("truncated", "corrupt")
        with pytest.raises(FormatError, match="--on-error skip"):
            _ = eventkit.open(path).events
    assert kept == sorted(kept)
    # A database loses what stands behind a lost page; the other kinds end with their index.
    assert kept[-1] == (160 if kind == "db3" else 400)


def test_an_unindexed_bag_is_refused_and_read_whole_under_skip(
    tmp_path: Path, sound: Events
) -> None:
    data = bytearray(
        write_bag(tmp_path / "a.bag", "bag", event_messages(1, sound, 40)).read_bytes()
    )
    at = data.index(b"index_pos=") + len(b"index_pos=")
    data[at : at + 8] = bytes(8)
    path = tmp_path / "active.bag"
    path.write_bytes(data)

    with pytest.raises(FormatError, match="not indexed") as caught:
        eventkit.open(path)
    recording = eventkit.open(path, on_error="skip")

    assert caught.value.reason == "truncated"
    assert recording.events == sound
    assert "order of the file" in recording.notes[0]
    assert len(recording.ledger.faults) == 1


def test_a_damaged_message_is_dropped_and_counted(tmp_path: Path, sound: Events) -> None:
    messages = event_messages(2, sound, 40)
    messages[3] = (*messages[3][:3], messages[3][3][:-9])
    path = write_bag(tmp_path / "a.mcap", "mcap", messages)

    with pytest.raises(FormatError, match="message 3 of /dvs/events"):
        _ = eventkit.open(path).events
    recording = eventkit.open(path, on_error="skip")

    assert len(recording.events) == 360
    assert recording.ledger.skipped == {"damaged message": 1}
    prefix = [chunk.events for chunk in _until_fault(eventkit.open(path))]
    assert Events.concatenate(prefix) == sound[:120]


def _until_fault(recording: Any) -> Iterable[Any]:
    try:
        yield from recording.stream()
    except FormatError:
        return


def test_messages_that_the_index_promises_must_come(tmp_path: Path, sound: Events) -> None:
    path = write_bag(tmp_path / "a.mcap", "mcap", event_messages(2, sound, 40))
    data = bytearray(path.read_bytes())
    message = struct.pack("<BQH", 5, 22 + len(array(2, sound[:40])), 1)
    at = data.index(message)
    data[at + 9] = 77  # the channel of the first message
    path.write_bytes(data)

    with pytest.raises(FormatError, match="expected 10 messages on /dvs/events"):
        _ = eventkit.open(path).events


@pytest.mark.parametrize("kind", ["bag", "mcap", "db3"])
def test_no_damage_does_anything_else(tmp_path: Path, sound: Events, kind: str) -> None:
    data = write_bag(
        tmp_path / f"a.{kind}", kind, event_messages(1 if kind == "bag" else 2, sound, 40)
    ).read_bytes()
    rng = np.random.default_rng(3)
    path = tmp_path / f"damaged.{kind}"
    for number in range(50):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 4).tolist():
            damaged[at] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        for on_error in ("raise", "skip"):
            try:
                recording = eventkit.open(path, on_error=on_error)
                assert len(recording.events) <= 400, number
                ledger = recording.ledger
                assert ledger.decoded == ledger.kept + sum(ledger.dropped.values())
            except EventKitError:
                pass


def test_sizes_of_gigabytes_are_refused_at_once(tmp_path: Path, sound: Events) -> None:
    path = write_bag(tmp_path / "a.mcap", "mcap", event_messages(2, sound, 40))
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<B", 6), 8)
    for claim in (2**31, 2**40, 2**63):
        data[at + 1 : at + 9] = struct.pack("<Q", claim)
        path.write_bytes(data)
        for on_error in ("raise", "skip"):
            with suppress(EventKitError):
                assert len(eventkit.open(path, on_error=on_error).events) <= 400


def test_a_compressed_bag_reads_as_the_plain_one(tmp_path: Path, sound: Events) -> None:
    path = write_bag(tmp_path / "a.bag", "bag", event_messages(1, sound), lz4=True)
    (tmp_path / "a.bag.gz").write_bytes(gzip.compress(path.read_bytes()))

    assert eventkit.open(tmp_path / "a.bag.gz").events == sound


# MCAP as others write it: by the specification, https://mcap.dev/spec


def text(content: str | bytes) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return struct.pack("<I", len(data)) + data


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def packed(content: bytes, method: str) -> bytes:
    if method == "lz4":
        return bytes(pytest.importorskip("lz4.frame").compress(content))
    if method == "zstd":
        return bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(content))
    return content


def mcap_file(
    path: Path,
    parts: list[list[Message] | bytes],
    *,
    method: str = "",
    profile: str = "ros2",
    says: dict[int, int] | None = None,
    index: bool = True,
    chunked: bool = True,
) -> Path:
    """Write a chunk for each list of messages, or with these bytes in it."""
    encoding = "ros1" if profile == "ros1" else "cdr"
    topics = sorted({m[:2] for part in parts if isinstance(part, list) for m in part})
    numbers = {topic: i for i, (topic, _) in enumerate(topics, 1)}
    described = b""
    for (topic, type_), i in zip(topics, numbers.values(), strict=True):
        described += record(3, struct.pack("<H", i) + text(type_) + text("ros2msg") + text(""))
        described += record(
            4, struct.pack("<HH", i, i) + text(topic) + text(encoding) + struct.pack("<I", 0)
        )
    out = MCAP + record(1, text(profile) + text("")) + described
    entries, counts = b"", dict.fromkeys(numbers.values(), 0)
    for i, part in enumerate(parts):
        content, times = part if isinstance(part, bytes) else b"", []
        for topic, _, time, data in part if isinstance(part, list) else ():
            content += record(5, struct.pack("<HIQQ", numbers[topic], 0, time, time) + data)
            times.append(time)
            counts[numbers[topic]] += 1
        if not chunked:
            out += content
            continue
        size = (says or {}).get(i, len(content))
        stored = packed(content, method)
        span = struct.pack("<QQ", min(times, default=0), max(times, default=2**62))
        chunk = span + struct.pack("<QI", size, 0 if says else zlib.crc32(content))
        chunk = record(6, chunk + text(method) + struct.pack("<Q", len(stored)) + stored)
        entries += record(
            8,
            span
            + struct.pack("<QQIQ", len(out), len(chunk), 0, 0)
            + text(method)
            + struct.pack("<QQ", len(stored), size),
        )
        out += chunk
    out += record(15, struct.pack("<I", 0))
    start = len(out) if index else 0
    if index:
        total, n = sum(counts.values()), len(topics)
        listed = text(b"".join(struct.pack("<HQ", *pair) for pair in counts.items()))
        numbers_of = (total, n, n, 0, 0, len(parts) if chunked else 0, 1, 2**62)
        out += described + entries + record(11, struct.pack("<QHIIIIQQ", *numbers_of) + listed)
    path.write_bytes(out + record(2, struct.pack("<QQI", start, 0, 0)) + MCAP)
    return path


MCAP = b"\x89MCAP0\r\n"


def in_chunks(ros: int, events: Events, n: int = 40) -> list[list[Message] | bytes]:
    messages = event_messages(ros, events, n)
    return [messages[i : i + 2] for i in range(0, len(messages), 2)]


@pytest.mark.parametrize("profile", ["ros1", "ros2", ""])
@pytest.mark.parametrize("method", ["", "lz4", "zstd"])
@pytest.mark.parametrize("index", [True, False])
def test_mcap_is_read_with_and_without_an_index_and_with_messages_of_ros1(
    tmp_path: Path, sound: Events, profile: str, method: str, index: bool
) -> None:
    parts = in_chunks(1 if profile == "ros1" else 2, sound)
    path = mcap_file(tmp_path / "a.mcap", parts, profile=profile, method=method, index=index)

    for on_error in ("raise", "skip"):
        recording = eventkit.open(path, on_error=on_error)
        assert recording.events == sound
        assert recording.notes == []
        assert recording.ledger.faults == []
    cut = path.with_name("cut.mcap")
    cut.write_bytes(path.read_bytes()[: len(path.read_bytes()) * 2 // 3])
    with pytest.raises(FormatError, match="--on-error skip"):
        eventkit.open(cut)
    kept = eventkit.open(cut, on_error="skip")
    assert 0 < len(kept.events) < 400
    assert kept.events == sound[: len(kept.events)]
    assert kept.ledger.faults[0]["reason"] == "truncated"


@pytest.mark.parametrize("profile", ["ros1", "ros2"])
def test_of_compressed_mcap_that_is_cut_whole_messages_are_kept(
    tmp_path: Path, sound: Events, profile: str
) -> None:
    parts = in_chunks(1 if profile == "ros1" else 2, sound)
    data = gzip.compress(mcap_file(tmp_path / "a.mcap", parts, profile=profile).read_bytes(), 0)
    path = tmp_path / "cut.mcap.gz"
    path.write_bytes(data[: len(data) // 2])

    with pytest.raises(FormatError):
        eventkit.open(path)
    recording = eventkit.open(path, on_error="skip")

    assert 0 < len(recording.events) < 400
    assert recording.events == sound[: len(recording.events)]
    assert len(recording.ledger.faults) == 1


def test_a_folder_of_mcap_files_loses_no_more_than_its_damaged_chunks(
    tmp_path: Path, sound: Events
) -> None:
    writer = rosbag2.Writer(tmp_path / "bag", version=9, storage_plugin=rosbag2.StoragePlugin.MCAP)
    with writer:
        connection = writer.add_connection("/dvs/events", ARRAY, typestore=STORES[2])
        for _, _, time, data in event_messages(2, sound, 40):
            writer.write(connection, time, data)
    assert eventkit.open(tmp_path / "bag").events == sound
    file = tmp_path / "bag" / "bag.mcap"
    data = bytearray(file.read_bytes())
    at = data.index(array(2, sound[:40]))
    data[at - 31] = 0  # the kind of the first message
    file.write_bytes(data)

    with pytest.raises(FormatError, match="a record of kind 0"):
        eventkit.open(tmp_path / "bag")
    recording = eventkit.open(tmp_path / "bag", on_error="skip")

    assert len(recording.events) == 0
    assert recording.ledger.skipped == {"damaged chunk": 1}
    assert len(recording.ledger.faults) == 1


def test_mcap_without_chunks_is_read_by_its_index(tmp_path: Path, sound: Events) -> None:
    path = mcap_file(tmp_path / "a.mcap", in_chunks(2, sound), chunked=False)

    recording = eventkit.open(path)

    assert recording.events == sound
    last = int(sound.t[-1])
    assert recording.between(last, last + 1) == sound[sound.t == last]


def test_chunks_whose_times_overlap_are_merged(
    tmp_path: Path, sound: Events, monkeypatch: Any
) -> None:
    messages = event_messages(2, sound, 40)
    messages = [(*m[:2], 10 * i, m[3]) for i, m in enumerate(messages)]
    path = mcap_file(tmp_path / "a.mcap", [messages[1::2], messages[::2]])
    assert eventkit.open(path).events == sound
    write_small_chunks(monkeypatch)
    messages = [(*m[:3], array(1, sound[40 * i :][:40])) for i, m in enumerate(messages)]
    path = write_bag(tmp_path / "a.bag", "bag", [*messages[1::2], *messages[::2]])

    assert eventkit.open(path).events == sound


@pytest.mark.parametrize("held", [1 << 20, 1])
def test_chunks_that_alternate_in_time_are_read_once_where_memory_allows(
    monkeypatch: Any, held: int
) -> None:
    monkeypatch.setattr(merge, "HELD_BYTES", held)
    reads: Counter[int] = Counter()

    def read(at: int) -> list[merge.Found]:
        reads[at] += 1
        return [(time, at, bytes([time])) for time in range(at, 60, 3)]

    found = list(merge.merged(read, {2: 2, 0: 0, 1: 1}, None))

    assert found == [(time, time % 3, bytes([time])) for time in range(60)]
    assert set(reads.values()) == {1} if held > 1 else min(reads.values()) > 1


def write_small_chunks(monkeypatch: Any) -> None:
    """Make bags of ROS1 with chunks of one message or two of 40 events."""
    made = rosbag1.Writer.__init__

    def small(self: Any, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        self.chunk_threshold = 1000

    monkeypatch.setattr(rosbag1.Writer, "__init__", small)


@pytest.mark.parametrize("how", ["elsewhere", "twice"])
def test_a_damaged_entry_of_the_index_costs_its_chunk_wherever_reading_starts(
    tmp_path: Path, sound: Events, monkeypatch: Any, how: str
) -> None:
    write_small_chunks(monkeypatch)
    for module in ("ros.reader", "stream"):
        monkeypatch.setattr(f"eventkit.readers.{module}.INDEX_EVENTS", 40)
    messages = [(*m[:2], 10 * i, m[3]) for i, m in enumerate(event_messages(1, sound, 40))]
    path = write_bag(tmp_path / "a.bag", "bag", messages)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<3I", 24, 0, 10)) + 4  # of the second chunk, with messages 1, 2
    first, second = data[at : at + 12], at + 12
    data[second : second + 12] = (
        first if how == "twice" else data[second : second + 8] + struct.pack("<I", 1)
    )
    path.write_bytes(data)

    recording = eventkit.open(path, on_error="skip")
    whole = Events.concatenate([chunk.events for chunk in recording.stream()])

    assert (
        whole.to_structured().tolist() == np.delete(sound.to_structured(), slice(40, 120)).tolist()
    )
    assert recording.between(int(sound.t[0]), int(sound.t[-1]) + 1) == whole
    for start in sound.t[::37].tolist():
        assert recording.between(start, int(sound.t[-1]) + 1) == whole[whole.t >= start]


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("type_", [ARRAY, IMAGE, IMU])
def test_a_time_that_no_clock_shows_is_damage(
    tmp_path: Path, sound: Events, type_: str, index: bool
) -> None:
    data = {ARRAY: array(2, sound[:40]), IMAGE: gray(3), IMU: imu(2, START_US)}[type_]
    topic = "/dvs/events" if type_ == ARRAY else "/side"
    latest = [("/side", type_, 2**63 - 1, data)] if type_ != ARRAY else []
    parts = [*in_chunks(2, sound), latest, [(topic, type_, 2**63, data)]]
    path = mcap_file(tmp_path / "a.mcap", parts, index=index)

    with pytest.raises(FormatError, match="a message of 9223372036854775808 nanoseconds"):
        _ = (strict := eventkit.open(path)).events, strict.imu
    recording = eventkit.open(path, on_error="skip")

    assert recording.events == sound
    assert type_ != IMAGE or recording.frames.t_us.tolist() == [START_US]
    assert type_ != IMU or recording.imu["t"].tolist() == [START_US]


@pytest.mark.parametrize("method", ["", "zstd"])
@pytest.mark.parametrize("index", [True, False])
def test_damaged_chunks_of_mcap_cost_themselves_and_are_told(
    tmp_path: Path, sound: Events, method: str, index: bool
) -> None:
    parts = in_chunks(2, sound)
    for i, part in enumerate(parts):
        assert isinstance(part, list)
        part.append(("/i", IMAGE, START_US * 1000 + i * 10_000, gray(i, stamp_us=START_US + i)))
    path = mcap_file(tmp_path / "a.mcap", parts, method=method, index=index)
    data = bytearray(path.read_bytes())
    at = -1
    for i in range(4):
        at = data.index(b"\x06", at + 1)
        while struct.unpack_from("<Q", data, at + 1)[0] > len(data):
            at = data.index(b"\x06", at + 1)
        if i in (1, 3):
            data[at + 80] ^= 0xFF
        at += struct.unpack_from("<Q", data, at + 1)[0]
    path.write_bytes(data)

    with pytest.raises(FormatError, match="damaged data"):
        _ = eventkit.open(path).events
    recording = eventkit.open(path, on_error="skip")

    lost = np.isin(np.arange(400) // 80, [1, 3])
    assert recording.events.to_structured().tolist() == sound.to_structured()[~lost].tolist()
    assert recording.ledger.skipped == {"damaged chunk": 2}
    assert len(recording.ledger.faults) == 1
    assert [int(p.pixels[0, 0, 0]) for p in recording.frames.pictures([0, 1, 2])] == [0, 2, 4]
    assert recording.side_faults
    assert (
        recording.between(int(sound.t[330]), int(sound.t[-1]))
        == recording.events[
            (recording.events.t >= sound.t[330]) & (recording.events.t < sound.t[-1])
        ]
    )


@pytest.mark.parametrize("lz4", [False, True])
@pytest.mark.parametrize("index", [True, False])
def test_damaged_chunks_of_a_ros1_bag_cost_themselves_and_are_told(
    tmp_path: Path, sound: Events, monkeypatch: Any, lz4: bool, index: bool
) -> None:
    write_small_chunks(monkeypatch)
    path = write_bag(tmp_path / "a.bag", "bag", event_messages(1, sound, 40), lz4=lz4)
    data = bytearray(path.read_bytes())
    starts = [m.end() for m in re.finditer(rb"op=\x05", data)]
    assert len(starts) == 6  # one message in the first and the last, two in the others
    for start in (starts[1], starts[3]):
        at = data.index(b"op=\x02" if not lz4 else b"\x04\x22\x4d\x18", start)
        data[at : at + 4] = b"gone"
    if not index:
        at = data.index(b"index_pos=") + len(b"index_pos=")
        data[at : at + 8] = bytes(8)
    path.write_bytes(data)

    with pytest.raises(FormatError, match="--on-error skip"):
        _ = eventkit.open(path).events
    recording = eventkit.open(path, on_error="skip")

    lost = (1, 2, 5, 6)
    assert recording.ledger.skipped == {"damaged chunk": 2}
    kept = recording.events.to_structured().tolist()
    whole = [row for i, row in enumerate(sound.to_structured().tolist()) if i // 40 not in lost]
    assert kept == whole
    assert len(recording.ledger.faults) == 1


MEMORY = """
import resource, sys, time
import eventkit
from eventkit.errors import EventKitError

_ = eventkit.open(sys.argv[1]).events
before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
for how in ("raise", "skip"):
    try:
        print(how, len(eventkit.open(sys.argv[2], on_error=how).events))
    except EventKitError as err:
        print(how, type(err).__name__)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
print(time.perf_counter() - begun)
"""


def read_in_bounds(sound: Path, path: Path) -> list[str]:
    """Return what came of both policies, read in little time and memory."""
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, str(sound), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    *outcomes, megabytes, seconds = ran.stdout.splitlines()
    assert int(megabytes) < 200
    assert float(seconds) < 5
    return outcomes


@pytest.mark.parametrize("method", ["zstd", "lz4"])
@pytest.mark.parametrize("says", [1 << 29, 1 << 26, 40])
@pytest.mark.parametrize("index", [True, False])
def test_a_chunk_of_mcap_that_grows_without_end_is_damaged(
    tmp_path: Path, sound: Events, method: str, says: int, index: bool
) -> None:
    parts = in_chunks(2, sound)
    whole = mcap_file(tmp_path / "whole.mcap", parts)
    grows = bytes(1 << 26 if says == 1 << 26 else 1 << 29)  # records of kind 0, no bytes each
    parts = [grows, *parts]
    path = mcap_file(tmp_path / "a.mcap", parts, method=method, index=index, says={0: says})

    assert read_in_bounds(whole, path) == ["raise FormatError", "skip 400"]


def test_a_chunk_of_more_records_than_any_has_is_damaged() -> None:
    record = struct.pack("<BQ", chunks.SCHEMA, 0)

    assert len(list(chunks.mcap_records(record * 1000))) == 1000
    with pytest.raises(chunks.ChunkError, match="more than 131072 records"):
        list(chunks.mcap_records(record * 131_073))


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@pytest.mark.parametrize(
    ("table", "kind", "columns"),
    [
        ("messages", "VIEW", "i AS id, 1 AS topic_id, i AS timestamp, x'00' AS data"),
        ("MESSAGES", "VIEW", "i AS id, 1 AS topic_id, i AS timestamp, x'00' AS data"),
        ("message_definitions", "VIEW", "i AS id, '' AS topic_type, '' AS encoding"),
        ("messages", "TABLE", "x'00' AS data"),
    ],
)
def test_a_database_that_computes_what_it_holds_is_refused(
    tmp_path: Path, sound: Events, table: str, kind: str, columns: str
) -> None:
    whole = write_bag(tmp_path / "whole.db3", "db3", event_messages(2, sound))
    path = tmp_path / "a.db3"
    path.write_bytes(whole.read_bytes())
    database = sqlite3.connect(path)
    database.execute(f"ALTER TABLE {table} RENAME TO rows")
    if kind == "VIEW":
        columns += ", '' AS encoded_message_definition, '' AS type_description_hash"
        database.execute(f"CREATE VIEW {table} AS {ENDLESS} SELECT {columns} FROM n")
    else:
        grows = "data BLOB GENERATED ALWAYS AS (zeroblob(900000000)) VIRTUAL"
        database.execute(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, topic_id, timestamp, {grows})"
        )
        database.execute(f"INSERT INTO {table}(topic_id, timestamp) VALUES (1, 5), (1, 6)")
    database.commit()
    database.close()

    assert read_in_bounds(whole, path) == ["raise FormatError", "skip FormatError"]
    with pytest.raises(FormatError, match=r"is a view and no table|column data .* is generated"):
        eventkit.open(path)


def test_a_row_that_is_no_message_costs_itself(tmp_path: Path, sound: Events) -> None:
    path = write_bag(tmp_path / "a.db3", "db3", event_messages(2, sound, 40))
    database = sqlite3.connect(path)
    database.execute("UPDATE messages SET data = 1000000000 WHERE id = 3")
    database.commit()
    database.close()

    with pytest.raises(FormatError, match="a row with int as time, int as data"):
        _ = eventkit.open(path).events
    recording = eventkit.open(path, on_error="skip")

    rows = np.arange(400) // 40
    assert recording.events.to_structured().tolist() == sound.to_structured()[rows != 2].tolist()
    assert recording.ledger.skipped == {"damaged chunk": 1}


def test_a_topic_whose_name_is_no_text_is_damage(tmp_path: Path, sound: Events) -> None:
    path = write_bag(tmp_path / "a.db3", "db3", event_messages(2, sound))
    database = sqlite3.connect(path)
    database.execute(
        "INSERT INTO topics SELECT 2, x'ff', type, serialization_format, offered_qos_profiles, "
        "type_description_hash FROM topics"
    )
    database.commit()
    database.close()

    with pytest.raises(FormatError, match="a topic whose name is bytes"):
        eventkit.open(path)
    assert eventkit.open(path, on_error="skip").events == sound


@pytest.mark.parametrize("name", ["a.db3", "a.mcap", "a.db3.zstd", "metadata.yaml"])
def test_a_pipe_in_the_folder_of_a_bag_is_not_waited_for(
    tmp_path: Path, sound: Events, name: str
) -> None:
    folder = write_folder(tmp_path, sound)
    text = (folder / "metadata.yaml").read_text()
    if name == "metadata.yaml":
        (folder / name).unlink()
    else:
        text = text.replace("- bag.db3", f"- {name}")
        text = text.replace("sqlite3", "mcap") if name == "a.mcap" else text
        text = text.replace("compression_format: ''", "compression_format: zstd")
        text = text.replace("compression_mode: ''", "compression_mode: file")
        (folder / "metadata.yaml").write_text(text)
    os.mkfifo(folder / name)
    whole = write_bag(tmp_path / "whole.db3", "db3", event_messages(2, sound))

    outcomes = read_in_bounds(whole, folder)

    error = "UnsupportedFormatError" if name == "metadata.yaml" else "FormatError"
    assert outcomes == [f"raise {error}", f"skip {error}"]


def write_folder(tmp_path: Path, events: Events) -> Path:
    writer = rosbag2.Writer(tmp_path / "bag", version=9)
    with writer:
        connection = writer.add_connection("/dvs/events", ARRAY, typestore=STORES[2])
        for _, _, time, data in event_messages(2, events, 40):
            writer.write(connection, time, data)
    return tmp_path / "bag"


def test_metadata_of_more_levels_or_bytes_than_any_has_are_refused(
    tmp_path: Path, sound: Events
) -> None:
    folder = write_folder(tmp_path, sound)
    path = folder / "metadata.yaml"
    text = path.read_text()

    for more in ("[" * 65, " " * (1 << 22)):
        path.write_text(text + f"  other: {more}")
        with pytest.raises(FormatError, match="64 levels"):
            eventkit.open(folder)
    path.write_text(text + "  other: " + "[" * 60 + "]" * 60)
    assert eventkit.open(folder).events == sound


def compressed_folder(path: Path, events: Events, mode: str, plugin: str = "sqlite3") -> Path:
    writer = rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin[plugin.upper()])
    writer.set_compression(rosbag2.CompressionMode[mode], rosbag2.CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/dvs/events", ARRAY, typestore=STORES[2])
        for _, _, time, data in event_messages(2, events, 40):
            writer.write(connection, time, data)
    return path


def rewrite_messages(path: Path, change: Callable[[int, bytes], bytes]) -> None:
    """Change the bytes of the messages of a database, by their number."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT id, data FROM messages ORDER BY id").fetchall()
        for number, (key, data) in enumerate(rows):
            new = change(number, data)
            database.execute("UPDATE messages SET data = ? WHERE id = ?", (new, key))
        database.commit()


@pytest.mark.parametrize("plugin", ["sqlite3", "mcap"])
@pytest.mark.parametrize("mode", ["FILE", "MESSAGE"])
def test_a_folder_that_is_compressed_reads_as_the_plain_one(
    tmp_path: Path, sound: Events, mode: str, plugin: str
) -> None:
    folder = compressed_folder(tmp_path / "bag", sound, mode, plugin)
    assert f"compression_mode: {mode.lower()}" in (folder / "metadata.yaml").read_text().lower()

    recording = eventkit.open(folder)

    assert recording.events == sound
    late = int(sound.t[200])
    assert (
        recording.between(late, late + 3000)
        == sound[sound.t >= late][
            : int(np.count_nonzero((sound.t >= late) & (sound.t < late + 3000)))
        ]
    )


def test_a_compressed_file_of_a_folder_is_unpacked_once(tmp_path: Path, sound: Events) -> None:
    folder = compressed_folder(tmp_path / "bag", sound, "FILE")

    recording = eventkit.open(folder)
    (folder / "bag.db3.zstd").write_bytes(b"")

    assert recording.load() == recording.load() == sound


def test_what_was_unpacked_goes_with_the_bag(
    tmp_path: Path, sound: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    bag = folders.Folder(compressed_folder(tmp_path / "bag", sound, "FILE"))

    assert [path.name for path in bag.files] == ["0-bag.db3"]
    assert len(list(spool.iterdir())) == 1
    del bag
    gc.collect()
    assert list(spool.iterdir()) == []


def test_a_file_of_a_folder_that_grows_without_end_is_damaged(
    tmp_path: Path, sound: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    folder = compressed_folder(tmp_path / "bag", sound, "FILE")
    zstandard = pytest.importorskip("zstandard")
    (folder / "bag.db3.zstd").write_bytes(zstandard.compress(bytes(1 << 29)))

    for policy in ("raise", "skip"):
        with pytest.raises(FormatError, match=r"bag\.db3\.zstd .* grows to more than 67108864"):
            eventkit.open(folder, on_error=policy)
    gc.collect()
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize(
    "err",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        TimeoutError("the store does not answer"),
        ConnectionResetError("by peer"),
    ],
    ids=["full", "io", "stale", "late", "reset"],
)
def test_a_fault_of_disk_or_network_is_no_damage_of_the_bag(tmp_path: Path, err: OSError) -> None:
    path = tmp_path / "a.db3"
    path.write_bytes(b"")

    with pytest.raises(OSError) as caught, bags._Faults(Source(path), "the index"):
        raise err
    assert caught.value is err


@pytest.mark.parametrize("number", [None, errno.EINVAL, errno.ENAMETOOLONG])
def test_what_a_bag_claims_and_the_system_refuses_is_damage(
    tmp_path: Path, number: int | None
) -> None:
    path = tmp_path / "a.db3"
    path.write_bytes(b"")
    err = OSError("Invalid data stream") if number is None else OSError(number, "Invalid")

    with (
        pytest.raises(FormatError, match="expected the index"),
        bags._Faults(Source(path), "the index"),
    ):
        raise err


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_a_disk_that_cannot_be_read_is_no_damage_of_the_bag(tmp_path: Path, sound: Events) -> None:
    folder = compressed_folder(tmp_path / "bag", sound, "FILE", "mcap")
    (file,) = folder.glob("*.mcap.zstd")
    file.unlink()
    file.symlink_to("/proc/self/mem")  # nothing is mapped at 0: reading there is EIO

    for policy in ("raise", "skip", "repair"):
        with pytest.raises(OSError, match="Input/output error") as caught:
            _ = eventkit.open(folder, on_error=policy).events
        assert caught.value.errno == errno.EIO


class Breaking(MemoryFileSystem):
    """A store in memory whose connection breaks behind a byte."""

    protocol = "breaking"
    behind = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("breaking:/")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        data = super()._open(path, "rb").read()
        return BreakingFile(data, self.behind)


class BreakingFile(BytesIO):
    def __init__(self, data: bytes, behind: int) -> None:
        super().__init__(data)
        self._behind = behind

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.tell() > self._behind:
            raise OSError(errno.EIO, "the connection broke")
        return data


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", ["bag", "mcap", "db3"])
def test_a_store_that_breaks_off_is_no_damage_of_the_bag(
    tmp_path: Path, kind: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("breaking", Breaking, clobber=True)
    path = write_bag(tmp_path / "a", kind, event_messages(2 - (kind == "bag"), absolute(40_000)))
    # Without the end there is no index, so that the bag is read in the order of the file.
    data = path.read_bytes()[: None if kind == "db3" else -5000]
    data = gzip.compress(data, 0) if packed else data
    with fsspec.open(f"memory:/{path}", "wb") as file:
        file.write(data)

    for behind in (len(data) // 2, len(data) - 1):
        monkeypatch.setattr(Breaking, "behind", behind)
        for policy in ("raise", "skip"):
            with pytest.raises(OSError, match="the connection broke"):
                _ = eventkit.open(f"breaking:/{path}", on_error=policy).events


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_only_a_place_that_no_file_has_is_the_end_of_it(number: int) -> None:
    class Broken(BytesIO):
        def seek(self, at: int, whence: int = 0, /) -> int:
            raise OSError(number, "no")

    kind = chunks.EndError if number == errno.EINVAL else OSError
    with pytest.raises(kind):
        chunks.go_to(Broken(), 9)


@pytest.mark.parametrize("cut", [1, 400])
def test_a_cut_file_of_a_compressed_folder_is_told(tmp_path: Path, sound: Events, cut: int) -> None:
    folder = compressed_folder(tmp_path / "bag", sound, "FILE")
    path = folder / "bag.db3.zstd"
    path.write_bytes(path.read_bytes()[:-cut])

    with pytest.raises(FormatError, match="the file ends within a frame") as caught:
        eventkit.open(folder)
    assert caught.value.reason == "truncated"


def test_a_message_that_grows_without_end_costs_itself(tmp_path: Path, sound: Events) -> None:
    zstandard = pytest.importorskip("zstandard")
    whole = write_folder(tmp_path, sound)
    folder = compressed_folder(tmp_path / "packed", sound, "MESSAGE")
    bomb = zstandard.compress(bytes(1 << 29))
    rewrite_messages(folder / "packed.db3", lambda n, data: bomb if n in (3, 7) else data)

    assert read_in_bounds(whole, folder) == ["raise FormatError", "skip 320"]
    ledger = eventkit.open(folder, on_error="skip").ledger
    assert ledger.skipped == {"damaged chunk": 2}


@pytest.mark.parametrize("damage", ["cut", "flipped", "longer"])
def test_a_compressed_message_that_is_damaged_costs_itself(
    tmp_path: Path, sound: Events, damage: str
) -> None:
    folder = compressed_folder(tmp_path / "bag", sound, "MESSAGE")

    def change(number: int, data: bytes) -> bytes:
        if number != 4:
            return data
        return {"cut": data[:-9], "flipped": b"?" + data[1:], "longer": data + b"more"}[damage]

    rewrite_messages(folder / "bag.db3", change)

    with pytest.raises(FormatError, match="--on-error skip"):
        _ = eventkit.open(folder).events
    recording = eventkit.open(folder, on_error="skip")
    assert recording.events == Events.concatenate([sound[:160], sound[200:]])
    assert recording.ledger.skipped == {"damaged chunk": 1}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("storage_identifier: sqlite3", "storage_identifier: other", "sqlite3 or mcap"),
        ("compression_mode: ''", "compression_mode: frame", "compression_mode"),
        ("compression_mode: ''", "compression_mode: file", "zstd"),
        ("- bag.db3", "- gone.db3", "gone.db3"),
        ("serialization_format: cdr", "serialization_format: xml", "cdr"),
        ("relative_file_paths:", "relative_files:", "relative_file_paths"),
        ("message_count: 10", "message_count: many", "message_count"),
        ("rosbag2_bagfile_information:", "rosbag2_bagfile_information: [", "metadata.yaml"),
    ],
)
def test_metadata_that_cannot_be_followed_is_told(
    tmp_path: Path, sound: Events, old: str, new: str, told: str
) -> None:
    folder = write_folder(tmp_path, sound)
    path = folder / "metadata.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    with pytest.raises(FormatError, match=told):
        eventkit.open(folder)


@pytest.mark.parametrize("method", ["bz2", "lz4", "zstd"])
def test_nothing_grows_to_more_than_it_says(method: str) -> None:
    content = bytes(1 << 20)
    stored = bz2.compress(content) if method == "bz2" else packed(content, method)

    assert chunks.unpacked(stored, method, 1 << 20) == content
    for size in (0, 40, (1 << 20) - 1, (1 << 20) + 1, 1 << 27, 1 << 40):
        with pytest.raises(chunks.ChunkError):
            chunks.unpacked(stored, method, size)
    with pytest.raises(chunks.ChunkError):
        chunks.unpacked(stored[:-9], method, 1 << 20)


# Peers


def test_the_same_events_as_evlab_and_eventcv(tmp_path: Path, sound: Events) -> None:
    formats = pytest.importorskip("evlab.formats", reason="evlab is not installed")
    eventcv = pytest.importorskip("eventcv", reason="eventcv is not installed")
    path = write_bag(tmp_path / "a.bag", "bag", event_messages(1, sound, 40))

    assert Events.from_structured(formats.load_rosbag(str(path)).events) == sound
    table = eventcv.load(str(path), topic="/dvs/events").numpy()
    assert np.array_equal(table[:, 2], sound.t)
    assert np.array_equal(table[:, 0], sound.x)
