"""Parquet tables: names, units, polarities, row groups, and damage."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventkit
from eventkit.errors import EventKitError, FormatError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.writers.parquet import ParquetWriter

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

N = 500
RNG = np.random.default_rng(4)
TRUTH = Events(
    x=RNG.integers(0, 64, N),
    y=RNG.integers(0, 48, N),
    t=np.cumsum(RNG.integers(0, 99, N)),
    p=RNG.integers(0, 2, N),
)


def write(path: Path, *, metadata: dict[str, str] | None = None, **changed: Any) -> Path:
    """Write the truth with some columns changed, added or (None) left out."""
    columns = {"x": TRUTH.x, "y": TRUTH.y, "t": TRUTH.t, "p": TRUTH.p} | changed
    table = pa.table({name: pa.array(v) for name, v in columns.items() if v is not None})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=64)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.parquet"


@pytest.mark.parametrize(
    "changed",
    [
        {"x": TRUTH.x.astype("i2"), "p": None, "polarity": TRUTH.p * 2 - 1},
        {"t": TRUTH.t.astype("m8[us]"), "p": TRUTH.p == 1},
        {"t": (TRUTH.t * 1000).astype("M8[ns]")},
        {"t": TRUTH.t / 1e6, "x": TRUTH.x.astype("f4")},
        {"t": None, "Timestamp": TRUTH.t.astype("u8"), "label": np.arange(N)},
    ],
    ids=["signed", "duration", "timestamp", "seconds", "names"],
)
def test_every_spelling_is_read(path: Path, changed: dict[str, Any]) -> None:
    recording = eventkit.open(write(path, **changed))

    assert recording.events == TRUTH
    assert recording.format == "parquet"
    assert recording.ledger.words == recording.ledger.decoded == N


def test_metadata_give_the_sensor_size_and_the_unit(path: Path) -> None:
    write(path, metadata={"sensor_size": "64x48", "t_unit": "ns"}, t=TRUTH.t * 1000)

    recording = eventkit.open(path)

    assert recording.events == TRUTH
    assert (recording.sensor_size, recording.geometry_source) == (
        (64, 48),
        "metadata of the schema",
    )
    assert eventkit.open(path, sensor_size=(100, 99)).sensor_size == (100, 99)
    with pytest.raises(FormatError, match="sensor size"):
        eventkit.open(write(path, metadata={"sensor_size": "0x4"}))


@pytest.mark.parametrize(
    ("changed", "reason", "words"),
    [
        ({"p": None}, "bad_header", "one field for 'p'"),
        ({"ts": TRUTH.t}, "bad_header", "got t and ts"),
        ({"x": TRUTH.x + 0.5}, "bad_value", "whole pixel numbers in 'x'"),
        ({"p": TRUTH.p + 1}, "bad_value", "'p' as bool"),
        ({"x": [None] * N}, "bad_value", "500 nulls|64 nulls"),
        ({"x": ["a"] * N}, "bad_value", "whole pixel numbers in 'x'"),
        ({"t": TRUTH.t[::-1]}, "backwards_time", "at event 1"),
    ],
)
def test_what_is_no_table_of_events_is_refused(
    path: Path, changed: dict[str, Any], reason: str, words: str
) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        _ = eventkit.open(write(path, **changed)).events

    assert caught.value.reason == reason


def test_parts_and_times_between_are_slices_of_the_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventkit.readers.stream.INDEX_EVENTS", 50)
    recording = eventkit.open(write(path))

    assert Events.concatenate(recording.chunks(n=70)) == TRUTH
    for start, stop in ((0, 4_000), (20_000, 20_050), (10_000, 11_000)):
        first, last = np.searchsorted(TRUTH.t, [start, stop])
        assert recording.between(start, stop) == TRUTH[int(first) : int(last)]


def test_a_cut_file_is_refused_and_holds_nothing(path: Path) -> None:
    whole = write(path).read_bytes()

    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        for policy in ("raise", "skip"):
            with pytest.raises(FormatError):
                _ = eventkit.open(path, on_error=policy).events


def test_flipped_bytes_end_in_an_error_or_in_a_right_prefix(path: Path) -> None:
    recording = eventkit.open(write(path))
    written = path.with_name("b.parquet")
    ParquetWriter().write(recording, written, ledger=Ledger())
    whole = written.read_bytes()

    for turn in range(300):
        rng = random.Random(turn)
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 8))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            recording = eventkit.open(path, on_error=rng.choice(("raise", "skip", "repair")))
            kept = recording.events
        except EventKitError:
            continue
        # Pages have checksums; the footer, with the unit of the times, has none.
        assert recording.ledger.kept == len(kept) <= N
        assert (np.diff(kept.t) >= 0).all()
