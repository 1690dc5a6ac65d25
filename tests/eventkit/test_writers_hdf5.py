"""HDF5 written: read back equal, by h5py as the layouts say, with equal bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("h5py", reason="h5py is not installed")

import h5py

import eventkit
from eventkit import ecf
from eventkit.columns import Columns
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.testing.strategies import events
from eventkit.writers import evt, hdf5
from eventkit.writers.base import Contents

SIZE = (346, 260)
WRITERS = (hdf5.DsecWriter(), hdf5.XsWriter(), hdf5.EcfWriter())


def stream(n: int = 40_000, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(0, 20, n)) + 1_600_000_000_000_000
    x, y, p = (rng.integers(0, side, n) for side in (*SIZE, 2))
    return Events(x=x, y=y, t=t, p=p)


def recording_of(ev: Events, *, part: int = 7000, **options: Any) -> Recording:
    def source(ledger: Ledger) -> Iterator[Chunk]:
        for start in range(0, len(ev), part):
            ledger.decoded += len(ev[start : start + part])
            yield Chunk(ev[start : start + part])

    return Recording(path=Path("a"), format="x", sensor_size=SIZE, source=source, **options)


def write(writer: Any, ev: Events, path: Path, **options: Any) -> Path:
    path.unlink(missing_ok=True)
    writer.write(recording_of(ev, **options), path, ledger=Ledger())
    return path


def contents(**changed: Any) -> Contents:
    known: dict[str, Any] = {
        "events": 2, "first_us": 0, "last_us": 10, "right": 5, "bottom": 5, "sensor_size": SIZE,
    }  # fmt: skip
    return Contents(**(known | changed))


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_events_come_back_whatever_the_parts_were(tmp_path: Path, writer: Any) -> None:
    ev = stream()
    first = write(writer, ev, tmp_path / "a.h5")
    second = write(writer, ev, tmp_path / "b.h5", part=1 << 20)
    recording = eventkit.open(first)

    assert recording.events == ev
    assert recording.sensor_size == SIZE
    assert recording.ledger.kept == len(ev)
    assert first.read_bytes() == second.read_bytes()
    assert Events.concatenate(eventkit.open(first).chunks()) == ev
    start, stop = int(ev.t[20_000]), int(ev.t[30_000])
    assert recording.between(start, stop) == ev[(ev.t >= start) & (ev.t < stop)]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
@settings(max_examples=20)
@given(ev=events(sensor_size=SIZE), step=st.sampled_from([0, 1_000_003]))
def test_any_stream_comes_back(
    tmp_path_factory: pytest.TempPathFactory, writer: Any, ev: Events, step: int
) -> None:
    far = Events(x=ev.x, y=ev.y, t=ev.t + step * np.arange(len(ev)), p=ev.p)
    path = write(writer, far, tmp_path_factory.mktemp("h5") / "a.h5", part=3)

    if writer.name == "hdf5-xs":
        exact = len(far) == 0 or abs(int(far.t[-1])) < 1_000_000 << 31
        assert not exact or eventkit.open(path).events == far
    else:
        assert eventkit.open(path).events == far


def test_the_index_of_dsec_is_what_dsec_says(tmp_path: Path) -> None:
    ev = stream(5000)
    with h5py.File(write(hdf5.DsecWriter(), ev, tmp_path / "a.h5", part=999)) as file:
        t, index = file["events/t"][:], file["ms_to_idx"][:]
        assert np.array_equal(t + file["t_offset"][()], ev.t)
        assert index.size == t[-1] // 1000 + 1
        for ms, i in enumerate(index):
            assert t[i] >= ms * 1000
            assert i == 0 or t[i - 1] < ms * 1000


def test_the_layout_of_event_utils(tmp_path: Path) -> None:
    ev = stream(100)
    with h5py.File(write(hdf5.XsWriter(), ev, tmp_path / "a.h5")) as file:
        assert file["events/ts"].dtype == np.float64
        assert file["events/ps"].dtype == np.bool_
        assert file.attrs["sensor_resolution"].tolist() == [260, 346]
        assert file.attrs["num_events"] == 100
        assert file.attrs["num_pos"] == ev.p.sum() == 100 - file.attrs["num_neg"]
        assert file.attrs["t0"] == ev.t[0] / 1e6


def test_the_layout_of_prophesee_and_its_index(tmp_path: Path) -> None:
    ev = stream()
    triggers = np.array([(5, 1, 0), (9, 0, 0)], [("t", "<i8"), ("p", "i1"), ("source", "i2")])
    options = {"side_data": lambda: {"triggers": triggers}}
    path = write(hdf5.EcfWriter(), ev, tmp_path / "a.h5", **options)
    with h5py.File(path) as file:
        assert file.attrs["geometry"] == "346x260"
        dset, index = file["CD/events"], file["CD/indexes"][:]
        assert dset.dtype.itemsize == 16
        assert int(file["CD/indexes"].attrs["offset"]) == -ev.t[0]
        room = Columns.empty(ecf.MOST_EVENTS)
        data = np.frombuffer(dset.id.read_direct_chunk((2 * 16_384,))[1], np.uint8)
        last = len(ev) - 2 * 16_384
        assert ecf.decode(data, room) == last
        assert np.array_equal(room.t[:last], ev.t[2 * 16_384 :])
    since = ev.t - ev.t[0]
    assert index.size == since[-1] // 2000 + 2
    assert tuple(index[0]) == (0, -1)
    for k, (event, time) in enumerate(index[1:], start=1):
        # The first event of the last period before k that has any.
        period = since[since < 2000 * k][-1] // 2000
        assert (event, time) == (np.searchsorted(since, period * 2000), since[event])
    found = eventkit.open(path).triggers
    assert found is not None
    assert found[["t", "p", "source"]].tolist() == [(5, 1, 0), (9, 0, 0)]


def test_damage_in_an_ecf_chunk_costs_that_chunk(tmp_path: Path) -> None:
    ev = stream()
    path = write(hdf5.EcfWriter(), ev, tmp_path / "a.h5")
    with h5py.File(path) as file:
        at = file["CD/events"].id.get_chunk_info(1).byte_offset
    data = bytearray(path.read_bytes())
    data[at] ^= 0xF0  # the number of events
    path.write_bytes(data)

    with pytest.raises(FormatError) as caught:
        _ = eventkit.open(path).events
    assert at <= (caught.value.offset or 0) < at + 100_000
    recording = eventkit.open(path, on_error="skip")
    assert recording.events == Events.concatenate([ev[:16_384], ev[32_768:]])
    assert recording.ledger.skipped == {"damaged_chunk": 16_384}
    path.write_bytes(data[: at - 100])
    with pytest.raises(FormatError):
        _ = eventkit.open(path).events


def test_what_does_not_fit_is_refused_or_said() -> None:
    dsec, xs, packed = WRITERS

    assert dsec.losses(contents()) == xs.losses(contents()) == packed.losses(contents()) == []
    for writer in (dsec, packed):
        with pytest.raises(SettingsError, match="within a day"):
            writer.losses(contents(last_us=90_000_000_000))
    with pytest.raises(SettingsError, match="places up to 2047"):
        packed.losses(contents(right=2048))
    assert "apart at the end" in xs.losses(contents(last_us=1_000_000 << 31))[0]
    assert len(dsec.losses(contents(frames=1, triggers=2, imu=3))) == 3
    assert len(packed.losses(contents(frames=1, imu=3))) == 2


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_equal_recordings_with_triggers_give_equal_bytes(tmp_path: Path, writer: Any) -> None:
    ev = stream(1000)
    triggers = np.zeros(2000, [("t", "<i8"), ("p", "i1"), ("source", "i2")])
    triggers["t"] = np.arange(2000)
    written = set()
    for k in range(4):
        # What memory held before must not get into the file.
        left = [np.full(size, k + 1, np.uint8) for size in range(16_000, 64_000, 2000)]
        del left
        path = write(writer, ev, tmp_path / "a.h5", side_data=lambda: {"triggers": triggers})
        written.add(path.read_bytes())

    assert len(written) == 1


def test_signals_that_are_no_edges_are_lost_as_in_raw(tmp_path: Path) -> None:
    kinds = np.array([(5, 0), (6, 1), (7, 2), (8, 3)], [("t", "<i8"), ("source", "u1")])
    held = contents(triggers=4, kinds={0: 1, 1: 1, 2: 1, 3: 1}, spans={"triggers": (5, 8)})
    packed, raw = hdf5.EcfWriter(), evt.Evt2Writer()

    lost = packed.losses(held)
    assert [line for line in lost if "channel and level" not in line] == [
        line for line in raw.losses(held) if "channel and level" not in line
    ]
    assert [line.split()[0] for line in lost] == ["4", "1", "1"]
    path = write(packed, stream(10), tmp_path / "a.h5", side_data=lambda: {"triggers": kinds})
    found = eventkit.open(path).triggers
    assert found is not None
    assert found[["t", "p", "source"]].tolist() == [(6, 1, 0), (7, 0, 0), (8, 1, 0)]
    with pytest.raises(SettingsError, match="expected triggers within a day"):
        packed.losses(contents(triggers=2, spans={"triggers": (0, 90_000_000_000)}))


def test_chunks_of_ecf_are_found_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked up one by one, 16,000 chunks take more than 10 s."""
    monkeypatch.setattr(hdf5, "ECF_CHUNK", 16)
    ev = stream(16 * 16_000)
    path = write(hdf5.EcfWriter(), ev, tmp_path / "a.h5", part=1 << 20)

    began = process_time()
    found = eventkit.open(path).events

    assert process_time() - began < 6
    assert found == ev


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
from eventkit.cli import main
main()
"""


@pytest.mark.parametrize("limit", [3000, 100_000])
@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path, writer: Any, limit: int) -> None:
    """In a process of its own: the HDF5 library ends it where a write fails on closing."""
    source = tmp_path / "a.npz"
    ev = stream(60_000)
    np.savez(source, x=ev.x, y=ev.y, t=ev.t, p=ev.p, width=SIZE[0], height=SIZE[1])
    target = tmp_path / "out" / "a.h5"
    command = [sys.executable, "-c", FULL, str(limit), "export", str(source), str(target)]
    done = subprocess.run(
        [*command, "--format", writer.name],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 6, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("out/*")) == []
