"""Clips from shards, in batches, in an order that only (seed, epoch) decides.

A split is read through `eventkit.shards.ShardSet`. Decoded clips stay in memory as uint8 up to a
budget, so a small set is decoded once; the rest is decoded by threads ahead of the training step
(PNG, gzip and pread release the interpreter lock).

    B clips, T frames, U distinct RGB images of a clip, C channels, H, W
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from eventkit.errors import DamageError, SettingsError
from eventkit.samples import Sample, decode_images, decode_sample
from eventkit.shards import ShardSet
from velora.config import DataSettings

Sense = str  # "rgb" or "event"

# What pictures can be drawn from: family -> channels of a frame.
_DRAWN = {"counts": (1, 2), "voxel": (1, 2), "image": (3,)}

_HOW_TO_LABEL = (
    "put the recordings into one folder per class, or give `eventkit convert` a list file with "
    "lines `<class>/<recording> <frames> <label>`, then convert and shard again"
)


class DataSpec(Struct, frozen=True, kw_only=True):
    """What a model must know of the shards it was trained on."""

    plan_id: str
    representation: str
    bins: int
    #: Class id -> name; the order of the ids is the order of the logits.
    classes: dict[int, str]

    @property
    def class_ids(self) -> list[int]:
        """The class ids in the order of the logits."""
        return sorted(self.classes)


def describe(shards: ShardSet, *, splits: Sequence[str] | None = None) -> DataSpec:
    """Read what a shard set holds; refuse one that no model here can learn from.

    Parameters
    ----------
    splits : sequence of str, optional
        Those that will be used, all by default; every sample of them must have a label.

    Raises
    ------
    SettingsError
        Unknown representation, fewer than two classes, missing labels, no samples; says the cure.
    """
    representation = str(shards.manifest.get("settings", {}).get("representation", ""))
    if representation.split(":")[0] not in _DRAWN:
        raise _cannot_draw(shards, representation)
    filled = [split for split in shards.splits if shards.num_samples(split)]
    if not filled:
        msg = f"{shards.path} holds no samples; look at what `eventkit convert` quarantined"
        raise SettingsError(msg)
    for split in filled if splits is None else splits:
        check_labels(shards, split)
    if len(shards.class_names) < 2:
        names = ", ".join(shards.class_names.values()) or "none"
        msg = f"{shards.path} has classes: {names}; a classifier needs at least two"
        raise SettingsError(msg)
    events = shards.sample(filled[0], 0).events
    if events.ndim != 4 or events.shape[1] not in _DRAWN[representation.split(":")[0]]:
        raise _cannot_draw(shards, f"{representation} of shape {events.shape}")
    return DataSpec(
        plan_id=str(shards.manifest["plan_id"]),
        representation=_as_drawn(representation),
        bins=int(events.shape[0]),
        classes=dict(sorted(shards.class_names.items())),
    )


def _cannot_draw(shards: ShardSet, found: str) -> SettingsError:
    msg = (
        f"{shards.path} holds events as {found or 'nothing known'!r}; VELoRA draws pictures from "
        "counts:..., voxel:... of one or two channels and image:... of three: convert with "
        "`--repr counts:eventkit`"
    )
    return SettingsError(msg)


def _as_drawn(representation: str) -> str:
    """Return the spec without the type of counts: pictures only ask whether a pixel fired."""
    name, *settings = representation.split(",")
    kept = [s for s in settings if not (name.startswith("counts") and s.startswith("dtype="))]
    return ",".join([name, *kept])


def check_labels(shards: ShardSet, split: str) -> None:
    """Refuse a split with unlabelled samples, or labels that the manifest does not name."""
    labels = shards.labels(split)
    missing = int((labels < 0).sum())
    if missing:
        msg = (
            f"{missing} of the {len(labels)} {split} samples in {shards.path} have no label, and "
            f"a classifier learns from labels: {_HOW_TO_LABEL}"
        )
        raise SettingsError(msg)
    unknown = sorted(set(labels.tolist()) - set(shards.class_names))
    if unknown:
        msg = f"{shards.path}: {split} has labels {unknown[:5]} that the manifest does not name"
        raise DamageError(msg)


def check_splits(shards: ShardSet) -> None:
    """Refuse a set that cannot be trained on and tested: training needs both splits."""
    for split, use in (("train", "learn from"), ("test", "measure on")):
        if split not in shards.splits or not shards.num_samples(split):
            msg = (
                f"{shards.path} has no {split} samples to {use}; convert folders named train/ and "
                "test/, list files train_label.txt and test_label.txt, or enough recordings for "
                "the automatic 80/10/10 split"
            )
            raise SettingsError(msg)


def check_fits(spec: DataSpec, run: DataSpec) -> None:
    """Refuse to evaluate a run on shards with other classes, bins or representation."""
    if spec.representation != run.representation or spec.bins != run.bins:
        msg = (
            f"the run was trained on {run.bins} bins of {run.representation}, these shards hold "
            f"{spec.bins} bins of {spec.representation}; convert and shard with the run's settings"
        )
        raise SettingsError(msg)
    strange = [f"{i} {name}" for i, name in spec.classes.items() if run.classes.get(i) != name]
    if strange:
        msg = (
            f"classes of these shards that the run does not have under that id: "
            f"{', '.join(strange[:5])}; evaluate on shards made with the same class list"
        )
        raise SettingsError(msg)


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
        self._room = cache_bytes
        self._cache: dict[int, Clip] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Clip:
        clip = self._cache.get(i)
        if clip is None:
            members = self.shards.members(self.split, i)
            # Stored differences are not looked at: the model takes them of augmented pictures.
            wanted = {n: data for n, data in members.items() if not n.startswith("diff_")}
            sample = decode_sample(str(self.keys[i]), wanted)
            clip = decode_clip(sample, label=int(self.labels[i]), bins=self.bins)
            with self._lock:
                if i not in self._cache and clip.num_bytes <= self._room:
                    self._cache[i] = clip
                    self._room -= clip.num_bytes
        return clip


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Clips with the augmentation drawn for each.

    Parameters
    ----------
    clips : list of B Clip
    shifts : (B, 2) float64
        Down and right, as a share of the picture's side.
    flips : (B,) bool
    """

    clips: list[Clip]
    shifts: NDArray[np.float64]
    flips: NDArray[np.bool_]

    @property
    def keys(self) -> list[str]:
        """The samples' keys."""
        return [clip.key for clip in self.clips]

    @property
    def labels(self) -> torch.Tensor:
        """(B,) int64 positions in the logits."""
        return torch.tensor([clip.label for clip in self.clips])


class ClipLoader:
    """Batches of a dataset, decoded ahead by threads.

    Parameters
    ----------
    dataset : ClipDataset
    batch_size : int
    num_threads : int
        0 decodes in the caller's thread.
    shuffle_seed : int, optional
        Shuffle each epoch anew by (seed, epoch); in the order of the shards without it.
    augment : DataSettings, optional
        Draw shifts and flips by (seed, epoch, sample); none without it.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        num_threads: int = 2,
        shuffle_seed: int | None = None,
        augment: DataSettings | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_threads = num_threads
        self.shuffle_seed = shuffle_seed
        self.augment = augment

    def __len__(self) -> int:
        """The number of batches of an epoch, where no clip is passed over."""
        return -(-len(self.dataset) // self.batch_size)

    def epoch(self, epoch: int = 0, *, senses: Sequence[Sense]) -> Iterator[Batch]:
        """Yield the batches of an epoch; clips with none of ``senses`` are passed over."""
        order = epoch_order(len(self.dataset), seed=self.shuffle_seed, epoch=epoch)
        positions: list[int] = []
        clips: list[Clip] = []
        for i, clip in _ahead(self.dataset, order, self.num_threads, 2 * self.batch_size):
            if any(clip.has(sense) for sense in senses):
                positions.append(i)
                clips.append(clip)
            if len(clips) == self.batch_size:
                yield self._batch(clips, positions, epoch)
                clips, positions = [], []
        if clips:
            yield self._batch(clips, positions, epoch)

    def _batch(self, clips: list[Clip], positions: list[int], epoch: int) -> Batch:
        shifts = np.zeros((len(clips), 2))
        flips = np.zeros(len(clips), dtype=np.bool_)
        if self.augment is not None:
            for row, i in enumerate(positions):
                # Drawn by the sample, not by its place in the batch, so that another batch size
                # or a resumed run sees the same picture.
                rng = _generator(self.shuffle_seed or 0, epoch, stream=1, sample=i)
                shifts[row] = rng.uniform(-1, 1, size=2) * self.augment.shift
                flips[row] = rng.random() < 0.5 and self.augment.flip
        return Batch(clips=clips, shifts=shifts, flips=flips)


def epoch_order(num_samples: int, *, seed: int | None, epoch: int) -> NDArray[np.int64]:
    """Return the order of the samples in an epoch; the order of the shards if ``seed`` is None."""
    if seed is None:
        return np.arange(num_samples)
    return _generator(seed, epoch, stream=0, sample=0).permutation(num_samples)


def _generator(seed: int, epoch: int, *, stream: int, sample: int) -> np.random.Generator:
    # The counter's low word is left to the generator to count with.
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, stream, sample]))


def _ahead(
    dataset: ClipDataset, order: Iterable[int], num_threads: int, depth: int
) -> Iterator[tuple[int, Clip]]:
    """Yield (position, clip) in order, with at most ``depth`` clips decoded ahead."""
    positions = [int(i) for i in order]
    if num_threads == 0:
        yield from ((i, dataset[i]) for i in positions)
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="velora-decode")
    try:
        waiting: deque[tuple[int, Future[Clip]]] = deque()
        for i in positions:
            waiting.append((i, pool.submit(dataset.__getitem__, i)))
            if len(waiting) > depth:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
