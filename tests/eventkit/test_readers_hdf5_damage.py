"""HDF5 that is damaged or cut: what is sound is read, the rest is told, the process lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="h5py is not installed")

import h5py
import hdf5_files as make

import eventkit
from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.readers.hdf5 import file as hdf5_file
from eventkit.readers.hdf5 import guard as hdf5_guard

EV = make.stream()
MVSEC = Events(x=EV.x, y=EV.y, t=EV.t + make.EPOCH_US, p=EV.p)
WRITERS = (make.dsec, make.event_utils, make.mvsec, make.rvt, make.v2e, make.m3ed, make.compound)


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


def damage(path: Path, place: str, chunk: int) -> int:
    """Spoil a chunk in the middle; return where it stands."""
    with h5py.File(path) as file:
        stored = file[place].id.get_chunk_info(chunk)
    data = bytearray(path.read_bytes())
    data[stored.byte_offset + stored.size // 2] ^= 0xFF
    path.write_bytes(data)
    return int(stored.byte_offset)


def test_a_damaged_chunk_costs_itself_only(tmp_path: Path) -> None:
    ev = make.stream(600_000)
    path = make.rvt(tmp_path / "a.h5", ev, chunks=(1 << 17,), compression="gzip")
    at = damage(path, "events/t", 3)

    recording = eventkit.open(path, on_error="skip")
    assert recording.events == Events.concatenate([ev[: 3 << 17], ev[1 << 19 :]])
    assert recording.ledger.skipped == {"damaged_chunk": 1 << 17}
    strict, before = eventkit.open(path), []
    with pytest.raises(FormatError, match="cannot read") as caught:
        before += strict.chunks()
    assert caught.value.offset == at
    assert Events.concatenate(before) == ev[: 3 << 17]


def test_a_damaged_chunk_of_one_column_costs_no_row_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, rows in (("x", 977), ("y", 1000), ("p", len(EV))):
            values = getattr(EV, name)
            file.create_dataset(f"events/{name}", data=values, chunks=(rows,), compression="gzip")
        file["events/t"] = EV.t
    damage(path, "events/x", 2)

    for policy in ("skip", "repair"):
        recording = eventkit.open(path, on_error=policy)  # type: ignore[arg-type]
        assert recording.events == Events.concatenate([EV[: 2 * 977], EV[3 * 977 :]])
        assert recording.ledger.skipped == {"damaged_chunk": 977}


def test_a_sample_of_times_comes_from_the_first_sound_chunks(tmp_path: Path) -> None:
    path = make.event_utils(tmp_path / "a.h5", EV, chunks=(1000,), compression="gzip")
    damage(path, "events/ts", 0)

    for unit in ("s", None):
        recording = eventkit.open(path, on_error="skip", time_unit=unit)  # type: ignore[arg-type]
        assert recording.events == EV[1000:]
    with pytest.raises(FormatError, match="cannot read"):
        eventkit.open(path)
    for chunk in (1, 2, 3):
        damage(path, "events/ts", chunk)
    with pytest.raises(FormatError, match="damage in every chunk of columns xs, ys, ts, ps"):
        eventkit.open(path, on_error="skip")
    assert len(eventkit.open(path, on_error="skip", time_unit="s").events) == 0


def test_the_order_of_rows_is_told_by_the_first_sound_chunks(tmp_path: Path) -> None:
    path = make.mvsec(tmp_path / "a.h5", EV)
    damage(path, "davis/left/events", 0)

    found = eventkit.open(path, on_error="skip").events

    assert np.array_equal(found.t, MVSEC.t[512:])


def test_many_chunks_are_found_in_one_pass(tmp_path: Path) -> None:
    """Looked up one by one, 8,000 chunks of four columns take more than 10 s."""
    n = 16 * 8000
    ev = Events(x=np.arange(n) % 240, y=np.arange(n) % 180, t=np.arange(n), p=np.arange(n) % 2)
    path = make.rvt(tmp_path / "a.h5", ev, chunks=(16,), maxshape=(None,))
    with h5py.File(path, "a") as file:
        file["padding"] = np.zeros(1000, "u1")
    path.write_bytes(path.read_bytes()[:-100])

    began = process_time()
    recording = eventkit.open(path, on_error="skip", sensor_size=(240, 180), time_unit="us")
    took = process_time() - began

    assert recording.events == ev
    assert took < 5


def test_chunks_in_newer_indexes_are_found_and_those_behind_the_end_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    kinds: dict[str, dict[str, Any]] = {
        "fixed": {"chunks": (4, 100)},
        "growing": {"chunks": (4, 100), "maxshape": (4, None)},
        "wide": {"chunks": (1, 100), "maxshape": (None, None), "compression": "gzip"},
    }
    for kind, options in kinds.items():
        with h5py.File(path, "w", libver="latest") as file:
            table = np.stack([EV.x, EV.y, EV.t, EV.p])
            dset = file.create_dataset("events", data=table, **options)
            last = dset.id.get_chunk_info(dset.id.get_num_chunks() - 1)
        data = path.read_bytes()
        path.write_bytes(data + bytes(100))
        assert eventkit.open(path, columns="xytp").events == EV, kind
        path.write_bytes(data[: last.byte_offset + last.size - 1])
        try:
            found = eventkit.open(path, columns="xytp", on_error="skip").events
        except FormatError:  # the index stands behind the chunks
            continue
        assert found == EV[: len(found)]
        assert len(found) < len(EV)


def test_lying_columns_are_guarded_as_standing_ones(tmp_path: Path) -> None:
    plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "xytp":
            values = getattr(EV, name).astype("f8")[None, :]
            file.create_dataset(name, data=values, chunks=(1, 512), **plugin.Bitshuffle())
        stored = file["y"].id.get_chunk_info(1)
    assert eventkit.open(path).events == EV
    data = bytearray(path.read_bytes())
    data[stored.byte_offset + 12] ^= 0x40
    path.write_bytes(data)

    recording = eventkit.open(path, on_error="skip")
    assert recording.events == Events.concatenate([EV[:512], EV[1024:]])
    with pytest.raises(FormatError, match="do not fit") as caught:
        _ = eventkit.open(path).events
    assert caught.value.offset == stored.byte_offset


def test_pictures_in_other_files_and_damaged_times_cost_no_event(tmp_path: Path) -> None:
    path = make.event_utils(tmp_path / "a.h5", EV)
    make.event_utils(tmp_path / "b.h5", EV)
    with h5py.File(path, "a") as file:
        file["images/other"] = h5py.ExternalLink("b.h5", "/images/image000000001")
    frames = eventkit.open(path).frames
    assert frames is not None
    assert len(frames) == 3
    stack = make.mvsec(tmp_path / "c.h5", EV)
    with h5py.File(stack, "a") as file:
        times = file["davis/left/image_raw_ts"][:]
        del file["davis/left/image_raw_ts"]
        file.create_dataset(
            "davis/left/image_raw_ts", data=times, chunks=(3,), compression="gzip", fletcher32=True
        )
    damage(stack, "davis/left/image_raw_ts", 0)

    recording = eventkit.open(stack, on_error="skip")

    assert len(recording.events) == len(EV)
    assert recording.frames is None
    assert [fault["reason"] for fault in recording.side_faults] == ["corrupt"]


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
    paths = [write(tmp_path / f"{write.__name__}.h5", EV[:300]) for write in WRITERS]
    command = [sys.executable, "-c", FUZZ, "30", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

    assert done.stdout.strip() == "whole", (done.returncode, done.stderr[-2000:])


def test_a_damaged_index_of_chunks_does_not_end_the_process(tmp_path: Path) -> None:
    """The library adds up the size of an index when it is asked what an object is."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        table = np.stack([EV.x, EV.y, EV.t, EV.p])
        file.create_dataset("events", data=table, chunks=(2, 100), maxshape=(None, None))
    data = bytearray(path.read_bytes())
    data[data.index(b"BTHD") + 20] ^= 4
    path.write_bytes(data)
    look = "import sys, eventkit; eventkit.open(sys.argv[1], columns='xytp').load()"
    command = [sys.executable, "-c", look, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

    assert done.returncode == 1
    assert "FormatError: " in done.stderr.splitlines()[-1]


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
