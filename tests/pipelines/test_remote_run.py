"""Runs over a bucket: odd names, neighbours, executors, options, and faults of the network."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import cluster_helpers
import fsspec
import numpy as np
import pytest
from crash_helpers import finish
from faulty_wire import Fault, faulty_wire
from helpers import run_tool, start_tool
from PIL import Image
from pipelines_helpers import write_recording
from s3_helpers import BUCKET, ObjectStore, assert_as_on_disk, object_store

from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from eventkit.location import RemotePath
from eventkit.readers.images.times import find_times
from pipelines.datasets.discover import RecordingSpec
from pipelines.fetch import at_hand
from pipelines.opening import ReadSettings
from pipelines.scan import ScanJob, scan_recording

pytestmark = pytest.mark.long

RECIPE = """
[model]
backbone = "vit_tiny_patch16_224"
random_trunk = true
img_size = 32
high_blocks = 1
[model.backbone_kwargs]
patch_size = 16
depth = 2
embed_dim = 48
num_heads = 3
[lora]
rank = 4
[train]
epochs = 1
batch_size = 8
"""
ODD = ("a b", "ü+ß", "#1?x=2&y", "%41%2F", "12::30", "[x]{y}", "it's\"q", "é" * 90)


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw folder of odd names, and the store of it, on a disk."""
    folder = tmp_path_factory.mktemp("disk")
    for i, name in enumerate(ODD):
        write_recording(folder / "raw" / f"c{i % 2}" / name, seed=i, events=100)
    finish("convert", folder / "raw", "--workers", "1", cwd=folder)
    return folder


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """A prefix of this test alone."""
    return request.node.name.replace("[", "-").replace("]", "")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this machine keeps what is on its way."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch, bucket: ObjectStore) -> Iterator[None]:
    """A change of the address in the environment counts, here and after."""
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def url(place: str, name: str) -> str:
    return f"s3://{BUCKET}/{place}/{name}"


def put_mark(bucket: ObjectStore, key: str, data: bytes = b"") -> None:
    """Put an object under a key as it is; fsspec would take the slashes away."""
    client = bucket.client
    call = client._call_s3
    fsspec.asyn.sync(client.loop, call, "put_object", Bucket=BUCKET, Key=key, Body=data)


def left_on(scratch: Path) -> list[str]:
    """Return what is left of ours; dask has a folder of its own there."""
    return [path.name for path in scratch.glob("eventkit-*/**/*") if path.is_file()]


def test_odd_names_and_neighbours_of_one_beginning(
    bucket: ObjectStore, place: str, disk: Path, tmp_path: Path, scratch: Path
) -> None:
    bucket.upload(disk / "raw", f"{place}/raw")
    for mark in ("raw/", "raw/c0/", "raw/c0/empty/"):
        put_mark(bucket, f"{place}/{mark}")
    for outside in ("raw/c0/../../outside.bin", "raw//double.bin", "raw/c1/x.bin?versionId=3"):
        put_mark(bucket, f"{place}/{outside}", b"outside")
    neighbours = ("raw2/c0/other.bin", "store2/pack-00000.zarr/zarr.json", "store.bak", "stor")
    for name in neighbours:
        bucket.client.pipe_file(f"{BUCKET}/{place}/{name}", b"of somebody else")

    out = f"{url(place, 'store')}//"
    _, errors = finish("convert", f"{url(place, 'x')}/../raw/", "--out", out, cwd=tmp_path)

    assert errors.count("objects are left out whose names no file can have: 3, as") == 1
    assert_as_on_disk(bucket, place, disk, "store", tmp_path)
    for name in neighbours:
        assert bucket.client.cat_file(f"{BUCKET}/{place}/{name}") == b"of somebody else"
    assert left_on(scratch) == []
    inside = run_tool("convert", url(place, "raw"), "--out", url(place, "raw/../raw/y"), cwd=disk)
    assert inside.returncode == 2
    assert "lies inside" in inside.stderr


def test_processes_write_the_same_bytes_and_the_result_is_looked_at_behind_its_url(
    bucket: ObjectStore, place: str, disk: Path, tmp_path: Path, scratch: Path
) -> None:
    bucket.upload(disk / "raw", f"{place}/raw")
    options = ("--executor", "processes", "--workers", "2")
    finish("convert", url(place, "raw"), "--out", url(place, "store"), *options, cwd=tmp_path)
    assert_as_on_disk(bucket, place, disk, "store", tmp_path)
    assert left_on(scratch) == []

    whole, _ = finish("verify", "--deep", url(place, "store"), cwd=tmp_path)
    assert "8 recordings compared" in whole
    finish("report", url(place, "store"), cwd=tmp_path)
    page = bucket.client.cat_file(f"{BUCKET}/{place}/store/report.html").decode()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<img ") > 0
    assert "8 recordings" in page or "<dt>recordings</dt><dd>8</dd>" in page
    refused = run_tool("check", url(place, "raw"), cwd=tmp_path)
    assert refused.returncode == 2
    assert "expected a path of this machine" in refused.stderr


def test_a_dry_run_writes_nothing(
    bucket: ObjectStore, place: str, disk: Path, tmp_path: Path, scratch: Path
) -> None:
    bucket.upload(disk / "raw", f"{place}/raw")
    before = bucket.names(place)
    said, _ = finish(
        "convert", url(place, "raw"), "--out", url(place, "store"), "--dry-run", cwd=tmp_path
    )
    assert "8 recordings" in said
    assert bucket.names(place) == before
    assert left_on(scratch) == []


def test_a_store_of_this_disk_lends_to_a_bucket(
    bucket: ObjectStore, place: str, disk: Path, tmp_path: Path
) -> None:
    out = url(place, "store")
    said, _ = finish("convert", disk / "raw", "--out", out, "--reuse", disk / "store", cwd=tmp_path)
    assert "8 of 8" in said or "8 recordings" in said
    assert_as_on_disk(bucket, place, disk, "store", tmp_path)


def test_what_is_set_aside_in_a_bucket_is_looked_at_again(
    bucket: ObjectStore, place: str, disk: Path, tmp_path: Path
) -> None:
    bucket.upload(disk / "raw", f"{place}/raw")
    mended = bucket.client.cat_file(f"{BUCKET}/{place}/raw/c0/a b.bin")
    bucket.client.pipe_file(f"{BUCKET}/{place}/raw/c0/a b.bin", b"")
    command = ("convert", url(place, "raw"), "--out", url(place, "store"))

    _, errors = finish(*command, "--max-bad", "1%", cwd=tmp_path, code=3)
    assert "1 of 8 recordings are bad, more than --max-bad 1%" in errors
    refused = run_tool("shard", url(place, "store"), "--out", url(place, "shards"), cwd=tmp_path)
    assert refused.returncode == 2
    assert "manifest.json" not in bucket.names(f"{place}/shards")
    lines = bucket.client.cat_file(f"{BUCKET}/{place}/store/.eventkit/quarantine.jsonl")
    (entry,) = map(json.loads, lines.splitlines())
    assert (entry["recording"], entry["reason"]) == ("c0/a b", "empty")

    bucket.client.pipe_file(f"{BUCKET}/{place}/raw/c0/a b.bin", mended)
    said, _ = finish(*command, "--retry-quarantined", cwd=tmp_path)
    assert "looked again at 1 recording: 0 set aside" in said
    assert bucket.client.cat_file(f"{BUCKET}/{place}/store/.eventkit/quarantine.jsonl") == b""


def test_an_object_that_is_gone_since_it_was_listed_is_no_damage() -> None:
    root = RemotePath("memory://gone/raw")
    (root / "beside.bin").write_bytes(b"x")
    spec = RecordingSpec("c0/a", "c0/a.bin", None, "train", 0, "c0")
    with pytest.raises(FileNotFoundError) as caught:
        scan_recording(ScanJob(str(root), spec, ClipSettings(), ReadSettings()))
    assert caught.value.filename == "memory://gone/raw/c0/a.bin"


def test_a_name_longer_than_that_of_a_file_is_a_users_mistake(scratch: Path) -> None:
    root = RemotePath("memory://long/raw")
    name = "n" * 300 + ".bin"
    (root / name).write_bytes(b"x")
    spec = RecordingSpec("n" * 300, name, None, "train", 0, "c0")
    with pytest.raises(SettingsError, match="shorter names"), at_hand(root, spec):
        pass
    assert left_on(scratch) == []


@pytest.mark.parametrize("others", [0, 60])
@pytest.mark.parametrize("whose", ["seq1", "seq2", "of nobody"])
def test_times_beside_pictures_are_found_as_on_a_disk(
    tmp_path: Path, others: int, whose: str
) -> None:
    here = tmp_path / "raw"
    for name in ("seq1", "seq2"):
        (here / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(here / name / f"{i:03d}.png")
    name = "image_timestamps.txt" if whose == "of nobody" else f"{whose}_image_timestamps.txt"
    (here / name).write_text("1000000\n1100000\n1200000\n")
    for i in range(others):
        (here / f"notes-{i:02d}.txt").write_text("nothing\n")
    root = RemotePath(f"memory://times-{others}-{whose}/raw")
    for path in here.rglob("*"):
        if path.is_file():
            (root / path.relative_to(here).as_posix()).write_bytes(path.read_bytes())

    spec = RecordingSpec("seq1", None, "seq1", "train", -1, "")
    with at_hand(root, spec) as copy:
        ours, notes = times_of(copy / "seq1")
    theirs, expected_notes = times_of(here / "seq1")

    assert notes == expected_notes
    assert ours == theirs
    assert (ours is not None) == (whose != "seq2")


def times_of(folder: Path) -> tuple[list[list[int]] | None, list[str]]:
    found, notes = find_times(folder, sorted(folder.glob("*.png")), time_unit=None)
    return (None if found is None else found.spans.tolist()), notes


def test_pictures_that_are_the_source_itself(
    bucket: ObjectStore, place: str, tmp_path: Path
) -> None:
    for i in range(2):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i}.png")
        bucket.client.put_file(str(tmp_path / f"{i}.png"), f"{BUCKET}/{place}/frames/{i}.png")
    said, _ = finish("convert", url(place, "frames"), "--out", tmp_path / "store", cwd=tmp_path)
    assert "1 clip" in said


def test_more_objects_than_a_page_of_a_listing(bucket: ObjectStore, place: str) -> None:
    keys = [f"{i:04d}" for i in range(1001)]
    bucket.client.pipe({f"{BUCKET}/{place}/{key}": b"x" for key in keys})
    folder = RemotePath(f"s3://{BUCKET}/{place}")
    assert [path.name for path in folder.listed().rglob("*")] == keys
    assert [path.name for path in folder.iterdir()] == keys
    held = folder.held(at_most=1)
    assert {(held / key).read_bytes() for key in keys} == {b"x"}


@pytest.mark.parametrize("fault", ["lose the answer", "busy"])
def test_a_request_that_is_sent_again_counts_once(
    through: None,
    bucket: ObjectStore,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fault: Fault,
) -> None:
    seen: set[tuple[str, str]] = set()

    def first_of_each(method: str, path: str, headers: object) -> Fault | None:
        again = (method, path) in seen
        seen.add((method, path))
        return None if again else fault

    with faulty_wire(bucket.server_port, first_of_each) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        path = RemotePath(url(place, "x"))
        assert path.create(b"mine")
        assert not path.create(b"yours")
        assert path.read_bytes() == b"mine"
        assert path.listed().is_file()
        path.fetch(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"mine"
        path.unlink()
        assert not path.exists()
    assert "PUT" in {method for method, _ in seen}


def test_credentials_that_run_out_set_nothing_aside(
    through: None,
    bucket: ObjectStore,
    place: str,
    disk: Path,
    tmp_path: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket.upload(disk / "raw", f"{place}/raw")
    command = ("convert", url(place, "raw"), "--out", url(place, "store"), "--workers", "1")
    reads = 0

    def after_a_while(method: str, path: str, headers: object) -> Fault | None:
        nonlocal reads
        reads += method == "GET" and path.endswith(".bin")
        return "expired" if reads > 3 else None

    with faulty_wire(bucket.server_port, after_a_while) as port, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        ended = run_tool(*command, cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "give the credentials" in ended.stderr.splitlines()[-1]
    assert not [n for n in bucket.names(f"{place}/store") if "quarantine" in n or "plan" in n]

    finish(*command, cwd=tmp_path)
    assert_as_on_disk(bucket, place, disk, "store", tmp_path)
    assert left_on(scratch) == []


@pytest.mark.parametrize("executor", ["threads", pytest.param("inline", marks=pytest.mark.long)])
def test_ctrl_c_ends_in_time_where_the_store_hangs(
    bucket: ObjectStore, place: str, disk: Path, tmp_path: Path, scratch: Path, executor: str
) -> None:
    bucket.upload(disk / "raw", f"{place}/raw")
    command = ("convert", url(place, "raw"), "--out", url(place, "store"))
    process = start_tool(*command, "--executor", executor, cwd=tmp_path)
    until = time.monotonic() + 60
    while not any("/lock/" in name for name in bucket.names(f"{place}/store")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    for wire in bucket.wires:
        wire.send_signal(signal.SIGSTOP)
    try:
        time.sleep(1)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        took = time.monotonic() - began
    finally:
        for wire in bucket.wires:
            wire.send_signal(signal.SIGCONT)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "error: interrupted; run the same command again to go on"
    assert took < 5

    finish(*command, cwd=tmp_path)
    assert_as_on_disk(bucket, place, disk, "store", tmp_path)
    assert left_on(scratch) == []


def test_workers_of_a_cluster_share_nothing_but_the_bucket(
    bucket: ObjectStore, place: str, disk: Path, tmp_path: Path
) -> None:
    bucket.upload(disk / "raw", f"{place}/raw")
    finish("shard", disk / "store", "--num-shards", "3", "--out", disk / "shards", cwd=tmp_path)
    folders = [tmp_path / "machine-1", tmp_path / "machine-2"]
    with cluster_helpers.cluster(tmp_path / "dask", {}, workers=0) as dask:
        for folder in folders:
            folder.mkdir()
            dask.start_worker(env={"TMPDIR": str(folder), "HOME": str(folder)})
        options = ("--executor", dask.address)
        out, shards = url(place, "store"), url(place, "shards")
        finish("convert", url(place, "raw"), "--out", out, *options, cwd=tmp_path)
        finish("shard", out, "--out", shards, "--num-shards", "3", *options, cwd=tmp_path)
        assert_as_on_disk(bucket, place, disk, "store", tmp_path / "a")
        assert_as_on_disk(bucket, place, disk, "shards", tmp_path / "b")
    assert not [path for folder in folders for path in folder.rglob(".tmp-*")]


def test_training_reads_a_bucket_and_then_its_cache(
    bucket: ObjectStore, place: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish("convert", raw, cwd=tmp_path)
    finish("shard", "--num-shards", "2", cwd=tmp_path)
    bucket.upload(tmp_path / "shards", f"{place}/shards")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    common = ("--shards", url(place, "shards"), "--recipe", tmp_path / "tiny.toml")

    first = run_tool(*common, "--device", "cpu", cwd=tmp_path, program="velora-train")
    assert first.returncode == 0, first.stderr
    assert "epoch 1/1" in first.stdout
    cached = {p.name for p in (tmp_path / "home").rglob("*.tar")}
    shards = json.loads((tmp_path / "shards/manifest.json").read_bytes())["shards"]
    assert cached == {f"{shard['sha256']}.tar" for shard in shards}

    for name in bucket.names(f"{place}/shards"):
        if name.endswith(".tar"):
            bucket.client.rm_file(f"{BUCKET}/{place}/shards/{name}")
    (run,) = (tmp_path / "runs").iterdir()
    options = ("--shards", url(place, "shards"), "--json")
    again = run_tool(run, *options, cwd=tmp_path, program="velora-eval")
    assert again.returncode == 0, again.stderr
    stored = json.loads((run / "result.json").read_bytes())
    assert json.loads(again.stdout)["confusion"] == stored["confusion"]

    bucket.cut()
    try:
        ended = run_tool(run, *options, cwd=tmp_path, program="velora-eval")
    finally:
        bucket.connect()
    assert ended.returncode in (2, 6), ended.stderr
    assert "Traceback" not in ended.stderr
    assert url(place, "shards") in ended.stderr.splitlines()[-1]
