"""Sets of tonic as recordings, from folders as tonic leaves them; nothing is downloaded."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import run_tool
from named_miniatures import columns, ncaltech101, nmnist
from pipelines_helpers import tree_bytes

import eventkit
from eventkit.clip_settings import ClipSettings
from eventkit.errors import MissingDataError, MissingDependencyError, SettingsError
from pipelines.convert import Outcome, convert_raw
from pipelines.datasets.discover import Discovery, discover
from pipelines.datasets.splits import BY_RECORDING
from pipelines.executors import RunSettings, open_pool
from pipelines.opening import ReadSettings, for_set, open_spec
from pipelines.verify.deep_store import verify_against_raw

pytest.importorskip("tonic", reason="tonic is not installed")


def convert(root: Path, name: str, store: Path, **read) -> Outcome:
    return convert_raw(
        [root],
        store,
        clip=ClipSettings(bins=2),
        read=ReadSettings(**read),
        layout="auto",
        rule=BY_RECORDING,
        run=RunSettings(executor="inline"),
        say=lambda _: None,
        dataset=name,
    )


def events_of(found: Discovery, name: str):
    spec = next(spec for spec in found.recordings if spec.id == name)
    return open_spec(found.root, spec, ReadSettings()).events


def write_gestures(root: Path, *, users: tuple[int, ...] = (1, 24)) -> Path:
    for user in users:
        split = "ibmGestureTest" if user >= 24 else "ibmGestureTrain"
        folder = root / "DVSGesture" / split / f"user{user:02d}_led"
        folder.mkdir(parents=True)
        for label in (0, 10):
            made = columns(user + label, size=(128, 128))
            rows = np.stack([made["x"], made["y"], made["p"], made["t"] // 1000], axis=1)
            np.save(folder / f"{label}.npy", rows.astype(np.float64))
    return root


def write_digits(root: Path) -> Path:
    """Spiking Heidelberg Digits: one HDF5 file for all, times in seconds, no rows, no polarity."""
    (root / "SHD").mkdir(parents=True)
    for split in ("train", "test"):
        with h5py.File(root / "SHD" / f"shd_{split}.h5", "w") as file:
            times = file.create_dataset("spikes/times", (3,), h5py.vlen_dtype(np.float16))
            units = file.create_dataset("spikes/units", (3,), h5py.vlen_dtype(np.uint16))
            for i in range(3):
                times[i] = np.linspace(0.125, 0.5, 4, dtype=np.float16)
                units[i] = np.array([0, 5, 699, i], np.uint16)
            file["labels"] = np.array([19, 0, 4])
            file["extra/speaker"] = np.arange(3)
            file["extra/keys"] = np.array([f"word {i}".encode() for i in range(20)])
    return root


def test_a_set_is_read_as_its_own_files_are(tmp_path: Path) -> None:
    root = nmnist(tmp_path / "NMNIST").parent

    found = discover([root], dataset="tonic:NMNIST")

    assert found.layout == "tonic:NMNIST: 4 train, 4 test"
    assert {spec.id: spec.label for spec in found.recordings} == {
        f"{split}/{digit}/{first + digit + i:05d}": digit
        for split, first in (("Train", 0), ("Test", 50))
        for digit in (1, 7)
        for i in range(2)
    }
    assert {spec.split for spec in found.recordings if spec.id.startswith("Test")} == {"test"}
    assert found.classes[7] == "7 - seven"
    ours = eventkit.open(root / "NMNIST/Test/7/00058.bin", sensor_size=(34, 34))
    assert events_of(found, "Test/7/00058") == ours.events


def test_real_digits_are_the_same_under_either_name(nmnist_pairs: Path, tmp_path: Path) -> None:
    root = tmp_path / "NMNIST"
    for path in sorted(nmnist_pairs.glob("train/*/*.bin"))[::20][:12]:
        folder = root / "Train" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)

    ours = discover([root])
    theirs = discover([tmp_path], dataset="tonic:NMNIST")

    assert ours.named is not None
    assert {s.id: (s.label, s.split) for s in ours.recordings} == {
        s.id: (s.label, s.split) for s in theirs.recordings
    }
    for spec, other in zip(ours.recordings, theirs.recordings, strict=True):
        mine = open_spec(ours.root, spec, for_set(ReadSettings(), ours)).events
        assert len(mine) > 1_000
        assert mine == open_spec(tmp_path, other, ReadSettings()).events


def test_the_plan_holds_what_was_read_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    root = nmnist(tmp_path / "raw" / "NMNIST").parent

    first = convert(root, "tonic:NMNIST", tmp_path / "a")
    convert(root, "tonic:NMNIST", tmp_path / "b")

    assert (first.clips, first.quarantine) == (8, [])
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")
    assert convert(root, "tonic:NMNIST", tmp_path / "a").did_nothing
    path = root / "NMNIST" / "Test" / "7" / "00058.bin"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SettingsError, match=r"the recordings \(1 changed"):
        convert(root, "tonic:NMNIST", tmp_path / "a")


def test_a_deep_check_compares_with_what_tonic_reads(tmp_path: Path) -> None:
    root, store = nmnist(tmp_path / "raw" / "NMNIST").parent, tmp_path / "store"
    convert(root, "tonic:NMNIST", store)

    with open_pool("inline", workers=1) as pool:
        whole = verify_against_raw(store, root, pool)
        path = root / "NMNIST" / "Test" / "7" / "00058.bin"
        path.write_bytes(path.read_bytes()[:-5])
        changed = verify_against_raw(store, root, pool)

    assert whole.problems == []
    assert whole.totals["clips compared"] == 8
    (problem,) = changed.problems
    assert problem.startswith("tonic:NMNIST/test/NMNIST/Test/7/00058.bin: expected the events that")


def test_nothing_is_written_into_the_folder_of_tonic(tmp_path: Path) -> None:
    root = nmnist(tmp_path / "raw" / "NMNIST").parent
    before = tree_bytes(root, hidden=True)

    convert(root, "tonic:NMNIST", tmp_path / "store")

    assert tree_bytes(root, hidden=True) == before


@pytest.mark.parametrize(
    ("name", "wants"),
    [
        ("NMNIST", r"tonic wants train.zip unpacked there as Train \(from https"),
        ("SHD", "expected the files of tonic's SHD in .*, got none; tonic wants"),
        ("DVSLip", "expected the files of tonic's DVSLip"),
        ("POKERDVS", "tonic wants pips_train.tar.gz"),
        ("MVSEC,scene=indoor_flying", "expected the files of tonic's MVSEC"),
    ],
)
def test_a_set_that_is_not_there_is_refused_with_what_tonic_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wants: str
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("tonic goes to the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)

    with pytest.raises(MissingDataError, match=wants):
        discover([tmp_path], dataset=f"tonic:{name}")
    assert list(tmp_path.iterdir()) == []


def test_one_split_may_be_missing_and_that_is_told(tmp_path: Path) -> None:
    found = discover([write_gestures(tmp_path, users=(1,))], dataset="tonic:DVSGesture")

    assert found.notes == ("none of the test split is there",)
    assert {spec.id: spec.label for spec in found.recordings} == {
        "ibmGestureTrain/user01_led/0": 0,
        "ibmGestureTrain/user01_led/10": 10,
    }
    assert found.classes[10] == "Other gestures"


def test_settings_of_the_class_stand_in_the_name(tmp_path: Path) -> None:
    root = nmnist(tmp_path / "NMNIST").parent

    found = discover([root], dataset="tonic:NMNIST,train=false,first_saccade_only=true")

    assert {spec.split for spec in found.recordings} == {"test"}
    assert events_of(found, "Test/7/00058").t.max() < 100_000


def test_a_set_in_one_file_has_numbers_for_names(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "raw")

    found = discover([root], dataset="tonic:SHD")
    outcome = convert(root, "tonic:SHD", tmp_path / "store")

    assert [spec.id for spec in found.recordings][:2] == ["test/000000", "test/000001"]
    assert [spec.label for spec in found.recordings if spec.split == "test"] == [19, 0, 4]
    assert found.classes[19] == "word 19"
    events = events_of(found, "test/000002")
    assert events.x.tolist() == [0, 5, 699, 2]
    assert events.t.tolist() == [125_000, 250_000, 375_000, 500_000]
    assert set(events.y.tolist()) == {0}
    assert outcome.clips == 6
    assert convert(root, "tonic:SHD", tmp_path / "store").did_nothing


def test_a_sample_that_tonic_cannot_read_is_set_aside(tmp_path: Path) -> None:
    root = write_gestures(tmp_path / "raw")
    damaged = root / "DVSGesture" / "ibmGestureTrain" / "user01_led" / "0.npy"
    damaged.write_bytes(damaged.read_bytes()[:-7])

    outcome = convert(root, "tonic:DVSGesture", tmp_path / "store")

    (bad,) = outcome.quarantine
    assert (bad["recording"], bad["reason"]) == ("ibmGestureTrain/user01_led/0", "corrupt")
    assert "expected a sample that tonic can read, got" in bad["message"]
    assert outcome.clips == 3


def test_samples_of_changing_size_need_the_size_of_the_sensor(tmp_path: Path) -> None:
    made = ncaltech101(tmp_path / "raw" / "NCALTECH101")
    shutil.rmtree(made / "Caltech101_annotations")  # tonic takes it for a class

    refused = convert(made.parent, "tonic:NCALTECH101", tmp_path / "a")
    done = convert(made.parent, "tonic:NCALTECH101", tmp_path / "b", sensor_size=(240, 180))

    assert {bad["reason"] for bad in refused.quarantine} == {"no_geometry"}
    assert done.quarantine == []
    assert done.clips == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tonic:MNIST", r"expected a set of tonic among ASLDVS, .*NMNIST.*, got 'MNIST'"),
        ("tonic:DSEC", "expected a set of tonic among"),
        ("tonic:NMNIST,speed=3", "expected settings of tonic's NMNIST among train, .*'speed'"),
        ("tonic:MVSEC", "expected scene for tonic's MVSEC, got none; tonic:MVSEC,scene=VALUE"),
        ("tonic:NMNIST/../x", "expected tonic:NAME or"),
    ],
)
def test_a_wrong_name_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        discover([tmp_path], dataset=name)


def test_what_readers_are_told_is_refused(tmp_path: Path) -> None:
    root = nmnist(tmp_path / "raw" / "NMNIST").parent

    with pytest.raises(SettingsError, match="expected a set of tonic without --time-unit"):
        convert(root, "tonic:NMNIST", tmp_path / "store", time_unit="ms")


def test_without_tonic_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "tonic"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])

    with pytest.raises(MissingDependencyError, match=r"pip install 'velora-eventkit\[tonic\]'"):
        discover([tmp_path], dataset="tonic:NMNIST")


def test_the_command_takes_tonic_with_its_root(tmp_path: Path) -> None:
    nmnist(tmp_path / "raw" / "NMNIST")

    done = run_tool(
        "convert", "tonic:NMNIST", "--root", "raw", "--bins", "2", "--executor", "inline",
        cwd=tmp_path,
    )  # fmt: skip
    rootless = run_tool("convert", "tonic:NMNIST", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "8 recordings (tonic:NMNIST: 4 train, 4 test)" in done.stdout
    assert "store: 8 clips" in done.stdout
    assert rootless.returncode == 2
    assert "tonic:NMNIST: expected --root FOLDER" in rootless.stderr
