"""AEDAT4: the true events, frames, triggers and IMU; damage ends in a sentence, not in a crash."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventkit
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events

aedat = pytest.importorskip("aedat", reason="the aedat package is not installed")

DAVIS = "davis346_frames_events_imu.aedat4"
SHORT = "davis346_first_170ms.aedat4"
HEADER_START = 14 + 4  # the version line and the size of the header


@pytest.fixture(scope="session")
def folder(shared: Path) -> Path:
    return shared / "aedat4"


@pytest.fixture(scope="session")
def short(folder: Path) -> bytes:
    return (folder / SHORT).read_bytes()


@pytest.fixture(scope="session")
def truth(folder: Path) -> Events:
    return directly(folder / SHORT)


def directly(path: Path) -> Events:
    """Decode with the aedat package alone."""
    packets = [p["events"] for p in aedat.Decoder(str(path)) if "events" in p]
    return Events.from_structured(np.concatenate(packets))


def packet_table(data: bytes) -> list[tuple[int, int, int]]:
    """Return (offset, stream, size) of every packet up to the data table at the end."""
    (header,) = struct.unpack_from("<I", data, 14)
    offset, packets = HEADER_START + header, []
    while offset + 8 <= len(data):
        stream, size = struct.unpack_from("<iI", data, offset)
        if not 0 <= stream <= 3:
            break
        packets.append((offset, stream, size))
        offset += 8 + size
    return packets


@pytest.mark.parametrize(
    ("name", "size", "count", "frames"),
    [
        (DAVIS, (346, 260), 78_830, 59),
        (SHORT, (346, 260), 6_676, 4),
        ("dvxplorer.aedat4", (320, 240), 111_954, None),
    ],
)
def test_real_recordings_have_their_true_events_and_frames(
    folder: Path, name: str, size: tuple[int, int], count: int, frames: int | None
) -> None:
    recording = eventkit.open(folder / name)

    assert recording.format == "aedat4"
    assert recording.sensor_size == size
    assert recording.geometry_source == "header of the event stream"
    assert len(recording.events) == count
    assert recording.events == directly(folder / name)
    assert recording.ledger.decoded == recording.ledger.kept == count
    assert (None if recording.frames is None else len(recording.frames)) == frames


def test_times_are_those_of_the_file(folder: Path) -> None:
    recording = eventkit.open(folder / DAVIS)
    packets = [p for p in aedat.Decoder(str(folder / DAVIS)) if "events" in p]

    assert recording.t_offset_us == 0
    assert int(recording.events.t[0]) == int(packets[0]["events"]["t"][0])
    assert int(recording.events.t[-1]) == int(packets[-1]["events"]["t"][-1])
    # 2.36 s, as the README of the recordings says.
    assert int(recording.events.t[-1] - recording.events.t[0]) / 1e6 == pytest.approx(
        2.36, abs=0.01
    )


def test_frames_have_their_exposures_and_pixels(folder: Path) -> None:
    frames = eventkit.open(folder / SHORT).frames
    expected = [p["frame"] for p in aedat.Decoder(str(folder / SHORT)) if "frame" in p]

    assert (frames.size, frames.channels, frames.timing) == ((346, 260), 1, "recorded")
    assert frames.start_us.tolist() == [int(f["exposure_begin_t"]) for f in expected]
    assert frames.stop_us.tolist() == [int(f["exposure_end_t"]) for f in expected]
    assert (frames.start_us < frames.t_us).all()
    assert (frames.t_us < frames.stop_us).all()
    assert np.array_equal(frames.images[..., 0], [f["pixels"] for f in expected])


def test_a_later_frame_is_found_without_the_ones_before(folder: Path) -> None:
    frames = eventkit.open(folder / SHORT).frames

    (picture,) = frames.pictures([2])

    assert np.array_equal(picture.pixels, frames.images[2])


def test_triggers_and_inertial_samples_are_there(folder: Path) -> None:
    recording = eventkit.open(folder / DAVIS)

    for side in (recording.triggers, recording.imu):
        assert side is not None
        assert side.dtype["t"] == np.int64
        assert side.size > 100
    assert {"accelerometer_x", "gyroscope_z", "temperature"} <= set(recording.imu.dtype.names)
    # The camera stands still in front of a road: gravity is 1 g within a sensor's few percent.
    fields = [recording.imu[f"accelerometer_{axis}"] for axis in "xyz"]
    assert np.sqrt(sum(np.square(f) for f in fields)).mean() == pytest.approx(1.0, abs=0.1)


def test_a_recording_without_side_streams_has_none(folder: Path) -> None:
    recording = eventkit.open(folder / "gray16_frame_only.aedat4")

    assert recording.triggers is None
    assert recording.imu is None


def test_one_deep_gray_frame_without_events_is_read(folder: Path) -> None:
    recording = eventkit.open(folder / "gray16_frame_only.aedat4")

    frames = recording.frames
    assert not recording.has_events
    assert len(recording.events) == 0
    assert (len(frames), frames.size, frames.channels) == (1, (2, 2), 1)
    assert frames.images.dtype == np.uint16
    (packet,) = [p for p in aedat.Decoder(str(recording.path)) if "frame" in p]
    assert np.array_equal(frames.images[0, :, :, 0], packet["frame"]["pixels"])


def test_a_given_sensor_size_wins_over_the_header(folder: Path) -> None:
    recording = eventkit.open(folder / SHORT, sensor_size=(100, 260), on_error="skip")

    assert recording.sensor_size == (100, 260)
    assert recording.ledger.kept == int((directly(folder / SHORT).x < 100).sum())
    assert recording.ledger.decoded == 6_676
    with pytest.raises(FormatError, match="100x260 sensor"):
        _ = eventkit.open(folder / SHORT, sensor_size=(100, 260)).events


def test_an_event_outside_the_sensor_is_named_with_the_byte_of_its_packet(
    folder: Path, short: bytes
) -> None:
    first = int(np.argmax(directly(folder / SHORT).x >= 300))
    sizes = [p["events"].size for p in aedat.Decoder(str(folder / SHORT)) if "events" in p]
    number = int(np.searchsorted(np.cumsum(sizes), first, side="right"))
    offset = [o for o, stream, _ in packet_table(short) if stream == 0][number]

    with pytest.raises(FormatError, match=f"at event {first};") as caught:
        _ = eventkit.open(folder / SHORT, sensor_size=(300, 260)).events

    assert caught.value.offset == offset


def test_the_suffix_does_not_matter_the_version_line_does(tmp_path: Path, short: bytes) -> None:
    (tmp_path / "a.raw").write_bytes(short)

    assert len(eventkit.open(tmp_path / "a.raw").events) == 6_676


def test_a_header_whose_numbers_look_like_text_is_read(
    tmp_path: Path, short: bytes, truth: Events
) -> None:
    end = sum(packet_table(short)[-1][::2]) + 8
    offset, _, size = next(p for p in packet_table(short) if p[1] == 3)
    trigger = short[offset : offset + 8 + size]
    more = 0
    # The header holds where the packets end; grow the file until that reads "<" and no letter.
    while (end + more) & 0x80FF != 0x803C:
        more += len(trigger)
    at = short.index(struct.pack("<q", end))
    path = tmp_path / "a.aedat4"
    path.write_bytes(
        short[:at]
        + struct.pack("<q", end + more)
        + short[at + 8 : end]
        + trigger * (more // len(trigger))
        + short[end:]
    )

    assert eventkit.open(path).events == truth


# Damage


@pytest.mark.parametrize("length", [1, 5, 14, 16, 18, 100, 3000])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_file_cut_in_its_header_is_refused(
    tmp_path: Path, short: bytes, length: int, on_error: str
) -> None:
    path = tmp_path / "cut.aedat4"
    path.write_bytes(short[:length])

    with pytest.raises(FormatError, match=r"cut\.aedat4: expected .*\(byte \d+\)") as caught:
        eventkit.open(path, on_error=on_error)

    assert caught.value.reason == "bad_header"


@pytest.mark.parametrize("packet", [0, 1, 5, 24, 49])
@pytest.mark.parametrize("beyond", [0, 3, 8, 50])
def test_a_cut_file_names_the_packet_and_keeps_the_events_before_it(
    tmp_path: Path, short: bytes, truth: Events, packet: int, beyond: int
) -> None:
    offset = packet_table(short)[packet][0]
    path = tmp_path / "cut.aedat4"
    path.write_bytes(short[: offset + beyond])

    with pytest.raises(FormatError, match=f"packet {packet} .*skip.*byte {offset}") as caught:
        _ = eventkit.open(path).events
    kept = eventkit.open(path, on_error="skip")

    assert (caught.value.offset, caught.value.reason) == (offset, "truncated")
    assert kept.events == truth[: len(kept.events)]
    before = [s for _, s, _ in packet_table(short)[:packet]]
    assert kept.ledger.words == before.count(0)
    assert (0 if kept.frames is None else len(kept.frames)) == before.count(1)
    assert [(f["reason"], f["offset"]) for f in kept.ledger.faults] == [("truncated", offset)]


def test_side_streams_of_a_cut_file_hold_what_comes_before_it(
    tmp_path: Path, folder: Path, short: bytes
) -> None:
    path = tmp_path / "cut.aedat4"
    path.write_bytes(short[: len(short) // 2])
    whole = eventkit.open(folder / SHORT)

    recording = eventkit.open(path, on_error="skip")

    for cut, full in ((recording.imu, whole.imu), (recording.triggers, whole.triggers)):
        assert 0 < cut.size < full.size
        assert np.array_equal(cut, full[: cut.size])


@pytest.mark.parametrize(("stream", "side"), [(1, "frames"), (2, "imu"), (3, "triggers")])
def test_damage_beside_the_events_costs_no_event_and_is_noted(
    tmp_path: Path, tool: Any, short: bytes, truth: Events, stream: int, side: str
) -> None:
    offset, _, size = [p for p in packet_table(short) if p[1] == stream][1]
    path = tmp_path / "damaged.aedat4"
    path.write_bytes(short[: offset + 8] + bytes(size) + short[offset + 8 + size :])

    with pytest.raises(FormatError) as caught:
        getattr(eventkit.open(path), side)
    recording = eventkit.open(path, on_error="skip")

    assert recording.events == truth
    assert len(getattr(recording, side)) > 0
    assert recording.ledger.faults == []
    assert [f["offset"] for f in recording.side_faults] == [caught.value.offset] == [offset]
    facts = json.loads(tool("info", path, "--on-error", "skip", "--json").stdout)
    assert facts["side_faults"] == recording.side_faults
    assert f"(byte {offset})" in tool("info", path, "--on-error", "skip").stdout


def test_a_packet_that_is_damaged_inside_costs_itself_and_is_counted(
    tmp_path: Path, short: bytes, truth: Events
) -> None:
    packet, (offset, _, _) = 6, packet_table(short)[6]
    events = [
        p["events"] for p in aedat.Decoder(str(write_bytes(tmp_path, short))) if "events" in p
    ]
    number = [stream for _, stream, _ in packet_table(short)[:packet]].count(0)
    damaged = bytearray(short)
    damaged[offset + 8 : offset + 12] = b"gone"  # the magic number of the LZ4 frame
    path = write_bytes(tmp_path, damaged)

    with pytest.raises(FormatError, match=f"packet {packet} .*skip leaves it out") as caught:
        _ = eventkit.open(path).events
    before = Events.concatenate([c.events for c in _until_fault(eventkit.open(path))])
    kept = eventkit.open(path, on_error="skip")

    assert (caught.value.offset, caught.value.reason) == (offset, "corrupt")
    assert before == Events.from_structured(np.concatenate(events[:number]))
    assert kept.events == Events.from_structured(
        np.concatenate(events[:number] + events[number + 1 :])
    )
    assert kept.ledger.skipped == {"damaged packet": 1}
    assert kept.ledger.words == len(events)
    assert kept.ledger.faults == []
    t = truth.t
    assert kept.between(int(t[-500]), int(t[-1]) + 1) == kept.events[kept.events.t >= t[-500]]


@pytest.mark.parametrize(("stream", "side"), [(1, "frames"), (2, "imu"), (3, "triggers")])
def test_beside_the_events_only_the_damaged_packets_are_left_out(
    tmp_path: Path, folder: Path, short: bytes, stream: int, side: str
) -> None:
    packets = [p for p in packet_table(short) if p[1] == stream]
    damaged = bytearray(short)
    for offset, _, size in packets[1:3]:
        damaged[offset + 8 : offset + 8 + size] = bytes(size)
    path = write_bytes(tmp_path, damaged)
    whole = getattr(eventkit.open(folder / SHORT), side)

    recording = eventkit.open(path, on_error="skip")
    found = getattr(recording, side)

    assert [f["offset"] for f in recording.side_faults] == [o for o, _, _ in packets[1:3]]
    if side == "frames":
        kept = [0, *range(3, len(packets))]
        assert np.array_equal(found.images, whole.images[kept])
    else:
        assert 0 < len(found) < len(whole)
        assert found[-1] == whole[-1]
        assert np.isin(found["t"], whole["t"]).all()


def write_bytes(folder: Path, data: bytes) -> Path:
    path = folder / "written.aedat4"
    path.write_bytes(data)
    return path


def _until_fault(recording: Any) -> Iterator[Any]:
    try:
        yield from recording.stream()
    except FormatError:
        return


FLIPS = """
import json, sys
from pathlib import Path
import numpy as np
import eventkit
from eventkit.errors import FormatError, SettingsError

source, work, flips = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
data, truth = source.read_bytes(), eventkit.open(source).events
for at, bit in flips:
    damaged = bytearray(data)
    damaged[at] ^= bit
    work.write_bytes(damaged)
    for mode in ("raise", "skip"):
        found = {"at": at, "bit": bit, "mode": mode}
        print(json.dumps(found), file=sys.stderr, flush=True)
        try:
            recording = eventkit.open(work, on_error=mode)
            events, ledger = recording.events, recording.ledger
            recording.triggers, recording.imu
        except FormatError as err:
            print(json.dumps({**found, "error": str(err)}))
            continue
        n = len(events)
        width, height = recording.sensor_size
        sound = n == 0 or bool(
            (np.diff(events.t) >= 0).all()
            and events.x.max() < width
            and events.y.max() < height
            and set(events.p.tolist()) <= {0, 1}
        )
        print(json.dumps({
            **found,
            "prefix": events == truth[:n],
            "short": n < len(truth),
            "sound": sound,
            "balanced": ledger.decoded == n + sum(ledger.dropped.values()),
            "told": bool(ledger.faults or ledger.dropped or ledger.skipped),
        }))
"""


def test_forty_flipped_bits_end_in_a_format_error_or_in_a_sound_stream(
    tmp_path: Path, folder: Path, short: bytes
) -> None:
    # The packets carry no checksum, so a bit of an event may flip unseen; nothing else may.
    rng = np.random.default_rng(20251123)
    start = packet_table(short)[0][0]
    events = [(offset, size) for offset, stream, size in packet_table(short) if stream == 0]
    anywhere = [int(rng.integers(start, len(short))) for _ in range(20)]
    in_events = [o + int(rng.integers(0, 8 + n)) for o, n in rng.choice(events, 20)]
    flips = [(int(at), 1 << int(rng.integers(8))) for at in (*anywhere, *in_events)]

    ran = subprocess.run(
        [sys.executable, "-c", FLIPS, str(folder / SHORT), str(tmp_path / "f"), json.dumps(flips)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr[-2000:]
    outcomes = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(outcomes) == 2 * len(flips)
    streams = [found for found in outcomes if "error" not in found]
    errors = [found["error"] for found in outcomes if "error" in found]
    assert all("(byte " in error or "at event " in error for error in errors), errors
    assert len(errors) >= 5
    for found in streams:
        assert found["sound"], found
        assert found["balanced"], found
        if found["prefix"] and found["short"]:
            assert found["told"], found


@pytest.mark.parametrize(("tag", "letter"), [(b"<node", 2), (b"</attr>", 2), (b"</node>", 3)])
def test_a_header_that_is_no_utf8_is_refused_and_does_not_kill_the_process(
    tool: Any, tmp_path: Path, short: bytes, tag: bytes, letter: int
) -> None:
    damaged = bytearray(short)
    damaged[short.index(tag) + letter] ^= 0x80
    path = tmp_path / "a.aedat4"
    path.write_bytes(damaged)

    ran = tool("info", path)

    assert ran.returncode == 2, f"{ran.returncode}: {ran.stderr[:300]}"
    assert "expected an AEDAT4 header" in ran.stderr


# Made files: streams, compressions, formats of frames


def table(fields: list[tuple[int, str, int]], tail: bytes = b"") -> bytes:
    """Return the root table of a FlatBuffer, from its vtable on; fields are (slot, form, value)."""
    slots, body, at = [0] * 13, b"", 4
    for slot, form, value in fields:
        pad = -at % struct.calcsize(form)
        slots[slot] = at + pad
        body += b"\0" * pad + struct.pack(form, value)
        at += pad + struct.calcsize(form)
    vtable = struct.pack("<15H", 30, at, *slots)
    return vtable + struct.pack("<i", 30) + body + tail


def flat(kind: bytes, content: bytes) -> bytes:
    body = struct.pack("<I4s", 38, kind) + content
    return struct.pack("<I", len(body)) + body


def event_packet(rows: list[tuple[int, int, int, int]]) -> bytes:
    # One field of 4 bytes at 4: the vector stands right behind it, 4 bytes on.
    items = b"".join(struct.pack("<qhhB3x", t, x, y, p) for x, y, t, p in rows)
    vector = struct.pack("<I", len(rows)) + items
    return flat(b"EVTS", table([(0, "<I", 4)], vector))


def frame_packet(
    form: int,
    pixels: bytes,
    t: int,
    size: tuple[int, int] = (2, 1),
    more: Sequence[tuple[int, str, int]] = (),
) -> bytes:
    fields = [(10, "<I", 4), (0, "<q", t), (5, "<b", form), (6, "<h", size[0]), (7, "<h", size[1])]
    content = table([*fields, *more])
    behind = struct.pack("<I", len(pixels)) + pixels
    # The field is the first of the table, the vector stands behind the whole table.
    at = 30 + 4
    return flat(b"FRME", content[:at] + struct.pack("<I", len(content) - at) + content[at + 4 :]
                + behind)  # fmt: skip


def made(
    streams: dict[int, str],
    packets: list[tuple[int, bytes]],
    compression: int = 0,
    cameras: dict[int, str] | None = None,
) -> bytes:
    nodes = "".join(
        f'<node name="{number}"><attr key="typeIdentifier" type="string">{kind}</attr>'
        '<node name="info"><attr key="sizeX" type="int">9</attr>'
        '<attr key="sizeY" type="int">7</attr>'
        f'<attr key="source" type="string">{(cameras or {}).get(number, "")}</attr></node></node>'
        for number, kind in streams.items()
    )
    xml = f'<dv version="2.0"><node name="outInfo">{nodes}</node></dv>'.encode()
    head = table([(2, "<I", 12), (0, "<i", compression)])
    head += b"\0" * 4 + struct.pack("<I", len(xml)) + xml + b"\0"
    data = b"#!AER-DAT4.0\r\n" + flat(b"IOHE", head)
    packets = [(n, compressed(body, compression)) for n, body in packets]
    return data + b"".join(struct.pack("<II", n, len(body)) + body for n, body in packets)


def compressed(body: bytes, compression: int) -> bytes:
    if compression >= 3:
        zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
        return bytes(zstandard.ZstdCompressor().compress(body))
    if compression >= 1:
        lz4 = pytest.importorskip("lz4.frame", reason="lz4 is not installed")
        return bytes(lz4.compress(body))
    return body


ROWS = [(1, 2, 10, 1), (8, 6, 11, 0), (0, 0, 11, 1)]
OTHER = [(3, 3, 5, 1)]


def rows_of(recording: Any) -> list[tuple[int, int, int, int]]:
    return list(recording.events.to_structured().tolist())


@pytest.mark.parametrize("compression", [0, 3, 4])
def test_packets_without_a_table_behind_them_are_read(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "a.aedat4"
    path.write_bytes(
        made({0: "EVTS"}, [(0, event_packet(ROWS[:2])), (0, event_packet(ROWS[2:]))], compression)
    )

    recording = eventkit.open(path)

    assert rows_of(recording) == ROWS
    assert recording.sensor_size == (9, 7)


def test_of_two_event_streams_one_is_read_and_topic_chooses(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    path.write_bytes(
        made({2: "EVTS", 5: "EVTS"}, [(5, event_packet(OTHER)), (2, event_packet(ROWS))])
    )

    recording = eventkit.open(path)

    assert rows_of(recording) == ROWS
    assert "stream 2 is read" in recording.notes[0]
    chosen = eventkit.open(path, topic="5")
    assert rows_of(chosen) == OTHER
    assert chosen.notes == []
    with pytest.raises(SettingsError, match="streams 2, 5, got '0'"):
        eventkit.open(path, topic="0")


def sample_packet(kind: bytes, t: int) -> bytes:
    """Return a vector of one table with a time: an IMU sample or a trigger."""
    # The vector holds where its table is; the table's own vtable stands before it.
    vtable = struct.pack("<HHH2x", 6, 12, 4)
    inner = struct.pack("<i", len(vtable)) + struct.pack("<q", t)
    vector = struct.pack("<II", 1, 4 + len(vtable))
    return flat(kind, table([(0, "<I", 4)], vector + vtable + inner))


STEREO = {0: "EVTS", 1: "FRME", 2: "EVTS", 3: "FRME", 4: "IMUS", 5: "IMUS", 6: "TRIG", 7: "TRIG"}


def stereo(tmp_path: Path, cameras: dict[int, str], streams: dict[int, str] = STEREO) -> Path:
    packets = [
        (0, event_packet(ROWS)),
        (2, event_packet(OTHER)),
        *((n, frame_packet(0, bytes([n, n]), 10 + n)) for n in (1, 3)),
        *((n, sample_packet(b"IMUS", 10 + n)) for n in (4, 5)),
        *((n, sample_packet(b"TRIG", 10 + n)) for n in (6, 7)),
    ]
    return write_bytes(
        tmp_path, made(streams, [p for p in packets if p[0] in streams], cameras=cameras)
    )


def sides(recording: Any) -> tuple[list[int], list[int], list[int]]:
    frames = [] if recording.frames is None else recording.frames.t_us.tolist()
    imu, triggers = recording.imu, recording.triggers
    return (
        frames,
        [] if imu is None else imu["t"].tolist(),
        [] if triggers is None else triggers["t"].tolist(),
    )


def test_the_streams_of_one_camera_are_read_together(tmp_path: Path) -> None:
    right = {2: "b", 1: "b", 5: "b", 6: "b"}
    path = stereo(tmp_path, {n: right.get(n, "a") for n in STEREO})

    first, second = eventkit.open(path), eventkit.open(path, topic="2")

    assert (rows_of(first), sides(first)) == (ROWS, ([13], [14], [17]))
    assert (rows_of(second), sides(second)) == (OTHER, ([11], [15], [16]))
    assert "1 (frames), 5 (IMU), 6 (triggers)" in first.notes[1]
    assert "3 (frames), 4 (IMU), 7 (triggers)" in second.notes[0]


def test_streams_that_name_no_camera_go_by_their_order(tmp_path: Path) -> None:
    path = stereo(tmp_path, {})

    assert sides(eventkit.open(path)) == ([11], [14], [16])
    assert sides(eventkit.open(path, topic="2")) == ([13], [15], [17])


def test_frames_of_another_camera_are_read_where_the_events_have_none(tmp_path: Path) -> None:
    path = stereo(tmp_path, {0: "dvs", 1: "rgb"}, {0: "EVTS", 1: "FRME"})

    recording = eventkit.open(path)

    assert (sides(recording)[0], recording.notes) == ([11], [])


def test_a_second_frame_stream_of_a_camera_is_named_and_can_be_chosen(tmp_path: Path) -> None:
    path = stereo(tmp_path, dict.fromkeys(STEREO, "a"), {0: "EVTS", 1: "FRME", 3: "FRME"})

    recording = eventkit.open(path)

    assert sides(recording)[0] == [11]
    assert "3 (frames); --topic EVENTS,FRAMES" in recording.notes[0]
    for topic in ("0,3", ",3"):
        assert sides(eventkit.open(path, topic=topic))[0] == [13]
    with pytest.raises(SettingsError, match="frame streams 1, 3, got '0'"):
        eventkit.open(path, topic="0,0")


MEMORY = """
import resource, sys
import eventkit
from eventkit.errors import FormatError

eventkit.open(sys.argv[1]).events
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for how in ("raise", "skip"):
    try:
        events = eventkit.open(sys.argv[2], on_error=how).events
        print(how, len(events))
    except FormatError as err:
        print(how, err.reason, err.offset)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def read_in_memory(sound: Path, path: Path) -> tuple[list[str], int]:
    """Return what came of both policies, and by how many MB reading took more than a sound file."""
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, str(sound), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    *outcomes, megabytes = ran.stdout.splitlines()
    return outcomes, int(megabytes)


@pytest.mark.parametrize("compression", [1, 3])
@pytest.mark.parametrize("said", [40, 1 << 30])
def test_a_packet_grows_to_what_it_says_and_to_no_more_than_any_has(
    tmp_path: Path, folder: Path, compression: int, said: int
) -> None:
    packed = compressed(struct.pack("<I", said) + bytes(1 << 29), compression)
    start = made({0: "EVTS"}, [(0, event_packet(ROWS))], compression)
    path = write_bytes(tmp_path, start + struct.pack("<II", 0, len(packed)) + packed)
    del packed

    outcomes, megabytes = read_in_memory(folder / SHORT, path)

    assert outcomes == [f"raise corrupt {len(start)}", "skip 3"]
    assert megabytes < 64


def test_a_packet_table_is_a_hint_and_takes_no_memory(
    tmp_path: Path, folder: Path, short: bytes
) -> None:
    end = sum(packet_table(short)[-1][::2]) + 8
    forged = compressed(struct.pack("<I", 1 << 29) + bytes(1 << 29), 1)
    path = write_bytes(tmp_path, short[:end] + forged)

    outcomes, megabytes = read_in_memory(folder / SHORT, path)

    assert outcomes == ["raise 6676", "skip 6676"]
    assert megabytes < 64


def test_a_frame_of_an_unknown_format_is_counted_and_the_others_stay(tmp_path: Path) -> None:
    deep = np.arange(6, dtype="<u2").tobytes()
    path = tmp_path / "a.aedat4"
    path.write_bytes(
        made(
            {0: "EVTS", 1: "FRME"},
            [
                (1, frame_packet(5, b"\0" * 8, 1)),
                (1, frame_packet(18, deep, 2)),
                (0, event_packet(ROWS)),
                (1, frame_packet(18, deep, 3)),
                (1, frame_packet(0, b"\1\2", 4)),
            ],
        )
    )

    recording = eventkit.open(path)

    assert rows_of(recording) == ROWS
    assert recording.frames.t_us.tolist() == [2, 3]
    # Blue comes first in the file.
    assert recording.frames.images[0].tolist() == [[[2, 1, 0], [5, 4, 3]]]
    assert recording.frames.images.dtype == np.uint16
    assert "1 frames of OpenCV type 5" in recording.notes[0]
    assert "1 frames of another size" in recording.notes[1]


@pytest.mark.parametrize(
    ("more", "span"),
    [
        # As dv-processing 1.7 and 2.0 write it: start and end stand beside the length.
        ([(3, "<q", 100), (4, "<q", 140), (11, "<q", 40)], (100, 140)),
        ([(11, "<q", 40)], (100, 140)),
        ([(3, "<q", 100), (4, "<q", 100), (11, "<q", 40)], (100, 140)),
        # An exposure that is recorded is believed before a length.
        ([(3, "<q", 90), (4, "<q", 110), (11, "<q", 40)], (90, 110)),
        ([(11, "<q", 0)], (100, 100)),
        ([(11, "<q", -5)], (100, 100)),
        ([(11, "<q", (1 << 63) - 1)], (100, 100)),
    ],
)
def test_the_length_of_an_exposure_is_read_where_there_are_no_two_times(
    tmp_path: Path, more: list[tuple[int, str, int]], span: tuple[int, int]
) -> None:
    packet = frame_packet(0, b"\1\2", 100, more=more)
    path = write_bytes(tmp_path, made({1: "FRME"}, [(1, packet)]))

    frames = eventkit.open(path).frames

    assert (frames.start_us.tolist(), frames.stop_us.tolist()) == ([span[0]], [span[1]])
    assert frames.t_us.tolist() == [(span[0] + span[1]) // 2]
    assert frames.images[0].tolist() == [[[1], [2]]]


def test_a_place_below_zero_is_outside(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    path.write_bytes(made({0: "EVTS"}, [(0, event_packet([*ROWS, (-1, 3, 12, 1)]))]))

    with pytest.raises(FormatError, match="got x=-1 y=3 at event 3"):
        _ = eventkit.open(path).events
    assert eventkit.open(path, on_error="skip").ledger.dropped == {"outside": 1}


@pytest.mark.parametrize("number", [-1, 5, 1 << 30])
def test_an_unknown_compression_is_refused(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.aedat4"
    data = bytearray(made({0: "EVTS"}, []))
    at = 14 + 42 + 8  # version line, then the table at 42, its second field
    assert struct.unpack_from("<i", data, at) == (0,)
    struct.pack_into("<i", data, at, number)
    path.write_bytes(data)

    with pytest.raises(FormatError, match=f"expected compression 0 to 4, got {number}"):
        eventkit.open(path)


def test_compressed_it_is_the_same_and_between_is_a_slice(folder: Path, tmp_path: Path) -> None:
    data = (folder / DAVIS).read_bytes()
    path = tmp_path / "a.aedat4.gz"
    path.write_bytes(gzip.compress(data, 1))
    whole = eventkit.open(folder / DAVIS)
    truth = directly(folder / DAVIS)

    packed = eventkit.open(path)

    assert packed.events == whole.events == truth
    assert len(packed.frames) == 59
    assert np.array_equal(packed.imu, whole.imu)
    fresh = eventkit.open(folder / DAVIS)
    for start, stop in ((1_500_000, 1_600_000), (0, 10_000), (1_500_500, 1_500_600)):
        start, stop = int(truth.t[0]) + start, int(truth.t[0]) + stop
        first, last = np.searchsorted(truth.t, [start, stop])
        assert fresh.between(start, stop) == truth[int(first) : int(last)]
    assert [len(part) for part in fresh.chunks(n=30_000)] == [30_000, 30_000, 18_830]
