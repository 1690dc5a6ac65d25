"""Batches for training beside webdataset's `WebLoader`: same tars, same codec, two workers each.

An epoch of batches of 16, page cache warm, workers running already (`persistent_workers`); the
consumer looks at one number of each batch. Last come the order of 10^7 samples and going on in the
middle of it.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

from eventkit.lanes import Lanes
from eventkit.samples import SCHEMA_VERSION, encode_array, encode_json
from eventkit.shards import MANIFEST, MANIFEST_KIND, SampleIndex

BATCH = 16
NUM_SHARDS = 8
ORDER_SAMPLES = 10**7


def write_set(folder: Path, *, shape: tuple[int, ...], codec: str, per_shard: int) -> Path:
    """Write a split of shards as `eventkit shard` does, without pictures."""
    from pipelines.tar import TarWriter

    rng = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    (folder / "index").mkdir()
    fields = ("cls", f"events.{codec}", "json")
    entries, rows, sizes = [], [], []
    for number in range(NUM_SHARDS):
        name = f"train/train-{number:06d}.tar"
        with (folder / name).open("wb") as file:
            tar = TarWriter(file)
            for k in range(per_shard):
                clip = rng.integers(1, 4, shape, dtype=np.uint8) * (rng.random(shape) < 0.037)
                members = (str(k % 10).encode(), encode_array(clip, codec=codec), encode_json({}))
                key = f"clip{number:03d}_{k:06d}"
                named = zip(fields, members, strict=True)
                rows.append([tar.add(f"{key}.{suffix}", data) for suffix, data in named])
                sizes.append([len(data) for data in members])
            tar.close()
        entries.append({"name": name, "bytes": (folder / name).stat().st_size})
    keys = [f"clip{s:03d}_{k:06d}" for s in range(NUM_SHARDS) for k in range(per_shard)]
    index = SampleIndex(
        keys=np.array(keys, "S"),
        shard=np.repeat(np.arange(NUM_SHARDS), per_shard),
        offset=np.array(rows),
        size=np.array(sizes),
        labels=np.tile(np.arange(per_shard) % 10, NUM_SHARDS),
        fields=fields,
        shards=tuple(entry["name"] for entry in entries),
    )
    buffer = io.BytesIO()
    np.savez(buffer, **index.to_arrays())
    (folder / "index" / "train.npz").write_bytes(buffer.getvalue())
    manifest = {
        "kind": MANIFEST_KIND,
        "schema": SCHEMA_VERSION,
        "classes": {str(i): str(i) for i in range(10)},
        "splits": {"train": {"samples": index.labels.size}},
        "shards": entries,
    }
    (folder / MANIFEST).write_bytes(encode_json(manifest))
    return folder


def ours(folder: Path, *, num_threads: int) -> Any:
    """Return a function that reads an epoch; each call another one."""
    from velora.data import LaneSampler, ShardDataset, ShardLoader

    dataset = ShardDataset(folder, "train")
    sampler = LaneSampler(dataset, global_batch_size=BATCH, seed=0)
    return lambda: read(ShardLoader(dataset, sampler, num_threads=num_threads), "events", "label")


def plain_loader(folder: Path) -> Any:
    """Return the same with PyTorch's own loader and worker processes."""
    from torch.utils.data import DataLoader

    from velora.data import LaneSampler, ShardDataset

    dataset = ShardDataset(folder, "train")
    sampler = LaneSampler(dataset, global_batch_size=BATCH, seed=0)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=2, persistent_workers=True)
    return lambda: read(loader, "events", "label")


def theirs(folder: Path, *, codec: str) -> Any:
    """Return the epoch of a `WebLoader`."""
    import webdataset as wds

    urls = sorted(str(path) for path in (folder / "train").glob("*.tar"))
    dataset = (
        wds.WebDataset(urls, shardshuffle=NUM_SHARDS)
        .decode()
        .to_tuple(f"events.{codec}", "cls")
        .batched(BATCH, partial=False)
    )
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    return lambda: read(loader, 0, 1)


def read(loader: Any, events: Any, label: Any) -> float:
    """Look at a number of every batch; its arrays are tensors or NumPy's."""
    return sum(float(batch[events].flatten()[0]) + float(batch[label][0]) for batch in loader)


def orders(report: common.Report) -> None:
    sizes = np.full(10**4, ORDER_SAMPLES // 10**4)
    lanes = Lanes(shard_sizes=sizes, global_batch_size=256, seed=0)
    half = lanes.steps // 2 * lanes.global_batch_size
    print("\norder of 10^7 samples, CPU seconds of three calls (they use one core)")
    for name, consumed in (("from the start", 0), ("from the half on", half)):
        spent = []
        for _ in range(3):
            began = time.process_time()
            lanes.batches(1, rank=3, world_size=8, samples_consumed=consumed)
            spent.append(time.process_time() - began)
        print(f"{name}: {', '.join(f'{seconds:.2f}' for seconds in spent)}")
        report.add_limit("order of 10^7 samples", "one second", name, min(spent), 1.0)


def main(report: common.Report, *, rounds: int = 9) -> None:
    orders(report)
    if common.peer("torch") is None or common.peer("webdataset") is None:
        return
    import torch

    torch.set_num_threads(1)
    cases = (
        ("2 MB", (8, 2, 360, 346), "npy", 32, 8.0),
        ("2 MB", (8, 2, 360, 346), "npy.gz", 32, 2.0),
        ("80 kB", (8, 2, 70, 72), "npy", 256, 1.5),
        ("80 kB", (8, 2, 70, 72), "npy.gz", 256, 1.5),
    )
    for size, shape, codec, per_shard, target in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = write_set(Path(folder) / "set", shape=shape, codec=codec, per_shard=per_shard)
            rows: common.Rows = {
                "ShardLoader, 2 threads": ours(path, num_threads=2),
                "ShardLoader, none": ours(path, num_threads=0),
                "DataLoader, 2 workers": plain_loader(path),
                "WebLoader, 2 workers": theirs(path, codec=codec),
            }
            label = f"{size} {codec}"
            ratios = common.compare(
                f"{NUM_SHARDS * per_shard} clips of {label}",
                rows,
                against="ShardLoader, 2 threads",
                rounds=rounds,
            )
            ratio = ratios.get("WebLoader, 2 workers")
            report.add("batches of 16", "WebLoader", label, ratio, target)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
