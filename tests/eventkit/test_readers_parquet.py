"""Parquet tables: names, units, polarities, row groups, and damage."""

from __future__ import annotations

import base64
import gzip
import random
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventkit
from eventkit.errors import EventKitError, FormatError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Chunk
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
        ({"x": [None] * N}, "bad_value", "a number in each row of 'x', got type null"),
        ({"x": [None, *TRUTH.x[1:].tolist()]}, "bad_value", "got a null at event 0"),
        ({"t": [*TRUTH.t[:-1].tolist(), None]}, "bad_value", f"got a null at event {N - 1}"),
        ({"x": ["a"] * N}, "bad_value", "a number in each row of 'x', got type string"),
        ({"t": [[1, 2]] * N}, "bad_value", "a number in each row of 't', got type list"),
        ({"p": [{"a": 1}] * N}, "bad_value", "a number in each row of 'p', got type struct"),
        ({"t": TRUTH.t[::-1]}, "backwards_time", "at event 1"),
    ],
)
def test_what_is_no_table_of_events_is_refused(
    path: Path, changed: dict[str, Any], reason: str, words: str
) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        _ = eventkit.open(write(path, **changed)).events

    assert caught.value.reason == reason


def test_two_columns_of_one_name_are_refused(path: Path) -> None:
    names = ["t", "x", "x", "y", "p"]
    columns = [pa.array(getattr(TRUTH, name)) for name in names]
    pq.write_table(pa.Table.from_arrays(columns, names=names), path)

    with pytest.raises(FormatError, match="one column 'x', got 2 of that name"):
        eventkit.open(path)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
def test_every_codec_and_kind_of_page_is_read(
    path: Path, codec: str, dictionary: bool, version: str
) -> None:
    columns = {"x": TRUTH.x, "y": TRUTH.y, "t": TRUTH.t, "p": TRUTH.p}
    pq.write_table(
        pa.table(columns), path, row_group_size=200, data_page_size=64, write_batch_size=16,
        compression=codec, use_dictionary=dictionary, data_page_version=version,
        write_page_index=True,
    )  # fmt: skip

    assert eventkit.open(path).events == TRUTH


def test_columns_in_groups_stand_beside_those_of_events(path: Path) -> None:
    columns = {
        "frame": pa.array([{"id": i, "marks": [1, 2]} for i in range(N)]),
        "x": TRUTH.x,
        "tags": pa.array([["a"] * (i % 3) for i in range(N)]),
        "y": TRUTH.y,
        "t": TRUTH.t,
        "p": TRUTH.p,
    }
    pq.write_table(pa.table(columns), path, row_group_size=64)

    assert eventkit.open(path).events == TRUTH


@pytest.mark.parametrize(
    ("plaintext_footer", "words"), [(True, "an encrypted column"), (False, "an encrypted footer")]
)
def test_encrypted_tables_are_refused_in_a_sentence(
    path: Path, plaintext_footer: bool, words: str
) -> None:
    encryption = pytest.importorskip("pyarrow.parquet.encryption", reason="not in this pyarrow")

    class Keys(encryption.KmsClient):  # type: ignore[misc]
        """Keys that stand in the file as they are."""

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
            return base64.b64encode(key_bytes)

        def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
            return base64.b64decode(wrapped_key)

    table = pa.table({"x": TRUTH.x, "y": TRUTH.y, "t": TRUTH.t, "p": TRUTH.p})
    settings = encryption.EncryptionConfiguration(
        footer_key="a", column_keys={"b": ["x"]}, plaintext_footer=plaintext_footer
    )
    keys = encryption.CryptoFactory(lambda _: Keys()).file_encryption_properties(
        encryption.KmsConnectionConfig(), settings
    )
    with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)

    for on_error in ("raise", "skip"):
        with pytest.raises(FormatError, match=f"in the clear, got {words}; decrypt it first"):
            eventkit.open(path, on_error=on_error)


def test_what_is_compressed_or_far_away_is_read_alike(path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    data = write(path).read_bytes()
    packed, archive = path.with_suffix(".parquet.gz"), path.with_suffix(".zip")
    packed.write_bytes(gzip.compress(data))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.parquet", data)
    fsspec.filesystem("memory").pipe("/events.parquet", data)

    for name in (packed, f"zip://a.parquet::{archive}", "memory://events.parquet"):
        assert eventkit.open(name).events == TRUTH


def test_a_unit_that_the_type_of_the_times_contradicts_is_refused(path: Path) -> None:
    write(path, t=TRUTH.t.astype("m8[us]"))

    with pytest.raises(
        SettingsError, match=r"no --time-unit but us, .* duration\[us\] says, got ns"
    ):
        eventkit.open(path, time_unit="ns")
    assert eventkit.open(path, time_unit="us").events == TRUTH


@pytest.mark.parametrize(
    ("changed", "metadata", "options", "notes"),
    [
        ({}, None, {}, ["times read as us: times are integers"]),
        ({}, None, {"time_unit": "us"}, []),
        ({}, {"t_unit": "us"}, {}, []),
        ({"t": TRUTH.t.astype("m8[us]")}, None, {}, []),
        ({"t": TRUTH.t.astype("f4")}, {"t_unit": "us"}, {}, ["float32 holds whole microseconds"]),
    ],
)
def test_a_unit_is_said_where_it_was_told_by_evidence_only(
    path: Path, changed: Any, metadata: Any, options: Any, notes: list[str]
) -> None:
    write(path, metadata=metadata, **changed)

    recording = eventkit.open(path, sensor_size=(64, 48), **options)

    assert len(recording.notes) == len(notes)
    assert all(a.startswith(b) for a, b in zip(recording.notes, notes, strict=True))
    words = "no sensor size: places are not checked; --sensor-size WxH gives it"
    assert eventkit.open(path, **options).notes[-1] == words


@pytest.mark.parametrize("nulls", [[0], [77], [63, 64], [N - 1], [3, 4, 300]])
@pytest.mark.parametrize("column", ["x", "t", "p"])
def test_rows_with_nulls_are_left_out_and_counted(
    path: Path, nulls: list[int], column: str
) -> None:
    values = getattr(TRUTH, column).tolist()
    for at in nulls:
        values[at] = None
    write(path, **{column: values})
    whole = np.ones(N, bool)
    whole[nulls] = False

    recording = eventkit.open(path, on_error="skip")

    assert recording.events == TRUTH[whole]
    assert recording.ledger.skipped == {"bad_row": len(nulls)}
    assert recording.ledger.words == N
    with pytest.raises(FormatError, match=f"null at event {nulls[0]}"):
        _ = eventkit.open(path).events
    right = [chunk.events for chunk in prefix(eventkit.open(path))]
    assert Events.concatenate(right) == TRUTH[: nulls[0]]


def prefix(recording: eventkit.Recording) -> Iterator[Chunk]:
    with suppress(FormatError):
        yield from recording.stream()


def spoil(path: Path, groups: list[int], column: int) -> None:
    """Overwrite the middle of a column in some row groups."""
    data = bytearray(path.read_bytes())
    footer = pq.ParquetFile(path).metadata
    for group in groups:
        found = footer.row_group(group).column(column)
        at = found.data_page_offset + found.total_compressed_size // 2
        data[at : at + 30] = b"\xff" * 30
    path.write_bytes(data)


@pytest.mark.parametrize("groups", [[0], [3], [7], [0, 1, 5], list(range(8))])
@pytest.mark.parametrize("column", [0, 2])
def test_a_damaged_row_group_costs_itself_only(
    path: Path, groups: list[int], column: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventkit.readers.stream.INDEX_EVENTS", 50)
    columns = {"x": TRUTH.x, "y": TRUTH.y, "t": TRUTH.t, "p": TRUTH.p}
    pq.write_table(
        pa.table(columns), path, row_group_size=64, compression="zstd",
        use_dictionary=False, write_page_checksum=True,
    )  # fmt: skip
    spoil(path, groups, column)
    group_of = np.arange(N) // 64
    sound = TRUTH[~np.isin(group_of, groups)]

    recording = eventkit.open(path, on_error="skip")

    assert recording.events == sound
    assert recording.ledger.skipped == {"damaged_chunk": int(np.isin(group_of, groups).sum())}
    assert recording.ledger.words == N
    assert recording.ledger.faults == []
    first, last = np.searchsorted(sound.t, [10_000, 11_000])
    assert recording.between(10_000, 11_000) == sound[int(first) : int(last)]
    with pytest.raises(FormatError, match="damaged"):
        _ = eventkit.open(path).events


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
