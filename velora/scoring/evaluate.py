"""Evaluation: what a model says of a split, in every view, and the report of it.

A fusion model is also looked at with one sense hidden ("by masking"). That shows what it draws
from a sense; it is not the accuracy of a model trained for that sense, which
``--streams rgb`` or ``event`` trains.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import torch

from eventkit.shards import ShardSet
from velora.data import ClipLoader
from velora.model.classifier import Classifier
from velora.scoring.predictions import View, predict
from velora.scoring.scores import Evaluation, Report, confusion_matrix, score


def evaluate_views(
    model: Classifier,
    loader: ClipLoader,
    *,
    device: torch.device,
    plan_id: str,
    classes: list[str],
    epoch: int,
    other_settings: Sequence[str] = (),
    progress: Callable[[str, int], None] | None = None,
) -> Evaluation:
    """Evaluate a model on a split; a fusion model also with each sense alone, by masking.

    Parameters
    ----------
    other_settings : sequence of str
        In what the clips were made otherwise than those of training, for the report.
    progress : callable, optional
        Called with the view and the number of clips done after every batch.
    """
    names: tuple[View, ...] = ("fusion", "rgb", "event")
    if len(model.senses) == 1:
        names = (model.senses[0],)  # type: ignore[assignment]
    elif model.needs_all_senses:
        names = ("fusion",)
    views = {
        view: predict(model, loader, device=device, view=view, progress=_named(progress, view))
        for view in names
    }
    recordings = recordings_of(loader.dataset.shards, loader.dataset.split)
    scores = [
        score(
            predictions,
            view=view,
            how="trained so" if view == names[0] else "by masking",
            total=len(loader.dataset),
            recordings=recordings,
        )
        for view, predictions in views.items()
    ]
    labels = np.bincount(loader.dataset.labels)
    report = Report(
        split=loader.dataset.split,
        plan_id=plan_id,
        streams=names[0],
        epoch=epoch,
        classes=classes,
        chance=1 / len(classes),
        largest_class=int(labels.max()) / int(labels.sum()),
        scores=scores,
        confusion=confusion_matrix(views[names[0]]),
        other_settings=list(other_settings),
    )
    return Evaluation(report=report, views=views, recordings=recordings)


def recordings_of(shards: ShardSet, split: str) -> dict[str, str]:
    """Return which recording each sample of a split is a clip of.

    A set whose samples do not say so counts every sample as a recording of its own.
    """
    recordings = {}
    for i, key in enumerate(shards.keys(split).tolist()):
        meta = json.loads(shards.members(split, i, suffixes=["json"])["json"])
        recordings[key] = str(meta.get("recording", key))
    return recordings


def _named(progress: Callable[[str, int], None] | None, view: str) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(view, done)
