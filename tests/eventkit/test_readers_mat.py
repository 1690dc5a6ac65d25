"""MATLAB files: ASL-DVS and structs, places from 0 or 1, version 7.3, damage told."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed")

from scipy import io as scipy_io

import eventkit
from eventkit.columns import EVENT_CHUNK
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.readers.stream import EventStream

N = 500
RNG = np.random.default_rng(0)
EV = Events(
    x=np.append(RNG.integers(0, 240, N - 1), 239),
    y=np.append(RNG.integers(0, 180, N - 1), 0),
    t=np.cumsum(RNG.integers(0, 200, N)),
    p=RNG.integers(0, 2, N),
)


def columns(ev: Events = EV, dtype: str = "f8", first: int = 0) -> dict[str, Any]:
    places = {"x": ev.x.astype("i8") + first, "y": ev.y.astype("i8") + first}
    found = {"ts": ev.t, **places, "pol": ev.p}
    return {name: values.astype(dtype)[:, None] for name, values in found.items()}


def write(path: Path, held: dict[str, Any], *, compressed: bool = False) -> Path:
    scipy_io.savemat(path, held, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "u4", "i4", "f4"])
def test_asl_dvs_vectors_are_read(tmp_path: Path, dtype: str, compressed: bool) -> None:
    recording = eventkit.open(
        write(tmp_path / "a.mat", columns(dtype=dtype), compressed=compressed)
    )

    assert (recording.format, recording.evidence) == ("mat", "MATLAB 5 header")
    assert recording.events == EV
    assert recording.sensor_size == (240, 180)
    assert "assumed ASL-DVS's 240x180" in recording.notes[0]
    assert recording.ledger.words == recording.ledger.kept == N


def test_places_that_count_from_1_are_told_and_moved(tmp_path: Path) -> None:
    recording = eventkit.open(write(tmp_path / "a.mat", columns(first=1)))

    assert recording.events == EV
    assert "places count from 1, as MATLAB does: 1 is taken off" in recording.notes
    shifted = Events(x=EV.x // 2 + 1, y=EV.y // 2 + 1, t=EV.t, p=EV.p)
    assert eventkit.open(write(tmp_path / "b.mat", columns(shifted))).events == shifted


def test_structs_are_looked_into(tmp_path: Path) -> None:
    td = write(tmp_path / "a.mat", {"note": "text", "TD": columns(), "k": 3})
    deep = {"aedat": {"data": {"frame": {"x": 1}, "polarity": columns()}}}

    assert eventkit.open(td).events == EV
    assert "events: struct TD" in eventkit.open(td).notes
    found = eventkit.open(write(tmp_path / "b.mat", deep, compressed=True))
    assert found.events == EV
    assert "events: aedat.data.struct polarity" in found.notes


def write_73(path: Path, held: dict[str, Any]) -> Path:
    """As MATLAB does: HDF5 behind 512 bytes, arrays the other way round."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in held.items():
            parts = value if isinstance(value, dict) else {"": value}
            for part, values in parts.items():
                data = np.asarray(values).T
                small = {} if data.size < 100 else {"chunks": (1, 100), "compression": "gzip"}
                file.create_dataset(f"{name}/{part}".strip("/"), data=data, **small)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return path


def test_version_73_is_hdf5_inside(tmp_path: Path) -> None:
    recording = eventkit.open(write_73(tmp_path / "a.mat", columns()))

    assert (recording.format, recording.events) == ("mat", EV)
    assert recording.sensor_size == (240, 180)


WRITERS = {"5": write, "7.3": write_73}


@pytest.mark.parametrize("version", WRITERS)
def test_what_numbers_count_from_is_told_alike_in_both_versions(
    tmp_path: Path, version: str
) -> None:
    def look(held: dict[str, Any], **options: Any) -> tuple[Events, Any, str]:
        recording = eventkit.open(WRITERS[version](tmp_path / "a.mat", held), **options)
        return recording.events, recording.sensor_size, " ".join(recording.notes)

    taken_off, undecided = "1 is taken off", "they may count from 1"
    events, size, notes = look(columns(first=1))
    assert (events, size) == (EV, (240, 180))
    assert taken_off in notes
    assert "assumed ASL-DVS's 240x180, by the names" in notes
    td = {"TD": {name: columns(first=1)[name] for name in ("x", "y", "ts")}}
    td["TD"]["p"] = columns()["pol"]
    places = Events(x=EV.x + 1, y=EV.y + 1, t=EV.t, p=EV.p)
    events, size, notes = look(td)
    assert (events, size) == (places, None)
    assert undecided in notes
    events, size, notes = look(td, sensor_size=(240, 180))
    assert (events, size) == (EV, (240, 180))
    assert taken_off in notes
    td["TD"]["p"] = columns()["pol"] + 1
    events, size, notes = look(td)
    assert (events, size) == (EV, None)
    assert "polarities are 1 and 2, taken as OFF and ON" in notes
    assert taken_off in notes
    # From 0, and larger than the data set of these names.
    events, size, notes = look(columns(Events(x=EV.x * 3, y=EV.y, t=EV.t, p=EV.p)))
    assert (events.x.max(), size) == (717, None)
    assert "not assumed ASL-DVS's 240x180" in notes


@pytest.mark.parametrize("version", WRITERS)
def test_a_polarity_that_is_neither_1_nor_2_is_a_bad_row(tmp_path: Path, version: str) -> None:
    held = columns(dtype="f8")
    held["pol"] = np.tile(held["pol"] + 1, (200, 1))
    for name in ("x", "y", "ts"):
        held[name] = np.tile(held[name], (200, 1))
    held["ts"] = np.arange(200.0 * N)[:, None]
    held["pol"][-3:] = [[0], [3], [1]]
    path = WRITERS[version](tmp_path / "a.mat", held)
    recording = eventkit.open(path, on_error="skip", time_unit="us")

    assert len(recording.events) == 200 * N - 2
    assert recording.ledger.skipped == {"bad_row": 2}
    assert np.array_equal(recording.events.p[:N], EV.p)


@pytest.mark.parametrize("version", WRITERS)
def test_an_order_of_variables_that_have_names_is_refused(tmp_path: Path, version: str) -> None:
    columns = {name: getattr(EV, name).astype("f8")[:, None] for name in "xytp"}
    WRITERS[version](tmp_path / "a.mat", columns)

    with pytest.raises(SettingsError, match=r"expected no --columns for (variables|columns) x, y"):
        eventkit.open(tmp_path / "a.mat", columns="txyp", time_unit="us")


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("order", ["txyp", "xytp"])
def test_events_of_four_columns_are_read(tmp_path: Path, order: str, version: str) -> None:
    table = np.stack([getattr(EV, name).astype("f8") for name in order], 1)
    recording = eventkit.open(WRITERS[version](tmp_path / "a.mat", {"k": 3, "events": table}))

    assert recording.events == EV
    assert f"events: rows {', '.join(order)} in " in " ".join(recording.notes)
    assert eventkit.open(tmp_path / "a.mat", columns=order).events == EV


def test_version_4_is_refused_with_the_cure(tmp_path: Path) -> None:
    scipy_io.savemat(tmp_path / "a.mat", columns(), format="4")

    with pytest.raises(FormatError, match=r"got version 4, which is not read; .* save -v7"):
        eventkit.open(tmp_path / "a.mat")


def test_gzipped_empty_and_one_event(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.mat", columns())
    (tmp_path / "b.mat.gz").write_bytes(gzip.compress(plain.read_bytes()))

    assert eventkit.open(tmp_path / "b.mat.gz").events == EV
    for count in (0, 1):
        few = EV[:count]
        path = write(tmp_path / "c.mat", columns(few, "i4"))
        assert eventkit.open(path, sensor_size=(240, 180)).events == few


def test_chunks_and_between_are_slices_of_the_whole(tmp_path: Path) -> None:
    recording = eventkit.open(write(tmp_path / "a.mat", columns()))
    start, stop = int(EV.t[100]), int(EV.t[400])

    assert Events.concatenate(recording.chunks(n=7)) == EV
    assert recording.between(start, stop) == EV[(EV.t >= start) & (EV.t < stop)]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_cut_file_gives_a_right_prefix_or_an_error(tmp_path: Path, compressed: bool) -> None:
    path = write(tmp_path / "a.mat", columns(dtype="i4"), compressed=compressed)
    data = path.read_bytes()
    lengths = set()
    for cut in [*range(0, len(data), 37), len(data) - 4]:
        path.write_bytes(data[:cut])
        try:
            recording = eventkit.open(path, on_error="skip")
            found = recording.events
        except FormatError:
            continue
        assert found == EV[: len(found)]
        assert len(found) == N or recording.ledger.faults[0]["reason"] == "truncated"
        lengths.add(len(found))
    assert N - 1 in lengths or compressed


@pytest.mark.parametrize("compressed", [False, True])
def test_flipped_bits_give_events_of_the_file_or_an_error(tmp_path: Path, compressed: bool) -> None:
    data = write(tmp_path / "a.mat", columns(), compressed=compressed).read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(300):
        spoilt = bytearray(data)
        spoilt[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
        (tmp_path / "b.mat").write_bytes(spoilt)
        try:
            recording = eventkit.open(
                tmp_path / "b.mat", on_error="skip" if trial % 2 else "raise", time_unit="us"
            )
            assert len(recording.events) <= N
        except FormatError:
            continue
        assert not compressed or recording.events == EV  # deflate has a checksum


def test_forged_sizes_take_no_memory(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.mat", columns(), compressed=True).read_bytes())
    data[132:136] = b"\xff\xff\xff\x7f"
    (tmp_path / "b.mat").write_bytes(data)

    with pytest.raises(FormatError, match="expected"):
        eventkit.open(tmp_path / "b.mat")


def deflated(name: str, count: int) -> bytes:
    """A variable of ``count`` doubles, all 0."""
    held = struct.pack("<4I", 6, 8, 6, 0) + struct.pack("<4I", 5, 8, count, 1)
    held += struct.pack("<HH", 1, len(name)) + name.encode().ljust(4, b"\0")
    held += struct.pack("<II", 9, 8 * count)
    deflate = zlib.compressobj(9)
    packed = deflate.compress(struct.pack("<II", 14, len(held) + 8 * count) + held)
    for _ in range(count >> 17):
        packed += deflate.compress(bytes(1 << 20))
    packed += deflate.flush()
    return struct.pack("<II", 15, len(packed)) + packed


LOOK = """
import resource, sys
import numpy as np
import eventkit
recording = eventkit.open(sys.argv[1], time_unit="us")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
recording = eventkit.open(sys.argv[2], time_unit="us")
size = next(recording.chunks()).t.size
print(size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_what_inflates_a_thousandfold_takes_little_memory(tmp_path: Path) -> None:
    head = write(tmp_path / "a.mat", columns()).read_bytes()[:128]
    parts = [deflated(name, 1 << 22) for name in ("x", "y", "ts", "pol", "more")]
    (tmp_path / "b.mat").write_bytes(head + b"".join(parts))
    command = [sys.executable, "-c", LOOK, str(tmp_path / "a.mat"), str(tmp_path / "b.mat")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    size, megabytes = (int(word) for word in done.stdout.split())
    assert size > 0
    assert megabytes < 60


def test_a_file_without_events_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="got weights; is the file cut"):
        eventkit.open(write(tmp_path / "a.mat", {"weights": np.zeros(3)}))
    held = columns()
    held["pol"][2] = 5
    with pytest.raises(FormatError, match=r"'p' in \{0, 1\}, got 5.0 at event 2"):
        _ = eventkit.open(write(tmp_path / "b.mat", held)).events


def test_what_inflates_to_much_asks_for_no_more_columns_than_the_file_has_bytes(
    tmp_path: Path,
) -> None:
    zeros = dict.fromkeys(("x", "y", "ts", "pol"), np.zeros((5_000_000, 1), "u1"))
    path = write(tmp_path / "a.mat", zeros, compressed=True)
    assert path.stat().st_size < 1 << 20
    recording = eventkit.open(path, time_unit="us")

    assert isinstance(recording.source, EventStream)
    assert recording.source.bound is not None
    assert recording.source.bound() == EVENT_CHUNK
    assert len(recording.events) == 5_000_000
