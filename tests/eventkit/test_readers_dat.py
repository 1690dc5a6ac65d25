"""Prophesee DAT: both layouts, the clock over its wraps, odd headers, and damage."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.errors import FormatError, UnsupportedFormatError
from eventkit.events import Events
from eventkit.readers.prophesee import dat
from eventkit.recording import OnError
from eventkit.testing.strategies import events

SIZE = (304, 240)
WRAP = 1 << 32
REAL = "same_recording_as_evt3_1280x720.dat"


def header(*lines: str, event_type: int = 12, event_size: int = 8) -> bytes:
    text = "".join(f"% {line}\n" for line in lines)
    return text.encode("latin-1") + bytes([event_type, event_size])


HEADERS = {
    version: header(
        "Data file containing CD events", f"Version {version}", "Width 304", "Height 240"
    )
    for version in (1, 2)
}


def record(x: int, y: int, t: int, p: int, version: int = 2) -> bytes:
    """Return one record from the format's page: time, then x, y and p from the low bit up."""
    place = x + (y << 14) + (p << 28) if version == 2 else x + (y << 9) + (p << 17)
    return struct.pack("<II", t % WRAP, place)


def write(path: Path, rows: list[tuple[int, int, int, int]], head: bytes = HEADERS[2]) -> Path:
    version = 1 if b"Version 1" in head else 2
    path.write_bytes(head + b"".join(record(*row, version) for row in rows))
    return path


def rows(stream: Events) -> list[tuple[int, int, int, int]]:
    return list(stream.to_structured().tolist())


def unwrapped(raw: list[int]) -> list[int]:
    """Return whole times by the rule in words: back by more than half is a wrap, and so on."""
    whole, turns, left, last = [], 0, None, 0
    for now in raw:
        if last - now > WRAP / 2:
            turns, left = turns + 1, last
        elif now - last > WRAP / 2 and turns and left is not None and abs(now - left) <= WRAP / 16:
            turns, left = turns - 1, None
        whole.append(now + turns * WRAP)
        last = now
    return whole


ROWS = [(0, 239, 5, 1), (303, 0, 5, 0), (17, 100, 300, 1), (7, 8, 70_000, 0)]


@pytest.mark.parametrize("version", [1, 2])
def test_both_layouts_are_read_as_written(tmp_path: Path, version: int) -> None:
    recording = eventkit.open(write(tmp_path / "a.dat", ROWS, HEADERS[version]))

    assert rows(recording.events) == ROWS
    assert (recording.format, recording.sensor_size) == ("dat", SIZE)
    assert recording.geometry_source == "header"
    assert "event type 12 (CD events)" in recording.evidence
    assert recording.notes == []
    ledger = recording.ledger
    assert (ledger.words, ledger.decoded, ledger.kept) == (4, 4, 4)


@pytest.mark.parametrize(
    ("version", "most"), [(1, (511, 255, WRAP - 1, 1)), (2, (16383, 16383, WRAP - 1, 1))]
)
def test_the_largest_values_are_read(tmp_path: Path, version: int, most: tuple[int, ...]) -> None:
    head = header(f"Version {version}")
    path = write(tmp_path / "a.dat", [most], head)  # type: ignore[list-item]

    assert rows(eventkit.open(path, sensor_size=(16384, 16384)).events) == [most]


@given(stream=events(sensor_size=(7, 5), start_us=0))
def test_what_the_page_says_is_read_back(stream: Events, tmp_path: Path) -> None:
    path = write(tmp_path / "a.dat", rows(stream))

    assert rows(eventkit.open(path).events) == rows(stream)


@given(
    raw=st.lists(
        st.one_of(
            st.integers(0, WRAP - 1),
            st.sampled_from([0, 1, WRAP // 2, WRAP // 2 + 1, WRAP - 1, WRAP - 5]),
        ),
        max_size=30,
    ),
    records=st.integers(1, 5),
)
def test_pieces_without_a_step_back_follow_the_same_clock(
    raw: list[int], records: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(HEADERS[2] + b"".join(record(1, 2, t, 0) for t in raw))
    source = eventkit.sources.Source(path)
    decoder = eventkit.open(path).source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dat, "PIECE_BYTES", 8 * records)
        buffer = eventkit.columns.Buffer(eventkit.columns.Columns.empty(64))
        chunks = [
            (c.mark, c.t.tolist(), buffer.keep(eventkit.columns.Columns(c.x, c.y, c.t, c.p)))
            for c in decoder.decode(buffer, None)  # type: ignore[union-attr]
        ]
        found = [t for _, times, _ in chunks for t in times]
        again = [
            t
            for mark, _, _ in chunks[len(chunks) // 2 : len(chunks) // 2 + 1]
            for c in decoder.decode(buffer, mark)  # type: ignore[union-attr]
            for t in c.t.tolist()
        ]

    assert found == unwrapped(raw)
    assert again == found[len(found) - len(again) :]
    assert str(source) == str(path)


@pytest.mark.parametrize("on_error", ["raise", "skip", "repair"])
def test_a_wrap_that_is_taken_back_steps_back_though_no_raw_time_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_error: OnError
) -> None:
    monkeypatch.setattr(dat, "PIECE_BYTES", 8 * 100)
    ahead = [WRAP - 50 + i for i in range(100)]  # the wrap, in the first piece
    left = [60 + i for i in range(60)] + [WRAP - 5000 + i for i in range(40)]
    path = write(tmp_path / "a.dat", [(1, 1, t % WRAP, 1) for t in ahead + left])

    recording = eventkit.open(path, on_error=on_error)

    if on_error == "raise":
        with pytest.raises(FormatError, match="do not decrease"):
            _ = recording.events
        return
    assert (np.diff(recording.events.t) >= 0).all()
    assert recording.ledger.kept + sum(recording.ledger.dropped.values()) == 200
    assert sum(recording.ledger.dropped.values()) + sum(recording.ledger.repaired.values()) == 40


def test_a_wrap_goes_on_and_a_swapped_pair_beside_it_does_not_move_the_rest(
    tmp_path: Path,
) -> None:
    true = [
        WRAP - 40,
        WRAP + 3,
        WRAP - 12,
        WRAP + 9,
        WRAP + WRAP // 3,
        WRAP + 4 * WRAP // 5,
        2 * WRAP + 1,
    ]
    path = write(tmp_path / "a.dat", [(1, 1, t, 1) for t in true])

    recording = eventkit.open(path, on_error="skip")

    assert recording.events.t.tolist() == [true[0], true[1], *true[3:]]
    assert recording.ledger.dropped == {"jitter": 1}


def test_one_event_back_by_half_a_millisecond_moves_no_other(tmp_path: Path) -> None:
    times = [*range(0, 50_000, 100)]
    times[250] -= 500
    path = write(tmp_path / "a.dat", [(1, 1, t, 1) for t in times])

    recording = eventkit.open(path, on_error="repair")

    assert int(recording.events.t[-1]) == times[-1]
    assert recording.ledger.repaired == {"jitter": 1}
    with pytest.raises(FormatError, match="expected times that do not decrease") as caught:
        _ = eventkit.open(path).events
    assert caught.value.offset == len(HEADERS[2]) + 8 * 250


def test_an_offset_in_the_header_is_added(tmp_path: Path) -> None:
    head = header("Version 2", "Width 8", "Height 8", "T0 -5000000000000")
    path = write(tmp_path / "a.dat", [(1, 1, 0, 1), (2, 2, 7, 0)], head)

    recording = eventkit.open(path)

    assert recording.events.t.tolist() == [-5_000_000_000_000, -4_999_999_999_993]
    for text in ("x", "9" * 40, ""):
        head = header("Version 2", f"t0 {text}")
        with pytest.raises(FormatError, match="whole microseconds"):
            eventkit.open(write(tmp_path / "b.dat", ROWS, head))


def test_the_version_is_told_by_the_records_where_the_header_does_not_say(tmp_path: Path) -> None:
    for version in (1, 2):
        path = tmp_path / "a.dat"
        path.write_bytes(
            header("Data file containing CD events")
            + b"".join(record(*row, version) for row in ROWS)
        )
        recording = eventkit.open(path, sensor_size=SIZE)

        assert rows(recording.events) == ROWS
        assert f"no version in the header: version {version} assumed" in recording.notes[0]


def test_a_file_without_a_header_is_read_when_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dat", ROWS, b"")

    with pytest.raises(FormatError, match="--format"):
        eventkit.open(path)
    recording = eventkit.open(path, format="dat", sensor_size=SIZE)
    assert rows(recording.events) == ROWS
    assert recording.notes == ["no header: version 2 assumed, the current one"]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (header("Version 3"), "version 1 or 2, got version 3"),
        (header("Version 2", event_type=40), "got type 40"),
        (header("Version 2", event_size=12), "8 bytes, got 12"),
        (b"% Version 2", "a header whose lines end"),
        (b"% Version 2\n\x0c", "event type and event size"),
        (b"%" * 100_000, "a header whose lines end"),
    ],
)
def test_other_headers_are_refused(tmp_path: Path, head: bytes, said: str) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(head)

    with pytest.raises(FormatError, match=said):
        eventkit.open(path)


@pytest.mark.parametrize(
    "content",
    [b"#!AER-DAT2.0\r\n" + bytes(80), b"%!PS-Adobe-3.0\n", b"% a comment\nx = 1\n", b"%PDF-1.4\n1"],
)
def test_files_of_others_are_not_taken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tex"
    path.write_bytes(content)

    assert dat.DatReader().recognise(eventkit.sources.Source(path)) is None


def test_a_raw_file_is_not_taken_whatever_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    for lines in (("evt 3.0", "geometry 640x480"), ("format EVT2;height=480;width=640", "end")):
        path.write_bytes(header(*lines))
        assert dat.DatReader().recognise(eventkit.sources.Source(path)) is None


def test_the_sensor_size_is_the_headers_or_that_of_version_1(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.dat", ROWS, header("Version 2"))
    zero = write(tmp_path / "b.dat", ROWS, header("Version 2", "Width 0", "Height 240"))
    old = write(tmp_path / "c.dat", ROWS, header("Version 1"))

    assert eventkit.open(plain).sensor_size is None
    assert eventkit.open(zero).sensor_size is None
    assert eventkit.open(old).sensor_size == (304, 240)
    assert "assumed 304x240" in eventkit.open(old).notes[0]
    assert eventkit.open(old, sensor_size=(400, 300)).sensor_size == (400, 300)
    (tmp_path / "a.dat.size.txt").write_text("320x240")
    assert eventkit.open(plain).sensor_size == (320, 240)


def test_a_file_of_triggers_has_triggers_and_no_events(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    words = [(5, 0x0601), (WRAP - 3, 0x0600), (9, 0x1F01)]
    path.write_bytes(
        header("Version 2", event_type=14) + b"".join(struct.pack("<II", *w) for w in words)
    )

    recording = eventkit.open(path)

    assert len(recording.events) == 0
    triggers = recording.triggers
    assert triggers is not None
    assert triggers.tolist() == [(5, 6, 1), (WRAP - 3, 6, 0), (WRAP + 9, 31, 1)]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FormatError, match="the file is cut"):
        _ = eventkit.open(path).triggers
    kept = eventkit.open(path, on_error="skip").triggers
    assert kept is not None
    assert len(kept) == 2


def test_a_polarity_that_is_none_is_no_event(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dat", [(1, 1, 5, 1), (1, 1, 6, 15), (2, 2, 7, 0), (900, 1, 8, 1)])

    with pytest.raises(FormatError, match="polarity 0 or 1, got 15") as caught:
        _ = eventkit.open(path).events
    assert caught.value.offset == len(HEADERS[2]) + 8
    recording = eventkit.open(path, on_error="skip")
    assert rows(recording.events) == [(1, 1, 5, 1), (2, 2, 7, 0)]
    assert recording.ledger.dropped == {"polarity": 1, "outside": 1}
    assert recording.ledger.decoded == 4


def test_a_file_cut_anywhere_keeps_its_whole_records_or_says_where(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.dat", ROWS).read_bytes()
    path = tmp_path / "cut.dat"
    start = len(HEADERS[2])
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        good, rest = divmod(length - start, 8)
        if length < start:
            with pytest.raises(FormatError) as caught:
                eventkit.open(path, on_error="skip")
            assert caught.value.reason in ("truncated", "bad_header")
            continue
        skipped = eventkit.open(path, on_error="skip")
        assert rows(skipped.events) == ROWS[:good]
        assert [f["offset"] for f in skipped.ledger.faults] == ([start + 8 * good] if rest else [])
        if rest:
            with pytest.raises(FormatError, match=rf"got {rest} bytes at the end"):
                _ = eventkit.open(path).events


def test_flipped_bytes_end_in_fewer_events_or_a_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    many = [(int(i) % 300, int(i) % 200, 20 * int(i), int(i) % 2) for i in range(60)]
    whole = np.frombuffer(write(tmp_path / "whole.dat", many).read_bytes(), np.uint8)
    path = tmp_path / "flipped.dat"
    for _ in range(300):
        data = whole.copy()
        at = rng.integers(0, data.size, 3)
        data[at] = rng.integers(0, 256, 3)
        path.write_bytes(data.tobytes())
        try:
            recording = eventkit.open(path, on_error="skip", format="dat")
            kept, ledger = len(recording.events), recording.ledger
        except FormatError:
            continue
        assert ledger.decoded == kept + sum(ledger.dropped.values()) <= data.size // 8


def test_chunks_slices_and_compressed_files_hold_the_same_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dat, "PIECE_BYTES", 1 << 12)
    monkeypatch.setattr("eventkit.readers.stream.INDEX_EVENTS", 700)
    n = 5000
    many = [(i % 300, i % 200, WRAP - 50_000 + 20 * i, i % 2) for i in range(n)]
    path = write(tmp_path / "a.dat", many)
    packed = tmp_path / "a.dat.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))

    whole = eventkit.open(path).events

    assert rows(whole) == many
    assert rows(eventkit.open(packed).events) == many
    parts = list(eventkit.open(path).chunks(n=999))
    assert rows(Events.concatenate(parts)) == many
    recording = eventkit.open(path)
    for start, stop in ((0, 2**40), (WRAP - 7, WRAP + 9000), (WRAP - 30_000, WRAP - 29_000)):
        first, last = np.searchsorted(whole.t, [start, stop])
        assert rows(recording.between(start, stop)) == many[first:last]


def test_the_real_file_is_its_twin_in_evt3(shared: Path) -> None:
    ours = eventkit.open(shared / "dat" / REAL)

    assert len(ours.events) == 1_218_618
    assert (ours.sensor_size, ours.notes) == ((1280, 720), [])
    try:
        twin = eventkit.open(shared / "evt" / "evt3_1280x720.raw").events
    except UnsupportedFormatError:
        pytest.skip("there is no EVT3 reader")
    for name in ("x", "y", "p"):
        assert np.array_equal(getattr(ours.events, name), getattr(twin, name))
    assert np.unique(twin.t - ours.events.t).tolist() == [11_194_368]


@pytest.mark.parametrize(
    "name", ["expelliarmus", pytest.param("faery"), pytest.param("evutils"), pytest.param("evio")]
)
def test_others_read_the_real_file_alike(shared: Path, name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    path = shared / "dat" / REAL

    found = READ[name](str(path))

    ours = eventkit.open(path).events
    for column in ("x", "y", "t", "p"):
        assert np.array_equal(getattr(ours, column), found[column])


def _expelliarmus(path: str) -> Any:
    from expelliarmus import Wizard

    return Wizard(encoding="dat").read(path)


def _faery(path: str) -> Any:
    import faery

    return faery.events_stream_from_file(path).to_array()


def _evutils(path: str) -> Any:
    from evutils.io import EventReader

    found = EventReader(path).read_all()
    return {name: getattr(found, name) for name in "xytp"}


def _evio(path: str) -> Any:
    import evio

    found = evio.read(path)
    return getattr(found, "events", found)


READ = {"expelliarmus": _expelliarmus, "faery": _faery, "evutils": _evutils, "evio": _evio}
