"""HDF5: every layout's events in full, units and sizes with their reasons, damage told."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
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
from eventkit.readers.hdf5 import file as hdf5_file
from eventkit.readers.hdf5 import guard as hdf5_guard

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


def test_sizes_that_a_filter_would_trust_are_looked_at_first(tmp_path: Path) -> None:
    plugin = pytest.importorskip("hdf5plugin")
    for options in (plugin.LZ4(), plugin.Bitshuffle()):
        path = make.dsec(tmp_path / "a.h5", EV, chunks=(499,), **options)
        with h5py.File(path) as file:
            dset = file["events/t"]
            chunk = dset.id.get_chunk_info(2)
            assert hdf5_guard.trusting(dset) is not None
        data = bytearray(path.read_bytes())
        for at in (3, 5, 12):
            data[chunk.byte_offset + at] ^= 0x40
            path.write_bytes(data)
            with pytest.raises(FormatError, match="do not fit") as caught:
                _ = eventkit.open(path).events
            assert caught.value.reason == "corrupt"
            data[chunk.byte_offset + at] ^= 0x40


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
    assert left.imu["gyroscope_x"].tolist() == [3.0, 9.0]
    with pytest.raises(SettingsError, match="a topic among /davis/left/events, /davis/right"):
        eventkit.open(path, topic="centre")
    alone = eventkit.open(make.mvsec(tmp_path / "b.h5", EV, pictures=False))
    assert alone.sensor_size == (346, 260)
    assert "assumed MVSEC's" in alone.notes[0]


def test_damage_beside_the_events_costs_no_event_and_is_noted(tmp_path: Path) -> None:
    path = make.mvsec(tmp_path / "a.h5", EV)
    with h5py.File(path, "r+") as file:
        stamps = file["davis/left/image_raw_ts"]
        stamps[1] = np.nan

    with pytest.raises(FormatError, match="times of pictures, got nan"):
        eventkit.open(path)
    recording = eventkit.open(path, on_error="skip")

    assert np.array_equal(recording.events.t, MVSEC.t)
    assert recording.frames is None
    assert recording.imu is not None
    assert [fault["reason"] for fault in recording.side_faults] == ["bad_value"]


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
    assert "times taken as s: times have fractions" in notes(seconds)
    assert "times taken" not in notes(seconds, time_unit="s")
    with h5py.File(seconds, "a") as file:
        file["events/ts"][:] = EV.t * 1e-3
        file["events/ts"].attrs["units"] = "milliseconds"
    assert "attribute 'units' of /events/ts" in notes(seconds)


def test_whole_floats_in_small_number_are_refused_with_the_option(tmp_path: Path) -> None:
    ev = Events(x=[1, 2], y=[1, 2], t=[1, 2], p=[0, 1])
    path = tmp_path / "a.h5"
    make.write_columns(path, {"x": ev.x, "y": ev.y, "t": [1.0, 2.0], "p": ev.p}).close()

    with pytest.raises(FormatError, match="--time-unit s, ms, us or ns says it"):
        eventkit.open(path)
    assert eventkit.open(path, time_unit="us").events == ev


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


def test_columns_of_unequal_length_give_what_all_have(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    columns = {"x": EV.x[:3000], "y": EV.y, "t": EV.t, "p": EV.p}
    make.write_columns(path, columns).close()
    recording = eventkit.open(path, on_error="skip")

    assert recording.events == EV[:3000]
    assert recording.ledger.faults[0]["reason"] == "truncated"


def test_rows_that_were_never_stored_are_no_events(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "xytp":
            dset = file.create_dataset(f"events/{name}", (1 << 50,), "u2", chunks=(256,))
            dset[:500] = getattr(EV, name)[:500] % 100
        for name in "xytp":
            file.create_dataset(f"late/{name}", (1 << 50,), "u2")

    for place, kept in (("events", 512), ("late", 0)):
        recording = eventkit.open(path, topic=place, on_error="skip")
        _ = recording.events
        assert recording.ledger.words == kept
        assert recording.ledger.faults[0]["reason"] == "truncated"


def test_a_damaged_chunk_costs_itself_only(tmp_path: Path) -> None:
    ev = make.stream(600_000)
    path = make.rvt(tmp_path / "a.h5", ev, chunks=(1 << 17,), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["events/t"].id.get_chunk_info(2)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + 5000] ^= 0xFF
    path.write_bytes(data)

    recording = eventkit.open(path, on_error="skip")
    assert recording.events == Events.concatenate([ev[: 1 << 18], ev[1 << 19 :]])
    assert recording.ledger.skipped == {"damaged_chunk": 1 << 18}
    with pytest.raises(FormatError, match="cannot read") as caught:
        _ = eventkit.open(path).events
    assert caught.value.offset == chunk.byte_offset


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_cut_file_gives_a_right_prefix_or_an_error(tmp_path: Path, libver: str) -> None:
    path = make.rvt(tmp_path / "a.h5", EV, chunks=(256,), libver=libver)
    data = path.read_bytes()
    assert hdf5_file.stored_size(data) == len(data)
    lengths = set()
    for cut in range(0, len(data), len(data) // 60):
        path.write_bytes(data[:cut])
        try:
            recording = eventkit.open(path, on_error="skip", sensor_size=(240, 180))
            found = recording.events
        except FormatError:
            continue
        assert found == EV[: len(found)]
        assert len(found) == len(EV) or recording.ledger.faults[0]["reason"] == "truncated"
        lengths.add(len(found))
    assert len(lengths) > 5


FUZZ = """
import sys
import numpy as np
import eventkit
from eventkit.errors import EventKitError
rng = np.random.default_rng(1)
for path in sys.argv[2:]:
    data = open(path, "rb").read()
    for trial in range(int(sys.argv[1])):
        spoilt = bytearray(data)
        for at in rng.integers(0, len(data), 1 + trial % 3):
            spoilt[at] ^= 1 << rng.integers(0, 8)
        open(path, "wb").write(spoilt)
        try:
            recording = eventkit.open(path, on_error=("raise", "skip")[trial % 2])
            events, ledger = recording.events, recording.ledger
            assert ledger.decoded == ledger.kept + sum(ledger.dropped.values()) <= ledger.words
            assert len(events) <= 300
            recording.triggers, recording.imu
            recording.frames and recording.frames.images
        except EventKitError:
            pass
print("whole")
"""


def test_flipped_bits_never_end_the_process(tmp_path: Path) -> None:
    """In a process of its own: the HDF5 library is not ours."""
    paths = [LAYOUTS[name][0](tmp_path / f"{name}.h5", EV[:300]) for name in LAYOUTS]
    command = [sys.executable, "-c", FUZZ, "30", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

    assert done.stdout.strip() == "whole", (done.returncode, done.stderr[-2000:])


def test_text_in_a_damaged_heap_is_refused_rather_than_followed_for_ever(tmp_path: Path) -> None:
    path = make.event_utils(tmp_path / "a.h5", EV, pictures=0)
    with h5py.File(path, "a") as file:
        file["events/ts"].attrs["units"] = "s"
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    # The first object is 16 bytes and "s" in 8; what follows is the free room and its size.
    data[heap + 48 : heap + 56] = bytes(8)
    path.write_bytes(data)

    with pytest.raises(FormatError, match=f"the heap at byte {heap} is damaged"):
        eventkit.open(path)


def test_data_in_other_files_are_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(8 * len(EV)))
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "xyp":
            file[f"events/{name}"] = getattr(EV, name)
        where = [(str(outside), 0, 8 * len(EV))]
        file.create_dataset("events/t", (len(EV),), "i8", external=where)
    with pytest.raises(FormatError, match="in the file itself"):
        eventkit.open(path)
    make.rvt(tmp_path / "b.h5", EV)
    with h5py.File(path, "w") as file:
        file["events"] = h5py.ExternalLink(str(tmp_path / "b.h5"), "/events")
    with pytest.raises(FormatError, match="expected columns x, y, t, p"):
        eventkit.open(path)


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
