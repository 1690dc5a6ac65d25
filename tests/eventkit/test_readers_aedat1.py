"""AEDAT1: six-byte records of a DVS128, with and without a header."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.errors import FormatError, UnsupportedFormatError

HEADER = b"#!AER-DAT1.0\r\n# This is a raw AE data file - do not edit\r\n"
ROWS = [(0, 0, 5, 1), (127, 0, 5, 0), (3, 127, 9, 1), (64, 100, 70_000, 0)]


def record(x: int, y: int, t: int, p: int) -> bytes:
    """Return one event as a DVS128 sends it: mirrored, from the lower left, OFF as 1."""
    return struct.pack(">Hi", (127 - y) << 8 | (127 - x) << 1 | (1 - p), t)


def write(path: Path, rows: list[tuple[int, int, int, int]], header: bytes = HEADER) -> Path:
    path.write_bytes(header + b"".join(record(*row) for row in rows))
    return path


def rows_of(recording) -> list[tuple[int, int, int, int]]:
    return list(recording.events.to_structured().tolist())


def test_records_are_read_as_the_chip_means_them(tmp_path: Path) -> None:
    recording = eventkit.open(write(tmp_path / "a.aedat", ROWS))

    assert rows_of(recording) == ROWS
    assert recording.format == "aedat1"
    assert recording.evidence == "version line #!AER-DAT1.0"
    assert recording.sensor_size == (128, 128)
    assert "assumed DVS128" in recording.notes[0]
    assert recording.triggers is None


@given(
    st.lists(
        st.tuples(st.integers(0, 127), st.integers(0, 127), st.integers(0, 500), st.integers(0, 1)),
        max_size=30,
    )
)
def test_any_events_come_back(tmp_path: Path, rows: list[tuple[int, int, int, int]]) -> None:
    times = np.cumsum([t for _, _, t, _ in rows]).tolist()
    expected = [(x, y, t, p) for (x, y, _, p), t in zip(rows, times, strict=True)]

    assert rows_of(eventkit.open(write(tmp_path / "a.dat", expected))) == expected


def test_without_a_header_it_is_read_when_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", ROWS, header=b"")

    assert rows_of(eventkit.open(path, format="aedat1")) == ROWS
    with pytest.raises((FormatError, UnsupportedFormatError)):
        eventkit.open(path)


def test_a_first_record_that_begins_like_a_comment_is_no_header(tmp_path: Path) -> None:
    first = (3, 127 - 0x23, 9, 1)
    path = write(tmp_path / "a.aedat", [first, *ROWS[3:]])

    assert path.read_bytes()[len(HEADER) : len(HEADER) + 1] == b"#"
    assert rows_of(eventkit.open(path)) == [first, *ROWS[3:]]


def test_a_first_record_that_reads_as_a_line_of_text_is_no_header(tmp_path: Path) -> None:
    first = (127 - 5, 127 - 0x23, 9, 1)
    path = write(tmp_path / "a.aedat", [first, *ROWS[3:]])

    assert path.read_bytes()[len(HEADER) : len(HEADER) + 2] == b"#\n"
    assert rows_of(eventkit.open(path)) == [first, *ROWS[3:]]


def test_a_header_of_jaer_without_a_version_is_version_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dat", ROWS, header=b"# This is a raw AE data file - do not edit\r\n")

    assert eventkit.open(path).format == "aedat1"


def test_external_signals_are_triggers_and_no_events(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aedat", ROWS[:2])
    path.write_bytes(path.read_bytes() + struct.pack(">Hi", 0x8000, 8) + record(*ROWS[3]))

    recording = eventkit.open(path)

    assert rows_of(recording) == [*ROWS[:2], ROWS[3]]
    assert recording.triggers.tolist() == [(8, 2)]
    assert recording.ledger.skipped == {"external": 1}
    assert (recording.ledger.words, recording.ledger.decoded) == (4, 3)


def test_the_clock_wraps_at_32_bits_signed_or_not(tmp_path: Path) -> None:
    first = (1 << 31) - 10
    rows = [(1, 1, first, 1), (1, 1, -(1 << 31) + 5, 1), (1, 1, -3, 0), (1, 1, 4, 0)]

    events = eventkit.open(write(tmp_path / "a.aedat", rows)).events

    assert events.t.tolist() == [first, (1 << 31) + 5, (1 << 32) - 3, (1 << 32) + 4]


@pytest.mark.parametrize("length", range(6 * len(ROWS) + 1))
def test_a_file_cut_anywhere_keeps_its_whole_records(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "a.aedat", ROWS)
    path.write_bytes(path.read_bytes()[: len(HEADER) + length])
    good, rest = divmod(length, 6)

    assert rows_of(eventkit.open(path, on_error="skip")) == ROWS[:good]
    if rest:
        with pytest.raises(FormatError, match="the file is cut") as cut:
            _ = eventkit.open(path).events
        assert cut.value.offset == len(HEADER) + 6 * good


def test_compressed_it_is_the_same_and_between_is_a_slice(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 700_000
    places = rng.integers(0, 1 << 15, n)
    t = np.cumsum(rng.integers(0, 3, n))
    table = np.zeros(n, np.dtype([("a", ">u2"), ("t", ">i4")]))
    table["a"], table["t"] = places, t
    path = tmp_path / "a.aedat"
    path.write_bytes(HEADER + table.tobytes())
    (tmp_path / "a.aedat.gz").write_bytes(gzip.compress(path.read_bytes(), 1))

    recording = eventkit.open(path)
    whole = eventkit.open(path).events

    assert np.array_equal(whole.x, 127 - (places >> 1 & 127))
    assert np.array_equal(whole.y, 127 - (places >> 8))
    assert np.array_equal(whole.p, 1 - (places & 1))
    assert eventkit.open(tmp_path / "a.aedat.gz").events == whole
    for start, stop in ((650_000, 660_000), (100, 5_000), (650_500, 650_600)):
        first, last = np.searchsorted(whole.t, [start, stop])
        assert recording.between(start, stop) == whole[int(first) : int(last)]
    assert np.concatenate([c.t for c in recording.chunks(n=99_999)]).tolist() == whole.t.tolist()
