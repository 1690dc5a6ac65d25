"""ATIS .bin: the records, overflow markers, cut files, and whose sensor it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import eventkit
from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.readers.atis import OVERFLOW_ROW, OVERFLOW_US
from eventkit.readers.base import EVENT_CHUNK

MARKER = (0, OVERFLOW_ROW, 0, 0)
EVENTS = [(0, 33, 5, 1), (33, 0, 5, 0), (1, 2, 300, 1), (7, 8, 70_000, 0)]


def record(x: int, y: int, t: int, p: int) -> bytes:
    """Return one event: x, y, then the polarity bit and 23 bits of time, big-endian."""
    return bytes([x, y]) + (p << 23 | t).to_bytes(3, "big")


def write(path: Path, records: list[tuple[int, int, int, int]]) -> Path:
    path.write_bytes(b"".join(record(*row) for row in records))
    return path


def rows(events: Events) -> list[tuple[int, int, int, int]]:
    return list(events.to_structured().tolist())


def test_records_are_read_as_written(tmp_path: Path) -> None:
    recording = eventkit.open(write(tmp_path / "a.bin", EVENTS))

    assert rows(recording.events) == EVENTS
    assert recording.format == "atis-bin"
    assert recording.frames is None
    assert recording.ledger.as_dict() == {
        "words": 4,
        "decoded": 4,
        "kept": 4,
        "skipped": {},
        "dropped": {},
        "repaired": {},
        "faults": [],
    }


def test_the_largest_time_and_place_are_read(tmp_path: Path) -> None:
    last = (239, 179, (1 << 23) - 1, 1)

    recording = eventkit.open(write(tmp_path / "a.bin", [last]))

    assert rows(recording.events) == [last]


def test_every_overflow_marker_adds_8192_microseconds_to_what_follows(tmp_path: Path) -> None:
    e = EVENTS[0]
    path = write(tmp_path / "a.bin", [MARKER, e, MARKER, MARKER, e, e, MARKER])

    recording = eventkit.open(path)

    assert OVERFLOW_US == 8192
    assert recording.events.t.tolist() == [5 + 8192, 5 + 3 * 8192, 5 + 3 * 8192]
    assert recording.ledger.words == 7
    assert recording.ledger.decoded == 3
    assert recording.ledger.skipped == {"overflow": 4}


def test_overflows_are_carried_from_one_chunk_to_the_next(tmp_path: Path) -> None:
    n = EVENT_CHUNK - 1
    block = record(1, 2, 9, 1) * n + record(*MARKER)
    path = tmp_path / "a.bin"
    path.write_bytes(block + record(3, 4, 9, 0))

    recording = eventkit.open(path)

    assert len(recording.events) == n + 1
    assert recording.events.t[[0, n - 1, n]].tolist() == [9, 9, 9 + 8192]


def test_the_byte_of_a_fault_counts_overflow_markers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [MARKER, (1, 1, 9, 1), MARKER, (50, 1, 9, 1)])

    with pytest.raises(FormatError, match=r"x=50 y=1 at event 1.*\(byte 15\)"):
        _ = eventkit.open(path, sensor_size=(34, 34)).events


@pytest.mark.parametrize("length", range(1, 5 * len(EVENTS) + 1))
def test_a_file_cut_anywhere_keeps_its_whole_records(tmp_path: Path, length: int) -> None:
    whole = write(tmp_path / "whole.bin", EVENTS).read_bytes()
    path = tmp_path / "cut.bin"
    path.write_bytes(whole[:length])
    good, rest = divmod(length, 5)

    skipped = eventkit.open(path, on_error="skip")

    assert rows(skipped.events) == EVENTS[:good]
    assert [fault["offset"] for fault in skipped.ledger.faults] == ([5 * good] if rest else [])
    strict = eventkit.open(path)
    if not rest:
        assert rows(strict.events) == EVENTS[:good]
        return
    with pytest.raises(FormatError, match=rf"got {rest} bytes at the end.*byte {5 * good}") as cut:
        _ = strict.events
    assert (cut.value.reason, cut.value.offset) == ("truncated", 5 * good)


@pytest.mark.parametrize("format", [None, "atis-bin"])
def test_an_empty_file_is_refused(tmp_path: Path, format: str | None) -> None:
    path = tmp_path / "a.bin"
    path.touch()

    with pytest.raises(FormatError, match=r"a\.bin: expected a recording, got an empty") as told:
        eventkit.open(path, format=format)

    assert told.value.reason == "empty"


@pytest.mark.parametrize(
    ("x", "y", "size"),
    [(33, 33, (34, 34)), (34, 0, (240, 180)), (0, 34, (240, 180)), (239, 179, (240, 180))],
)
def test_the_smallest_published_sensor_that_holds_every_event_is_assumed(
    tmp_path: Path, x: int, y: int, size: tuple[int, int]
) -> None:
    recording = eventkit.open(write(tmp_path / "a.bin", [(0, 0, 1, 1), (x, y, 2, 0)]))

    assert recording.sensor_size == size
    assert "assumed" in recording.geometry_source
    assert "--sensor-size overrides" in recording.notes[0]


def test_overflow_markers_do_not_count_for_the_sensor(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [(255, OVERFLOW_ROW, 0, 0), (1, 1, 1, 1)])

    assert eventkit.open(path).sensor_size == (34, 34)


@pytest.mark.parametrize("place", [(240, 0), (0, 180), (255, 255), (3, 241)])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_places_of_no_published_sensor_are_refused_with_the_cure(
    tmp_path: Path, place: tuple[int, int], on_error: str
) -> None:
    path = write(tmp_path / "a.bin", [(*place, 1, 1)])

    with pytest.raises(FormatError, match="give --sensor-size WxH") as caught:
        eventkit.open(path, on_error=on_error)

    assert caught.value.reason == "no_geometry"


def test_one_damaged_place_does_not_keep_skip_from_assuming_a_sensor(tmp_path: Path) -> None:
    events = [(i % 34, i % 30, 10 * i, 1) for i in range(1000)]
    path = write(tmp_path / "a.bin", [*events, (250, 3, 10_000, 0)])

    with pytest.raises(FormatError, match="no geometry"):
        eventkit.open(path)
    recording = eventkit.open(path, on_error="skip")

    assert recording.sensor_size == (34, 34)
    assert "1000 of 1001 events" in recording.notes[0]
    assert recording.ledger.dropped == {"outside": 1}


def test_a_file_of_zeros_holds_no_event(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(5000))

    with pytest.raises(FormatError, match="5000 zeros up to the end"):
        _ = eventkit.open(path).events
    assert len(eventkit.open(path, on_error="repair").events) == 0


def test_a_given_sensor_size_is_taken_and_events_outside_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [(10, 3, 1, 1), (9, 9, 2, 1), (3, 10, 3, 1)])

    recording = eventkit.open(path, sensor_size=(10, 10), on_error="skip")

    assert recording.sensor_size == (10, 10)
    assert recording.geometry_source == "given"
    assert recording.notes == []
    assert rows(recording.events) == [(9, 9, 2, 1)]
    assert recording.ledger.dropped == {"outside": 2}


@pytest.mark.parametrize(
    ("on_error", "times", "counted"),
    [("skip", [50, 60], {"jitter": 1}), ("repair", [50, 50, 60], {"jitter": 1})],
)
def test_a_backward_step_goes_by_the_policy(
    tmp_path: Path, on_error: str, times: list[int], counted: dict[str, int]
) -> None:
    path = write(tmp_path / "a.bin", [(1, 1, 50, 1), (1, 1, 40, 1), (1, 1, 60, 1)])

    with pytest.raises(FormatError, match=r"got 40 us after 50 us at event 1.*byte 5"):
        _ = eventkit.open(path).events
    recording = eventkit.open(path, on_error=on_error)
    assert recording.events.t.tolist() == times
    assert getattr(recording.ledger, "dropped" if on_error == "skip" else "repaired") == counted


def test_the_events_are_decoded_once_and_chunks_at_every_call(tmp_path: Path) -> None:
    recording = eventkit.open(write(tmp_path / "a.bin", EVENTS))

    assert recording.events is recording.events
    assert [len(c.events) for c in recording.stream()] == [4]
    assert [len(c.events) for c in recording.stream()] == [4]


@pytest.mark.parametrize(
    ("name", "count"), [("nmnist_sample.bin", 4_325), ("nmnist_one_03263.bin", 5_999)]
)
def test_real_recordings_have_their_true_events(shared: Path, name: str, count: int) -> None:
    path = shared / "es_bin" / name
    data = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 5).astype(np.int64)

    recording = eventkit.open(path)

    assert len(recording.events) == count
    assert recording.sensor_size == (34, 34)
    # Neither file holds an overflow marker, so the plain bits are the truth.
    assert np.array_equal(recording.events.x, data[:, 0])
    assert np.array_equal(recording.events.y, data[:, 1])
    assert np.array_equal(recording.events.p, data[:, 2] >> 7)
    t = (data[:, 2] & 127) * 65536 + data[:, 3] * 256 + data[:, 4]
    assert np.array_equal(recording.events.t, t)


def test_the_eleven_hundred_pairs_hold_their_true_events(nmnist_pairs: Path) -> None:
    files = sorted(nmnist_pairs.rglob("*.bin"))

    total = 0
    for file in files:
        recording = eventkit.open(file)
        # Decoding under `raise` is the proof that all are monotone and inside the sensor.
        total += len(recording.events)
        assert recording.sensor_size == (34, 34)

    assert len(files) == 1_100
    assert total == 4_518_827
