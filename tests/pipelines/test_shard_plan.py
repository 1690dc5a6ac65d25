"""The plan of shards: mixed order, even shards, sizes as asked for."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import pytest
from pipelines_helpers import write_recording
from test_indexes import call

from eventkit.errors import SettingsError
from eventkit.shards import ShardSet
from eventkit.store import Store, open_store
from pipelines.cli_convert import convert
from pipelines.cli_shard import shard
from pipelines.receipts import read_plan, write_plan
from pipelines.shard_plan import Order, plan_shards
from pipelines.shard_settings import ShardSettings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sorted by class as folders are, one recording cut into several clips."""
    folder = tmp_path_factory.mktemp("plan")
    for i in range(60):
        write_recording(folder / "raw" / f"c{i // 20}" / f"{i:03d}", seed=i, events=60)
    call(convert, folder / "raw", "--out", folder / "store", "--clip-us", "100000")
    return folder / "store"


def keys_of(store: Path, out: Path, **settings: int | str) -> list[str]:
    plan = plan_shards(open_store(store), ShardSettings(**settings), out=out)
    opened = open_store(store)
    return [
        f"{facts['recording']}#{facts['clip']}"
        for part in plan["parts"]
        for pack, number in part.clips()
        for facts in [opened.pack(pack).facts[number]]
    ]


def test_samples_are_sorted_by_the_hash_of_seed_recording_and_clip(
    store: Path, tmp_path: Path
) -> None:
    opened = open_store(store)
    facts = [f for name in opened.names for f in opened.pack(name).facts]

    def rank(f: dict) -> bytes:
        return hashlib.sha256(f"7:{f['recording']}:{f['clip']}".encode()).digest()

    expected = [
        f"{f['recording']}#{f['clip']}"
        for split in ("test", "train", "val")
        for f in sorted((f for f in facts if f["split"] == split), key=rank)
    ]

    assert keys_of(store, tmp_path, seed=7) == expected
    assert keys_of(store, tmp_path, seed=8) != expected


def test_packs_are_mixed_a_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.plan.PACK_CLIPS", 10)
    monkeypatch.setattr("pipelines.shard_plan.MIXED_PACKS", 2)
    for i in range(60):
        write_recording(tmp_path / "raw" / f"c{i // 20}" / f"{i:03d}", seed=i, events=60)
    call(convert, tmp_path / "raw", "--out", tmp_path / "store")
    opened = open_store(tmp_path / "store")
    home = {facts["recording"]: n for n in opened.names for facts in opened.pack(n).facts}

    keys = keys_of(tmp_path / "store", tmp_path, mix="packs")
    whole = keys_of(tmp_path / "store", tmp_path)

    assert sorted(keys) == sorted(whole)
    assert "mix" not in ShardSettings().as_dict()
    train = [home[key.split("#")[0]] for key in keys if split_of(opened, key) == "train"]
    # A group is left for good: two packs are open at a time, and all come.
    last = {pack: max(i for i, p in enumerate(train) if p == pack) for pack in set(train)}
    first = {pack: train.index(pack) for pack in set(train)}
    open_at_once = [sum(first[p] <= i <= last[p] for p in last) for i in range(len(train))]
    assert max(open_at_once) == 2
    assert len(set(train)) == 6


def split_of(store: Store, key: str) -> str:
    return store[key.split("#")[0]][0].split


def test_every_shard_mixes_classes_and_holds_the_same_number(store: Path, tmp_path: Path) -> None:
    call(shard, store, "--out", tmp_path / "out", "--num-shards", "4")

    shards = ShardSet.open(tmp_path / "out")
    counts = [s["samples"] for s in shards.manifest["shards"] if s["name"].startswith("train/")]
    labels = shards.labels("train")
    first = 0
    assert len(counts) == 4
    assert max(counts) - min(counts) <= 1
    for count in counts:
        assert set(labels[first : first + count].tolist()) == {0, 1, 2}
        first += count


def test_clips_of_one_recording_share_their_split(store: Path) -> None:
    opened = open_store(store)
    splits: dict[str, set[str]] = {}
    for name in opened.names:
        for facts in opened.pack(name).facts:
            splits.setdefault(facts["recording"], set()).add(facts["split"])

    assert len(opened) > len(splits)
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize("codec", ["npy", "npy.gz"])
def test_shards_have_about_the_size_that_was_asked_for(
    store: Path, tmp_path: Path, codec: str
) -> None:
    wanted = 1 << 18
    call(shard, store, "--out", tmp_path / "o", "--codec", codec, "--shard-bytes", wanted)

    facts = ShardSet.open(tmp_path / "o").manifest["splits"]["train"]
    mean = facts["bytes"] / facts["shards"]
    assert facts["shards"] > 1
    assert 0.7 * wanted < mean < 1.2 * wanted


def test_a_small_set_is_one_shard_a_split_unless_asked(store: Path, tmp_path: Path) -> None:
    said = call(shard, store, "--out", tmp_path / "out")

    splits = ShardSet.open(tmp_path / "out").manifest["splits"]
    assert splits["val"]["shards"] == splits["test"]["shards"] == 1
    assert splits["train"]["shards"] <= splits["train"]["samples"] // 32
    assert "note: train has" in said


def test_a_rerun_keeps_the_number_of_shards_of_the_plan(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(shard, store, "--out", out)
    plan = read_plan(out)
    assert plan is not None
    plan["counts"]["train"] = 5
    write_plan(out, plan)

    again = plan_shards(open_store(store), ShardSettings(), out=out)

    assert sum(part.name.startswith("train/") for part in again["parts"]) == 5


def test_the_parts_of_a_split_are_its_order_cut_up(store: Path, tmp_path: Path) -> None:
    plan = plan_shards(open_store(store), ShardSettings(num_shards=7), out=tmp_path)

    parts = [part for part in plan["parts"] if part.name.startswith("train/")]
    order: Order = parts[0].order
    assert parts[0].start == 0
    assert parts[-1].stop == len(order)
    assert all(before.stop == after.start for before, after in pairwise(parts))
    assert order.pack.nbytes + order.number.nbytes == 8 * len(order)


def test_two_clips_of_one_key_are_refused_before_anything_is_written(
    store: Path, tmp_path: Path
) -> None:
    opened = open_store(store)
    twice = Store(opened.path, [opened.names[0], opened.names[0]])

    with pytest.raises(SettingsError, match=r"expected a key for every clip, got .* twice"):
        plan_shards(twice, ShardSettings(), out=tmp_path)
