"""An opened folder of shards: any sample at once, from any thread or process; damage is named."""

from __future__ import annotations

import json
import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_sets import PER_SHARD, make_sample, write

from eventkit.errors import DamageError, MissingDataError
from eventkit.samples import encode_sample
from eventkit.shards import MANIFEST, MANIFEST_KIND, SampleIndex, ShardSet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train = [make_sample(i) for i in range(10)]
    return write(tmp_path / "shards", {"train": train, "test": [make_sample(50)]})


def test_what_is_in_the_set_is_told_without_opening_a_tar(folder: Path) -> None:
    for tar in folder.rglob("*.tar"):
        tar.unlink()

    shards = ShardSet.open(folder)

    assert shards.splits == ("test", "train")
    assert shards.class_names == {0: "ant", 1: "bee", 2: "cat"}
    assert (shards.num_samples("train"), shards.num_samples("test")) == (10, 1)
    assert shards.labels("train").tolist() == [i % 3 for i in range(10)]
    assert shards.keys("test").tolist() == ["rec050_000000"]


def test_every_sample_comes_back_from_anywhere_in_the_set(folder: Path) -> None:
    shards = ShardSet.open(folder)

    for i in (9, 0, 4, 3, 9):
        found, written = shards.sample("train", i), make_sample(i)
        assert (found.key, found.label, found.meta) == (written.key, written.label, written.meta)
        assert np.array_equal(found.events, written.events)
        assert found.rgb == written.rgb
    assert shards.sample("test", 0).meta == {"number": 50}


def test_members_are_the_bytes_of_the_tar(folder: Path) -> None:
    assert ShardSet.open(folder).members("train", 5) == encode_sample(make_sample(5))


def test_threads_may_share_a_set(folder: Path) -> None:
    shards = ShardSet.open(folder)
    order = np.random.default_rng(0).permutation(np.arange(10).repeat(20)).tolist()

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda i: shards.sample("train", i).meta["number"], order))

    assert numbers == order


def test_a_pickled_set_opens_its_own_files(folder: Path) -> None:
    shards = ShardSet.open(folder)
    shards.sample("train", 0)

    data = pickle.dumps(shards)
    copy = pickle.loads(data)
    shards.close()

    assert copy.sample("train", 7).meta == {"number": 7}
    assert copy.splits == shards.splits
    # The path, no manifest, no index and no file handle.
    assert len(data) < 500


def test_a_closed_set_opens_its_files_again(folder: Path) -> None:
    shards = ShardSet.open(folder)
    shards.sample("train", 0)

    shards.close()
    shards.close()

    assert shards.sample("train", 0).meta == {"number": 0}


def test_an_unknown_split_is_named_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(MissingDataError, match="split among test, train, got 'val'"):
        ShardSet.open(folder).labels("val")


def test_no_folder_and_unfinished_shards_say_what_to_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such folder; `eventkit convert RAW`"):
        ShardSet.open(tmp_path / "nowhere")
    (folder / MANIFEST).unlink()
    (folder / ".eventkit").mkdir(exist_ok=True)
    with pytest.raises(MissingDataError, match="not finished; run `eventkit shard` again"):
        ShardSet.open(folder)


def test_another_folder_is_told_from_unfinished_shards(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="expected a folder that `eventkit shard` made"):
        ShardSet.open(tmp_path)
    (tmp_path / "pack-00000.zarr").mkdir()
    with pytest.raises(MissingDataError, match="a store of `eventkit convert`; `eventkit shard`"):
        ShardSet.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '"text"',
        '{"kind": "another", "schema": 1}',
        f'{{"kind": "{MANIFEST_KIND}", "schema": 999}}',
    ],
)
def test_a_manifest_that_is_none_is_damage(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_text(content)

    with pytest.raises(DamageError, match=r"manifest\.json: expected"):
        ShardSet.open(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("splits", None), ("classes", None), ("classes", {"ant": 0}), ("shards", None)],
)
def test_a_manifest_without_its_parts_is_damage(folder: Path, key: str, value: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest[key] = value
    if value is None:
        del manifest[key]
    (folder / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(DamageError, match=r"manifest\.json: expected"):
        ShardSet.open(folder).sample("train", 0)


@pytest.mark.parametrize("damage", ["missing", "cut", "no index"])
def test_a_damaged_index_is_damage(folder: Path, damage: str) -> None:
    file = folder / "index" / "train.npz"
    data = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(data[: len(data) // 2] if damage == "cut" else b"no index")

    with pytest.raises(DamageError, match=r"train\.npz: expected a sample index"):
        ShardSet.open(folder).num_samples("train")


def test_a_cut_shard_is_damage_before_anything_is_read(folder: Path) -> None:
    tar = folder / "train" / "train-000001.tar"
    size = tar.stat().st_size
    with tar.open("r+b") as file:
        file.truncate(size - 512)
    shards = ShardSet.open(folder)

    assert shards.sample("train", 0).label == 0
    with pytest.raises(DamageError, match=rf"train-000001\.tar: expected {size} bytes, got"):
        shards.sample("train", PER_SHARD)


def reflow(tar: Path, change: str) -> None:
    """Damage a tar so that its size stays."""
    data = bytearray(tar.read_bytes())
    if change == "set to its size, then filled in part":
        data[2048:] = bytes(len(data) - 2048)
    elif change == "another set of the same size":
        data[512:] = data[:-512]
    else:
        data[-1] = 1
    tar.write_bytes(data)


@pytest.mark.parametrize(
    "change",
    ["set to its size, then filled in part", "another set of the same size", "ends in data"],
)
def test_a_shard_of_the_right_size_that_is_not_whole_is_damage(folder: Path, change: str) -> None:
    reflow(folder / "train" / "train-000000.tar", change)

    with pytest.raises(DamageError, match=r"train-000000\.tar: expected to end with rec003_000000"):
        ShardSet.open(folder).members("train", 0)


def test_a_flipped_byte_is_seen_when_shards_are_verified_on_read(folder: Path) -> None:
    tar = folder / "train" / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[520] ^= 1  # in a member's data: neither size nor ends tell
    tar.write_bytes(data)

    ShardSet.open(folder).members("train", 1)
    with pytest.raises(
        DamageError, match=r"train-000000\.tar: expected sha256 \w+, got \w+; shard"
    ):
        ShardSet.open(folder, verify_on_read=True).members("train", 1)
    assert ShardSet.open(folder, verify_on_read=True).members("train", PER_SHARD)


def test_more_shards_than_a_process_may_open_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventkit.shard_files.MOST_OPEN", 3)
    folder = write(tmp_path / "many", {"train": [make_sample(i) for i in range(40)]})
    shards = ShardSet.open(folder)
    before = len(list(Path("/proc/self/fd").iterdir()))

    with ThreadPoolExecutor(4) as pool:
        order = np.random.default_rng(0).permutation(np.arange(40).repeat(5)).tolist()
        numbers = list(pool.map(lambda i: shards.sample("train", i).meta["number"], order))

    assert numbers == order
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 3


def test_a_forked_process_reads_though_a_lock_was_held_when_it_was_forked(folder: Path) -> None:
    shards = ShardSet.open(folder)
    shards.sample("train", 0)

    with shards._files._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if shards.sample("train", 7).meta == {"number": 7} else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_set_that_was_made_anew_is_not_taken_for_the_one_that_was_pickled(folder: Path) -> None:
    data = pickle.dumps(ShardSet.open(folder))
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "plan_id": "another"}))

    with pytest.raises(DamageError, match=r"expected the set .* made anew"):
        pickle.loads(data)


def test_a_missing_shard_is_damage(folder: Path) -> None:
    (folder / "train" / "train-000000.tar").unlink()

    with pytest.raises(DamageError, match="the manifest lists this shard, it is not there"):
        ShardSet.open(folder).sample("train", 0)


def test_a_damaged_sample_is_named(folder: Path) -> None:
    shards = ShardSet.open(folder)
    index = SampleIndex.load(folder / "index" / "train.npz")
    at = int(index.offset[2, index.fields.index("events.npy.gz")])
    with (folder / "train" / "train-000000.tar").open("r+b") as file:
        file.seek(at)
        file.write(b"damage")

    with pytest.raises(DamageError, match="sample rec002_000000: "):
        shards.sample("train", 2)
    assert shards.sample("train", 1).meta == {"number": 1}


def test_an_index_that_points_past_its_shard_is_damage(folder: Path) -> None:
    file = folder / "index" / "train.npz"
    with np.load(file) as arrays:
        changed = dict(arrays)
    changed["offset"] = changed["offset"] + (1 << 30)
    np.savez(file, **changed)

    with pytest.raises(DamageError, match=r"train-000000\.tar: expected to end with rec003_"):
        ShardSet.open(folder).sample("train", 0)
