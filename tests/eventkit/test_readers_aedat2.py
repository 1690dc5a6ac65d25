"""AEDAT2: events, frames, IMU and external signals of DVS128 and DAVIS, and how these are told."""

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
from eventkit.errors import EventKitError, FormatError
from eventkit.events import Events
from eventkit.readers.aedat import tables
from eventkit.readers.aedat.jaer import Records
from eventkit.testing.strategies import events as any_events

VERSION = b"#!AER-DAT2.0\r\n"
CREATED = (
    b"# Creation time: 02:10PM March 05 2019\r\n"
    b"# Creation time: System.currentTimeMillis() 1551795000000\r\n"
)
CHIPS = {
    "eu.seebetter.ini.chips.davis.DAVIS240C": (240, 180),
    "eu.seebetter.ini.chips.davis.Davis346blue": (346, 260),
    "eu.seebetter.ini.chips.davis.Davis346redColor": (346, 260),
    "eu.seebetter.ini.chips.sbret10.SBret10": (240, 180),
    "eu.seebetter.ini.chips.davis.Davis640": (640, 480),
    "DAVI346": (346, 260),
}
DAVIS240 = "eu.seebetter.ini.chips.davis.DAVIS240C"
SIZE = (240, 180)
ROWS = [(0, 0, 5, 1), (239, 0, 5, 0), (3, 179, 9, 1), (64, 100, 70_000, 0)]


def davis(x: int, y: int, t: int, p: int, size: tuple[int, int] = SIZE) -> bytes:
    """Return one DAVIS event: mirrored, from the lower left."""
    return struct.pack(">Ii", (size[1] - 1 - y) << 22 | (size[0] - 1 - x) << 12 | p << 11, t)


def sample(kind: int, x: int, y: int, value: int, t: int, height: int = 180) -> bytes:
    """Return one read of a frame: not mirrored, from the lower left."""
    return struct.pack(">Ii", 1 << 31 | (height - 1 - y) << 22 | x << 12 | kind << 10 | value, t)


def imu(values: list[int], t: int) -> bytes:
    return b"".join(
        struct.pack(">Ii", 1 << 31 | i << 28 | (v & 0xFFFF) << 12 | 3 << 10, t)
        for i, v in enumerate(values)
    )


def header(chip: str | None = DAVIS240) -> bytes:
    named = b"" if chip is None else b"# AEChip: " + chip.encode() + b"\r\n"
    return VERSION + CREATED + named


def write(path: Path, data: bytes, chip: str | None = DAVIS240) -> Path:
    path.write_bytes(header(chip) + data)
    return path


def rows_of(recording: Any) -> list[tuple[int, int, int, int]]:
    return list(recording.events.to_structured().tolist())


@pytest.mark.parametrize(("chip", "size"), CHIPS.items())
def test_the_chip_of_the_header_gives_size_and_layout(
    tmp_path: Path, chip: str, size: tuple[int, int]
) -> None:
    rows = [(0, 0, 1, 1), (size[0] - 1, size[1] - 1, 2, 0)]
    path = write(tmp_path / "a.aedat", b"".join(davis(*row, size) for row in rows), chip)

    recording = eventkit.open(path)

    assert (recording.format, recording.sensor_size) == ("aedat2", size)
    assert rows_of(recording) == rows
    assert "in the header" in recording.geometry_source
    assert recording.notes == []


@given(any_events(sensor_size=(240, 180), start_us=0))
def test_any_davis_events_come_back(tmp_path: Path, events: Events) -> None:
    data = b"".join(davis(*row) for row in events.to_structured().tolist())

    assert eventkit.open(write(tmp_path / "a.aedat", data)).events == events


def test_a_dvs128_is_told_by_header_or_by_its_short_addresses(tmp_path: Path) -> None:
    rows = [(0, 0, 1, 1), (127, 3, 2, 0), (5, 127, 3, 1)]
    words = [((127 - y) << 8 | (127 - x) << 1 | (1 - p), t) for x, y, t, p in rows]
    words.insert(2, (0x8000, 2))
    data = b"".join(struct.pack(">Ii", *word) for word in words)

    for chip, why in (("ch.unizh.ini.jaer.chip.retina.DVS128", "header"), (None, "assumed")):
        recording = eventkit.open(write(tmp_path / "a.dat", data, chip))
        assert rows_of(recording) == rows
        assert recording.sensor_size == (128, 128)
        assert why in recording.geometry_source
        assert recording.triggers.tolist() == [(2, 2)]
        assert recording.ledger.skipped == {"external": 1}
    given = eventkit.open(tmp_path / "a.dat", sensor_size=(128, 128))
    assert rows_of(given) == rows


@pytest.mark.parametrize("size", [(240, 180), (346, 260), (640, 480)])
def test_without_a_chip_the_smallest_davis_that_holds_all_is_assumed(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    rows = [(0, 0, 1, 1), (9, 0, 2, 0), (size[0] - 1, size[1] - 1, 2, 0)]
    path = write(tmp_path / "a.aedat", b"".join(davis(*row, size) for row in rows), None)

    recording = eventkit.open(path)

    assert recording.sensor_size == size
    assert rows_of(recording) == rows
    assert "--sensor-size overrides" in recording.notes[0]


def test_a_chip_of_another_kind_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", davis(1, 1, 1, 1), "ch.unizh.ini.jaer.chip.CochleaAMS1c")

    with pytest.raises(FormatError, match=r"got .*CochleaAMS1c.*--sensor-size") as caught:
        eventkit.open(path)
    assert caught.value.reason == "no_geometry"
    assert rows_of(eventkit.open(path, sensor_size=SIZE)) == [(1, 1, 1, 1)]


def test_an_event_outside_the_sensor_is_refused_or_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", davis(0, 0, 1, 1) + struct.pack(">Ii", 1000 << 12, 2))

    with pytest.raises(FormatError, match=r"got x=-761 y=179 at event 1") as caught:
        _ = eventkit.open(path).events
    assert caught.value.offset == len(header()) + 8
    assert eventkit.open(path, on_error="skip").ledger.dropped == {"outside": 1}


def test_external_signals_have_their_edges(tmp_path: Path) -> None:
    words = [(0x400, 3), (0xC00 | 0x3FF000, 4), (0x402, 5), (0x403, 6), (0x404, 7)]
    data = davis(*ROWS[0]) + b"".join(struct.pack(">Ii", *word) for word in words)

    recording = eventkit.open(write(tmp_path / "a.aedat", data), on_error="skip")

    assert recording.triggers.tolist() == [(3, 3), (4, 3), (5, 2), (6, 1), (7, 3)]
    assert recording.ledger.skipped == {"external": 5}
    assert recording.ledger.decoded == 1


def test_seven_words_are_an_imu_sample_and_a_gap_is_left_out(tmp_path: Path) -> None:
    values = [-8192, 4096, 8192, 340, 655, -655, 131]
    data = imu(values, 10)[8:] + imu(values, 20) + davis(*ROWS[3]) + imu(values, 30)[:40]

    recording = eventkit.open(write(tmp_path / "a.aedat", data))

    assert recording.imu["t"].tolist() == [20]
    found = [float(recording.imu[name][0]) for name in recording.imu.dtype.names[1:]]
    assert found == pytest.approx([36.0, 1.0, 0.5, 1.0, -10.0, -10.0, -2.0])
    assert recording.ledger.skipped == {"imu": 18}
    assert recording.triggers is None


def frame(base: int, t: int, *, rolling: bool) -> tuple[bytes, np.ndarray]:
    """Return the reads of a full frame, an event after each column, and the picture."""
    rng = np.random.default_rng(base)
    reset = rng.integers(500, 1024, (180, 240))
    signal = rng.integers(0, 700, (180, 240))
    parts = []
    columns = range(240)
    order = [(0, x) for x in columns] + [(1, x) for x in columns]
    if rolling:  # signals follow the resets three columns behind
        order = sorted(order, key=lambda read: (read[1] + 3 * read[0], read[0]))
    for kind, x in order:
        table = (reset, signal)[kind]
        parts += [sample(kind, x, y, int(table[y, x]), t) for y in range(180)]
        parts.append(davis(0, 0, t, 1))
        t += 10
    return b"".join(parts), np.clip(reset - signal, 0, 1023)


@pytest.mark.parametrize("rolling", [False, True])
def test_frames_are_reset_minus_signal_with_their_exposures(tmp_path: Path, rolling: bool) -> None:
    (one, first), (two, second) = (frame(n, 1_000 + 10_000 * n, rolling=rolling) for n in (0, 1))
    path = write(tmp_path / "a.aedat", two[:40] + one + two + one[: 180 * 8 * 3])
    # The start of the file and its end hold cut frames, at earlier and later times.

    recording = eventkit.open(path, on_error="skip")
    frames = recording.frames

    assert (len(frames), frames.size, frames.channels) == (2, SIZE, 1)
    assert np.array_equal(frames.images[..., 0] >> 6, np.stack([first, second]))
    (later,) = frames.pictures([1])
    assert np.array_equal(later.pixels, frames.images[1])
    # Rolling: from the first reset on, four columns to the first signal; else all 240 columns.
    start, stop = (0, 40) if rolling else (2390, 2400)
    assert frames.start_us.tolist() == [1_000 + start, 11_000 + start]
    assert frames.stop_us.tolist() == [1_000 + stop, 11_000 + stop]
    assert "2 frames are cut" in recording.notes[0]
    assert recording.ledger.skipped["frame"] > 4 * 240 * 180


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_pictures_are_read_in_one_pass_over_what_is_compressed(
    tmp_path: Path, monkeypatch: Any, suffix: str
) -> None:
    parts, pictures = zip(*(frame(n, 10_000 * n, rolling=False) for n in range(6)), strict=True)
    data = header() + b"".join(parts)
    path = tmp_path / f"a.aedat{suffix}"
    path.write_bytes(gzip.compress(data, 1) if suffix else data)
    opened: list[int] = []
    pieces = Records.pieces

    def counted(self: Records, **options: Any) -> Any:
        opened.append(0)
        for piece in pieces(self, **options):
            opened[-1] += piece[2].size
            yield piece

    frames = eventkit.open(path).frames
    monkeypatch.setattr(Records, "pieces", counted)

    for wanted in (range(6), [0, 1, 4, 5], [5], [2, 3]):
        found = [picture.pixels[..., 0] >> 6 for picture in frames.pictures(wanted)]
        assert np.array_equal(found, [pictures[i] for i in wanted])
    records = (len(data) - len(header())) // 8
    assert max(opened) <= records
    assert len(opened) == (4 if suffix else 5)


def test_brightest_and_darkest_fill_sixteen_bits(tmp_path: Path) -> None:
    data = b"".join(
        sample(kind, x, 0, value, 10 * kind)
        for kind, values in enumerate([(1023, 5, 512), (0, 9, 256)])
        for x, value in enumerate(values)
    )

    frames = eventkit.open(write(tmp_path / "a.aedat", data + davis(*ROWS[3]))).frames

    assert frames.images[0, 0, :3, 0].tolist() == [65535, 0, 256 << 6 | 256 >> 4]


def test_end_of_header_line_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(header() + b"#End Of ASCII Header\r\n" + davis(0, 179 - 0x8C, 3, 1))

    assert rows_of(eventkit.open(path)) == [(0, 179 - 0x8C, 3, 1)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("middle", [b"", b"A", b"AB"])
def test_a_first_record_that_reads_as_a_line_of_text_is_no_header(
    tmp_path: Path, suffix: str, middle: bytes
) -> None:
    address = (b"#" + middle + b"\n").ljust(4, b"\0")
    first = address + struct.pack(">i", 3)
    data = first + davis(*ROWS[0]) + davis(*ROWS[3])
    path = tmp_path / f"a.aedat{suffix}"

    for start in (header(), header() + b"#\r\n"):
        path.write_bytes(gzip.compress(start + data) if suffix else start + data)
        recording = eventkit.open(path, on_error="skip")
        assert rows_of(recording)[-2:] == [ROWS[0], ROWS[3]]
        assert (recording.ledger.words, recording.ledger.faults) == (3, [])


def test_a_short_line_of_a_header_stays_one(tmp_path: Path) -> None:
    data = b"".join(davis(*row) for row in ROWS)
    start = header().replace(b"\r\n", b"\n") + b"# a\n"
    path = tmp_path / "a.aedat"

    for end in (len(data), len(data) - 3):
        path.write_bytes(start + data[:end])
        assert rows_of(eventkit.open(path, on_error="skip")) == ROWS[: end // 8]


def whole(tmp_path: Path) -> tuple[Path, bytes]:
    data = b"".join(davis(*row) for row in ROWS[:3]) + imu([1] * 7, 10) + davis(*ROWS[3])
    return write(tmp_path / "a.aedat", data), header() + data


def test_a_file_cut_at_every_byte_keeps_a_right_prefix(tmp_path: Path) -> None:
    path, data = whole(tmp_path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            found = rows_of(eventkit.open(path, on_error="skip"))
        except EventKitError:
            assert length < len(header())
            continue
        if length >= len(header()):
            assert found == ROWS[: len(found)]


def test_flipped_bits_end_in_an_error_or_a_sound_stream(tmp_path: Path) -> None:
    path, data = whole(tmp_path)
    rng = np.random.default_rng(2)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        for mode in ("raise", "skip"):
            try:
                recording = eventkit.open(path, on_error=mode)
                events, ledger = recording.events, recording.ledger
                _ = recording.imu, recording.triggers, recording.frames
            except EventKitError:
                continue
            assert len(events) <= ledger.words
            assert ledger.decoded == len(events) + sum(ledger.dropped.values())


def test_evutils_reads_the_same_words(tmp_path: Path) -> None:
    evutils = pytest.importorskip("evutils.io", reason="evutils is not installed")
    path = write(tmp_path / "a.aedat", b"".join(davis(*row) for row in ROWS))

    with evutils.EventReader(str(path)) as reader:
        theirs = reader.read_all()
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs

    # It leaves places as the file has them.
    ours = eventkit.open(path).events
    assert np.array_equal(239 - ours.x, theirs.x)
    assert np.array_equal(179 - ours.y, theirs.y)
    assert np.array_equal(ours.t, theirs.t)
    assert np.array_equal(ours.p, theirs.p)


def tiny_frames(n: int, times: np.ndarray) -> bytes:
    """Return ``n`` frames of one pixel: a reset read of 9 and a signal read of the number."""
    words = np.zeros((n, 2, 2), ">u4")
    words[:, 0, 0] = 1 << 31 | 1023
    words[:, 1, 0] = (1 << 31 | 1 << 10) + np.arange(n) % 512
    words[..., 1] = times[:, None] + np.arange(2)
    return words.tobytes()


@pytest.mark.parametrize("kind", ["plain", "gz", "zip"])
def test_pictures_in_any_order_open_what_is_compressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    n = 40_000
    wanted = [5, 6, n // 2, n - 9]
    events = b"".join(davis(*row) for row in ROWS[:3])
    for times in (10 * np.arange(n), 10 * np.arange(n)[::-1]):
        data = events + tiny_frames(n, times)
        recording = eventkit.open(packed(write(tmp_path / "a.aedat", data), kind))
        with monkeypatch.context() as patch:
            opened = forbid_steps_back(patch)
            pictures = list(recording.frames.pictures(wanted))

        found = [int(picture.pixels[179, 0, 0]) >> 6 for picture in pictures]
        assert found == (1023 - np.argsort(times)[wanted] % 512).tolist()
        assert len(opened) == (kind != "plain")


@pytest.mark.parametrize("step", [1, 2])
def test_more_frames_than_may_be_are_a_fault_and_take_little_memory(
    tmp_path: Path, step: int
) -> None:
    most = tables.MAX_FRAMES
    words = tiny_frames(most + 100, np.arange(most + 100))
    if step == 1:  # every word starts a frame, as it reads the pixel of the last one
        words = np.frombuffer(words, ">u8").reshape(-1, 2)[:, 1].tobytes()
    name = packed(write(tmp_path / "a.aedat", davis(*ROWS[0]) + words), "gz")
    del words

    with pytest.raises(FormatError, match=f"expected at most {most} frames, got more") as caught:
        eventkit.open(name)
    tracemalloc.start()
    recording = eventkit.open(name, on_error="skip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert caught.value.offset == len(header()) + 8 + 8 * step * most
    assert [fault["offset"] for fault in recording.side_faults] == [caught.value.offset]
    assert rows_of(recording) == ROWS[:1]
    if step == 2:
        assert len(recording.frames) == most
    else:
        assert recording.frames is None
        assert recording.notes == [f"{most} frames are cut, as at the start and end of a "
                                   "recording: left out"]  # fmt: skip
    assert peak < 160 << 20


def test_frames_of_two_hours_take_little_memory(tmp_path: Path) -> None:
    n = 2 * 3600 * 25
    path = write(tmp_path / "a.aedat", tiny_frames(n, 40_000 * np.arange(n) % (1 << 32)))
    eventkit.open(write(tmp_path / "b.aedat", tiny_frames(2, np.arange(2))))  # loads the kernel

    tracemalloc.start()
    recording = eventkit.open(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(recording.frames) == n
    assert recording.frames.stop_us[-1] == 40_000 * (n - 1) + 1
    assert peak < 32 << 20


def test_samples_and_signals_go_on_over_pieces_and_take_little_memory(tmp_path: Path) -> None:
    n = 20_000
    words = np.zeros((n, 8, 2), ">u4")
    words[:, :7, 0] = 1 << 31 | np.arange(7) << 28 | 3 << 10
    words[:, 0, 0] += (np.arange(n) << 12).astype(">u4")
    words[:, 7, 0] = 0x402
    words[..., 1] = np.arange(n)[:, None]
    recording = eventkit.open(write(tmp_path / "a.aedat", words.tobytes()[16:]))

    tracemalloc.start()
    imu, triggers = recording.imu, recording.triggers
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert imu["t"].tolist() == list(range(1, n))
    assert (imu["accelerometer_x"] * -8192).tolist() == list(range(1, n))
    assert triggers.tolist() == [(t, 2) for t in range(n)]
    assert peak < 64 * n + (4 << 20)
