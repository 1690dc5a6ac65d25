"""Clips of a store -> samples as they stand in a tar."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.location import Location, location
from eventkit.samples import Sample, decode_images, encode_png, encode_sample, sample_key
from eventkit.store import Pack, StoredClip
from pipelines.shard_settings import ShardSettings
from pipelines.tar import BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleMaker:
    """Turns clips of a store into samples; small enough to travel to a worker."""

    store: str
    plan_id: str
    settings: ShardSettings
    rgb_suffix: str
    representation: str
    mass: str

    @classmethod
    def of_plan(cls, store: Location, plan: dict[str, Any], settings: ShardSettings) -> SampleMaker:
        """Return the maker of a plan of shards."""
        decisive = plan["settings"]
        representation = decisive["representation"]
        # A store from before other families has counts or voxels and does not say what they keep.
        assumed = "counts" if representation.startswith("counts") else "none"
        return cls(
            store=str(store.resolve()),
            plan_id=plan["plan_id"],
            settings=settings,
            rgb_suffix=decisive["rgb_suffix"],
            representation=representation,
            mass=decisive.get("mass", assumed),
        )

    def sample(self, pack: str, number: int) -> Sample:
        """Return the sample of one clip."""
        path = location(self.store) / f"{pack}.zarr"
        opened = _open_pack(path, stamp=(self.plan_id, *_stamp(path)))
        clip = opened.clip(number, with_diffs=self.settings.with_diffs)
        key = sample_key(clip.facts["recording"], clip.facts["clip"])
        return make_sample(clip, key, self)

    def members(self, sample: Sample) -> dict[str, bytes]:
        """Return the members of a sample, suffix -> bytes, in order."""
        return encode_sample(sample, codec=self.settings.codec)

    def tar_bytes(self, pack: str, number: int) -> int:
        """Return what one clip takes in a tar."""
        members = self.members(self.sample(pack, number))
        return sum(BLOCK + -(-len(data) // BLOCK) * BLOCK for data in members.values())


def _stamp(path: Location) -> tuple[int, ...]:
    """Return what tells a pack from one that was written anew; behind a URL the plan alone does."""
    if not isinstance(path, Path):
        return ()
    status = (path / "zarr.json").stat()
    return status.st_ino, status.st_mtime_ns


@lru_cache(maxsize=512)
def _open_pack(path: Location, *, stamp: tuple[Any, ...]) -> Pack:
    """Open a pack; kept, since the clips of a shard come from everywhere and opening takes 15 ms.

    A pack of 512 clips takes 0.9 MB. Of a set of more packs than are kept a clip costs ten times as
    much; ``--mix packs`` is for these. A pack that was written anew has another stamp.
    """
    return Pack(path)


def make_sample(clip: StoredClip, key: str, maker: SampleMaker) -> Sample:
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
        "representation": maker.representation,
        "mass": maker.mass,
        "plan_id": maker.plan_id,
    }
    return Sample(
        key=key,
        events=clip.events,
        rgb=_encoded(clip, maker.rgb_suffix),
        rgb_suffix=maker.rgb_suffix,
        label=label,
        meta=meta,
        diff_events=clip.diff_events,
        diff_rgb=clip.diff_rgb,
    )


def _rgb_size(clip: StoredClip) -> tuple[int, int]:
    if clip.picture_shape is not None:
        height, width, _ = clip.picture_shape
        return width, height
    assert clip.encoded is not None
    pil = require("PIL.Image", extra="images", purpose="reading pictures")
    with pil.open(io.BytesIO(clip.encoded[0])) as image:
        return int(image.width), int(image.height)


def _encoded(clip: StoredClip, suffix: str) -> tuple[bytes, ...]:
    """Return T encoded pictures: source files as they are where the set's suffix allows it."""
    if clip.encoded is not None:
        if clip.facts["rgb_suffix"] == suffix:
            return clip.encoded
        return _encode_all(decode_images(clip.encoded), suffix)
    if not clip.has_rgb and clip.picture_shape is not None:
        return _placeholder(clip.picture_shape, suffix) * len(clip.window_us)
    assert clip.rgb is not None
    return _encode_all(clip.rgb, suffix)


@lru_cache(maxsize=8)
def _placeholder(shape: tuple[int, int, int], suffix: str) -> tuple[bytes, ...]:
    """Return the picture of a clip without any, as its store has it: zeros."""
    return _encode_all(np.zeros((1, *shape), np.uint8), suffix)


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
