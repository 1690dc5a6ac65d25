"""Peak memory of one task, a pack of `convert` or a tar of `shard`, beside its raw shard.

Each task runs in a process of its own that has done a small one of its kind before, so libraries,
kernels and buffers of theirs are there: what is counted is what a task takes on top. A raw shard
is what the outer shard of the largest array holds, or what a tar holds, neither compressed.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
from growth import peak_mib, reset_peak, resident_mib
from streams import DAVIS, HD, clustered

from eventkit.atomic import remove
from eventkit.clip_settings import ClipSettings
from eventkit.packs import SHARD_BYTES
from eventkit.samples import CODECS
from eventkit.store import open_store
from pipelines.opening import ReadSettings
from pipelines.pack_task import PackJob, convert_pack
from pipelines.receipts import read_plan, withdraw_receipt
from pipelines.shard_plan import plan_shards
from pipelines.shard_sample import SampleMaker
from pipelines.shard_settings import ShardSettings
from pipelines.shard_task import ShardJob, write_shard

EVENTS = 10**5
CLIPS = {DAVIS: 59, HD: 16}
MOST = 2.5
NAME = "train/train-000000.tar"


def convert_task(store: Path, codec: str) -> tuple[Callable[[], Any], float]:
    """Return a task of convert, and the MiB of its raw shard."""
    plan = read_plan(store)
    assert plan is not None
    first = plan["packs"][0]["name"]
    withdraw_receipt(store, first)
    clip, read = ClipSettings(), ReadSettings(sensor_size=size_of(store))
    job = PackJob(str(raw_of(store)), str(store), first, plan["plan_id"], clip, read)
    return lambda: convert_pack(job), SHARD_BYTES / 2**20


def shard_task(store: Path, codec: str) -> tuple[Callable[[], Any], float]:
    """Return a task of shard that takes every clip, and the MiB of its raw shard."""
    opened, out = open_store(store), store.parent / "shards"
    remove(out)
    settings = ShardSettings(codec=codec, num_shards=1)
    plan = plan_shards(opened, settings, out=out)
    maker = SampleMaker.of_plan(store, plan, settings)
    clips = tuple(clip for part in plan["parts"] for clip in part.clips())
    job = ShardJob(out=str(out), name=NAME, clips=clips, maker=maker)
    return lambda: write_shard(job), len(opened) * opened[0].events.nbytes / 2**20


TASKS = {"convert": convert_task, "shard": shard_task}


def measure(kind: str, small: Path, store: Path, codec: str) -> None:
    """Print what a task takes, its raw shard, and the peak of the process, in MiB."""
    warm, _ = TASKS[kind](small, codec)
    warm()
    task, raw = TASKS[kind](store, codec)
    gc.collect()
    reset_peak()
    before = resident_mib()
    task()
    print(peak_mib() - before, raw, peak_mib())


def make_store(folder: Path, size: tuple[int, int], *, clips: int) -> Path:
    """Write recordings of one clip, all for training, and convert them; returns the store."""
    store = folder / f"{size[0]}x{size[1]}-{clips}" / "store"
    raw = raw_of(store) / "train" / "0"
    raw.mkdir(parents=True)
    for number in range(clips):
        ev = clustered(EVENTS, size, seed=number)
        np.save(raw / f"{number:04d}.npy", ev.to_structured())
    sensor = f"{size[0]}x{size[1]}"
    common.measured(
        common.of_tool("convert", raw_of(store), "--out", store, "--sensor-size", sensor)
    )
    return store


def raw_of(store: Path) -> Path:
    """Return where the recordings of a store are."""
    return store.parent / "raw"


def size_of(store: Path) -> tuple[int, int]:
    """Return the sensor that stands in the name of a folder, as in ``346x260-59``."""
    width, height = store.parent.name.partition("-")[0].split("x")
    return int(width), int(height)


def main(report: common.Report) -> None:
    print("\n### peak memory of one task\n")
    print("| task | sensor | MiB | raw shard MiB | ratio | whole process MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size, clips in CLIPS.items():
            small = make_store(Path(folder), size, clips=2)
            store = make_store(Path(folder), size, clips=clips)
            for kind, codec in (("convert", "npy"), *(("shard", codec) for codec in CODECS)):
                command = [sys.executable, __file__, kind, str(small), str(store), codec]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                took, raw, whole = map(float, done.stdout.split())
                ratio = took / raw
                name = kind if kind == "convert" else f"{kind}, {codec}"
                where = f"{size[0]}x{size[1]}"
                print(f"| {name} | {where} | {took:.0f} | {raw:.0f} | {ratio:.2f} | {whole:.0f} |")
                label = f"{name}, {where}"
                report.add_limit("memory of a task", "a raw shard", label, ratio, MOST)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        REPORT = common.Report()
        main(REPORT)
        REPORT.print()
