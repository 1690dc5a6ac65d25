"""Prophesee RAW out: what is written reads equal, here and in other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import eventkit
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.testing.strategies import events
from eventkit.triggers import CHANNEL_DTYPE, KIND_DTYPE
from eventkit.writers.base import Contents
from eventkit.writers.evt import Evt2Writer, Evt3Writer, Evt21Writer
from eventkit.writers.survey import survey

SIZE = (7, 5)
WRITERS = (Evt2Writer(), Evt21Writer(), Evt3Writer())


def recorded(*parts: Events, triggers: Any = None) -> Recording:
    return Recording(
        Path("made"),
        "made",
        SIZE,
        source=lambda _: iter([Chunk(part) for part in parts]),
        side_data=lambda: {} if triggers is None else {"triggers": triggers},
    )


def written(writer: Any, path: Path, *parts: Events, triggers: Any = None) -> Recording:
    writer.write(recorded(*parts, triggers=triggers), path, ledger=Ledger())
    return eventkit.open(path)


def clustered(n: int, *, step_us: int) -> Events:
    rng = np.random.default_rng(0)
    return Events(
        x=rng.integers(0, SIZE[0], n),
        y=rng.integers(0, SIZE[1], n),
        t=np.cumsum(rng.integers(0, step_us, n)),
        p=rng.integers(0, 2, n),
    )


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
@given(stream=events(sensor_size=SIZE))
def test_what_is_written_reads_equal(
    writer: Any, stream: Events, tmp_path_factory: pytest.TempPathFactory
) -> None:
    back = written(writer, tmp_path_factory.mktemp("a") / "a.raw", stream)

    assert back.events == stream
    assert (back.format, back.sensor_size) == (writer.name, SIZE)
    assert back.ledger.decoded == len(stream)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
@pytest.mark.parametrize("step_us", [50, 3_600_000, 40_000_000_000])
def test_long_recordings_and_long_silences_keep_their_times(
    writer: Any, step_us: int, tmp_path: Path
) -> None:
    stream = clustered(200 if step_us > 10**9 else 4000, step_us=step_us)

    assert written(writer, tmp_path / "a.raw", stream).events == stream


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_the_bytes_do_not_depend_on_how_the_stream_is_cut(writer: Any, tmp_path: Path) -> None:
    stream = clustered(3000, step_us=900)

    written(writer, tmp_path / "a.raw", stream)
    written(writer, tmp_path / "b.raw", stream[:7], stream[7:1501], stream[1501:])

    assert (tmp_path / "a.raw").read_bytes() == (tmp_path / "b.raw").read_bytes()


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_triggers_come_back_with_channel_and_level(writer: Any, tmp_path: Path) -> None:
    kind = np.dtype([("t", "<i8"), ("source", "u1"), ("p", "i1")])
    triggers = np.array([(0, 1, 0), (500, 6, 1), (500, 6, 0), (10**7, 3, 1)], kind)
    stream = clustered(400, step_us=900)

    back = written(writer, tmp_path / "a.raw", stream, triggers=triggers)

    assert back.events == stream
    np.testing.assert_array_equal(back.triggers, triggers)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_what_does_not_fit_is_said_before_it_is_written(writer: Any) -> None:
    fits = Contents(5, 0, 100, 6, 4, SIZE)
    absolute = Contents(5, 1_700_000_000_000_000, 1_700_000_000_000_100, 6, 4, SIZE, 2, 0, 3)

    assert writer.losses(fits) == []
    said = " ".join(writer.losses(absolute))
    assert "2 frames are not written" in said
    assert "3 IMU samples are not written" in said
    assert "times are moved by -1700000000000000 us" in said
    with pytest.raises(SettingsError, match="places up to 2047"):
        writer.losses(Contents(5, 0, 100, 2048, 4, SIZE))
    with pytest.raises(SettingsError, match="a span of at most"):
        writer.losses(Contents(5, 0, 1 << 50, 6, 4, SIZE))
    far = Contents(5, 1 << 50, 1 << 50, 6, 4, SIZE, triggers=1, spans={"triggers": (0, 0)})
    with pytest.raises(SettingsError, match="events and triggers together"):
        writer.losses(far)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_triggers_of_channels_that_are_not_there_are_said_only_where_there_are_any(
    writer: Any, tmp_path: Path
) -> None:
    stream = Events(x=[1], y=[1], t=[10], p=[1])
    triggers = np.array([(0, 1, 0), (1, 99, 1), (2, 99, 0), (3, 6, 1)], CHANNEL_DTYPE)

    inside = writer.losses(survey(recorded(stream, triggers=triggers[[0, 3]])))
    outside = writer.losses(survey(recorded(stream, triggers=triggers)))
    back = written(writer, tmp_path / "a.raw", stream, triggers=triggers)

    assert inside == ["2 triggers keep their time, channel and level only"]
    assert any(loss.startswith("2 triggers are not written: channels") for loss in outside)
    assert back.triggers["t"].tolist() == [0, 3]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_an_offset_by_an_early_trigger_is_the_one_that_is_said(writer: Any, tmp_path: Path) -> None:
    start = 1_700_000_000_000_000
    stream = Events(x=[1, 2], y=[1, 2], t=[start, start + 50], p=[1, 0])
    triggers = np.array([(start - 700, 1)], KIND_DTYPE)

    losses = writer.losses(survey(recorded(stream, triggers=triggers)))
    back = written(writer, tmp_path / "a.raw", stream, triggers=triggers)

    assert any(f"times are moved by {700 - start} us" in loss for loss in losses)
    assert back.events == stream
    assert back.triggers["t"].tolist() == [start - 700]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_signals_that_are_no_edges_of_a_channel_are_left_out_and_said(
    writer: Any, tmp_path: Path
) -> None:
    stream = clustered(40, step_us=900)
    resets = np.array([(5, 0), (6, 1), (7, 3), (8, 2)], KIND_DTYPE)
    channels = np.array([(5, 40, 1), (6, 2, 1)], CHANNEL_DTYPE)

    said = writer.losses(survey(recorded(stream, triggers=resets)))
    edges = written(writer, tmp_path / "a.raw", stream, triggers=resets).triggers
    few = written(writer, tmp_path / "b.raw", stream, triggers=channels).triggers

    assert [loss.partition(" are ")[0] for loss in said[1:]] == [
        "1 resets of the clock",
        "1 pulses of the external input",
    ]
    assert edges.tolist() == [(6, 0, 1), (7, 0, 1), (8, 0, 0)]
    assert few.tolist() == [(6, 2, 1)]


def evt2_by_expelliarmus(path: Path, name: str) -> Any:
    wizard = pytest.importorskip("expelliarmus").Wizard
    if name != "evt2":
        pytest.skip("expelliarmus gets the times of EVT3 wrong")
    return wizard(name).read(str(path))


def by_faery(path: Path, name: str) -> Any:
    faery = pytest.importorskip("faery")
    return faery.events_stream_from_file(str(path), dimensions_fallback=SIZE).to_array()


def by_evutils(path: Path, name: str) -> Any:
    return pytest.importorskip("evutils.io").EventReader(str(path)).read_all()


def by_evt3(path: Path, name: str) -> Any:
    evt3 = pytest.importorskip("evt3")
    if name != "evt3":
        pytest.skip("evt3 reads EVT3 only")
    return evt3.decode_file(str(path))


@pytest.mark.parametrize("name", ["evt2", "evt3"])
@pytest.mark.parametrize("read", [evt2_by_expelliarmus, by_faery, by_evutils, by_evt3])
def test_other_libraries_read_the_same_events(name: str, read: Any, tmp_path: Path) -> None:
    stream = clustered(4000, step_us=900)
    writer = {"evt2": Evt2Writer(), "evt3": Evt3Writer()}[name]
    written(writer, tmp_path / "a.raw", stream)

    found = read(tmp_path / "a.raw", name)

    columns = found if not hasattr(found, "x") else {n: getattr(found, n) for n in "xytp"}
    for column in "xyt":
        np.testing.assert_array_equal(np.asarray(columns[column]), getattr(stream, column))


@pytest.mark.parametrize("name", ["evt2", "evt3"])
@pytest.mark.parametrize("step_us", [50, 400_000])
def test_files_of_faery_read_equal(name: str, step_us: int, tmp_path: Path) -> None:
    faery = pytest.importorskip("faery")
    stream = clustered(4000, step_us=step_us)
    kind = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")])
    array = np.zeros(len(stream), kind)
    for column in "xytp":
        array[column] = getattr(stream, column)
    path = tmp_path / "a.raw"
    faery.events_stream_from_array(array, dimensions=SIZE).to_file(str(path), version=name)

    assert eventkit.open(path, sensor_size=SIZE).events == stream
