"""Event Stream 2: a slow twin of the page, faery's files, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.testing.strategies import events
from eventkit.writers.es import EsWriter

SIZE = (7, 5)
Row = tuple[int, int, int, int]


def header(kind: int = 1, size: tuple[int, int] = SIZE) -> bytes:
    width, height = (side.to_bytes(2, "little") for side in size)
    return b"Event Stream" + bytes([2, 0, 0, kind]) + width + height


def event(step: int, x: int, up: int, p: int) -> bytes:
    return bytes([step << 1 | p]) + x.to_bytes(2, "little") + up.to_bytes(2, "little")


def slow_dvs(data: bytes) -> list[Row]:
    """One byte after the other, as the page describes the state machine; y turned over."""
    found: list[Row] = []
    t, i = 0, 0
    while i < len(data):
        first = data[i]
        if first == 0xFF:
            t += 127
            i += 1
        elif first == 0xFE:
            i += 1
        elif i + 5 > len(data):
            break
        else:
            t += first >> 1
            x, up = (int.from_bytes(data[i + k : i + k + 2], "little") for k in (1, 3))
            found.append((x, SIZE[1] - 1 - up, t, first & 1))
            i += 5
    return found


def rows(found: Events) -> list[Row]:
    columns = (column.tolist() for column in (found.x, found.y, found.t, found.p))
    return list(zip(*columns, strict=True))


@given(
    parts=st.lists(
        st.one_of(
            st.sampled_from([b"\xff", b"\xfe"]),
            st.builds(
                event,
                st.integers(0, 126),
                st.integers(0, SIZE[0] - 1),
                st.integers(0, SIZE[1] - 1),
                st.integers(0, 1),
            ),
        ),
        max_size=40,
    )
)
def test_a_stream_equals_its_slow_twin(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.es"
    path.write_bytes(header() + b"".join(parts))

    recording = eventkit.open(path)

    assert rows(recording.events) == slow_dvs(b"".join(parts))
    assert (recording.format, recording.sensor_size) == ("es", SIZE)
    assert recording.ledger.words == len(parts)
    skipped = {"overflow": parts.count(b"\xff"), "reset": parts.count(b"\xfe")}
    assert recording.ledger.skipped == {name: n for name, n in skipped.items() if n}


def test_threshold_crossings_of_atis_are_counted_and_passed_over(tmp_path: Path) -> None:
    change = bytes([5 << 2 | 0b10]) + b"\x03\x00\x01\x00"
    crossing = bytes([9 << 2 | 0b01]) + b"\x03\x00\x01\x00"
    path = tmp_path / "a.es"
    path.write_bytes(header(2) + change + crossing + change)

    recording = eventkit.open(path)

    assert rows(recording.events) == [(3, 3, 5, 1), (3, 3, 19, 1)]
    assert recording.ledger.skipped == {"threshold_crossing": 1}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ((12, 3), "version 3"),
        ((15, 4), "colour"),
        ((15, 9), "unknown"),
    ],
)
def test_what_is_not_dvs_or_atis_of_version_2_is_refused(
    tmp_path: Path, changed: tuple[int, int], words: str
) -> None:
    data = bytearray(header())
    data[changed[0]] = changed[1]
    (tmp_path / "a.es").write_bytes(data)

    with pytest.raises(FormatError, match=words) as caught:
        eventkit.open(tmp_path / "a.es")

    assert caught.value.offset == changed[0]


def test_a_stream_cut_anywhere_keeps_its_whole_events(tmp_path: Path) -> None:
    body = b"".join([event(9, 3, 1, 1), b"\xff", event(4, 6, 4, 0), event(0, 0, 0, 1)])
    path = tmp_path / "a.es"

    for cut in range(len(body) + 1):
        path.write_bytes(header() + body[:cut])
        kept = eventkit.open(path, on_error="skip")
        assert rows(kept.events) == slow_dvs(body[:cut])
        whole = cut in (0, 5, 6, 11, 16)
        assert bool(kept.ledger.faults) is not whole
        if not whole:
            with pytest.raises(FormatError, match="the file is cut"):
                _ = eventkit.open(path).events


def written(path: Path, *parts: Events) -> Recording:
    made = Recording(path, "made", SIZE, source=lambda _: iter([Chunk(part) for part in parts]))
    EsWriter().write(made, path, ledger=Ledger())
    return eventkit.open(path)


@given(stream=events(sensor_size=SIZE, start_us=0))
def test_what_is_written_reads_equal_wherever_it_was_cut(
    stream: Events, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("a")
    half = len(stream) // 2

    assert written(folder / "a.es", stream).events == stream
    parts = [part for part in (stream[:half], stream[half:]) if len(part)]
    written(folder / "b.es", *parts)

    assert (folder / "a.es").read_bytes() == (folder / "b.es").read_bytes()


def many() -> Events:
    rng = np.random.default_rng(1)
    return Events(
        x=rng.integers(0, SIZE[0], 3000),
        y=rng.integers(0, SIZE[1], 3000),
        t=np.cumsum(rng.integers(0, 900, 3000)),
        p=rng.integers(0, 2, 3000),
    )


def test_a_file_of_faery_reads_equal_and_the_other_way_round(tmp_path: Path) -> None:
    faery = pytest.importorskip("faery")
    stream = many()
    array = np.zeros(len(stream), [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")])
    for name in "txyp":
        array[name] = getattr(stream, name)
    faery.events_stream_from_array(array, dimensions=SIZE).to_file(str(tmp_path / "a.es"))
    written(tmp_path / "b.es", stream)

    back: Any = faery.events_stream_from_file(str(tmp_path / "b.es")).to_array()

    found = eventkit.open(tmp_path / "a.es").events
    assert np.unique(stream.t - found.t).tolist() == [stream.t[0]]  # faery begins at zero
    assert all(np.array_equal(getattr(found, n), getattr(stream, n)) for n in "xyp")
    for name in "txy":
        np.testing.assert_array_equal(back[name], getattr(stream, name))


def test_between_is_a_slice_of_the_whole(tmp_path: Path) -> None:
    stream = many()
    recording = written(tmp_path / "a.es", stream)

    first, last = np.searchsorted(stream.t, [400_000, 700_000])
    assert recording.between(400_000, 700_000) == stream[int(first) : int(last)]
