"""CSV, npz and Parquet: what is written comes back, here and in other libraries."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import eventkit
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.testing.strategies import events
from eventkit.writers.base import Contents, Writer
from eventkit.writers.npz import NpzWriter
from eventkit.writers.parquet import ParquetWriter
from eventkit.writers.text import CsvWriter

WRITERS: list[Any] = [
    CsvWriter(),
    NpzWriter(),
    pytest.param(
        ParquetWriter(),
        marks=pytest.mark.skipif(
            __import__("importlib.util").util.find_spec("pyarrow") is None,
            reason="pyarrow is not installed",
        ),
    ),
]
N = 3000
RNG = np.random.default_rng(8)
TRUTH = Events(
    x=RNG.integers(0, 640, N),
    y=RNG.integers(0, 480, N),
    t=np.cumsum(RNG.integers(0, 99, N)) - 5000,
    p=RNG.integers(0, 2, N),
)


def recording(ev: Events, *, part: int = 1 << 20) -> Recording:
    def source(ledger: Ledger) -> Any:
        ledger.decoded += len(ev)
        return (Chunk(ev[at : at + part]) for at in range(0, len(ev), part))

    return Recording(Path("made"), "made", (640, 480), "given", source)


def written(writer: Writer, folder: Path, ev: Events, *, part: int = 1 << 20) -> Path:
    path = folder / f"a{writer.suffixes[0]}"
    path.unlink(missing_ok=True)
    writer.write(recording(ev, part=part), path, ledger=Ledger())
    return path


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
@given(ev=events(sensor_size=(640, 480)))
def test_every_stream_comes_back(tmp_path: Path, writer: Writer, ev: Events) -> None:
    assert eventkit.open(written(writer, tmp_path, ev)).events == ev


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_equal_events_give_equal_bytes_however_they_come(tmp_path: Path, writer: Writer) -> None:
    first = written(writer, tmp_path, TRUTH).read_bytes()

    assert written(writer, tmp_path, TRUTH, part=77).read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{writer.suffixes[0]}"]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_what_is_lost_is_said_before(tmp_path: Path, writer: Writer) -> None:
    contents = Contents(N, 0, 9, 3, 3, (640, 480), frames=5, triggers=6, imu=7)

    lost = " ".join(writer.losses(contents))

    assert all(words in lost for words in ("5 frames", "6 triggers", "7 IMU samples"))
    size = eventkit.open(written(writer, tmp_path, TRUTH)).sensor_size
    assert (size == (640, 480)) == ("--sensor-size 640x480" not in lost)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_memory_does_not_grow_with_the_recording(tmp_path: Path, writer: Writer) -> None:
    written(writer, tmp_path, TRUTH)
    long = Events.concatenate([TRUTH])
    many = 400

    def source(ledger: Ledger) -> Any:
        for k in range(many):
            shift = k * 400_000
            yield Chunk(Events.from_checked(long.x, long.y, long.t + shift, long.p))

    tracemalloc.start()
    made = Recording(Path("made"), "made", (640, 480), "given", source)
    writer.write(made, tmp_path / f"b{writer.suffixes[0]}", ledger=Ledger())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # A row group of Parquet is a million events, and the parts it is made of.
    assert peak < (40 << 20 if writer.name == "parquet" else 4 << 20)


def test_numpy_reads_the_text_and_the_archive(tmp_path: Path) -> None:
    rows = np.loadtxt(written(CsvWriter(), tmp_path, TRUTH), np.int64, delimiter=",", skiprows=1)
    with np.load(written(NpzWriter(), tmp_path, TRUTH)) as archive:
        columns = {name: archive[name] for name in archive.files}

    for k, name in enumerate("txyp"):
        assert np.array_equal(rows[:, k], getattr(TRUTH, name))
        assert np.array_equal(columns[name], getattr(TRUTH, name))
    assert columns["sensor_size"].tolist() == [640, 480]


@pytest.mark.parametrize("writer", [WRITERS[0], WRITERS[2]], ids=["csv", "parquet"])
def test_polars_reads_the_tables(tmp_path: Path, writer: Writer) -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    path = written(writer, tmp_path, TRUTH)

    table = pl.read_csv(path) if writer.name == "csv" else pl.read_parquet(path)

    for name in "txyp":
        assert np.array_equal(table[name].to_numpy(), getattr(TRUTH, name))


def test_pandas_reads_the_text(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pd.read_csv(written(CsvWriter(), tmp_path, TRUTH))
    assert all(np.array_equal(table[name], getattr(TRUTH, name)) for name in "txyp")


def test_evutils_reads_the_text(tmp_path: Path) -> None:
    io = pytest.importorskip("evutils.io", reason="evutils is not installed")
    later = Events.from_checked(TRUTH.x, TRUTH.y, TRUTH.t + 5000, TRUTH.p)
    got = io.EventReader(str(written(CsvWriter(), tmp_path, later))).read_all()
    assert all(np.array_equal(getattr(got, name), getattr(later, name)) for name in "txyp")


def test_eventcv_reads_the_text(tmp_path: Path) -> None:
    eventcv = pytest.importorskip("eventcv", reason="eventcv is not installed")
    later = Events.from_checked(TRUTH.x, TRUTH.y, TRUTH.t + 5000, TRUTH.p)
    for writer in (CsvWriter(), NpzWriter()):
        path = written(writer, tmp_path, later)
        got = eventcv.load(str(path), sensor_size=(640, 480), time_unit="us")
        assert np.array_equal(np.asarray(got.numpy())[:, 0], later.x)


def test_writing_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(eventkit.errors.MissingDependencyError, match="parquet"):
        ParquetWriter().write(recording(TRUTH), tmp_path / "a.parquet", ledger=Ledger())
