"""Small sets of shards, written with the standard library alone."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from eventkit.samples import SCHEMA_VERSION, Sample, encode_png, encode_sample
from eventkit.shards import MANIFEST, MANIFEST_KIND, SampleIndex

PER_SHARD = 4


def make_sample(i: int) -> Sample:
    pixels = np.full((3, 4, 1), i, np.uint8)
    return Sample(
        key=f"rec{i:03d}_000000",
        events=np.full((2, 2, 3, 4), i, np.uint8),
        rgb=(encode_png(pixels), encode_png(pixels + 1)),
        rgb_suffix="png",
        label=i % 3,
        meta={"number": i},
    )


def write(folder: Path, splits: dict[str, list[Sample]], *, codec: str = "npy.gz") -> Path:
    """Write tars with the standard library, and the index and manifest of contract 4."""
    (folder / "index").mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    for split, samples in splits.items():
        (folder / split).mkdir()
        rows, shard_of, names = [], [], []
        fields = tuple(encode_sample(samples[0], codec=codec))
        for number, first in enumerate(range(0, len(samples), PER_SHARD)):
            name = f"{split}/{split}-{number:06d}.tar"
            group = samples[first : first + PER_SHARD]
            with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
                for sample in group:
                    for suffix, data in encode_sample(sample, codec=codec).items():
                        info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
            with tarfile.open(folder / name) as tar:
                rows += [(member.offset_data, member.size) for member in tar.getmembers()]
            shard_of += [number] * len(group)
            names.append(name)
            entry = {"name": name, "samples": len(group), **facts(folder / name)}
            entries.append(entry)
        table = np.array(rows, np.int64).reshape(len(samples), len(fields), 2)
        index = SampleIndex(
            keys=np.array([sample.key.encode() for sample in samples]),
            shard=np.array(shard_of, np.int64),
            offset=table[..., 0],
            size=table[..., 1],
            labels=np.array([sample.label for sample in samples], np.int64),
            fields=fields,
            shards=tuple(names),
        )
        np.savez(folder / "index" / f"{split}.npz", **index.to_arrays())
    manifest = {
        "kind": MANIFEST_KIND,
        "schema": SCHEMA_VERSION,
        "classes": {"0": "ant", "1": "bee", "2": "cat"},
        "splits": {
            split: {
                "samples": len(samples),
                "index_sha256": facts(folder / "index" / f"{split}.npz")["sha256"],
            }
            for split, samples in splits.items()
        },
        "shards": entries,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def facts(path: Path) -> dict[str, Any]:
    """Return size and hash as a manifest has them."""
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
