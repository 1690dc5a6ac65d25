"""The order of a commit, as the system calls of real runs show it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from crash_helpers import Clean, write_raw

from pipelines.cli_convert import convert
from pipelines.cli_shard import shard
from pipelines.receipts import read_receipt, receipt_path, withdraw_receipt, write_receipt

Call = tuple[str, str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What is brought to the disk, and what is renamed to what, in order."""
    seen: list[Call] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(file: int) -> None:
        fsync(file)
        seen.append(("fsync", str(Path(f"/proc/self/fd/{file}").readlink())))

    def noted_replace(source: str | Path, target: str | Path) -> None:
        assert ("fsync", os.path.realpath(source)) in seen or "zarr" in str(target)
        replace(source, target)
        seen.append(("rename", os.path.realpath(target)))

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    return seen


def run(command: object, *arguments: object) -> None:
    done = CliRunner().invoke(command, [str(a) for a in (*arguments, "--executor", "inline")])
    assert done.exit_code == 0, done.output


def receipts(folder: Path) -> Iterator[tuple[Path, dict]]:
    for path in sorted((folder / ".eventkit" / "receipts").iterdir()):
        yield path, json.loads(path.read_bytes())


def test_a_pack_and_the_way_to_it_are_on_the_disk_before_its_receipt(
    tmp_path: Path, calls: list[Call]
) -> None:
    run(convert, write_raw(tmp_path / "raw", recordings=4), "--out", tmp_path / "a" / "store")

    store = tmp_path / "a" / "store"
    for path, receipt in receipts(store):
        commit = calls.index(("rename", str(path)))
        assert calls[commit + 1] == ("fsync", str(path.parent))
        before = {name for kind, name in calls[:commit] if kind == "fsync"}
        files = {store / entry["path"] for entry in receipt["files"]}
        folders = {folder for file in files for folder in file.parents}
        assert {str(file) for file in files} <= before
        assert {str(f) for f in folders if f.is_relative_to(tmp_path)} <= before


def test_a_tar_its_indexes_its_receipt_and_last_the_manifest(
    clean: Clean, tmp_path: Path, calls: list[Call]
) -> None:
    shards = tmp_path / "shards"
    run(shard, clean.folder / "store", "--out", shards, "--num-shards", "3")

    for path, receipt in receipts(shards):
        commit = calls.index(("rename", str(path)))
        assert calls[commit + 1] == ("fsync", str(path.parent))
        for entry in receipt["files"]:
            file = shards / entry["path"]
            renamed = calls.index(("rename", str(file)))
            assert calls[renamed + 1] == ("fsync", str(file.parent))
            assert renamed < commit
    assert calls[-2:] == [("rename", str(shards / "manifest.json")), ("fsync", str(shards))]


def test_a_receipt_is_withdrawn_durably(tmp_path: Path, calls: list[Call]) -> None:
    write_receipt(tmp_path, "unit", {"plan_id": "p", "files": []})
    assert read_receipt(tmp_path, "unit", plan_id="p") is not None

    withdraw_receipt(tmp_path, "unit")

    assert read_receipt(tmp_path, "unit", plan_id="p") is None
    assert calls[-1] == ("fsync", str(receipt_path(tmp_path, "unit").parent))


def test_a_receipt_that_is_not_what_was_written_is_none(tmp_path: Path) -> None:
    write_receipt(tmp_path, "unit", {"plan_id": "p", "files": [], "clips": 3})
    path = receipt_path(tmp_path, "unit")
    path.write_bytes(path.read_bytes().replace(b'"clips":3', b'"clips":4'))

    assert read_receipt(tmp_path, "unit", plan_id="p") is None


def test_files_of_a_set_can_be_read_by_those_who_may_read_others(clean: Clean) -> None:
    umask = os.umask(0)
    os.umask(umask)
    for name in ("manifest.json", "train/train-000000.tar", ".eventkit/plan.json"):
        mode = stat.S_IMODE((clean.folder / "shards" / name).stat().st_mode)
        assert mode == 0o666 & ~umask
