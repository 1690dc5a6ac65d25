"""Numbers out of predictions: accuracies with their errors, and calibration.

n clips, C classes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional as F

from velora.scoring.accuracy import Accuracy, accuracy
from velora.scoring.predictions import Predictions, View

#: Bins of equal width over the probability of the predicted class.
RELIABILITY_BINS = 15
#: Clips of the overall accuracy that each class is given before its variance is taken.
_ADDED_CLIPS = 2


class Score(Struct, frozen=True, kw_only=True):
    """Accuracies of one view of a model on one split.

    The error is the binomial standard error, that of the mean of the classes is
    `mean_class_accuracy`'s; the interval is Wilson's at 95 %.
    """

    view: str
    how: str
    samples: int
    #: Clips that lack every sense this view looks at.
    left_out: int
    loss: float
    top1: float
    top1_error: float
    top1_interval: tuple[float, float]
    #: None where there are five classes or fewer.
    top5: float | None
    top5_error: float | None
    #: Mean of the accuracies of the classes that have clips.
    mean_class: float
    mean_class_error: float
    #: One a class, in the order of the logits.
    per_class: list[Accuracy]
    #: Of recordings, by the mean logits of their clips; None where they are not known.
    recordings: Accuracy | None
    #: Expected calibration error of the probability of the predicted class.
    ece: float


class Report(Struct, frozen=True, kw_only=True):
    """The result of an evaluation."""

    split: str
    plan_id: str
    streams: str
    epoch: int
    classes: list[str]
    #: Accuracy of a blind guess.
    chance: float
    #: Share of the most frequent class of the split.
    largest_class: float
    scores: list[Score]
    #: Rows are true classes, columns predicted ones; of the first score.
    confusion: list[list[int]]
    #: In what the clips were made otherwise than those that the run was trained on.
    other_settings: list[str] = []


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A report and what it was made of.

    Parameters
    ----------
    report : Report
    views : mapping view -> Predictions
        In the order of the report's scores.
    recordings : mapping key -> recording
        Of every clip of the split.
    """

    report: Report
    views: Mapping[View, Predictions]
    recordings: Mapping[str, str]

    @property
    def predictions(self) -> Predictions:
        """Those of the first view: with every sense that the model knows."""
        return next(iter(self.views.values()))


class ReliabilityBin(NamedTuple):
    """The clips whose predicted class has a probability within one bin."""

    samples: int
    #: Mean probability of the predicted class; 0 without clips.
    confidence: float
    accuracy: float


def score(
    predictions: Predictions,
    *,
    view: str,
    how: str,
    total: int,
    recordings: Mapping[str, str] | None = None,
) -> Score:
    """Compute the accuracies of predictions.

    Parameters
    ----------
    predictions : Predictions
    view, how : str
        Taken over into the score.
    total : int
        Clips of the split, with those that were left out.
    recordings : mapping key -> recording, optional
    """
    labels, logits = predictions.labels, predictions.logits
    n, num_classes = logits.shape
    right = predictions.right
    top1 = accuracy(int(right.sum()), n)
    top5 = accuracy(_top_hits(logits, labels, k=5), n) if num_classes > 5 else None
    per_class = class_accuracies(predictions)
    mean_class, mean_class_error = mean_class_accuracy(per_class)
    return Score(
        view=view,
        how=how,
        samples=n,
        left_out=total - n,
        loss=float(F.cross_entropy(logits, labels)) if n else 0.0,
        top1=top1.share,
        top1_error=top1.error,
        top1_interval=top1.interval,
        top5=None if top5 is None else top5.share,
        top5_error=None if top5 is None else top5.error,
        mean_class=mean_class,
        mean_class_error=mean_class_error,
        per_class=per_class,
        recordings=None if recordings is None else _of_recordings(predictions, recordings),
        ece=calibration_error(reliability(predictions)),
    )


def class_accuracies(predictions: Predictions) -> list[Accuracy]:
    """Return the accuracy of every class, in the order of the logits."""
    num_classes = predictions.logits.shape[1]
    samples = torch.bincount(predictions.labels, minlength=num_classes)
    hits = torch.bincount(predictions.labels[predictions.right], minlength=num_classes)
    return [accuracy(h, n) for h, n in zip(hits.tolist(), samples.tolist(), strict=True)]


def mean_class_accuracy(per_class: list[Accuracy]) -> tuple[float, float]:
    """Return the mean over the classes that have clips, and its standard error.

    The variance of a class of n clips is p (1 - p) / n. Its own share as p makes that (n - 1) / n
    of what it is, on average, and 0 for a class of one clip. So p is the share with two clips added
    (Agresti and Caffo, The American Statistician 54 (2000) 280); not one right and one wrong, as
    there, but two of the accuracy over all clips, which itself has one of each added and so is
    never 0 or 1. Simulated with three clips in each of 114 classes, the error is 0.94 times the
    deviation at accuracies of 0.3 to 0.9; with one right and one wrong it is 1.0 to 1.4 times.
    """
    filled = [a for a in per_class if a.samples]
    if not filled:
        return 0.0, 0.0
    overall = (sum(a.hits for a in filled) + 1) / (sum(a.samples for a in filled) + 2)
    variance = 0.0
    for a in filled:
        p = (a.hits + _ADDED_CLIPS * overall) / (a.samples + _ADDED_CLIPS)
        variance += p * (1 - p) / a.samples
    return sum(a.share for a in filled) / len(filled), math.sqrt(variance) / len(filled)


def by_recording(predictions: Predictions, recordings: Mapping[str, str]) -> Predictions:
    """Average the logits of the clips of each recording; its key is the recording's name.

    Where a recording holds clips of several classes, those of each class are averaged apart.
    """
    units: dict[tuple[str, int], int] = {}
    pairs = zip(predictions.keys, predictions.labels.tolist(), strict=True)
    rows = [units.setdefault((recordings[key], label), len(units)) for key, label in pairs]
    sums = torch.zeros(len(units), predictions.logits.shape[1], dtype=torch.float64)
    index = torch.tensor(rows, dtype=torch.int64)
    sums.index_add_(0, index, predictions.logits.double())
    counts = torch.bincount(index, minlength=len(units))
    return Predictions(
        keys=[name for name, _ in units],
        labels=torch.tensor([label for _, label in units], dtype=torch.int64),
        logits=sums / counts[:, None],
    )


def _of_recordings(predictions: Predictions, recordings: Mapping[str, str]) -> Accuracy:
    right = by_recording(predictions, recordings).right
    return accuracy(int(right.sum()), len(right))


def confusion_matrix(predictions: Predictions) -> list[list[int]]:
    """Count clips by true class (row) and predicted class (column)."""
    num_classes = predictions.logits.shape[1]
    cells = predictions.labels * num_classes + predictions.logits.argmax(dim=1)
    counts = torch.bincount(cells, minlength=num_classes**2)
    matrix: list[list[int]] = counts.view(num_classes, num_classes).tolist()
    return matrix


def reliability(predictions: Predictions) -> list[ReliabilityBin]:
    """Compare the probability of the predicted class with how often it is right, in bins."""
    confidence = predictions.logits.double().softmax(dim=1).amax(dim=1).numpy()
    right = predictions.right.numpy()
    places = np.minimum((confidence * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    counts = np.bincount(places, minlength=RELIABILITY_BINS)
    sums = np.bincount(places, weights=confidence, minlength=RELIABILITY_BINS)
    hits = np.bincount(places, weights=right, minlength=RELIABILITY_BINS)
    return [
        ReliabilityBin(int(n), float(c / max(n, 1)), float(h / max(n, 1)))
        for n, c, h in zip(counts, sums, hits, strict=True)
    ]


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the mean distance of confidence and accuracy over the clips (ECE); 0 for none."""
    samples = sum(b.samples for b in bins)
    apart = sum(b.samples * abs(b.confidence - b.accuracy) for b in bins)
    return apart / samples if samples else 0.0


def restricted(predictions: Predictions, keys: set[str]) -> Predictions:
    """Return the predictions of those clips alone."""
    rows = [i for i, key in enumerate(predictions.keys) if key in keys]
    return Predictions(
        keys=[predictions.keys[i] for i in rows],
        labels=predictions.labels[rows],
        logits=predictions.logits[rows],
    )


def _top_hits(logits: Tensor, labels: Tensor, *, k: int) -> int:
    hits = logits.topk(k, dim=1).indices == labels[:, None]
    return int(hits.any(dim=1).sum())
