"""Decoded clips of a split, kept in memory up to a budget, whole counts as uint8.

T frames, U distinct RGB images of a clip, C channels, H, W
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError, FormatError
from eventkit.frames import to_uint8
from eventkit.readers.images.pixels import decode_pixels
from eventkit.samples import Sample, decode_images, decode_sample
from eventkit.shards import ShardSet
from velora.data.class_match import placed_labels
from velora.data.rows import Placed, Rows, put
from velora.data.spec import DataSpec, check_view, event_input
from velora.settings import DataSettings

Sense = str  # "rgb" or "event"

_NO_ROWS: Rows = {}


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
    events : (T, C, H, W) uint8, saturated, or what else the shards hold
        No frames without events.
    diff_events : (T - 1, C, H, W), optional
    diff_rgb : (T - 1, H, W, 1 or 3) uint8, optional
        Differences as they were stored; None where they are made of the pictures.
    """

    key: str
    label: int
    rgb: NDArray[np.uint8]
    rgb_index: NDArray[np.int64]
    events: NDArray[Any]
    diff_events: NDArray[Any] | None = None
    diff_rgb: NDArray[np.uint8] | None = None

    def has(self, sense: Sense) -> bool:
        """Tell whether the clip has frames of this sense."""
        return len(self.rgb if sense == "rgb" else self.events) > 0

    @property
    def has_both(self) -> bool:
        """Whether the clip has RGB and events."""
        return self.has("rgb") and self.has("event")

    @property
    def num_bytes(self) -> int:
        """Size of the pixels in memory."""
        arrays = (self.rgb, self.events, self.diff_events, self.diff_rgb)
        return sum(array.nbytes for array in arrays if array is not None)


def decode_clip(
    sample: Sample,
    *,
    label: int,
    bins: int,
    frames: NDArray[np.int64] | None = None,
    rows: Rows = _NO_ROWS,
) -> Clip:
    """Decode a sample; repeated RGB images are decoded and kept once.

    Parameters
    ----------
    sample : Sample
    label : int
        Position in the logits.
    bins : int
        Of the set.
    frames : (T,) int64, optional
        Those to keep; all without it.
    rows : mapping name -> array
        Where ``rgb`` and ``events`` go if they have this shape and type.
    """
    events = sample.events
    if events.ndim != 4 or events.shape[0] != bins or len(sample.rgb) != bins:
        msg = (
            f"sample {sample.key}: events {events.shape} and {len(sample.rgb)} images, where the "
            f"set has {bins} bins; run `eventkit verify`"
        )
        raise DamageError(msg)
    kept = np.arange(bins) if frames is None else frames
    events = compact(events if frames is None else events[kept])
    if not sample.meta.get("has_events", True):
        events = events[:0]
    distinct: dict[bytes, int] = {}
    index = np.array([distinct.setdefault(sample.rgb[t], len(distinct)) for t in kept])
    if sample.meta.get("has_rgb", True):
        rgb = _decode_rgb(sample.key, list(distinct), rows.get("rgb"))
    else:
        rgb, index = np.zeros((0, 1, 1, 1), np.uint8), np.full(len(kept), -1)
    return Clip(
        key=sample.key,
        label=label,
        rgb=rgb,
        rgb_index=index.astype(np.int64),
        events=put(events, rows.get("events")),
        diff_events=None if sample.diff_events is None else compact(sample.diff_events),
        diff_rgb=sample.diff_rgb,
    )


def spread(frames: int, bins: int) -> NDArray[np.int64]:
    """Return ``frames`` of ``bins`` frames, as evenly spaced as can be.

    Examples
    --------
    >>> spread(3, 8).tolist()
    [1, 4, 6]
    """
    return (2 * np.arange(frames) + 1) * bins // (2 * frames)


def compact(events: NDArray[Any]) -> NDArray[Any]:
    """Keep counts in uint8: what paints them is full long before 255 events of one pixel."""
    if events.dtype.kind != "u" or events.dtype == np.uint8:
        return events
    return np.minimum(events, 255).astype(np.uint8)


def _decode_rgb(key: str, images: list[bytes], row: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if row is not None and len(row) == len(images) and _filled(row, images):
        return row
    try:
        return decode_images(images)
    except DamageError as error:
        msg = f"sample {key}: {error}; run `eventkit verify` on the shards"
        raise DamageError(msg) from error


def _filled(row: NDArray[np.uint8], images: list[bytes]) -> bool:
    """Decode pictures into a row; False if one does not fit, or is one that cannot be decoded."""
    for place, data in zip(row, images, strict=True):
        try:
            pixels = to_uint8(decode_pixels(data, path="picture of a sample"))
        except FormatError:
            return False
        if put(pixels, place) is not place:
            return False
    return True


class ClipDataset:
    """The clips of one split, by position; thread-safe.

    A position that is a `velora.data.rows.Placed` puts the clip into its rows.

    Parameters
    ----------
    shards : ShardSet
    split : str
    spec : DataSpec
        Of the run: gives the bins, the representation and the order of the classes.
    settings : DataSettings
        Say which frames are looked at, how event frames are painted and where differences are from.
    moving : sequence of Sense
        Whose stored differences are looked at, where they are.
    cache_bytes : int
        Decoded clips are kept until they fill this.

    Raises
    ------
    SettingsError
        If the shards do not have what the settings ask for; says the cure.
    """

    def __init__(
        self,
        shards: ShardSet,
        split: str,
        *,
        spec: DataSpec,
        settings: DataSettings | None = None,
        moving: Sequence[Sense] = ("rgb", "event"),
        cache_bytes: int = 2**30,
    ) -> None:
        settings = settings or DataSettings()
        self.shards = shards
        self.split = split
        self.bins = spec.bins
        self.moving = tuple(moving)
        self.event_input = event_input(spec, settings)
        check_view(shards, split, spec=spec, settings=settings)
        self.frames = None if settings.frames is None else spread(settings.frames, spec.bins)
        self.keys = shards.keys(split)
        self.labels = placed_labels(shards, split, spec.classes)
        # Differences are members that nobody reads for nothing.
        stored = settings.diff == "stored"
        fields = shards.index(split).fields
        self._wanted = [suffix for suffix in fields if stored or not suffix.startswith("diff_")]
        self._room = cache_bytes
        self._cache: dict[int, Clip] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Clip:
        rows = i.rows if isinstance(i, Placed) else _NO_ROWS
        clip = self._cache.get(i)
        if clip is None:
            if rows and sum(row.nbytes for row in rows.values()) > self._room:
                return self._decoded(i, rows)
            clip = self._decoded(i, _NO_ROWS)
            with self._lock:
                if i not in self._cache and clip.num_bytes <= self._room:
                    self._cache[int(i)] = clip
                    self._room -= clip.num_bytes
        # Of a clip that is kept, since rows are used again.
        if not rows:
            return clip
        rgb, events = put(clip.rgb, rows.get("rgb")), put(clip.events, rows.get("events"))
        return replace(clip, rgb=rgb, events=events)

    def _decoded(self, i: int, rows: Rows) -> Clip:
        try:
            members = self.shards.members(self.split, i, suffixes=self._wanted)
            sample = decode_sample(str(self.keys[i]), members)
            label = int(self.labels[i])
            return decode_clip(sample, label=label, bins=self.bins, frames=self.frames, rows=rows)
        except DamageError as error:
            index = self.shards.index(self.split)
            shard = index.shards[int(index.shard[i])]
            if shard in str(error):
                raise
            msg = f"{self.shards.path}/{shard}: {error}"
            raise DamageError(msg) from error
