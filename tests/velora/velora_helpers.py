"""Shards of moving bars, written by way of the sample schema alone, and the tiniest model."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eventkit.samples import SCHEMA_VERSION, Sample, encode_sample
from eventkit.shards import MANIFEST, MANIFEST_KIND, SampleIndex

SHARED = Path(__file__).resolve().parents[3] / "shared"


def png(pixels: np.ndarray) -> bytes:
    """Encode (H, W) or (H, W, 3) uint8 as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_sample(
    key: str,
    *,
    label: int,
    rng: np.random.Generator,
    bins: int = 3,
    sizes: tuple[int, int] = (34, 28),
    static: bool = False,
    voxels: bool = False,
    senses: Sequence[str] = ("rgb", "event"),
) -> Sample:
    """Make a clip of a moving bar: lying (0), standing (1) or a block (2), in both senses."""
    event_side, rgb_side = sizes
    events = (rng.random((bins, 2, event_side, event_side)) < 0.02).astype(np.uint8)
    images = []
    for t in range(bins):
        top, left = rng.integers(2, event_side // 2, 2)
        events[t, t % 2][_bar(label, top, left, event_side)] += 2
        image = rng.integers(0, 30, (rgb_side, rgb_side), dtype=np.uint8)
        step = 0 if static else t
        image[_bar(label, rgb_side // 4 + step, rgb_side // 4 + step, rgb_side)] += 200
        images.append(png(image))
    if static:
        images = images[:1] * bins
    if "rgb" not in senses:
        images = [png(np.zeros((rgb_side, rgb_side), np.uint8))] * bins
    if "event" not in senses:
        events[:] = 0
    meta = {
        "key": key,
        "label": label,
        "has_rgb": "rgb" in senses,
        "has_events": "event" in senses,
        "rgb_static": static,
        "rgb_index": [0] * bins if static else list(range(bins)),
    }
    frames = events
    if voxels:
        frames = (events[:, 1:].astype(np.float32) - events[:, :1]) * 0.5
    return Sample(
        key=key, events=frames, rgb=tuple(images), rgb_suffix="png", label=label, meta=meta
    )


def _bar(label: int, top: int, left: int, side: int) -> tuple[slice, slice]:
    height, width = [(3, side), (side, 3), (side // 2, side // 2)][label % 3]
    return slice(top if height < side else 0, top + height), slice(
        left if width < side else 0, left + width
    )


def write_shards(
    path: Path,
    splits: Mapping[str, Sequence[Sample]],
    *,
    classes: Mapping[int, str],
    representation: str = "counts:eventkit",
    plan_id: str = "0123456789abcdef",
) -> Path:
    """Write samples as shards, index and manifest of contract 4."""
    entries: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    (path / "index").mkdir(parents=True)
    for split, samples in splits.items():
        name = f"{split}/{split}-000000.tar"
        (path / split).mkdir()
        encoded = [encode_sample(sample) for sample in samples]
        with tarfile.open(path / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for sample, members in zip(samples, encoded, strict=True):
                for suffix, data in members.items():
                    info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        with tarfile.open(path / name) as tar:
            members = tar.getmembers()
        fields = tuple(encoded[0])
        table = np.array([[m.offset_data, m.size] for m in members], dtype=np.int64)
        table = table.reshape(len(samples), len(fields), 2)
        index = SampleIndex(
            keys=np.array([sample.key.encode() for sample in samples]),
            shard=np.zeros(len(samples), np.int64),
            offset=table[..., 0],
            size=table[..., 1],
            labels=np.array([sample.label for sample in samples], np.int64),
            fields=fields,
            shards=(name,),
        )
        np.savez(path / "index" / f"{split}.npz", **index.to_arrays())
        size = (path / name).stat().st_size
        sha256 = hashlib.sha256((path / name).read_bytes()).hexdigest()
        entries.append({"name": name, "bytes": size, "samples": len(samples), "sha256": sha256})
        index_sha256 = hashlib.sha256((path / "index" / f"{split}.npz").read_bytes()).hexdigest()
        summary[split] = {"samples": len(samples), "index_sha256": index_sha256}
    manifest = {
        "kind": MANIFEST_KIND,
        "schema": SCHEMA_VERSION,
        "plan_id": plan_id,
        "settings": {"representation": representation},
        "classes": {str(label): name for label, name in classes.items()},
        "splits": summary,
        "shards": entries,
    }
    (path / MANIFEST).write_text(json.dumps(manifest))
    return path


TINY = {
    "backbone": "vit_tiny_patch16_224",
    "random_trunk": True,
    "img_size": 32,
    "high_blocks": 1,
    "backbone_kwargs": {
        "patch_size": 16,
        "depth": 3,
        "embed_dim": 48,
        "num_heads": 3,
        "weight_init": "moco",
    },
}
TINY_RECIPE = """
[model]
backbone = "vit_tiny_patch16_224"
random_trunk = true
img_size = 32
high_blocks = 1
rec_weight = 0.1

[model.backbone_kwargs]
patch_size = 16
depth = 3
embed_dim = 48
num_heads = 3
weight_init = "moco"

[lora]
rank = 4

[train]
epochs = 2
batch_size = 8
lr = 3e-3
warmup_epochs = 0.0
"""
