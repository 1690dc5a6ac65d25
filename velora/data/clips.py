"""Decoded clips of a split, kept in memory as uint8 up to a budget.

T frames, U distinct RGB images of a clip, C channels, H, W
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError
from eventkit.samples import Sample, decode_images, decode_sample
from eventkit.shards import ShardSet
from velora.data.spec import DataSpec

Sense = str  # "rgb" or "event"


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One decoded clip.

    Parameters
    ----------
    key : str
    label : int
        Position in the logits.
    rgb : (U, H, W, 1 or 3) uint8
        Distinct images; none without RGB.
    rgb_index : (T,) int64
        Which image each frame shows; -1 without RGB.
    events : (T, 1, 2 or 3, H, W) uint8 or float32
        Saturated counts, voxels or pictures; no frames without events.
    """

    key: str
    label: int
    rgb: NDArray[np.uint8]
    rgb_index: NDArray[np.int64]
    events: NDArray[Any]

    def has(self, sense: Sense) -> bool:
        """Tell whether the clip has frames of this sense."""
        return len(self.rgb if sense == "rgb" else self.events) > 0

    @property
    def num_bytes(self) -> int:
        """Size of the pixels in memory."""
        return self.rgb.nbytes + self.events.nbytes


def decode_clip(sample: Sample, *, label: int, bins: int) -> Clip:
    """Decode a sample; repeated RGB images are decoded and kept once."""
    events = sample.events
    if events.ndim != 4 or events.shape[0] != bins or len(sample.rgb) != bins:
        msg = (
            f"sample {sample.key}: events {events.shape} and {len(sample.rgb)} images, where the "
            f"set has {bins} bins; run `eventkit verify`"
        )
        raise DamageError(msg)
    if events.dtype != np.float32:
        # Pictures only ask whether a pixel fired; uint8 keeps the cache small.
        events = np.minimum(events, 255).astype(np.uint8)
    if not sample.meta.get("has_events", True):
        events = events[:0]
    distinct: dict[bytes, int] = {}
    index = np.array([distinct.setdefault(image, len(distinct)) for image in sample.rgb])
    if sample.meta.get("has_rgb", True):
        rgb = _decode_rgb(sample.key, list(distinct))
    else:
        rgb, index = np.zeros((0, 1, 1, 1), np.uint8), np.full(bins, -1)
    return Clip(
        key=sample.key, label=label, rgb=rgb, rgb_index=index.astype(np.int64), events=events
    )


def _decode_rgb(key: str, images: list[bytes]) -> NDArray[np.uint8]:
    try:
        return decode_images(images)
    except DamageError as error:
        msg = f"sample {key}: {error}; run `eventkit verify` on the shards"
        raise DamageError(msg) from error


class ClipDataset:
    """The clips of one split, by position; thread-safe.

    Parameters
    ----------
    shards : ShardSet
    split : str
    spec : DataSpec
        Of the run: gives the bins and the order of the classes.
    cache_bytes : int
        Decoded clips are kept until they fill this.
    """

    def __init__(
        self, shards: ShardSet, split: str, *, spec: DataSpec, cache_bytes: int = 2**30
    ) -> None:
        self.shards = shards
        self.split = split
        self.bins = spec.bins
        position = {class_id: i for i, class_id in enumerate(spec.class_ids)}
        ids = shards.labels(split).tolist()
        self.keys = shards.keys(split)
        self.labels = np.array([position[class_id] for class_id in ids], dtype=np.int64)
        # Stored differences are not looked at: the model takes them of augmented pictures.
        fields = shards.index(split).fields
        self._wanted = [suffix for suffix in fields if not suffix.startswith("diff_")]
        self._room = cache_bytes
        self._cache: dict[int, Clip] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Clip:
        clip = self._cache.get(i)
        if clip is None:
            members = self.shards.members(self.split, i, suffixes=self._wanted)
            sample = decode_sample(str(self.keys[i]), members)
            clip = decode_clip(sample, label=int(self.labels[i]), bins=self.bins)
            with self._lock:
                if i not in self._cache and clip.num_bytes <= self._room:
                    self._cache[i] = clip
                    self._room -= clip.num_bytes
        return clip
