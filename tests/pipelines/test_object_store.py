"""A bucket as raw folder, store and shards: the bytes of a disk, whatever breaks on the way."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from crash_helpers import Clean, finish, run_clean, struck
from helpers import run_tool, start_tool
from s3_helpers import BUCKET, ObjectStore, assert_as_on_disk, object_store

import eventkit
from eventkit.errors import DamageError, MissingDataError

SEED = int(os.environ.get("EVENTKIT_SEED", "0"))
SHARD = ("--num-shards", "6")


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return run_clean(tmp_path_factory.mktemp("clean"))


@pytest.fixture
def place(bucket: ObjectStore, request: pytest.FixtureRequest) -> str:
    """A prefix of this test alone."""
    return f"{request.node.name}-{random.getrandbits(32):08x}".replace("[", "-").replace("]", "")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this machine keeps what is on its way."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def url(place: str, name: str) -> str:
    return f"s3://{BUCKET}/{place}/{name}"


def left_on(scratch: Path) -> list[str]:
    return [path.name for path in scratch.rglob("*") if path.is_file()]


def test_the_road_over_a_bucket_leaves_the_bytes_of_a_disk(
    bucket: ObjectStore, place: str, clean: Clean, tmp_path: Path, scratch: Path
) -> None:
    bucket.upload(clean.folder / "raw", f"{place}/raw")
    said, _ = finish("convert", url(place, "raw"), "--out", url(place, "store"), cwd=tmp_path)
    finish("shard", url(place, "store"), "--out", url(place, "shards"), *SHARD, cwd=tmp_path)

    assert f"s3://{BUCKET}/{place}/raw: 24 recordings (one folder a class)" in said
    for name in ("store", "shards"):
        assert_as_on_disk(bucket, place, clean.folder, name, tmp_path)
        assert not [n for n in bucket.names(f"{place}/{name}") if "/lock" in n or "/scan/" in n]
    assert left_on(scratch) == []
    assert not (tmp_path / "s3:").exists()

    again, _ = finish("convert", url(place, "raw"), "--out", url(place, "store"), cwd=tmp_path)
    assert "finished before, nothing to do" in again
    out = url(place, "shards")
    again, _ = finish("shard", url(place, "store"), "--out", out, *SHARD, cwd=tmp_path)
    assert "finished before, nothing to do" in again
    for name in ("store", "shards"):
        whole, _ = finish("verify", "--deep", url(place, name), cwd=tmp_path)
        assert ": whole; " in whole


def test_a_store_in_a_bucket_opens_as_that_of_a_disk(
    bucket: ObjectStore, place: str, clean: Clean
) -> None:
    bucket.upload(clean.folder / "store", f"{place}/store")

    there, here = (
        eventkit.open_store(url(place, "store")),
        eventkit.open_store(clean.folder / "store"),
    )

    assert len(there) == len(here) == 24
    for ours, theirs in zip(there, here, strict=True):
        assert ours.recording == theirs.recording
        np.testing.assert_array_equal(ours.events, theirs.events)
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        assert theirs.diff_events is not None
        np.testing.assert_array_equal(ours.diff_events, theirs.diff_events)


@pytest.mark.parametrize(
    "damage", ["lost", *(pytest.param(d, marks=pytest.mark.long) for d in ("flipped", "cut"))]
)
def test_damage_in_a_bucket_is_named_and_never_read_as_zeros(
    bucket: ObjectStore, place: str, clean: Clean, tmp_path: Path, damage: str
) -> None:
    bucket.upload(clean.folder / "store", f"{place}/store")
    store = eventkit.open_store(url(place, "store"))
    victim = "pack-00000.zarr/events/c/0/0/0/0/0"
    key = f"{BUCKET}/{place}/store/{victim}"
    data = bucket.client.cat_file(key)
    if damage == "lost":
        bucket.client.rm_file(key)
    else:
        changed = data[:-1] if damage == "cut" else data[:9] + bytes([data[9] ^ 1]) + data[10:]
        bucket.client.pipe_file(key, changed)

    with pytest.raises(DamageError, match=victim):
        _ = store[0].events
    done = run_tool("verify", url(place, "store"), cwd=tmp_path)
    assert done.returncode == 4
    assert victim in done.stderr
    finish("convert", clean.folder / "raw", "--out", url(place, "store"), cwd=tmp_path)
    if damage != "flipped":  # which nothing but its hash tells
        assert_as_on_disk(bucket, place, clean.folder, "store", tmp_path)


# How often each point is met at least, in a run of two workers: a strike beyond it is none.
POINTS = {
    "convert": {"write": 8, "rename": 20, "folder": 6, "receipt": 4, "done": 4},
    "shard": {"write": 10, "rename": 40, "folder": 40, "receipt": 10, "done": 10, "manifest": 1},
}


def seeded(seed: int, count: int) -> list[tuple[str, str, int]]:
    rng = random.Random(seed)
    pairs = [(command, point) for command, points in POINTS.items() for point in points]
    chosen = rng.sample(pairs, min(count, len(pairs)))
    return [(command, point, rng.randint(1, POINTS[command][point])) for command, point in chosen]


def command_of(name: str, place: str, clean: Clean) -> tuple[str | Path, ...]:
    if name == "convert":
        return ("convert", clean.folder / "raw", "--out", url(place, "store"))
    return ("shard", url(place, "store"), "--out", url(place, "shards"), *SHARD)


FIRST, *OTHERS = seeded(SEED, 11)


@pytest.mark.parametrize(
    ("name", "point", "nth"), [FIRST, *(pytest.param(*m, marks=pytest.mark.long) for m in OTHERS)]
)
def test_kill_at_a_point(
    bucket: ObjectStore,
    place: str,
    clean: Clean,
    tmp_path: Path,
    scratch: Path,
    name: str,
    point: str,
    nth: int,
) -> None:
    made = "store" if name == "convert" else "shards"
    if name == "shard":
        bucket.upload(clean.folder / "store", f"{place}/store")
    command = command_of(name, place, clean)
    code, _ = struck(*command, "--workers", "2", cwd=tmp_path, fault=f"{point}:{nth}:kill")
    assert code == -signal.SIGKILL
    if name == "shard":
        assert "manifest.json" not in bucket.names(f"{place}/shards")

    _, errors = finish(*command, cwd=tmp_path)

    assert "taken over" in errors
    assert_as_on_disk(bucket, place, clean.folder, made, tmp_path)
    assert left_on(scratch) == []


@pytest.mark.parametrize("name", ["convert", pytest.param("shard", marks=pytest.mark.long)])
def test_a_store_that_goes_away_in_the_middle_and_comes_back(
    bucket: ObjectStore, place: str, clean: Clean, tmp_path: Path, name: str
) -> None:
    made = "store" if name == "convert" else "shards"
    if name == "shard":
        bucket.upload(clean.folder / "store", f"{place}/store")
    command = command_of(name, place, clean)
    process = start_tool(*command, "--workers", "1", cwd=tmp_path)
    until = time.monotonic() + 120
    while not any("/receipts/" in n for n in bucket.names(f"{place}/{made}")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    bucket.cut()
    try:
        _, errors = process.communicate(timeout=180)
    finally:
        bucket.connect()

    assert process.returncode == 6, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: ")
    assert "run the same command again" in errors
    if name == "shard":
        assert "manifest.json" not in bucket.names(f"{place}/shards")
    finish(*command, cwd=tmp_path)
    assert_as_on_disk(bucket, place, clean.folder, made, tmp_path)


def test_a_bucket_that_is_not_there_is_one_line(
    clean: Clean, bucket: ObjectStore, tmp_path: Path
) -> None:
    done = run_tool("convert", clean.folder / "raw", "--out", "s3://no-such/store", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "expected a bucket that is there, got none; make it first" in done.stderr
    with pytest.raises(MissingDataError, match="expected a store"):
        eventkit.open_store("s3://no-such/store")
    done = run_tool("convert", "s3://no-such/raw", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "s3://no-such/raw: no such file or folder" in done.stderr
