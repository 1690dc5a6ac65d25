"""verify --deep: samples against the store, clips against the raw files, and which have changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import zarr
from crash_helpers import Clean
from helpers import run_tool
from pipelines_helpers import write_recording

from eventkit.shards import ShardSet
from eventkit.store import open_store
from pipelines.executors import open_pool
from pipelines.origin import find_origin
from pipelines.receipts import describe_tree, read_json, receipt_path, write_receipt
from pipelines.verify import Verdict, verify_against_raw, verify_against_store, verify_store
from pipelines.verify.share import share_of


@pytest.fixture
def copy(clean: Clean, tmp_path: Path) -> Path:
    for name in ("raw", "store", "shards"):
        shutil.copytree(clean.folder / name, tmp_path / name)
    return tmp_path


def compare(folder: Path, *, percent: float = 100.0) -> Verdict:
    with open_pool("inline") as pool:
        return verify_against_raw(folder / "store", folder / "raw", pool, percent=percent)


def test_what_was_made_of_the_raw_files_is_found_to_be(copy: Path) -> None:
    done = run_tool("verify", "--deep", cwd=copy)

    assert done.returncode == 0, done.stderr
    assert "24 samples compared, 24 recordings compared, 24 clips compared" in done.stdout


def test_changed_and_lost_raw_files_are_named(copy: Path) -> None:
    changed, lost = copy / "raw/c0/0000.bin", copy / "raw/c1/0001.png"
    data = bytearray(changed.read_bytes())
    data[7] ^= 1
    changed.write_bytes(data)
    lost.unlink()

    done = run_tool("verify", "store", "--deep", "--json", cwd=copy)

    assert done.returncode == 4
    found = json.loads(done.stdout)
    first, second = found["problems"]
    assert first.endswith("raw/c0/0000.bin: expected the file that was converted, it has changed")
    assert second.endswith("raw/c1/0001.png: missing, it was there for convert")
    assert found["totals"]["clips compared"] == 22


@pytest.mark.parametrize(
    ("array", "named"), [("events", "events"), ("label", "label"), ("window_us", "window_us")]
)
def test_a_clip_that_is_not_what_the_recording_holds_is_named(
    copy: Path, array: str, named: str
) -> None:
    """The receipt and the sums agree with what is stored: only the recording tells."""
    store = copy / "store"
    values = zarr.open_group(str(store / "pack-00001.zarr"))[array]
    clip = values[2]
    values[2] = clip + 1 if array != "events" else clip[..., ::-1]
    receipt = read_json(receipt_path(store, "pack-00001"))
    receipt["files"] = describe_tree(store / "pack-00001.zarr", relative_to=store)
    write_receipt(store, "pack-00001", receipt)
    with open_pool("inline") as pool:
        assert verify_store(store, pool).problems == []

    problems = compare(copy).problems

    recording = open_store(store).pack("pack-00001").facts[2]["recording"]
    assert problems == [
        f"{store.resolve()}/pack-00001.zarr: {recording} clip 0: {named} not as in the recording"
    ]


def test_a_sample_that_is_not_what_the_store_holds_is_named(copy: Path) -> None:
    shards = ShardSet.open(copy / "shards")
    index = shards.index("train")
    member = index.member(1, index.fields.index("cls"))
    tar = copy / "shards" / index.shards[int(index.shard[1])]
    data = bytearray(tar.read_bytes())
    data[member.offset] = ord("1") if data[member.offset] != ord("1") else ord("2")
    tar.write_bytes(data)

    with open_pool("inline") as pool:
        found = verify_against_store(copy / "shards", copy / "store", pool)

    key = index.keys[1].decode()
    assert found.problems == [f"{tar.resolve()}: {key}: it is not what the store holds"]


def test_shards_of_another_store_are_told(copy: Path) -> None:
    run_tool("convert", "raw", "--bins", "2", "--out", "other", cwd=copy)

    done = run_tool("verify", "--deep", "--store", "other", cwd=copy)

    assert done.returncode == 4
    assert "expected the store of plan" in done.stderr


def test_a_moved_raw_folder_is_asked_for_and_given(copy: Path) -> None:
    (copy / "raw").rename(copy / "elsewhere")

    asked = run_tool("verify", "store", "--deep", cwd=copy)
    given = run_tool("verify", "store", "--deep", "--raw", "elsewhere", cwd=copy)

    assert asked.returncode == 2
    assert "give --raw RAW" in asked.stderr
    assert given.returncode == 0, given.stderr


def test_folders_that_move_together_find_each_other(copy: Path) -> None:
    assert find_origin(copy / "store", None, option="") == copy / "store" / "../raw"
    assert find_origin(copy / "shards", None, option="") == copy / "shards" / "../store"


def test_a_sample_of_a_large_set_is_the_same_every_time_and_never_empty(copy: Path) -> None:
    names = [f"recording {i}" for i in range(10_000)]
    some = share_of(names, 5.0)

    assert some == share_of(names[::-1], 5.0)
    assert 400 < len(some) < 600
    assert share_of(names, 1.0) < some
    assert compare(copy, percent=0.001).totals["recordings compared"] == 1


def test_options_of_deep_without_it_are_refused(copy: Path) -> None:
    done = run_tool("verify", "--sample", "1%", cwd=copy)

    assert done.returncode == 2
    assert "expected --deep with --sample" in done.stderr


def test_a_recording_that_was_set_aside_is_not_decoded(tmp_path: Path) -> None:
    for name in ("a/a0", "a/a1", "b/b0", "b/b1"):
        write_recording(tmp_path / "raw" / name, seed=1)
    (tmp_path / "raw/a/a1.bin").write_bytes(b"abc")  # told by the scan
    picture = tmp_path / "raw/b/b1.png"
    (tmp_path / "raw/b/b1").mkdir()
    for i in range(3):
        shutil.copy(picture, picture.with_suffix("") / f"{i}.png")
    picture.unlink()
    (tmp_path / "raw/b/b1/2.png").write_bytes(b"\x89PNG\r\n\x1a\n")  # told when it is decoded
    assert run_tool("convert", "raw", "--raw-events", cwd=tmp_path).returncode == 3
    lists = [read_json(p)["quarantine"] for p in (tmp_path / "store").rglob("receipts/*.json")]
    assert [entry["recording"] for entries in lists for entry in entries] == ["b/b1"]

    found = compare(tmp_path)

    assert found.problems == []
    assert found.totals["clips compared"] == 2
