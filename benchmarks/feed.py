"""Whether the loader keeps up: clips a second that it decodes beside those that training takes.

    python benchmarks/feed.py --beside 200     a training that takes 200 clips a second

`gpu.py` ends with the same table, beside the training that it has measured. Shards of random clips
are made on the spot: smooth pictures with noise, which compress as photographs do, and events in
4 % of the pixels of a frame. They lie in the page cache, and nothing is kept decoded.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common  # noqa: F401  (first: one thread a library)
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from eventkit.samples import SCHEMA_VERSION, Sample, decode_array, decode_images, encode_sample
from eventkit.shards import MANIFEST, MANIFEST_KIND, SampleIndex, ShardSet
from pipelines.tar import TarWriter
from velora.data import ClipDataset, ClipLoader, describe

BATCH = 16
BINS = 8
DISTINCT = 16
TARGET = 3.0
_EVENTS = 0.04


@dataclass(frozen=True)
class Case:
    """Clips of one kind: their name, sides in pixels, and how pictures are stored."""

    name: str
    events_hw: tuple[int, int]
    rgb_hw: tuple[int, int]
    channels: int
    suffix: str
    copies: int


CASES = (
    Case("34x34, 8 gray PNG of 28x28", (34, 34), (28, 28), 1, "png", 32),
    Case("346x260, 8 colour JPEG", (260, 346), (260, 346), 3, "jpg", 8),
    Case("346x260, 8 gray PNG", (260, 346), (260, 346), 1, "png", 8),
    Case("346x260, 8 colour PNG", (260, 346), (260, 346), 3, "png", 8),
)


def tell_feed(eaten: float, *, workers: Sequence[int], rounds: int, pin: bool) -> None:
    """Print what the loader gives beside ``eaten``, the clips/s that training takes."""
    print(f"\n## Loader beside training, which takes {eaten:.2f} clips/s (target {TARGET:g}x)\n")
    heads = [f"{count} thread{'s' * (count > 1)}, clips/s" for count in workers]
    parts = ["read", "gunzip", "pictures", "rest"]
    columns = ["clips", *heads, "best beside training", "", *parts, "CPU ms a clip"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    misses = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            shards = ShardSet.open(write_set(Path(folder) / "set", case))
            dataset = ClipDataset(shards, "train", spec=describe(shards), cache_bytes=0)
            rates = [rate(dataset, threads=n, rounds=rounds, pin=pin) for n in workers]
            shares, total = cost(dataset)
            shards.close()
        ratio = max(rates) / eaten
        verdict = "met" if ratio >= TARGET else "missed"
        cells = [f"{r:.0f}" for r in rates] + [f"{ratio:,.1f}x", verdict]
        cells += [f"{shares[part]:.0%}" for part in parts] + [f"{total * 1e3:.2f}"]
        print(f"| {case.name} | " + " | ".join(cells) + " |", flush=True)
        if ratio < TARGET:
            most = max(parts, key=lambda part: shares[part])
            cores = TARGET * eaten * total
            misses.append(
                f"{case.name}: missed; {most} bind with {shares[most]:.0%} of decoding, and "
                f"{TARGET:g}x takes {cores:.1f} cores"
            )
    print("", *misses, sep="\n")


def rate(dataset: ClipDataset, *, threads: int, rounds: int, pin: bool) -> float:
    """Clips/s of an epoch, the median of the rounds; each has an order of its own."""
    loader = ClipLoader(dataset, batch_size=BATCH, num_threads=threads, shuffle_seed=0, pin=pin)
    rates = []
    for epoch in range(rounds):
        began = time.perf_counter()
        clips = sum(len(batch) for batch in loader.epoch(epoch, senses=("rgb", "event")))
        rates.append(clips / (time.perf_counter() - began))
    return statistics.median(rates)


def cost(dataset: ClipDataset) -> tuple[dict[str, float], float]:
    """Shares of the parts of decoding, and CPU seconds a clip; of one thread without a batch."""
    spent: dict[str, list[float]] = {"read": [], "gunzip": [], "pictures": [], "all": []}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.thread_time()
        made = call()
        spent[name].append(time.thread_time() - began)
        return made

    shards = dataset.shards
    for i in range(min(len(dataset), 4 * DISTINCT)):
        timed("all", lambda i=i: dataset[i])
        members = timed("read", lambda i=i: shards.members("train", i))
        timed("gunzip", lambda m=members: decode_array(m["events.npy.gz"], codec="npy.gz"))
        images = [data for name, data in members.items() if name.startswith("rgb")]
        timed("pictures", lambda images=images: decode_images(images))
    medians = {name: statistics.median(times) for name, times in spent.items()}
    total = medians.pop("all")
    shares = {name: seconds / total for name, seconds in medians.items()}
    return {**shares, "rest": max(0.0, 1 - sum(shares.values()))}, total


def write_set(folder: Path, case: Case) -> Path:
    """Write a split as `eventkit shard` does; the few distinct clips stand there several times."""
    rng = np.random.default_rng(0)
    encoded = [encode_sample(_clip(case, k, rng)) for k in range(DISTINCT)]
    fields = tuple(encoded[0])
    keys = [f"clip{n:04d}_000000" for n in range(DISTINCT * case.copies)]
    name = "train/train-000000.tar"
    (folder / "train").mkdir(parents=True)
    (folder / "index").mkdir()
    with (folder / name).open("wb") as file:
        tar = TarWriter(file)
        offsets = [
            [tar.add(f"{key}.{suffix}", data) for suffix, data in encoded[n % DISTINCT].items()]
            for n, key in enumerate(keys)
        ]
        tar.close()
    sizes = [[len(data) for data in members.values()] for members in encoded]
    index = SampleIndex(
        keys=np.array(keys, "S"),
        shard=np.zeros(len(keys), np.int64),
        offset=np.array(offsets),
        size=np.array(sizes * case.copies),
        labels=np.arange(len(keys)) % DISTINCT % 2,
        fields=fields,
        shards=(name,),
    )
    buffer = io.BytesIO()
    np.savez(buffer, **index.to_arrays())
    (folder / "index" / "train.npz").write_bytes(buffer.getvalue())
    manifest = {
        "kind": MANIFEST_KIND,
        "schema": SCHEMA_VERSION,
        "plan_id": "0123456789abcdef",
        "settings": {"representation": "counts:eventkit"},
        "classes": {"0": "a", "1": "b"},
        "splits": {"train": {"samples": len(keys)}},
        "shards": [{"name": name, "bytes": (folder / name).stat().st_size}],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def _clip(case: Case, number: int, rng: np.random.Generator) -> Sample:
    shape = (BINS, 2, *case.events_hw)
    events = rng.integers(1, 4, shape, dtype=np.uint8) * (rng.random(shape) < _EVENTS)
    pictures = (_picture(case, rng) for _ in range(BINS))
    return Sample(
        key=f"clip{number}",
        events=events,
        rgb=tuple(_encoded(picture, case.suffix) for picture in pictures),
        rgb_suffix=case.suffix,
        label=number % 2,
        meta={"has_rgb": True, "has_events": True},
    )


def _picture(case: Case, rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = case.rgb_hw
    coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    smooth = np.asarray(image, np.int16)[:, :, : case.channels]
    noisy = smooth + rng.integers(-2, 3, smooth.shape)
    return noisy.clip(0, 255).astype(np.uint8).squeeze()


def _encoded(picture: NDArray[np.uint8], suffix: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if suffix == "png":
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    """Measure the loader beside a training of a given speed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", type=float, required=True, help="clips/s that training takes")
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2, 4))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    tell_feed(args.beside, workers=args.workers, rounds=args.rounds, pin=torch.cuda.is_available())


if __name__ == "__main__":
    main()
