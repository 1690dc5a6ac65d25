"""--dry-run: what would be done, and a forecast beside the truth; nothing is written."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from convert_helpers import INLINE
from pipelines_helpers import tree_bytes, write_recording
from test_memory import peak_of_convert, write_evt2

from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from pipelines.convert import convert_raw
from pipelines.datasets.discover import RecordingSpec
from pipelines.datasets.splits import SplitRule
from pipelines.dry_run import Forecast, Span, forecast_convert, forecast_shards
from pipelines.dry_run.measure import MOST, MOST_BYTES, PARTS, Sampled, choose_sample
from pipelines.executors import RunSettings
from pipelines.opening import ReadSettings
from pipelines.shard import shard_store
from pipelines.shard_settings import ShardSettings

RECORDINGS = 80


def state(*folders: Path) -> dict[str, tuple[int, ...]]:
    """Return every path with its times and size: any write, and any file made, shows."""
    return {
        str(path): (status.st_mtime_ns, status.st_size, status.st_ino)
        for folder in folders
        for path in [folder, *sorted(folder.rglob("*"))]
        for status in [path.stat()]
    }


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of very different lengths, every fourth without a picture."""
    root = tmp_path_factory.mktemp("many") / "raw"
    for i in range(RECORDINGS):
        stem = root / f"c{i % 2}" / f"{i:04d}"
        write_recording(stem, seed=i, events=500 + 150 * (i * 7 % 40), picture=bool(i % 4))
    return root


def arguments(**clip: object) -> dict:
    return {
        "clip": ClipSettings(**{"bins": 4, **clip}),
        "read": ReadSettings(sensor_size=(34, 34)),
        "layout": "auto",
        "rule": SplitRule(),
        "run": INLINE,
        "say": lambda text: None,
    }


def within(factor: float, likely: float, truth: float) -> bool:
    return truth / factor <= likely <= truth * factor


@pytest.mark.parametrize(
    "clip",
    [
        {},
        pytest.param({"clip_us": 60_000, "raw_events": True}, marks=pytest.mark.long),
        pytest.param({"representation": "voxel:zhu", "diffs": False}, marks=pytest.mark.long),
    ],
    ids=["whole", "cut", "voxels"],
)
def test_the_forecast_of_convert_is_near_the_truth(many: Path, tmp_path: Path, clip: dict) -> None:
    told = forecast_convert([many], tmp_path / "store", **arguments(**clip))
    assert not (tmp_path / "store").exists()
    begun = time.perf_counter()
    convert_raw([many], tmp_path / "store", **arguments(**clip))
    seconds = time.perf_counter() - begun

    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert told.num_files == len(files)
    assert within(1.15, told.num_bytes.likely, sum(path.stat().st_size for path in files))
    assert told.num_bytes.low < told.num_bytes.likely < told.num_bytes.high
    # A loaded machine is slow at one time and fast at another.
    assert within(6, told.seconds.likely, seconds)
    assert told.measured.startswith(f"measured: {MOST} recordings")
    assert told.plan[1].startswith("scan: 0 of 80 recordings known, 80 left (")
    assert told.plan[2].startswith("convert: 0 done, 80 left (")


@pytest.mark.long
def test_the_forecast_of_memory_is_near_the_truth(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for i in range(8):
        write_evt2(tmp_path / "raw" / f"{i}.raw", megabytes=4 + i)
    options = {
        "clip": ClipSettings(clip_us=1_000_000),
        "read": ReadSettings(),
        "run": RunSettings(),
    }
    peak_of_convert(tmp_path / "raw" / "0.raw", tmp_path / "warm")  # compiles

    told = forecast_convert([tmp_path / "raw"], tmp_path / "store", **{**arguments(), **options})
    truth, _ = peak_of_convert(tmp_path / "raw", tmp_path / "store")

    assert within(1.4, told.memory, truth)


def test_the_forecast_of_shards_is_near_the_truth(many: Path, tmp_path: Path) -> None:
    store, shards = tmp_path / "store", tmp_path / "shards"
    convert_raw([many], store, **arguments())
    how = {"settings": ShardSettings(num_shards=3), "run": INLINE}
    before = state(store)
    told = forecast_shards(store, shards, **how)
    assert not shards.exists()
    assert state(store) == before
    begun = time.perf_counter()
    shard_store(store, shards, **how)
    seconds = time.perf_counter() - begun

    files = [path for path in shards.rglob("*") if path.is_file()]
    assert told.num_files == len(files)
    assert within(1.15, told.num_bytes.likely, sum(path.stat().st_size for path in files))
    assert within(6, told.seconds.likely, seconds)
    splits = len(list(shards.glob("*/*.tar"))) // 3
    assert told.plan[1] == f"shard: 0 of {3 * splits} shards done, {3 * splits} left (80 samples)"
    after = state(store, shards)
    again = forecast_shards(store, shards, **how)
    assert again.measured == "nothing to measure: everything is there"
    assert state(store, shards) == after


def test_a_dry_run_of_what_is_half_done_writes_nothing_and_says_what_is_left(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.plan.PACK_CLIPS", 20)
    store = tmp_path / "store"
    convert_raw([many], store, **arguments())
    whole = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    receipts = sorted((store / ".eventkit" / "receipts").iterdir())
    for receipt in receipts[1::2]:
        receipt.unlink()
    before = state(many, tmp_path)

    told = forecast_convert([many], store, **arguments())

    assert state(many, tmp_path) == before
    assert told.plan[1].startswith("scan: 80 of 80 recordings known, 0 left")
    assert "40 done, 40 left" in told.plan[2]
    assert within(1.2, told.num_bytes.likely, whole)


def test_a_dry_run_says_what_is_set_aside(many: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for i in range(8):
        write_recording(raw / f"{i:02d}", seed=i)
    (raw / "03.bin").write_bytes((raw / "03.bin").read_bytes()[:-2])

    first = forecast_convert([raw], tmp_path / "store", **arguments())
    convert_raw([raw], tmp_path / "store", **arguments())
    then = forecast_convert([raw], tmp_path / "store", **arguments())

    assert "; 1 of them would be set aside (truncated)" in first.measured
    assert then.plan[2] == "convert: 7 done, 0 left (0 bytes), 1 set aside"
    assert then.measured == "nothing to measure: everything is there"
    assert then.seconds == Span(0.0, 0.0, 0.0)
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert then.num_files == len(files)
    assert within(1.05, then.num_bytes.likely, sum(path.stat().st_size for path in files))


def test_a_dry_run_is_refused_like_the_run(many: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for i in range(3):
        write_recording(raw / f"{i:02d}", seed=i)
    store, shards = tmp_path / "store", tmp_path / "shards"
    convert_raw([raw], store, **arguments())
    shard_store(store, shards, settings=ShardSettings(), run=INLINE)
    before = state(tmp_path)

    with pytest.raises(SettingsError, match="bins 4 there, 5 now"):
        forecast_convert([raw], store, **arguments(bins=5))
    with pytest.raises(SettingsError, match="seed 0 there, 1 now"):
        forecast_shards(store, shards, settings=ShardSettings(seed=1), run=INLINE)

    assert state(tmp_path) == before
    write_recording(raw / "99", seed=99)
    new = forecast_convert([raw], tmp_path / "new", **arguments(), reuse=store)
    assert "reuse: 3 recordings would be taken over, at the speed of the disk" in new.plan
    assert new.plan[2].startswith("convert: 0 done, 1 left")


def test_the_command_prints_the_forecast_and_leaves_no_folder(tool, tmp_path: Path) -> None:
    for i in range(6):
        write_recording(tmp_path / "raw" / f"{i:02d}", seed=i)

    told = tool("convert", "raw", "--dry-run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]
    tool("convert", "raw")
    before = tree_bytes(tmp_path, hidden=True)
    shards = tool("shard", "--dry-run")

    assert (told.returncode, shards.returncode) == (0, 0), told.stderr + shards.stderr
    for words in ("dry run: nothing is written", "output: about ", "time: about ", "memory: about"):
        assert words in told.stdout
        assert words in shards.stdout
    assert tree_bytes(tmp_path, hidden=True) == before


def test_a_dry_run_of_a_retry_is_refused_and_touches_nothing(tool, tmp_path: Path) -> None:
    write_recording(tmp_path / "raw" / "00", seed=0)
    (tmp_path / "raw" / "01.bin").write_bytes(b"abc")
    assert tool("convert", "raw").returncode == 3
    before = state(tmp_path)

    told = tool("convert", "raw", "--dry-run", "--retry-quarantined")

    assert told.returncode == 2
    assert told.stdout == ""
    wanted = "error: expected --dry-run or --retry-quarantined, got both; leave one out\n"
    assert told.stderr == wanted
    assert state(tmp_path) == before


def test_a_sample_is_taken_evenly_and_is_smaller_where_recordings_are_large() -> None:
    def recordings(count: int, num_bytes: int) -> list[Sampled]:
        specs = [RecordingSpec(f"{i:05d}", "x", None, "train", -1, "") for i in range(count)]
        return [Sampled(spec, num_bytes + i) for i, spec in enumerate(specs)]

    parts = choose_sample(recordings(1000, 10))
    assert [len(part) for part in parts] == [MOST // PARTS] * PARTS
    sizes = sorted(each.num_bytes - 10 for part in parts for each in part)
    assert {b - a for a, b in pairwise(sizes)} <= {31, 32}
    assert sum(map(len, choose_sample(recordings(1000, MOST_BYTES // 9)))) == 8
    assert sum(map(len, choose_sample(recordings(1000, MOST_BYTES)))) == PARTS
    assert [len(part) for part in choose_sample(recordings(2, 10))] == [1, 1]


def test_a_forecast_warns_of_a_disk_that_is_too_small(tmp_path: Path) -> None:
    told = Forecast(plan=(), measured="", num_bytes=Span(5e14, 4e14, 6e14), num_files=1)

    lines = told.lines(tmp_path / "not" / "there")

    assert "output: about 500 TB (400 TB to 600 TB) in about 1 files" in lines[1]
    assert "are free where" in lines[2]
