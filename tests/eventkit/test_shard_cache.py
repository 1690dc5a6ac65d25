"""Shards behind a URL: fetched whole, checked, kept within a bound, by any number of processes."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from shard_sets import PER_SHARD, make_sample, write

from eventkit.errors import DamageError, MissingDataError, SettingsError
from eventkit.shard_cache import ShardCache
from eventkit.shards import MANIFEST, ShardSet

NUM = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "shards", {"train": [make_sample(i) for i in range(NUM)]})


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """The set in a file system of fsspec that is no folder."""
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/set", recursive=True)
    yield "memory://bucket/set"
    memory.rm("/bucket", recursive=True)


def tars(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*.tar")}


def size_of(folder: Path, number: int = 0) -> int:
    return (folder / "train" / f"train-{number:06d}.tar").stat().st_size


def numbers(shards: ShardSet) -> list[int]:
    return [shards.sample("train", i).meta["number"] for i in range(NUM)]


def test_a_set_behind_a_url_reads_like_a_folder(url: str, folder: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(url, cache=tmp_path / "cache")

    assert tars(tmp_path / "cache") == set()
    assert shards.num_samples("train") == NUM
    assert shards.members("train", 5) == ShardSet.open(folder).members("train", 5)
    hashes = [entry["sha256"] for entry in shards.manifest["shards"]]
    assert tars(tmp_path / "cache") == {f"{hashes[1]}.tar"}
    assert numbers(shards) == list(range(NUM))
    assert tars(tmp_path / "cache") == {f"{sha256}.tar" for sha256 in hashes}


def test_what_is_cached_is_not_fetched_again(url: str, tmp_path: Path) -> None:
    numbers(ShardSet.open(url, cache=tmp_path / "cache"))
    fsspec.filesystem("memory").rm("/bucket/set/train", recursive=True)

    assert numbers(ShardSet.open(url, cache=tmp_path / "cache")) == list(range(NUM))


def test_a_cached_shard_that_was_cut_is_fetched_again(url: str, tmp_path: Path) -> None:
    numbers(ShardSet.open(url, cache=tmp_path / "cache"))
    for path in (tmp_path / "cache").glob("*.tar"):
        path.write_bytes(path.read_bytes()[:-512])

    assert numbers(ShardSet.open(url, cache=tmp_path / "cache")) == list(range(NUM))


def test_a_shard_that_is_not_the_manifests_is_damage_and_nothing_of_it_stays(
    url: str, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    data = memory.cat("/bucket/set/train/train-000001.tar")
    memory.pipe("/bucket/set/train/train-000001.tar", data[:600] + b"x" + data[601:])
    shards = ShardSet.open(url, cache=tmp_path / "cache")

    with pytest.raises(DamageError, match=r"train-000001\.tar: expected sha256 \w+, got \w+ of"):
        shards.members("train", PER_SHARD)
    assert tars(tmp_path / "cache") == set()
    assert not list((tmp_path / "cache").glob(".tmp-*"))


def test_a_transfer_that_was_cut_once_is_repeated(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ShardCache._open
    seen: set[str] = set()

    def cut(self: ShardCache, name: str) -> object:
        file = whole(self, name)
        if name.endswith(".tar") and name not in seen:
            seen.add(name)
            file.seek(1024)
        return file

    monkeypatch.setattr(ShardCache, "_open", cut)

    assert ShardSet.open(url, cache=tmp_path / "cache").sample("train", 0).meta == {"number": 0}
    assert seen == {"train/train-000000.tar"}


def test_the_cache_stays_within_its_bound_and_touches_nothing_else(
    url: str, folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "thesis.tar").write_bytes(bytes(100_000))
    bound = 2 * max(size_of(folder, n) for n in range(3)) + 10_000  # and the index
    shards = ShardSet.open(url, cache=cache, cache_bytes=bound)

    with ThreadPoolExecutor(4) as pool:
        order = np.random.default_rng(0).permutation(np.arange(NUM).repeat(4)).tolist()
        found = list(pool.map(lambda i: shards.sample("train", i).meta["number"], order))
    shards.close()
    assert numbers(shards) == list(range(NUM))

    assert found == order
    assert len(tars(cache)) == 3  # two shards and the thesis
    assert (cache / "thesis.tar").stat().st_size == 100_000


def test_a_shard_larger_than_the_cache_says_what_to_raise(url: str, tmp_path: Path) -> None:
    shards = ShardSet.open(url, cache=tmp_path / "cache", cache_bytes=5000)

    with pytest.raises(SettingsError, match=r"got 5000; raise cache_bytes"):
        shards.members("train", 0)


def test_a_url_without_a_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"memory://none/manifest\.json: no such file"):
        ShardSet.open("memory://none", cache=tmp_path)
    with pytest.raises(SettingsError, match="URL that fsspec opens"):
        ShardSet.open("nosuch://none", cache=tmp_path)


def test_a_manifest_without_hashes_is_refused_before_anything_is_fetched(
    folder: Path, tmp_path: Path
) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    for entry in manifest["shards"]:
        del entry["sha256"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    shards = ShardSet.open(f"file://{folder}", cache=tmp_path / "cache")

    with pytest.raises(DamageError, match="expected a sha256 in the manifest"):
        shards.members("train", 0)


def read_all(data: bytes) -> list[int]:
    return numbers(pickle.loads(data))


def test_processes_share_a_cache(folder: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(
        f"file://{folder}", cache=tmp_path / "cache", cache_bytes=2 * size_of(folder) + 10_000
    )
    context = multiprocessing.get_context("spawn")

    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(read_all, [pickle.dumps(shards)] * 4))

    assert found == [list(range(NUM))] * 4
    assert not list((tmp_path / "cache").glob(".tmp-*"))
    assert 1 <= len(tars(tmp_path / "cache")) <= 3


def test_a_set_in_an_object_store_is_read_through_the_cache(folder: Path, tmp_path: Path) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.mkdir("sets")
        store.put(str(folder), "sets/digits", recursive=True)
        shards = ShardSet.open("s3://sets/digits", cache=tmp_path / "cache")
        context = multiprocessing.get_context("fork")

        first = numbers(shards)
        for tar in (tmp_path / "cache").glob("*.tar"):
            tar.unlink()
        # A forked process makes clients of its own; those of the parent would hang in it.
        with context.Pool(1) as pool:
            forked = pool.apply_async(numbers, (shards,)).get(timeout=60)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()

    assert first == forked == list(range(NUM))
