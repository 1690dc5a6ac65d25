"""What other readers are given, held against the tars as the standard library reads them."""

from __future__ import annotations

import hashlib
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from pipelines_helpers import tree_bytes, write_recording

from eventkit.errors import SettingsError
from eventkit.shards import SampleIndex, load_manifest
from eventkit.store import open_store
from pipelines.cli_convert import convert
from pipelines.cli_shard import shard
from pipelines.cli_verify import verify
from pipelines.executors import open_pool
from pipelines.finish import finish, listed_files
from pipelines.shard_plan import plan_shards
from pipelines.shard_settings import ShardSettings
from pipelines.shard_task import check_fields
from pipelines.verify import verify_shards


def call(command: object, *arguments: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes")
    for i in range(36):
        write_recording(folder / "raw" / f"c{i % 3}" / f"{i:03d}", seed=i, events=50)
    call(convert, folder / "raw", "--out", folder / "store", "--bins", "3")
    return folder / "store"


@pytest.fixture(scope="module")
def shards(store: Path) -> Path:
    out = store.with_name("shards")
    call(shard, store, "--out", out, "--num-shards", "3")
    return out


def members_of(tar: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(tar) as opened:
        return opened.getmembers()


def samples_of(tar: Path) -> dict[str, list[tarfile.TarInfo]]:
    found: dict[str, list[tarfile.TarInfo]] = {}
    for member in members_of(tar):
        found.setdefault(member.name.partition(".")[0], []).append(member)
    return found


def tars_of(shards: Path) -> list[Path]:
    return sorted(shards.rglob("*.tar"))


def test_the_index_of_dali_is_that_of_wds2idx(shards: Path) -> None:
    assert len(tars_of(shards)) > 3
    for tar in tars_of(shards):
        samples = samples_of(tar)
        lines = [f"v1.2 {len(samples)}"] + [
            " ".join(f"{m.name.split('.', 1)[1]} {m.offset_data} {m.size} {m.name}" for m in parts)
            for parts in samples.values()
        ]

        found = (shards / "index" / "dali" / f"{tar.stem}.idx").read_text()

        assert found == "\n".join(lines) + "\n"


def test_the_index_of_energon_has_every_start_and_the_end(shards: Path) -> None:
    for tar in tars_of(shards):
        samples = list(samples_of(tar).values())
        last = samples[-1][-1]
        end = last.offset_data + -(-last.size // 512) * 512

        found = tar.with_name(f"{tar.name}.idx").read_bytes()

        expected = [parts[0].offset for parts in samples] + [end]
        assert list(struct.unpack(f"<{len(expected)}Q", found)) == expected


def test_the_metadata_of_energon_lists_every_tar_once(shards: Path) -> None:
    meta = shards / ".nv-meta"
    names = [tar.relative_to(shards).as_posix() for tar in tars_of(shards)]

    info = json.loads((meta / ".info.json").read_text())
    split = yaml.safe_load((meta / "split.yaml").read_text())
    kind = yaml.safe_load((meta / "dataset.yaml").read_text())

    assert info["shard_counts"] == {n: len(samples_of(shards / n)) for n in names}
    assert {s: [n for n in names if n.startswith(f"{s}/")] for s in ("train", "val", "test")} == (
        split["split_parts"]
    )
    assert kind["__class__"] == "CrudeWebdataset"
    assert len((meta / "index.uuid").read_text()) == 36


def test_the_index_of_wids_says_size_count_and_md5(shards: Path) -> None:
    for split in ("train", "val", "test"):
        index = json.loads((shards / f"wids-{split}.json").read_text())
        assert index["__kind__"] == "wids-shard-index-v1"
        for listed in index["shardlist"]:
            data = (shards / listed["url"]).read_bytes()
            assert listed["filesize"] == len(data)
            assert listed["nsamples"] == len(samples_of(shards / listed["url"]))
            assert listed["md5sum"] == hashlib.md5(data).hexdigest()
        assert len(index["shardlist"]) == len(list((shards / split).glob("*.tar")))


def test_our_own_index_has_the_place_of_every_member(shards: Path) -> None:
    for split in ("train", "val", "test"):
        index = SampleIndex.load(shards / "index" / f"{split}.npz")
        members = [m for name in index.shards for m in members_of(shards / name)]
        assert index.offset.ravel().tolist() == [m.offset_data for m in members]
        assert index.size.ravel().tolist() == [m.size for m in members]


def test_the_card_leads_hugging_face_to_the_tars_and_to_nothing_else(shards: Path) -> None:
    text = (shards / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])

    (config,) = head["configs"]
    found = {entry["split"]: sorted(shards.glob(entry["path"])) for entry in config["data_files"]}

    assert {name: len(files) for name, files in found.items()} == {
        "train": 3,
        "validation": len(list((shards / "val").glob("*.tar"))),
        "test": len(list((shards / "test").glob("*.tar"))),
    }
    assert all(file.suffix == ".tar" for files in found.values() for file in files)


def test_the_manifest_lists_every_file_with_size_and_hash(shards: Path) -> None:
    manifest = load_manifest(shards / "manifest.json")

    listed = {entry["path"]: entry for entry in listed_files(manifest)}

    files = tree_bytes(shards)
    assert set(listed) == set(files) - {"manifest.json"}
    for path, entry in listed.items():
        assert entry["bytes"] == len(files[path])
        assert entry["sha256"] == hashlib.sha256(files[path]).hexdigest()


def test_indexes_are_made_without_reading_a_tar(store: Path, shards: Path) -> None:
    before = tree_bytes(shards)
    plan = plan_shards(open_store(store), ShardSettings(num_shards=3), out=shards)
    tars = {path: path.read_bytes() for path in tars_of(shards)}
    for path, data in tars.items():
        path.write_bytes(bytes(len(data)))

    finish(shards, plan)

    for path, data in tars.items():
        path.write_bytes(data)
    assert tree_bytes(shards) == before


@pytest.mark.parametrize("victim", ["train/train-000000.tar.idx", "index/dali/train-000001.idx"])
def test_a_lost_index_is_made_again(store: Path, shards: Path, victim: str) -> None:
    before = tree_bytes(shards)
    (shards / victim).unlink()

    call(shard, store, "--out", shards, "--num-shards", "3")

    assert tree_bytes(shards) == before


@pytest.mark.parametrize("victim", ["wids-train.json", ".nv-meta/split.yaml", "README.md"])
def test_a_changed_index_is_made_again(store: Path, shards: Path, victim: str) -> None:
    before = tree_bytes(shards)
    data = bytearray((shards / victim).read_bytes())
    data[len(data) // 2] ^= 1
    (shards / victim).write_bytes(data)

    call(shard, store, "--out", shards, "--num-shards", "3")

    assert tree_bytes(shards) == before


@pytest.mark.parametrize(
    "victim",
    ["train/train-000000.tar.idx", "index/dali/train-000001.idx", "wids-val.json", "README.md"],
)
@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_verify_names_an_index_that_is_damaged(shards: Path, victim: str, damage: str) -> None:
    data = (shards / victim).read_bytes()
    if damage == "flip":
        (shards / victim).write_bytes(bytes([data[0] ^ 1]) + data[1:])
    else:
        (shards / victim).unlink()

    with open_pool("inline") as pool:
        problems = verify_shards(shards, pool).problems

    (shards / victim).write_bytes(data)
    assert len(problems) == 1
    assert victim in problems[0]


def test_without_md5_wids_has_none_and_the_tars_are_hashed_all_the_same(
    store: Path, tmp_path: Path
) -> None:
    call(shard, store, "--out", tmp_path / "out", "--no-md5")

    index = json.loads((tmp_path / "out" / "wids-train.json").read_text())
    assert "md5sum" not in index["shardlist"][0]
    (first, *_) = load_manifest(tmp_path / "out" / "manifest.json")["shards"]
    assert set(first) >= {"sha256", "crc32c", "bytes"}
    assert "md5" not in first


@pytest.mark.parametrize("codec", ["npy", "npy.zst"])
def test_other_codecs_hold_the_same_frames(
    store: Path, shards: Path, codec: str, tmp_path: Path
) -> None:
    from eventkit.shards import ShardSet

    call(shard, store, "--out", tmp_path / "out", "--codec", codec)
    call(verify, tmp_path / "out")

    ours, reference = ShardSet.open(tmp_path / "out"), ShardSet.open(shards)
    assert ours.keys("train").tolist() == reference.keys("train").tolist()
    assert f"events.{codec}" in ours.members("train", 0)
    for i in range(ours.num_samples("train")):
        mine, theirs = ours.sample("train", i), reference.sample("train", i)
        assert np.array_equal(mine.events, theirs.events)
        assert mine.rgb == theirs.rgb


def test_other_members_than_those_before_are_refused() -> None:
    check_fields("b", ["cls", "json"], ["cls", "json"])
    with pytest.raises(SettingsError, match="b: expected the members cls, json as in the samples"):
        check_fields("b", ["cls"], ["cls", "json"])
