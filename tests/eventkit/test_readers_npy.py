"""npy arrays: records and tables, streamed; forged headers and pickles never get far."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import eventkit
from eventkit.errors import EventKitError, FormatError, SettingsError
from eventkit.events import Events
from eventkit.npy import BadArrayError, read_npy
from eventkit.readers.arrays import PART_EVENTS
from eventkit.testing.strategies import events

N = 300
RNG = np.random.default_rng(4)
TRUTH = Events(
    x=RNG.integers(0, 64, N),
    y=RNG.integers(0, 48, N),
    t=np.cumsum(RNG.integers(0, 999, N)),
    p=RNG.integers(0, 2, N),
)
TABLE = np.stack([TRUTH.x, TRUTH.y, TRUTH.t, TRUTH.p], 1).astype(np.int64)


def save(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.npy"


@pytest.mark.parametrize(
    "layout",
    [
        [("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "<i1")],
        [("timestamp", ">i8"), ("polarity", "?"), ("x", ">i2"), ("y", ">i2"), ("extra", "f4")],
        [("t", "<u8"), ("x", "<f4"), ("y", "<f4"), ("on", "?")],
    ],
    ids=["eventkit", "big-endian", "floats"],
)
def test_records_go_by_the_names_of_their_fields(path: Path, layout: list[Any]) -> None:
    table = np.zeros(N, np.dtype(layout))
    for name in table.dtype.names or ():
        if name != "extra":
            short = {"timestamp": "t", "polarity": "p", "on": "p"}.get(name, name)
            table[name] = getattr(TRUTH, short)

    recording = eventkit.open(save(path, table))

    assert recording.events == TRUTH
    assert not any("columns" in note for note in recording.notes)
    assert recording.ledger.words == recording.ledger.decoded == N


@pytest.mark.parametrize(
    "table",
    [TABLE, TABLE.T.copy(), np.asfortranarray(TABLE), TABLE[:, [2, 0, 1, 3]], TABLE.astype(">i4")],
    ids=["N,4", "4,N", "fortran", "txyp", "big-endian"],
)
def test_the_order_of_a_table_is_told_by_evidence_and_said(path: Path, table: Any) -> None:
    recording = eventkit.open(save(path, table))

    assert recording.events == TRUTH
    assert "evidence" in recording.notes[0]


def test_a_given_order_wins_and_an_unclear_one_is_refused(path: Path) -> None:
    save(path, np.array([[5, 1, 2, 1], [6, 2, 3, 0]]))

    with pytest.raises(FormatError, match="--columns says it"):
        eventkit.open(path)
    assert eventkit.open(path, columns="txyp").events.t.tolist() == [5, 6]
    with pytest.raises(SettingsError, match="of four"):
        eventkit.open(path, columns="txyp-")


def test_an_order_of_fields_that_have_names_is_refused(path: Path) -> None:
    save(path, TRUTH.to_structured())

    for policy in ("raise", "skip", "repair"):
        with pytest.raises(SettingsError, match=r"a\.npy: expected no --columns for fields x, y"):
            eventkit.open(path, columns="txyp", on_error=policy)
    assert eventkit.open(path).events == TRUTH


def test_float_times_need_a_unit_or_evidence(path: Path) -> None:
    seconds = TABLE.astype(float)
    seconds[:, 2] /= 1e6

    recording = eventkit.open(save(path, seconds))

    assert recording.events == TRUTH
    assert "times read as s" in recording.notes[1]
    assert eventkit.open(path, time_unit="s").events == TRUTH


def test_float32_is_too_short_for_microseconds_and_that_is_said(path: Path) -> None:
    table = np.zeros(N, np.dtype([("x", "u2"), ("y", "u2"), ("t", "f4"), ("p", "?")]))
    table["t"] = TRUTH.t + 2**25

    def notes(dtype: str) -> list[str]:
        changed = table.astype([("x", "u2"), ("y", "u2"), ("t", dtype), ("p", "?")])
        return eventkit.open(save(path, changed), sensor_size=(64, 48), time_unit="us").notes

    assert notes("f4") == ["float32 holds whole microseconds only up to 16.8 s: later are rounded"]
    assert notes("f8") == notes("i4") == []


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_a_table_without_rows_holds_no_events(path: Path, shape: tuple[int, int]) -> None:
    recording = eventkit.open(save(path, np.zeros(shape)))

    assert len(recording.events) == 0
    assert recording.format == "npy"


def test_a_table_of_y_x_is_told_by_the_sensor(path: Path) -> None:
    """The order of event-vision-library: y, x, t, p as float64."""
    turned = Events(x=TRUTH.y, y=TRUTH.x, t=TRUTH.t, p=TRUTH.p)
    save(path, TABLE[:, [1, 0, 2, 3]].astype(float))

    recording = eventkit.open(path, sensor_size=(64, 48), time_unit="us")

    assert recording.events == TRUTH
    assert "y before x, as only that fits the 64x48 sensor" in recording.notes[0]
    unknown = eventkit.open(path, time_unit="us")
    assert unknown.events == turned
    assert "x before y assumed" in unknown.notes[0]
    assert "places are not checked" in unknown.notes[1]


@given(events(sensor_size=(9, 5)))
def test_every_stream_of_records_comes_back(tmp_path: Path, ev: Events) -> None:
    assert eventkit.open(save(tmp_path / "a.npy", ev.to_structured())).events == ev


def test_rows_that_are_no_event_are_left_out_and_counted(path: Path) -> None:
    table = TABLE[:6].astype(float)
    table[1, 0], table[2, 3], table[3, 2], table[4, 1] = 0.5, 7, np.nan, 70_000
    save(path, table)

    recording = eventkit.open(path, format="npy", columns="xytp", time_unit="us", on_error="skip")

    assert recording.events == Events.concatenate([TRUTH[:1], TRUTH[5:6]])
    assert recording.ledger.skipped == {"bad_row": 3}
    assert recording.ledger.dropped == {"outside": 1}
    with pytest.raises(
        FormatError, match=r"whole pixel numbers in 'x', got 0\.5 at event 1"
    ) as bad:
        _ = eventkit.open(path, format="npy", columns="xytp", time_unit="us").events
    assert bad.value.offset == 128 + 32


@pytest.mark.parametrize("array", [TRUTH.to_structured()[:20], TABLE[:20], TABLE[:20].T.copy()])
def test_a_file_cut_anywhere_keeps_its_whole_events(path: Path, array: Any) -> None:
    whole = save(path, array).read_bytes()
    order, header = None if array.dtype.names else "xytp", len(whole) - array.nbytes

    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            _ = eventkit.open(path, format="npy", columns=order).events
        try:
            recording = eventkit.open(path, format="npy", columns=order, on_error="skip")
        except FormatError:
            assert length < header
            continue
        stride = 13 if order is None else 32
        # Of columns one after the other the last one is the measure.
        whole_events = (
            (length - header) // stride if len(array) == 20 else (length - header - 480) // 8
        )
        assert recording.events == TRUTH[: max(whole_events, 0)]
        assert recording.ledger.faults[0]["reason"] == "truncated"


@pytest.mark.parametrize("at", [0, PART_EVENTS - 1, PART_EVENTS, PART_EVENTS + 7])
def test_a_bad_row_of_a_long_array_is_named_and_what_stands_before_it_kept(
    path: Path, at: int
) -> None:
    n = PART_EVENTS + 100
    table = np.zeros(n, [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "i1")])
    table["t"], table["p"] = np.arange(n), np.arange(n) % 2
    table["p"][at] = 3
    save(path, table)
    start = path.stat().st_size - table.nbytes

    with pytest.raises(FormatError, match=f"got 3 at event {at};") as caught:
        _ = eventkit.open(path).events
    skipped = eventkit.open(path, on_error="skip")

    assert caught.value.offset == start + at * table.dtype.itemsize
    assert skipped.events.t.tolist() == np.delete(np.arange(n), at).tolist()
    assert skipped.events.p.tolist() == np.delete(table["p"], at).tolist()
    assert skipped.ledger.skipped == {"bad_row": 1}


@pytest.mark.parametrize(
    "array",
    [TRUTH.to_structured(), TABLE, TABLE.T.copy(), np.asfortranarray(TABLE), TABLE[:0]],
    ids=["records", "rows", "columns", "fortran", "empty"],
)
@pytest.mark.parametrize("packing", ["plain", "gzip", "zip"])
def test_bytes_behind_the_array_are_a_fault_at_the_end_however_the_file_is_stored(
    tmp_path: Path, array: Any, packing: str
) -> None:
    whole = save(tmp_path / "a.npy", array).read_bytes()
    content, name = whole + b"?", tmp_path / "b.npy"
    if packing == "gzip":
        name = tmp_path / "b.npy.gz"
        name.write_bytes(gzip.compress(content))
    elif packing == "zip":
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
            archive.writestr("b.npy", content)
        name = f"zip://b.npy::{tmp_path / 'b.zip'}"
    else:
        name.write_bytes(content)
    options = {"format": "npy", "columns": "xytp" if array.dtype.names is None else None}
    truth = TRUTH[: len(TABLE) if array.size else 0]

    got = []
    with pytest.raises(FormatError, match=r"expected a whole array .* more behind it") as caught:
        got.extend(eventkit.open(name, **options).chunks())
    assert caught.value.offset == len(whole)
    assert Events.concatenate(got) == truth
    for policy in ("skip", "repair"):
        recording = eventkit.open(name, on_error=policy, **options)
        assert recording.events == truth
        assert [fault["offset"] for fault in recording.ledger.faults] == [len(whole)]


@pytest.mark.parametrize("shape", ["(999999999999999,)", "(-4,)", "(3, 99999999999999999999)"])
def test_a_header_that_claims_more_than_there_is_takes_no_memory(path: Path, shape: str) -> None:
    whole = save(path, TRUTH.to_structured()).read_bytes()
    head = whole[:128].replace(b"(300,)", shape.encode()).ljust(128)
    path.write_bytes(head[:8] + len(head[10:]).to_bytes(2, "little") + head[10:] + whole[128:])

    with pytest.raises(FormatError):
        _ = eventkit.open(path, format="npy").events


@pytest.mark.parametrize("shape", ["(4, 99999999999999999999)", "(9999999999999999999, 4)"])
def test_a_table_that_claims_more_than_there_is_takes_no_memory(path: Path, shape: str) -> None:
    whole = save(path, TABLE).read_bytes()
    head = whole[10:128].replace(b"(300, 4)", shape.encode()).strip().ljust(117) + b"\n"
    path.write_bytes(whole[:10] + head + whole[128:])

    for columns in (None, "xytp"):
        for policy in ("raise", "skip"):
            with pytest.raises(FormatError):
                _ = eventkit.open(path, format="npy", columns=columns, on_error=policy).events


def test_pickles_are_never_loaded(path: Path) -> None:
    np.save(path, np.array([{}] * 4, object), allow_pickle=True)

    with pytest.raises(FormatError):
        eventkit.open(path)
    with pytest.raises(FormatError, match="Python objects"):
        eventkit.open(path, format="npy")


@pytest.mark.parametrize(
    "array",
    [np.zeros((8, 8), "u1"), np.zeros((3, 480, 640)), np.arange(9), RNG.random((50, 4))],
    ids=["picture", "pictures", "row", "quaternions"],
)
def test_other_arrays_are_not_taken_for_events(path: Path, array: Any) -> None:
    with pytest.raises(FormatError):
        eventkit.open(save(path, array))


def test_a_compressed_array_reads_as_the_plain_one(path: Path, tmp_path: Path) -> None:
    packed = tmp_path / "b.npy.gz"
    packed.write_bytes(gzip.compress(save(path, TABLE.T.copy()).read_bytes()))

    assert eventkit.open(packed).events == TRUTH


def test_parts_and_times_between_are_slices_of_the_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventkit.readers.arrays.MAX_PART_BYTES", 1 << 10)
    monkeypatch.setattr("eventkit.readers.stream.INDEX_EVENTS", 50)
    recording = eventkit.open(save(path, TABLE))

    assert Events.concatenate(recording.chunks(n=7)) == TRUTH
    for start, stop in ((0, 50_000), (100_000, 100_500), (50_000, 60_000)):
        first, last = np.searchsorted(TRUTH.t, [start, stop])
        assert recording.between(start, stop) == TRUTH[int(first) : int(last)]


def test_flipped_bytes_end_in_an_error_or_in_sound_columns(path: Path) -> None:
    whole = save(path, TRUTH.to_structured()[:40]).read_bytes()

    for turn in range(200):
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
        assert recording.ledger.kept == len(kept) <= 40 * 4
        assert (np.diff(kept.t) >= 0).all()


def test_the_bytes_of_an_array_are_read_whole_or_not_at_all() -> None:
    stream = io.BytesIO()
    np.save(stream, TABLE)
    data = stream.getvalue()

    assert np.array_equal(read_npy(data), TABLE)
    for wrong in (data[:-1], data + b"x", data[:40], b""):
        with pytest.raises(BadArrayError):
            read_npy(wrong)
