"""Input that is made to do harm: nothing leaves its root, hangs, or runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from check_helpers import audit, harms
from helpers import run_tool
from pipelines_helpers import tree_bytes, write_recording

import eventkit
from eventkit.errors import DamageError, EventKitError, SettingsError
from eventkit.samples import decode_sample
from eventkit.shards import ShardSet, load_manifest, manifest_digest
from pipelines.datasets.discover import discover
from pipelines.receipts import hash_file
from pipelines.verify import TarJob, check_tar

FEW_BYTES = 64 << 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished store and finished shards."""
    folder = tmp_path_factory.mktemp("made")
    for label in "ab":
        for i in range(6):
            write_recording(folder / "raw" / label / f"{i}", seed=i + 10 * ord(label))
    assert run_tool("convert", "raw", "--bins", "2", cwd=folder).returncode == 0
    assert run_tool("shard", cwd=folder).returncode == 0
    return folder


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> Path:
    """Shards to be damaged, with their store beside them."""
    for name in ("store", "shards"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path / "shards"


# Paths that lead elsewhere.


@pytest.mark.parametrize("line", ["../secret/a", "c0/../../secret/a", "{root}/secret/a", "~/a"])
def test_a_list_line_reaches_nothing_outside_its_root(tmp_path: Path, line: str) -> None:
    write_recording(tmp_path / "secret" / "a", seed=1)
    write_recording(tmp_path / "raw" / "c0" / "b", seed=2)
    line = line.format(root=tmp_path)
    (tmp_path / "raw" / "train_label.txt").write_text(f"{line} 1 0\nc0/b 1 1\n")

    found = discover([tmp_path / "raw"])

    assert [recording.id for recording in found.recordings] == ["c0/b"]
    assert [name for name, _ in found.missing] == [line]


def test_a_link_in_the_raw_folder_may_lead_out_of_it(tmp_path: Path) -> None:
    write_recording(tmp_path / "disk2" / "c0" / "a", seed=1)
    write_recording(tmp_path / "disk3" / "b", seed=2)
    (tmp_path / "raw" / "c1").mkdir(parents=True)
    (tmp_path / "raw" / "c0").symlink_to(tmp_path / "disk2" / "c0")
    (tmp_path / "raw" / "c1" / "b.bin").symlink_to(tmp_path / "disk3" / "b.bin")

    assert [r.id for r in discover([tmp_path / "raw"]).recordings] == ["c0/a", "c1/b"]


def test_loops_of_links_end(tmp_path: Path) -> None:
    for name in ("c0", "c1"):
        for i in range(2):
            write_recording(tmp_path / "raw" / name / f"{i}", seed=i + ord(name[1]) * 10)
    (tmp_path / "raw" / "c0" / "up").symlink_to(tmp_path / "raw")
    (tmp_path / "raw" / "c0" / "self").symlink_to("self")
    (tmp_path / "raw" / "c0" / "self.bin").symlink_to("self.bin")
    (tmp_path / "raw" / "c1" / "here.csv").symlink_to("there.csv")
    (tmp_path / "raw" / "c1" / "there.csv").symlink_to("here.csv")
    (tmp_path / "raw" / "c1" / "1_aps").symlink_to("1_aps")

    assert sorted(set(harms(tmp_path / "raw"))) == ["unreadable"]


@pytest.mark.parametrize(
    "member", ["x/..", "..", ".", "a/" + 300 * "b" + ".bin", "a\nb\x1b[2J.bin"]
)
def test_a_member_of_a_zip_is_unpacked_nowhere_but_in_its_own_folder(
    tmp_path: Path, member: str
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, b"content")
    source = eventkit.sources.Source(f"zip://{member}::{tmp_path / 'a.zip'}")

    copy = source.local()

    assert copy.read_bytes() == b"content"
    assert copy.resolve().parent == copy.parent.resolve()
    assert copy.parent.name.startswith("eventkit-")


def rewrite_manifest(shards: Path, change) -> None:
    manifest = json.loads((shards / "manifest.json").read_bytes())
    change(manifest)
    manifest["digest"] = manifest_digest(manifest)
    (shards / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["../outside.tar", "/etc/passwd", "train/../../outside.tar"])
def test_a_manifest_cannot_name_a_shard_outside_its_folder(shards: Path, name: str) -> None:
    rewrite_manifest(shards, lambda manifest: manifest["shards"][0].update(name=name))

    with pytest.raises(DamageError, match="outside"):
        load_manifest(shards / "manifest.json")


# What is no file.


def test_pipes_and_devices_are_set_aside_and_nobody_waits(raw: Path, tmp_path: Path, tool) -> None:
    for name in ("pipe.bin", "table.csv", "picture.png"):
        os.mkfifo(raw / "train/c0" / name)
    (raw / "train/c0/zero.bin").symlink_to("/dev/zero")

    result = tool("convert", raw, "--bins", "1", timeout=60)

    assert result.returncode == 3, result.stderr
    assert result.stderr.count("got a pipe or device") == 4
    assert harms(raw).count("unreadable") == 4


# Shards that are not what they say.


@pytest.mark.parametrize("name", ["manifest.json", ".eventkit/plan.json"])
def test_json_nested_deeper_than_python_goes_is_damage(shards: Path, name: str, tool) -> None:
    (shards / name).write_text("[" * 200_000)

    result = tool("shard" if "plan" in name else "verify")

    assert result.returncode in (2, 4)
    assert "Traceback" not in result.stderr
    assert Path(name).name in result.stderr


@pytest.mark.parametrize("kind", ["size", "sparse", "link", "fifo"])
def test_a_member_of_a_tar_that_is_not_what_it_says_takes_no_memory(
    shards: Path, tmp_path: Path, kind: str
) -> None:
    path = next((shards / "train").glob("*.tar"))
    info = tarfile.TarInfo("a.json")
    if kind == "size":
        info.size = 1 << 40
    if kind == "sparse":
        info.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.name": "a.json",
            "GNU.sparse.size": str(1 << 40),
            "GNU.sparse.numblocks": "1",
            "GNU.sparse.map": "0,0",
        }
    if kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    if kind == "fifo":
        info.type = tarfile.FIFOTYPE
    data = info.tobuf(tarfile.PAX_FORMAT) + bytes(10_240)
    path.write_bytes(data)
    entry = {
        "name": path.relative_to(shards).as_posix(),
        "bytes": len(data),
        "sha256": hash_file(path),
        "samples": 0,
    }

    tracemalloc.start()
    problems, _ = check_tar(TarJob(str(shards), {**entry, "crc32c": ""}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert any("a.json" in problem or "Error" in problem for problem in problems)
    assert peak < FEW_BYTES


def test_a_sample_of_json_that_is_too_deep_is_damage(shards: Path) -> None:
    members = ShardSet.open(shards).members("train", 0)

    with pytest.raises(DamageError, match="recursion"):
        decode_sample("a", {**members, "json": b"[" * 200_000})


# Code in data.


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (Path.write_text, (Path(self.path), "boom"))


def test_the_bomb_of_these_tests_goes_off(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "went_off")))

    assert (tmp_path / "went_off").exists()


def object_array(path: Path) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Bomb(path)], object), allow_pickle=True)
    return buffer.getvalue()


def test_no_pickle_is_loaded_from_raw_files(tmp_path: Path) -> None:
    went_off, raw = tmp_path / "went_off", tmp_path / "raw"
    for label in "ab":
        for i in range(2):
            write_recording(raw / label / f"{i}", seed=i + 10 * ord(label), picture=False)
    data = object_array(went_off)
    (raw / "a" / "x.npy").write_bytes(data)
    (raw / "a" / "y.npy").write_bytes(pickle.dumps(Bomb(went_off)))
    (raw / "a" / "z.npz").write_bytes(pickle.dumps(Bomb(went_off)))
    np.savez(raw / "b" / "z.npz", events=np.array([Bomb(went_off)], object))
    with zipfile.ZipFile(raw / "b" / "w.npz", "w") as archive:
        for column in "txyp":
            archive.writestr(f"{column}.npy", data)

    found = audit(raw)

    assert not went_off.exists()
    assert {f.path for f in found.findings if f.kind == "unreadable"} >= {
        "a/z.npz",
        "b/w.npz",
        "b/z.npz",
    }


def test_no_pickle_is_loaded_from_shards(shards: Path, tmp_path: Path) -> None:
    went_off = tmp_path / "went_off"
    members = ShardSet.open(shards).members("train", 0)
    name = next(name for name in members if name.startswith("events.npy"))
    del members[name]

    with pytest.raises(EventKitError):
        decode_sample("a", {**members, "events.npy": object_array(went_off)})

    np.savez(shards / "index" / "train.npz", keys=np.array([Bomb(went_off)], object))
    with pytest.raises(EventKitError):
        ShardSet.open(shards).labels("train")
    assert not went_off.exists()


# Trees.


def test_a_tree_deeper_than_a_path_may_be_long_is_refused_and_found(raw: Path) -> None:
    here = Path.cwd()
    os.chdir(raw / "train" / "c0")
    try:
        for _ in range(20):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
    finally:
        os.chdir(here)

    with pytest.raises(SettingsError, match="expected a folder that can be listed"):
        discover([raw])
    assert "unreadable" in harms(raw)
    shutil.rmtree(raw)


def test_an_audit_of_hostile_files_writes_nothing(raw: Path) -> None:
    (raw / "train/c0/x.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    (raw / "train/c0/y.aedat4").write_bytes(b"#!AER-DAT4.0\r\n" + bytes(100))
    (raw / "train/c0/z.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (raw / "train/c0/w.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    (raw / "train/c0/v.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    before = tree_bytes(raw, hidden=True)

    found = harms(raw)

    assert set(found) == {"unreadable"} or set(found) == {"unreadable", "truncated"}
    assert tree_bytes(raw, hidden=True) == before
