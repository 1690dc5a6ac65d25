"""The loaders of a run, as its settings say."""

from __future__ import annotations

from functools import partial

import torch

from eventkit.errors import SettingsError
from eventkit.shards import ShardSet
from velora.data import ClipDataset, ClipLoader, DataSpec
from velora.parallel import ALONE, Ranks
from velora.settings import Settings
from velora.training.options import TrainOptions

_TRAIN_CACHE_BYTES = 2**30
_EVAL_CACHE_BYTES = 2**28


def make_loader(
    shards: ShardSet,
    split: str,
    spec: DataSpec,
    settings: Settings,
    options: TrainOptions,
    ranks: Ranks = ALONE,
    *,
    device: torch.device,
    batch_size: int | None = None,
    learns: bool = False,
) -> ClipLoader:
    """Return the batches of a split; those that are learnt from are shuffled, changed and mixed.

    Evaluation goes by parts of a batch as training does, unless it has a ``batch_size`` of its own:
    what fits with gradients fits without.
    """
    cache_bytes = _TRAIN_CACHE_BYTES if learns else _EVAL_CACHE_BYTES
    dataset = ClipDataset(
        shards,
        split,
        spec=spec,
        settings=settings.data,
        moving=settings.model.moving,
        cache_bytes=cache_bytes,
    )
    loader = partial(
        ClipLoader,
        dataset,
        batch_size=batch_size or settings.train.batch_size,
        parts=1 if batch_size else settings.train.accumulate,
        num_threads=options.num_workers,
        ranks=ranks,
        pin=device.type == "cuda",
    )
    if not learns:
        return loader()
    return loader(
        shuffle_seed=settings.train.seed,
        augment=settings.data,
        sampling=settings.data.sampling,
        mixup=settings.train.mixup,
    )


def check_settings(settings: Settings) -> None:
    """Refuse settings of different tables that exclude each other.

    Raises
    ------
    SettingsError
    """
    if settings.data.sampling == "balanced" and settings.train.class_weights == "balanced":
        msg = (
            "data.sampling = 'balanced' and train.class_weights = 'balanced' make up for uneven "
            "classes twice, so that rare ones count too much: set data.sampling = 'natural', or "
            "train.class_weights = 'none'"
        )
        raise SettingsError(msg)
    if settings.data.drop_sense > 0 and (
        settings.model.mode == "compat" or settings.data.diff == "stored"
    ):
        msg = (
            "data.drop_sense hides a sense before differences are taken, which model.mode = "
            "'compat' and data.diff = 'stored' cannot: set data.drop_sense = 0"
        )
        raise SettingsError(msg)
    if settings.data.diff == "device":
        return
    if settings.model.mode == "compat":
        msg = (
            "model.mode = 'compat' takes differences as the release does: set data.diff = 'device'"
        )
        raise SettingsError(msg)
    if settings.train.mixup > 0:
        msg = (
            "data.diff = 'stored' and train.mixup exclude each other: differences of mixtures are "
            "no mixtures of differences; set data.diff = 'device', or train.mixup = 0"
        )
        raise SettingsError(msg)
