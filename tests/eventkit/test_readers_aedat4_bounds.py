"""AEDAT4 that says little and unpacks to much: tables, faults and walks stay within bounds."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from forward_files import forbid_steps_back, packed

import eventkit
from eventkit.errors import FormatError
from eventkit.readers.aedat import tables
from eventkit.readers.base import MAX_SIDE_FAULTS

builders = pytest.importorskip("test_readers_aedat4", reason="the aedat package is not installed")
made, flat, table = builders.made, builders.flat, builders.table
event_packet, frame_packet = builders.event_packet, builders.frame_packet
sample_packet, rows_of, ROWS = builders.sample_packet, builders.rows_of, builders.ROWS

STREAMS = {0: "EVTS", 1: "FRME", 2: "IMUS", 3: "TRIG"}


def write(path: Path, packets: list[tuple[int, bytes]], compression: int = 0) -> Path:
    path.write_bytes(made(STREAMS, packets, compression))
    return path


def frame(t: int) -> bytes:
    return bytes(frame_packet(0, bytes([t % 256, 7]), t))


def test_more_frames_than_may_be_are_a_fault_said_by_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets = [(0, event_packet(ROWS)), *((1, frame(t)) for t in range(51))]
    name = packed(write(tmp_path / "a.aedat4", packets), "gz")
    monkeypatch.setattr(tables, "MAX_FRAMES", 51)
    assert len(eventkit.open(name).frames) == 51
    monkeypatch.setattr(tables, "MAX_FRAMES", 50)

    with pytest.raises(FormatError, match="expected at most 50 frames, got more; --on") as caught:
        eventkit.open(name)
    recording = eventkit.open(name, on_error="skip")

    assert caught.value.offset == len(made(STREAMS, packets[:-1]))
    assert (len(recording.frames), rows_of(recording)) == (50, ROWS)
    assert recording.frames.images[:, 0, 0, 0].tolist() == list(range(50))
    assert [fault["offset"] for fault in recording.side_faults] == [caught.value.offset]


def test_more_samples_than_may_be_are_a_fault_said_by_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets = [(0, event_packet(ROWS)), *((3, sample_packet(b"TRIG", t)) for t in range(6))]
    path = write(tmp_path / "a.aedat4", packets)
    monkeypatch.setattr(tables, "MAX_SIDE_BYTES", 5 * 9 + 8)

    with pytest.raises(FormatError, match="expected at most 5 external signals, got more"):
        _ = eventkit.open(path).triggers
    recording = eventkit.open(path, on_error="skip")

    assert recording.triggers["t"].tolist() == list(range(5))
    assert len(recording.side_faults) == 1
    assert rows_of(recording) == ROWS


def test_frames_take_little_memory_each(tmp_path: Path) -> None:
    n = 5_000
    name = packed(write(tmp_path / "a.aedat4", [(1, frame(t)) for t in range(n)]), "gz")
    eventkit.open(name)

    tracemalloc.start()
    recording = eventkit.open(name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(recording.frames) == n
    assert peak < 160 * n + (1 << 20)  # a megabyte of buffers


def test_packets_without_events_do_not_pile_up(tmp_path: Path) -> None:
    n = 5_000
    packets = [(0, event_packet([]))] * n
    name = packed(write(tmp_path / "a.aedat4", [*packets, (0, event_packet(ROWS))]), "gz")
    recording = eventkit.open(name)
    assert rows_of(recording) == ROWS
    assert recording.ledger.words == n + 1

    tracemalloc.start()
    held = [tracemalloc.get_traced_memory()[0] for _ in recording.stream()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(held) == 1
    assert peak < held[0] + (3 << 19)


def test_many_damaged_packets_are_noted_up_to_a_number_and_counted_on(tmp_path: Path) -> None:
    packets = [(0, event_packet(ROWS)), *[(1, b"")] * 3_000, (1, frame(5))]

    recording = eventkit.open(write(tmp_path / "a.aedat4", packets), on_error="skip")

    assert len(recording.frames) == 1
    assert len(recording.side_faults) == MAX_SIDE_FAULTS + 1
    assert "got more faults than" in recording.side_faults[-1]["message"]
    assert rows_of(recording) == ROWS


@pytest.mark.parametrize(("stream", "kind"), [(2, b"IMUS"), (3, b"TRIG")])
def test_tables_that_overlap_are_no_more_rows_than_any_packet_has(
    tmp_path: Path, stream: int, kind: bytes
) -> None:
    n = 1 << 20
    vector = struct.pack("<I", n) + struct.pack("<I", 4 * n + 100) * n + bytes(4 * n + 1000)
    overlapping = flat(kind, table([(0, "<I", 4)], vector))
    packets = [(0, event_packet(ROWS)), (stream, overlapping), (stream, sample_packet(kind, 3))]
    path = write(tmp_path / "a.aedat4", packets, 3)

    tracemalloc.start()
    recording = eventkit.open(path, on_error="skip")
    found = recording.imu if stream == 2 else recording.triggers
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found["t"].tolist() == [3]
    assert "expected at most 524288 rows, got 1048576" in recording.side_faults[0]["message"]
    assert peak < 32 << 20


@pytest.mark.parametrize("kind", ["plain", "gz", "zip"])
def test_pictures_in_any_order_open_what_is_compressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    between = [(0, event_packet(ROWS))] * 1_500
    for times in ([1, 2, 3], [3, 1, 2]):
        packets = [packet for t in times for packet in ((1, frame(t)), *between)]
        recording = eventkit.open(packed(write(tmp_path / "a.aedat4", packets), kind))
        with monkeypatch.context() as patch:
            opened = forbid_steps_back(patch)
            images = recording.frames.images

        assert images[:, 0, 0, 0].tolist() == [1, 2, 3]
        assert len(opened) == (kind != "plain")


def test_the_first_of_several_shapes_that_are_met_as_often_is_kept() -> None:
    assert tables.most_common(np.array([5, 3, 3, 5, 9])) == 5
