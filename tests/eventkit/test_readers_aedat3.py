"""AEDAT3.1: packets of polarity events, frames, IMU samples and special events."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forward_files import forbid_steps_back, packed
from hypothesis import given

import eventkit
from eventkit.errors import EventKitError, FormatError, SettingsError
from eventkit.events import Events
from eventkit.readers.aedat import aedat3_frames, tables
from eventkit.testing.strategies import events as any_events

ROWS = [(0, 0, 5, 1), (127, 0, 5, 0), (3, 127, 9, 1), (64, 100, 70_000, 0)]


def header(*sources: str) -> bytes:
    named = sources or ("1: DVS128",)
    lines = ["#!AER-DAT3.1", "#Format: RAW", *(f"#Source {s}" for s in named)]
    lines += ["#Start-Time: 2017-01-01 10:00:00 (TZ+0100)", "#!END-HEADER"]
    return b"".join(line.encode() + b"\r\n" for line in lines)


def packet(
    kind: int, size: int, *events: bytes, overflow: int = 0, source: int = 1, room: int = 0
) -> bytes:
    at = 8 if kind == 2 else 4
    n = len(events)
    valid = sum(event[0] & 1 for event in events)
    head = struct.pack("<hhiiiiii", kind, source, size, at, overflow, n + room, n, valid)
    return head + b"".join(events)


def event(x: int, y: int, t: int, p: int, *, valid: int = 1) -> bytes:
    return struct.pack("<Ii", x << 17 | y << 2 | p << 1 | valid, t)


def polarity(rows: list[tuple[int, int, int, int]], **options: int) -> bytes:
    return packet(1, 8, *(event(*row) for row in rows), **options)


def special(kind: int, t: int) -> bytes:
    return packet(0, 8, struct.pack("<Ii", kind << 1 | 1, t))


def frame(pixels: np.ndarray, start: int, stop: int, *, valid: int = 1) -> bytes:
    height, width, channels = pixels.shape
    head = struct.pack("<I8i", channels << 1 | valid, start, stop + 5, start, stop, width, height,
                       0, 0)  # fmt: skip
    return head + pixels.astype("<u2").tobytes() + b"\0" * 6


def write(path: Path, *packets: bytes, sources: tuple[str, ...] = ()) -> Path:
    path.write_bytes(header(*sources) + b"".join(packets))
    return path


def rows_of(recording: Any) -> list[tuple[int, int, int, int]]:
    return list(recording.events.to_structured().tolist())


def test_packets_are_read_as_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", polarity(ROWS[:3]), special(0, 12), polarity(ROWS[3:]))

    recording = eventkit.open(path)

    assert rows_of(recording) == ROWS
    assert (recording.format, recording.sensor_size) == ("aedat3", (128, 128))
    assert recording.geometry_source == "DVS128 in the header"
    assert recording.ledger.words == 5
    assert recording.ledger.skipped == {"special": 1}
    assert (recording.triggers, recording.imu, recording.frames) == (None, None, None)


@given(any_events(sensor_size=(128, 128), start_us=7))
def test_any_events_come_back_whatever_the_packets(tmp_path: Path, events: Events) -> None:
    rows = events.to_structured().tolist()
    parts = [polarity(rows[i : i + 7]) for i in range(0, len(rows), 7)]

    assert eventkit.open(write(tmp_path / "a.aedat", *parts)).events == events


def test_overflows_of_the_clock_come_from_the_packet(tmp_path: Path) -> None:
    last = (1 << 31) - 1
    path = write(
        tmp_path / "a.aedat",
        polarity([(1, 1, last, 1)]),
        polarity([(1, 1, 0, 1)], overflow=1),
        polarity([(1, 1, 3, 0)], overflow=5),
    )

    assert eventkit.open(path).events.t.tolist() == [last, last + 1, 5 * (1 << 31) + 3]


def test_invalid_events_are_dropped_and_counted_and_bytes_stay_right(tmp_path: Path) -> None:
    events = [event(1, 1, 5, 1), event(2, 2, 6, 1, valid=0), event(200, 3, 7, 0)]
    path = write(tmp_path / "a.aedat", packet(1, 8, *events))

    recording = eventkit.open(path, on_error="skip")

    assert rows_of(recording) == [(1, 1, 5, 1)]
    assert recording.ledger.decoded == 3
    assert recording.ledger.dropped == {"invalid": 1, "outside": 1}
    with pytest.raises(FormatError, match="x=200") as caught:
        _ = eventkit.open(path).events
    assert caught.value.offset == len(header()) + 28 + 16


def test_frames_gray_and_colour_have_their_exposures(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    gray = rng.integers(0, 65536, (2, 180, 240, 1))
    path = write(
        tmp_path / "a.aedat",
        packet(2, 36 + 2 * gray[0].size + 6, frame(gray[0], 10, 20), frame(gray[1], 30, 41)),
        polarity([(239, 179, 50, 1)]),
        packet(2, 36 + 8 + 6, frame(gray[0, :2, :2], 60, 70)),
        packet(2, 36 + 8 + 6, frame(gray[0, :2, :2], 60, 70, valid=0)),
        sources=("1: File", "2: Network"),
    )

    recording = eventkit.open(path)
    frames = recording.frames

    assert recording.sensor_size == (240, 180)
    assert recording.geometry_source == "size of the frames"
    assert (frames.size, frames.channels) == ((240, 180), 1)
    assert (frames.start_us.tolist(), frames.stop_us.tolist()) == ([10, 30], [20, 41])
    assert frames.t_us.tolist() == [15, 35]
    assert np.array_equal(frames.images, gray)
    assert frames.images.dtype == np.uint16
    assert any("2 frames" in note for note in recording.notes)
    colour = rng.integers(0, 65536, (3, 4, 4))
    path = write(tmp_path / "b.aedat", packet(2, 36 + 96 + 6, frame(colour, 1, 2)))
    assert np.array_equal(eventkit.open(path).frames.images[0], colour[:, :, :3])


def test_triggers_and_imu_samples_are_there(tmp_path: Path) -> None:
    six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 30.0]
    path = write(
        tmp_path / "a.aedat",
        special(2, 3),
        special(3, 4),
        special(1, (1 << 31) - 1),
        packet(3, 36, struct.pack("<Ii7f", 1, 8, *six), struct.pack("<Ii7f", 0, 8, *six)),
        packet(4, 48, struct.pack("<Ii10f", 1, 9, *six, 7.0, 8.0, 9.0), overflow=1),
        polarity(ROWS),
    )

    recording = eventkit.open(path)

    assert recording.triggers.tolist() == [(3, 1), (4, 2)]
    assert recording.imu["t"].tolist() == [8, (1 << 31) + 9]
    assert recording.imu["temperature"].tolist() == [30.0, 30.0]
    assert recording.imu["gyroscope_z"].tolist() == [6.0, 6.0]
    assert recording.imu["magnetometer_y"].tolist() == [0.0, 8.0]


def test_of_two_sources_one_is_read_and_topic_chooses(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.aedat",
        polarity(ROWS),
        polarity(ROWS[:1], source=2),
        sources=("1: DVS128", "2: DAVIS240C"),
    )

    recording = eventkit.open(path)

    assert rows_of(recording) == ROWS
    assert "--topic chooses" in recording.notes[0]
    assert recording.ledger.skipped == {"other source": 1}
    other = eventkit.open(path, topic="2")
    assert (rows_of(other), other.sensor_size) == (ROWS[:1], (240, 180))
    with pytest.raises(SettingsError, match="sources 1, 2, got '7'"):
        eventkit.open(path, topic="7")


def test_packets_of_a_source_that_the_header_does_not_name_are_read_and_noted(
    tmp_path: Path,
) -> None:
    pixels = np.zeros((2, 2, 1), int)
    path = write(
        tmp_path / "a.aedat",
        polarity(ROWS, source=0),
        packet(2, 36 + 8 + 6, frame(pixels, 1, 2), source=0),
        packet(3, 36, struct.pack("<Ii7f", 1, 8, *range(7)), source=0),
    )

    recording = eventkit.open(path)

    assert rows_of(recording) == ROWS
    assert recording.sensor_size == (128, 128)
    assert recording.notes == [
        "the header names source 1, the packets have 0: packets of any source are read"
    ]
    assert (len(recording.frames), recording.imu.size) == (1, 1)
    assert "other source" not in recording.ledger.skipped


def test_packets_beside_those_of_the_named_source_are_counted_and_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", polarity(ROWS, source=5), polarity(ROWS[:2]))

    recording = eventkit.open(path)

    assert rows_of(recording) == ROWS[:2]
    assert recording.ledger.skipped == {"other source": 4}
    assert (
        "packets of sources [5], which the header does not name, are not read" in recording.notes[0]
    )


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_room_for_more_events_than_there_are_is_no_damage(tmp_path: Path, suffix: str) -> None:
    path = write(
        tmp_path / "a.aedat", polarity(ROWS[:2], room=3), special(2, 6), polarity(ROWS[2:], room=9)
    )
    data = path.read_bytes()
    whole = tmp_path / f"b.aedat{suffix}"
    whole.write_bytes(gzip.compress(data) if suffix else data)

    assert rows_of(eventkit.open(whole)) == ROWS
    for cut in (1, 7, 8, 17, 40):
        whole.write_bytes(gzip.compress(data[:-cut]) if suffix else data[:-cut])
        found = rows_of(eventkit.open(whole, on_error="skip"))
        assert found == ROWS[: 3 if cut <= 8 else 2]


def test_a_number_that_leads_to_no_head_is_damage(tmp_path: Path) -> None:
    damaged = bytearray(polarity([(i, i, 80_000 + i, 1) for i in range(10)]))
    struct.pack_into("<ii", damaged, 20, 2, 2)  # two of ten events, all valid
    path = write(tmp_path / "a.aedat", polarity(ROWS), bytes(damaged))

    with pytest.raises(FormatError, match="2 events of 8 bytes in room for 10") as caught:
        _ = eventkit.open(path).events
    assert caught.value.offset == len(header()) + len(polarity(ROWS))
    assert rows_of(eventkit.open(path, on_error="skip")) == ROWS


def test_a_relogged_file_has_the_size_of_its_first_source(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(
        header("1: File").replace(b"#Start", b"#-Source 0: DAVIS346B\r\n#Start") + polarity(ROWS)
    )

    assert eventkit.open(path).sensor_size == (346, 260)


def test_without_a_known_source_the_smallest_sensor_is_assumed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", polarity([(239, 3, 1, 1)]), sources=("1: Network",))

    recording = eventkit.open(path)

    assert recording.sensor_size == (240, 180)
    assert "--sensor-size overrides" in recording.notes[0]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"DAT3.1", b"DAT3.0", "got AER-DAT3.0"),
        (b"RAW", b"PNGFrames", "got PNGFrames"),
        (b"#!END-HEADER", b"#END", "expected lines up to"),
    ],
)
def test_other_versions_and_formats_are_refused(
    tmp_path: Path, old: bytes, new: bytes, match: str
) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(header().replace(old, new) + polarity(ROWS))

    with pytest.raises(FormatError, match=match) as caught:
        eventkit.open(path)
    assert caught.value.reason == "bad_header"


@pytest.mark.parametrize("field", [4, 20])
def test_a_forged_head_takes_no_memory(tmp_path: Path, field: int) -> None:
    data = bytearray(polarity(ROWS))
    struct.pack_into("<i", data, field, (1 << 31) - 1)
    path = write(tmp_path / "a.aedat", polarity(ROWS), bytes(data))

    with pytest.raises(FormatError, match="head of a packet") as caught:
        _ = eventkit.open(path).events
    assert caught.value.offset == len(header()) + len(data)
    assert rows_of(eventkit.open(path, on_error="skip")) == ROWS


def whole(tmp_path: Path) -> tuple[Path, bytes]:
    pixels = np.zeros((2, 2, 1), int)
    packets = [
        polarity(ROWS[:2]),
        packet(2, 36 + 8 + 6, frame(pixels, 1, 2)),
        special(2, 6),
        polarity(ROWS[2:]),
    ]
    path = write(tmp_path / "a.aedat", *packets)
    return path, path.read_bytes()


def test_a_file_cut_at_every_byte_keeps_a_right_prefix(tmp_path: Path) -> None:
    path, data = whole(tmp_path)
    ends = len(header())
    for length in range(len(data)):
        path.write_bytes(data[:length])
        if length < ends:
            with pytest.raises(EventKitError):
                eventkit.open(path, on_error="skip")
            continue
        recording = eventkit.open(path, on_error="skip", sensor_size=(128, 128))
        found = rows_of(recording)
        assert found == ROWS[: len(found)]
        assert len(found) == (0 if length < ends + 36 else 1 if length < ends + 44
                              else 2 if length < len(data) - 8 else 3)  # fmt: skip
        if length % 5 == 0:
            (tmp_path / "a.gz").write_bytes(gzip.compress(data[:length], 1))
            packed = eventkit.open(tmp_path / "a.gz", on_error="skip", sensor_size=(128, 128))
            assert rows_of(packed) == found
            assert len(packed.ledger.faults) == len(recording.ledger.faults)


def test_flipped_bits_end_in_an_error_or_a_sound_stream(tmp_path: Path) -> None:
    path, data = whole(tmp_path)
    rng = np.random.default_rng(3)
    for _ in range(250):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        for mode in ("raise", "skip"):
            try:
                recording = eventkit.open(path, on_error=mode)
                events, ledger = recording.events, recording.ledger
                _ = recording.imu, recording.triggers, recording.frames and recording.frames.images
            except EventKitError:
                continue
            assert len(events) <= len(ROWS)
            assert ledger.decoded == len(events) + sum(ledger.dropped.values())


def test_many_packets_chunks_and_between(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    n, step = 600_000, 1_237
    table = np.zeros((n, 2), "<u4")
    t = np.cumsum(rng.integers(0, 3, n))
    table[:, 0] = rng.integers(0, 1 << 7, n) << 17 | rng.integers(0, 1 << 8, n) << 1 | 1
    table[:, 1] = t
    parts = []
    for i in range(0, n, step):
        k = min(step, n - i)
        head = struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, k, k, k)
        parts.append(head + table[i : i + k].tobytes())
    path = write(tmp_path / "a.aedat", *parts)

    recording = eventkit.open(path)
    whole_ = eventkit.open(path).events

    assert np.array_equal(whole_.t, t)
    assert np.array_equal(whole_.y, table[:, 0] >> 2 & 0x7F)
    assert np.array_equal(np.concatenate([c.t for c in recording.chunks(n=99_999)]), t)
    for start, stop in ((450_000, 460_000), (100, 5_000)):
        first, last = np.searchsorted(t, [start, stop])
        assert recording.between(start, stop) == whole_[int(first) : int(last)]


def test_evutils_reads_the_same_events(tmp_path: Path) -> None:
    evutils = pytest.importorskip("evutils.io", reason="evutils is not installed")
    path = write(tmp_path / "a.aedat", polarity(ROWS))

    with evutils.EventReader(str(path)) as reader:
        theirs = reader.read_all()
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs

    ours = eventkit.open(path).events
    assert all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in "xytp")


def test_packets_without_events_do_not_pile_up(tmp_path: Path) -> None:
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    path = tmp_path / "a.aedat"
    path.write_bytes(head + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 0, 0, 0) * 20_000)
    recording = eventkit.open(path)

    tracemalloc.start()
    assert len(recording.events) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    room = 13 * (path.stat().st_size // 8)  # of the columns that the size of the file allows
    assert peak < room + (2 << 20)


@pytest.mark.parametrize("kind", ["plain", "gz", "zip"])
def test_a_look_at_the_next_head_is_no_step_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rows = [(i % 128, i % 100, i, i % 2) for i in range(60_000)]
    parts = [polarity(rows[i : i + 20_000], room=5) for i in range(0, 60_000, 20_000)]
    name = packed(write(tmp_path / "a.aedat", *parts, special(2, 60_000)), kind)
    opened = forbid_steps_back(monkeypatch)

    recording = eventkit.open(name)

    assert rows_of(recording) == rows
    assert recording.triggers.tolist() == [(60_000, 1)]
    assert len(opened) < 10


@pytest.mark.parametrize("kind", ["plain", "gz", "zip"])
def test_frames_whose_times_go_down_are_read_in_one_pass_or_from_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 65536, (4, 180, 240, 1))
    size = 36 + 2 * pixels[0].size + 6
    for times in ([10, 20, 30, 40], [40, 30, 10, 20]):
        parts = [packet(2, size, frame(pixels[i], t, t + 5)) for i, t in enumerate(times)]
        name = packed(write(tmp_path / "a.aedat", *parts), kind)
        with monkeypatch.context() as patch:
            forbid_steps_back(patch)
            images = eventkit.open(name).frames.images

        assert np.array_equal(images, pixels[np.argsort(times)])


def test_a_size_beyond_what_a_file_system_can_seek_is_a_cut_file(tmp_path: Path) -> None:
    most = (1 << 31) - 1
    far = struct.pack("<hhiiiiii", 9, 1, most, 4, 0, most, most - 1, 0)
    path = write(tmp_path / "a.aedat", polarity(ROWS), far, bytes(100))

    with pytest.raises(FormatError, match="got the end of the file: it is cut"):
        _ = eventkit.open(path).events
    assert rows_of(eventkit.open(path, on_error="skip")) == ROWS


def tiny_frames(n: int, *, valid: int = 1) -> bytes:
    """Return ``n`` frames of two pixels, 40 ms apart, in one packet."""
    row = [("info", "<u4"), ("times", "<i4", 4), ("shape", "<i4", 4), ("pixels", "<u2", 2)]
    frames = np.zeros(n, row)
    frames["info"] = 2 | valid
    frames["times"] = 40_000 * np.arange(n)[:, None] % (1 << 31) + np.array([0, 9, 0, 9])
    frames["shape"][:, :2] = 2, 1
    frames["pixels"] = np.arange(n)[:, None] + np.array([0, 1])
    return struct.pack("<hhiiiiii", 2, 1, 40, 8, 0, n, n, n) + frames.tobytes()


@pytest.mark.parametrize("valid", [0, 1])
def test_frames_of_a_long_recording_take_little_memory(tmp_path: Path, valid: int) -> None:
    n = 30_000  # 20 minutes; tracing takes time
    path = write(tmp_path / "a.aedat", tiny_frames(n, valid=valid), polarity(ROWS))
    name = packed(path, "gz")

    tracemalloc.start()
    recording = eventkit.open(name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 240 * n + (2 << 20)
    if valid:
        assert len(recording.frames) == n
        (last,) = recording.frames.pictures([n - 1])
        assert last.pixels[0, :, 0].tolist() == [n - 1 & 0xFFFF, n & 0xFFFF]
    else:
        assert (recording.frames, rows_of(recording)) == (None, ROWS)


def test_more_frames_than_may_be_are_a_fault_said_by_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.aedat", polarity(ROWS), tiny_frames(51))
    name = packed(path, "gz")
    monkeypatch.setattr(tables, "MAX_FRAMES", 51)
    assert len(eventkit.open(name).frames) == 51
    monkeypatch.setattr(tables, "MAX_FRAMES", 50)

    with pytest.raises(FormatError, match="expected at most 50 frames, got more; --on") as caught:
        eventkit.open(name)
    recording = eventkit.open(name, on_error="skip")

    assert caught.value.offset == len(header()) + len(polarity(ROWS)) + 28 + 50 * 40
    assert (len(recording.frames), rows_of(recording)) == (50, ROWS)
    assert recording.frames.images[:, 0, 0, 0].tolist() == list(range(50))
    assert [fault["offset"] for fault in recording.side_faults] == [caught.value.offset]


@pytest.mark.parametrize("kind", ["plain", "gz", "zip"])
@pytest.mark.parametrize("cut", [1, 20, 44, 60])
def test_the_frame_that_a_file_ends_in_is_none(tmp_path: Path, kind: str, cut: int) -> None:
    path = write(tmp_path / "a.aedat", polarity(ROWS), tiny_frames(3), tiny_frames(2))
    path.write_bytes(path.read_bytes()[:-cut])

    recording = eventkit.open(packed(path, kind), on_error="skip")

    assert recording.frames.images[:, 0, 0, 0].tolist() == ([0, 0, 1, 2] if cut < 40 else [0, 1, 2])
    assert [fault["reason"] for fault in recording.side_faults] == ["truncated"]


def test_a_frame_of_more_bytes_than_any_has_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = np.zeros((3, 4, 1), int), np.ones((2, 4, 1), int)
    path = write(
        tmp_path / "a.aedat",
        *[packet(2, 36 + 24 + 6, frame(large, t, t + 1)) for t in (1, 3)],
        packet(2, 36 + 16 + 6, frame(small, 5, 6)),
    )
    monkeypatch.setattr(aedat3_frames, "MAX_PICTURE_BYTES", 16)

    recording = eventkit.open(path)

    assert np.array_equal(recording.frames.images, small[None])
    assert recording.notes[0].startswith("2 frames are invalid")


def test_signals_and_samples_in_packets_of_their_own_take_little_memory(tmp_path: Path) -> None:
    n = 5_000
    sample = struct.pack("<Ii7f", 1, 8, *range(7))
    name = packed(write(tmp_path / "a.aedat", *[special(2, 3), packet(3, 36, sample)] * n), "gz")
    recording = eventkit.open(name)

    tracemalloc.start()
    found = recording.triggers.size, recording.imu.size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found == (n, n)
    assert peak < 64 * n + (9 << 17)  # a megabyte of buffers
