"""Text of variable length in HDF5: no damaged heap gets to the library, which would not return.

What must not hang is read in a process of its own, which can be ended.
"""

from __future__ import annotations

import io
import json
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
from eventkit.readers.hdf5.guard import Guarded

EV = make.stream(600)
TEXT = h5py.string_dtype()
FREE_ROOM = 48
"""Where the free room of a heap begins behind one object of 1 to 8 bytes."""

LOOK = """
import json, sys
import eventkit
from eventkit.errors import FormatError
for path in sys.argv[2:]:
    try:
        recording = eventkit.open(path, on_error=sys.argv[1], time_unit="us")
        size, faults = recording.sensor_size, recording.side_faults
        print(json.dumps([len(recording.events), size, [fault["offset"] for fault in faults]]))
    except FormatError as fault:
        print(json.dumps([fault.reason, fault.offset]))
"""


def look(on_error: str, *paths: Path) -> list[Any]:
    """Return of each file its events, size and side faults, or the reason and byte of the error."""
    command = [sys.executable, "-c", LOOK, on_error, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def write(path: Path, *, pad: int = 0, **attributes: str) -> tuple[bytearray, int]:
    """Return the bytes of a file with text in a heap, and where the heap begins."""
    columns = {name: getattr(EV, name) for name in "xytp"}
    with make.write_columns(path, columns, place="") as file:
        if pad:
            file["before"] = np.ones(pad, "u1")
        file.attrs.update(attributes)
        file.flush()
        if pad:
            file["behind"] = np.ones(pad, "u1")
    data = path.read_bytes()
    return bytearray(data), data.index(b"GCOL\1")


def test_a_file_cut_inside_a_heap_costs_its_text_and_no_event(tmp_path: Path) -> None:
    data, heap = write(tmp_path / "a.h5", geometry="640x480", comment="what stands there as well")
    paths = {cut: tmp_path / f"{cut}.h5" for cut in (8, 16, 30, 40, 60, 90, 160, 1000)}
    data[heap + 4096 :] = b""
    for cut, path in paths.items():
        path.write_bytes(data[: heap + cut])

    strict = dict(zip(paths, look("raise", *paths.values()), strict=True))
    skipped = dict(zip(paths, look("skip", *paths.values()), strict=True))

    for cut in paths:
        if cut < 160:
            assert strict[cut][0] == "corrupt", cut
            assert skipped[cut][:2] == [len(EV), None], cut
            assert len(skipped[cut][2]) == 1, cut
        else:  # only free room is gone
            assert strict[cut] == skipped[cut] == [len(EV), [640, 480], []], cut
    assert strict[60] == ["corrupt", heap]
    assert skipped[60][2] == [heap]


def test_a_damaged_heap_is_met_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    data, heap = write(path, pad=1_300_000, geometry="640x480")
    assert min(heap, len(data) - heap) > 1 << 20
    data[heap + FREE_ROOM : heap + FREE_ROOM + 8] = bytes(8)
    path.write_bytes(data)

    assert look("raise", path) == [["corrupt", heap]]
    assert look("skip", path) == [[len(EV), None, [heap]]]


def test_sides_as_text_are_no_sides_and_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with make.write_columns(path, {name: getattr(EV, name) for name in "xytp"}) as file:
        file.create_dataset("width", data="640", dtype=TEXT)
        file.create_dataset("height", data="480", dtype=TEXT)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"GCOL\1") + 40])

    assert look("raise", path) == [[len(EV), None, []]]


def test_text_in_sound_heaps_is_read_and_data_that_look_like_heaps_cost_nothing(
    tmp_path: Path,
) -> None:
    """Heaps that were searched for rather than met took 3 s here."""
    path = tmp_path / "a.h5"
    with make.write_columns(path, {name: getattr(EV, name) for name in "xytp"}) as file:
        file.attrs["comment"] = "x" * 60_000
        file.attrs["geometry"] = "640x480"
        file["events/t"].attrs["units"] = "microseconds"
        file["behind"] = np.frombuffer((b"GCOL\1" + bytes(11)) * (64 << 10), "u1")
    began = process_time()
    recording = eventkit.open(path)
    took = process_time() - began

    assert recording.sensor_size == (640, 480)
    assert recording.geometry_source == "attribute 'geometry'"
    assert any("attribute 'units' of /events/t" in note for note in recording.notes)
    assert took < 1


def test_a_unit_that_is_lost_is_told_by_the_times_and_noted(tmp_path: Path) -> None:
    path = make.event_utils(tmp_path / "a.h5", EV, pictures=0)
    with h5py.File(path, "a") as file:
        file["events/ts"].attrs["units"] = "s"
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL\1")
    data[heap + FREE_ROOM : heap + FREE_ROOM + 8] = bytes(8)
    path.write_bytes(data)

    with pytest.raises(FormatError, match="a sound heap of text") as caught:
        eventkit.open(path)
    assert caught.value.offset == heap
    recording = eventkit.open(path, on_error="skip")
    assert recording.events == EV
    assert [fault["offset"] for fault in recording.side_faults] == [heap]


@pytest.mark.parametrize(
    ("size", "objects", "sound"),
    [(4096, 3, True), (1 << 16, 4000, True), (1 << 16, 1, True), (1 << 40, 1, False)]
    + [(1 << 20, 60_000, False)],
)
def test_heaps_are_walked_as_far_as_the_library_makes_them(
    size: int, objects: int, sound: bool
) -> None:
    head = b"GCOL\1\0\0\0" + size.to_bytes(8, "little")
    held = b"".join(k.to_bytes(2, "little") + bytes(14) for k in range(1, objects + 1))
    left = size - len(head) - len(held)
    file = io.BytesIO(head + held + bytes(8) + left.to_bytes(8, "little"))
    guarded = Guarded(file, len(file.getvalue()), 1 << 41, "a.h5")

    if sound:
        assert guarded.read(16) == head
    else:
        with pytest.raises(FormatError, match="a sound heap of text"):
            guarded.read(16)


def test_lengths_that_would_be_walked_otherwise_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    data, _ = write(path, geometry="640x480")
    data[14] = 2
    path.write_bytes(data)

    with pytest.raises(FormatError, match="lengths of 8 bytes") as caught:
        eventkit.open(path, on_error="skip")
    assert caught.value.offset == 14


BOUNDED = """
import resource, sys
import eventkit
held = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (held + (512 << 20),) * 2)
recording = eventkit.open(sys.argv[1], on_error="skip", time_unit="us")
print(len(recording.events), recording.ledger.skipped["damaged_chunk"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_rows_that_tiny_chunks_claim_ask_for_no_memory(tmp_path: Path) -> None:
    path, chunk, count = tmp_path / "a.h5", 8 << 20, 40
    with h5py.File(path, "w") as file:
        for name in "xytp":
            options: dict[str, Any] = {"chunks": (chunk,), "compression": "gzip"}
            shape = {"shape": (chunk * count,), "maxshape": (None,)}
            dset = file.create_dataset(name, dtype="u1", **shape, **options)
            for k in range(count):
                dset.id.write_direct_chunk((k * chunk,), b"x", 0)
    command = [sys.executable, "-c", BOUNDED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.strip() == f"0 {chunk * count}", done.stderr[-2000:]
