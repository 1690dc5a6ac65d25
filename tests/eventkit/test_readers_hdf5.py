"""HDF5: every layout's events in full, units and sizes with their reasons, damage told."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="h5py is not installed")

import h5py
import hdf5_files as make

import eventkit
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events

EV = make.stream()
DSEC = Events(x=EV.x, y=EV.y, t=EV.t + make.OFFSET_US, p=EV.p)
MVSEC = Events(x=EV.x, y=EV.y, t=EV.t + make.EPOCH_US, p=EV.p)

LAYOUTS: dict[str, tuple[Callable[..., Path], Events, tuple[int, int] | None, str]] = {
    "DSEC": (make.dsec, DSEC, (640, 480), "assumed DSEC's 640x480"),
    "event_utils": (make.event_utils, EV, (240, 180), "in the order that the pictures have"),
    "MVSEC": (make.mvsec, MVSEC, (240, 180), "size of the pictures"),
    "RVT": (make.rvt, EV, (240, 180), "width and height in the file"),
    "v2e": (make.v2e, EV, None, ""),
    "M3ED": (make.m3ed, EV, (240, 180), "calib/resolution"),
    "compound": (make.compound, EV, (240, 180), "width and height in the file"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_read_whole_in_chunks_and_between(tmp_path: Path, name: str) -> None:
    write, truth, size, why = LAYOUTS[name]
    path = write(tmp_path / "a.h5", EV)
    recording = eventkit.open(path)

    assert (recording.format, recording.evidence) == ("hdf5", "HDF5 signature")
    assert recording.events == truth
    assert recording.sensor_size == size
    assert why in recording.geometry_source
    assert recording.ledger.decoded == recording.ledger.kept == recording.ledger.words == len(EV)
    again = eventkit.open(path)
    assert Events.concatenate(again.chunks()) == truth
    start, stop = int(truth.t[500]), int(truth.t[3000])
    inside = (truth.t >= start) & (truth.t < stop)
    assert again.between(start, stop) == truth[inside]


def test_marks_lead_back_into_the_middle(tmp_path: Path) -> None:
    ev = make.stream(700_000)
    recording = eventkit.open(make.rvt(tmp_path / "a.h5", ev, chunks=(10_000,)))
    wanted = ev[(ev.t >= 150_000) & (ev.t < 150_500)]

    first, second = (recording.between(150_000, 150_500) for _ in range(2))

    assert first == second == wanted
    source: Any = recording.source
    assert [entry.mark for entry in source._index] == [(0, 1), (270_000, 0), (540_000, 0)]


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("write", [make.dsec, make.event_utils, make.rvt, make.v2e, make.compound])
def test_no_event_and_one_event_are_read(tmp_path: Path, write: Any, count: int) -> None:
    ev = EV[100 : 100 + count]
    found = eventkit.open(write(tmp_path / "a.h5", ev), time_unit=None).events

    assert found.x.tolist() == ev.x.tolist()


def test_a_gzipped_file_and_one_behind_a_user_block_are_the_same(tmp_path: Path) -> None:
    path = make.dsec(tmp_path / "a.h5", EV)
    (tmp_path / "a.h5.gz").write_bytes(gzip.compress(path.read_bytes()))
    with h5py.File(path) as plain, h5py.File(tmp_path / "b.h5", "w", userblock_size=512) as moved:
        for name in plain:
            plain.copy(name, moved)

    assert eventkit.open(tmp_path / "a.h5.gz").events == DSEC
    behind = eventkit.open(tmp_path / "b.h5")
    assert behind.events == DSEC
    assert behind.evidence == "HDF5 signature at byte 512"


def test_a_remote_file_is_read_where_it_is(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    data = make.event_utils(tmp_path / "a.h5", EV, chunks=(100,)).read_bytes()
    fsspec.filesystem("memory").pipe_file("/hdf5/a.h5", data)

    assert eventkit.open("memory://hdf5/a.h5").events == EV


@pytest.mark.parametrize("filters", ["Blosc", "Zstd", "LZ4", "Bitshuffle"])
def test_compressions_of_hdf5plugin_are_read(tmp_path: Path, filters: str) -> None:
    plugin = pytest.importorskip("hdf5plugin")
    options = dict(getattr(plugin, filters)())
    path = make.dsec(tmp_path / "a.h5", EV, chunks=(500,), **options)

    assert eventkit.open(path).events == DSEC


def test_pictures_imu_and_the_other_camera_of_mvsec(tmp_path: Path) -> None:
    path = make.mvsec(tmp_path / "a.h5", EV)
    left, right = eventkit.open(path), eventkit.open(path, topic="right")

    assert "other events in /davis/right/events: --topic chooses" in left.notes
    assert np.array_equal(right.events.t, MVSEC.t + 1)
    assert left.frames is not None
    assert left.frames.images.shape == (3, 180, 240, 1)
    assert [int(k) for k in left.frames.images[:, 0, 0, 0]] == [0, 1, 2]
    assert (left.frames.t_us - make.EPOCH_US).tolist() == [0, 50_000, 100_000]
    assert left.imu is not None
    assert (left.imu["t"] - make.EPOCH_US).tolist() == [1000, 2000]
    assert left.imu["angular_velocity_x"].tolist() == [3.0, 9.0]
    with pytest.raises(SettingsError, match="a topic among /davis/left/events, /davis/right"):
        eventkit.open(path, topic="centre")
    alone = eventkit.open(make.mvsec(tmp_path / "b.h5", EV, pictures=False))
    assert alone.sensor_size == (346, 260)
    assert "assumed MVSEC's" in alone.notes[0]


def test_pictures_of_event_utils_are_in_order_and_bgr_is_turned(tmp_path: Path) -> None:
    path = make.event_utils(tmp_path / "a.h5", EV, pictures=0)
    with h5py.File(path, "a") as file:
        for k, name in enumerate(("b", "a")):
            pixels = np.zeros((180, 240, 3), np.uint8)
            pixels[..., 0] = 10 + k
            dset = file.create_dataset(f"images/{name}", data=pixels)
            dset.attrs["timestamp"], dset.attrs["type"] = 0.1 * k, "color_bgr"
    frames = eventkit.open(path).frames

    assert frames is not None
    assert (frames.t_us.tolist(), frames.size) == ([0, 100_000], (240, 180))
    assert frames.images[:, 0, 0].tolist() == [[0, 0, 10], [0, 0, 11]]


def test_where_the_unit_comes_from_is_said(tmp_path: Path) -> None:
    def notes(path: Path, **options: Any) -> str:
        recording = eventkit.open(path, **options)
        assert recording.events == wanted
        return " ".join(recording.notes)

    wanted = DSEC
    assert "entries, one a millisecond" in notes(make.dsec(tmp_path / "a.h5", EV))
    assert "t_offset of 49599300523 us is added" in notes(tmp_path / "a.h5")
    wanted = EV
    seconds = make.event_utils(tmp_path / "b.h5", EV)
    assert "times read as s: times are whole millionths" in notes(seconds)
    assert "times read" not in notes(seconds, time_unit="s")
    with h5py.File(seconds, "a") as file:
        file["events/ts"][:] = EV.t * 1e-3
        file["events/ts"].attrs["units"] = "milliseconds"
    assert "attribute 'units' of /events/ts" in notes(seconds)


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
def test_a_unit_against_the_index_of_milliseconds_is_refused(tmp_path: Path, unit: Any) -> None:
    path = make.dsec(tmp_path / "a.h5", EV)

    told = rf"expected no --time-unit but us, as ms_to_idx of \d+ milliseconds says, got {unit}"
    with pytest.raises(SettingsError, match=told):
        eventkit.open(path, time_unit=unit)
    assert eventkit.open(path, time_unit="us").events == DSEC


def test_whole_floats_in_small_number_are_refused_with_the_option(tmp_path: Path) -> None:
    ev = Events(x=[1, 2], y=[1, 2], t=[1, 2], p=[0, 1])
    path = tmp_path / "a.h5"
    make.write_columns(path, {"x": ev.x, "y": ev.y, "t": [1.0, 2.0], "p": ev.p}).close()

    with pytest.raises(FormatError, match="--time-unit s, ms, us or ns says it"):
        eventkit.open(path)
    assert eventkit.open(path, time_unit="us").events == ev


def test_an_order_of_columns_that_have_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    make.write_columns(path, {name: getattr(EV, name) for name in "xytp"}).close()

    with pytest.raises(SettingsError, match="expected no --columns for columns x, y, t, p in /"):
        eventkit.open(path, columns="txyp")


def test_the_order_of_rows_is_told_or_has_to_be_given(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["events"] = np.stack([EV.x, EV.y, EV.p, EV.t], 1)  # as no tool writes it
    assert eventkit.open(path, columns="xypt").events == EV
    with h5py.File(path, "w") as file:
        file["events"] = np.array([[0, 0, 0, 0], [1, 1, 1, 1]])
    with pytest.raises(FormatError, match="--columns says the order"):
        eventkit.open(path)


@pytest.mark.parametrize(
    ("resolution", "size", "why"),
    [((180, 240), (240, 180), "(H, W)"), ((240, 180), (240, 180), "assumed to be (W, H)")],
)
def test_both_orders_of_sensor_resolution(
    tmp_path: Path, resolution: tuple[int, int], size: tuple[int, int], why: str
) -> None:
    path = make.event_utils(tmp_path / "a.h5", EV, pictures=0)
    with h5py.File(path, "a") as file:
        file.attrs["sensor_resolution"] = resolution
    recording = eventkit.open(path)

    assert recording.sensor_size == size
    assert why in recording.geometry_source


def test_values_that_are_no_events_are_refused_or_dropped_and_counted(tmp_path: Path) -> None:
    path = make.mvsec(tmp_path / "a.h5", EV)
    with h5py.File(path, "a") as file:
        for row, column, value in ((7, 2, np.nan), (9, 0, 0.5), (11, 3, 2.0), (13, 1, 500.0)):
            file["davis/left/events"][row, column] = value

    with pytest.raises(FormatError, match="numbers as times in 't', got nan at event 7") as caught:
        _ = eventkit.open(path, columns="xytp").events
    assert caught.value.reason == "bad_value"
    recording = eventkit.open(path, columns="xytp", on_error="skip")
    left = np.delete(np.arange(len(EV)), [7, 9, 11, 13])
    assert np.array_equal(recording.events.t, MVSEC.t[left])
    assert recording.ledger.skipped == {"bad_row": 3}
    assert recording.ledger.dropped == {"outside": 1}
    assert recording.ledger.decoded == recording.ledger.kept + 1 == len(EV) - 3


def test_rectified_places_are_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    columns = {"x": EV.x + 0.25, "y": EV.y, "t": EV.t, "p": EV.p}
    make.write_columns(path, columns).close()

    for on_error in ("raise", "skip"):
        recording = eventkit.open(path, on_error=on_error)  # type: ignore[arg-type]
        if on_error == "raise":
            with pytest.raises(FormatError, match="expected whole pixel numbers"):
                _ = recording.events
        else:
            assert len(recording.events) == 0
            assert recording.ledger.faults[0]["reason"] == "bad_value"


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
def test_four_rows_are_four_columns_the_other_way_round(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.h5"
    table = np.stack([getattr(EV, name) for name in order])
    for options in ({}, {"chunks": (4, 300)}, {"chunks": (1, 300), "compression": "gzip"}):
        with h5py.File(path, "w") as file:
            file.create_dataset("events", data=table, **options)
        recording = eventkit.open(path)
        assert recording.events == EV
        assert f"events: rows {', '.join(order)} in /events" in recording.notes
        start, stop = int(EV.t[500]), int(EV.t[3000])
        assert recording.between(start, stop) == EV[(EV.t >= start) & (EV.t < stop)]


def test_the_names_of_dsec_do_not_make_a_larger_sensor_smaller(tmp_path: Path) -> None:
    large = make.dsec(tmp_path / "a.h5", make.stream(size=(1280, 720)))
    recording = eventkit.open(large)

    assert recording.sensor_size is None
    assert len(recording.events) == 4000
    assert "not assumed DSEC's 640x480" in recording.notes[0]
    assert eventkit.open(large, sensor_size=(1280, 720)).sensor_size == (1280, 720)
    stray = EV.x.copy()
    stray[7] = 1200  # one damaged place says nothing about the sensor
    one = make.dsec(tmp_path / "b.h5", Events(x=stray, y=EV.y, t=EV.t, p=EV.p))
    assert eventkit.open(one, on_error="skip").ledger.dropped == {"outside": 1}
    with pytest.raises(FormatError, match="inside the 640x480 sensor, got x=1200"):
        _ = eventkit.open(one).events


def test_a_file_without_events_says_what_there_is(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["weights"] = np.zeros(3)
        file["loop"] = file["/"]
    with pytest.raises(FormatError, match="got loop, weights; is this a file of events"):
        eventkit.open(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(FormatError, match="first bytes"):
        eventkit.open(tmp_path / "b.h5")
    shutil.copy(tmp_path / "a.h5", tmp_path / "c.dat")
    with pytest.raises(FormatError, match="expected columns"):
        eventkit.open(tmp_path / "c.dat")
