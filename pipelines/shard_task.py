"""Shard: clips of a store -> one deterministic tar, committed by its receipt."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.atomic import committed
from eventkit.samples import Sample, encode_png, encode_sample
from eventkit.store import Pack, StoredClip
from pipelines.receipts import read_receipt, write_receipt
from pipelines.tar import TarWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """What decides the bytes of the shards.

    Parameters
    ----------
    codec : {"npy.gz", "npy"}
        Of array members.
    with_diffs : bool
        Also write ``diff_events`` and ``diff_rgb``.
    num_shards : int, optional
        A split; default by size and number of samples.
    shard_bytes : int
        Aimed at.
    """

    codec: str = "npy.gz"
    with_diffs: bool = False
    num_shards: int | None = None
    shard_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One tar to write.

    ``clips`` lists (pack, number in the pack, key) in order.
    """

    store: str
    out: str
    name: str
    plan_id: str
    clips: tuple[tuple[str, int, str], ...]
    settings: ShardSettings
    rgb_suffix: str
    representation: str
    mass: str


def write_shard(job: ShardJob) -> dict[str, Any]:
    """Write one shard; returns its receipt. A finished shard is left as it is."""
    out = Path(job.out)
    unit = job.name.replace("/", "_").removesuffix(".tar")
    done = read_receipt(out, unit, plan_id=job.plan_id)
    if done is not None:
        return done
    path = out / job.name
    path.parent.mkdir(parents=True, exist_ok=True)
    packs: dict[str, Pack] = {}
    rows: list[dict[str, Any]] = []
    fields: list[str] = []
    with committed(path) as temporary, temporary.open("wb") as file:
        tar = TarWriter(file)
        for pack, number, key in job.clips:
            if pack not in packs:
                packs[pack] = Pack(Path(job.store) / f"{pack}.zarr")
            clip = packs[pack].clip(number, with_diffs=job.settings.with_diffs)
            sample = make_sample(clip, key, job)
            members = encode_sample(sample, codec=job.settings.codec)
            fields = fields or list(members)
            assert list(members) == fields, f"{key}: members differ within a set"
            offsets = [tar.add(f"{key}.{suffix}", data) for suffix, data in members.items()]
            sizes = [len(data) for data in members.values()]
            rows.append({"key": key, "label": sample.label, "offset": offsets, "size": sizes})
        sha256, crc32c = tar.close()
    size = path.stat().st_size
    receipt = {
        "name": job.name,
        "plan_id": job.plan_id,
        "files": [{"path": job.name, "bytes": size, "sha256": sha256}],
        "crc32c": crc32c,
        "fields": fields,
        "rows": rows,
    }
    write_receipt(out, unit, receipt)
    logger.info("%s: %d samples, %d bytes", path, len(rows), size)
    return receipt


def make_sample(clip: StoredClip, key: str, job: ShardJob) -> Sample:
    """Turn a stored clip into a sample."""
    columns, facts = clip.columns, clip.facts
    label = int(columns["label"])
    binned = [int(n) for n in columns["binned"]]
    size = _rgb_size(clip)
    meta = {
        "key": key,
        "recording": facts["recording"],
        "clip": facts["clip"],
        "label": label,
        "label_name": facts["label_name"],
        "has_events": bool(columns["has_events"]),
        "has_rgb": bool(columns["has_rgb"]),
        "rgb_static": facts["rgb_static"],
        "rgb_times": facts["rgb_times"],
        "rgb_index": [int(i) for i in columns["rgb_index"]],
        "rgb_t_us": [int(a + (b - a) // 2) for a, b in columns["exposure_us"]],
        "rgb_exposure_us": [[int(a), int(b)] for a, b in columns["exposure_us"]],
        "window_us": [[int(a), int(b)] for a, b in columns["window_us"]],
        "num_events": binned,
        "decoded": int(columns["decoded"]),
        "binned": sum(binned),
        "clipped": int(columns["clipped"].sum()),
        "dropped": facts["dropped"],
        "flags": facts["flags"],
        "sensor_size": facts["sensor_size"],
        "rgb_size": list(size),
        "representation": job.representation,
        "mass": job.mass,
        "plan_id": job.plan_id,
    }
    return Sample(
        key=key,
        events=clip.events,
        rgb=_encoded(clip, job.rgb_suffix),
        rgb_suffix=job.rgb_suffix,
        label=label,
        meta=meta,
        diff_events=clip.diff_events,
        diff_rgb=clip.diff_rgb,
    )


def _rgb_size(clip: StoredClip) -> tuple[int, int]:
    if clip.rgb is not None:
        return int(clip.rgb.shape[2]), int(clip.rgb.shape[1])
    assert clip.encoded is not None
    pil = require("PIL.Image", extra="images", purpose="reading pictures")
    with pil.open(io.BytesIO(clip.encoded[0])) as image:
        return int(image.width), int(image.height)


def _encoded(clip: StoredClip, suffix: str) -> tuple[bytes, ...]:
    """Return T encoded pictures: source files as they are where the set's suffix allows it."""
    if clip.encoded is not None:
        if clip.facts["rgb_suffix"] == suffix:
            return clip.encoded
        from eventkit.samples import decode_images

        return _encode_all(decode_images(clip.encoded), suffix)
    assert clip.rgb is not None
    return _encode_all(clip.rgb, suffix)


def _encode_all(pictures: NDArray[np.uint8], suffix: str) -> tuple[bytes, ...]:
    """Encode pictures; equal neighbours (repeats of one frame) are encoded once."""
    out: list[bytes] = []
    for i, picture in enumerate(pictures):
        if i and np.array_equal(picture, pictures[i - 1]):
            out.append(out[-1])
        else:
            out.append(encode_png(picture) if suffix == "png" else _encode_jpeg(picture))
    return tuple(out)


def _encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode a placeholder: in a set of JPEG sources only clips without RGB come here."""
    pil = require("PIL.Image", extra="images", purpose="writing JPEG pictures")
    buffer = io.BytesIO()
    image = pil.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()
