"""Evaluation: predictions of a split, accuracies with their errors, the confusion matrix.

A fusion model is also looked at with one sense hidden ("by masking"). That shows what it draws
from a sense; it is not the accuracy of a model trained for that sense, which
``--streams rgb`` or ``event`` trains.

    n clips, C classes
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional as F

from velora.classifier import Classifier
from velora.data import ClipLoader
from velora.predictions import Predictions, View, predict


class Score(Struct, frozen=True, kw_only=True):
    """Accuracies of one view of a model on one split.

    The error is the binomial standard error, the interval Wilson's at 95 %.
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


def score(predictions: Predictions, *, view: str, how: str, total: int) -> Score:
    """Compute the accuracies of predictions; ``total`` counts the clips of the split."""
    labels, logits = predictions.labels, predictions.logits
    n, num_classes = logits.shape
    top1 = _accuracy(logits, labels, k=1)
    top5 = _accuracy(logits, labels, k=5) if num_classes > 5 else None
    return Score(
        view=view,
        how=how,
        samples=n,
        left_out=total - n,
        loss=float(F.cross_entropy(logits, labels)) if n else 0.0,
        top1=top1,
        top1_error=binomial_error(top1, n),
        top1_interval=wilson_interval(round(top1 * n), n),
        top5=top5,
        top5_error=None if top5 is None else binomial_error(top5, n),
    )


def _accuracy(logits: Tensor, labels: Tensor, *, k: int) -> float:
    if not len(labels):
        return 0.0
    hits = logits.topk(k, dim=1).indices == labels[:, None]
    return float(hits.any(dim=1).double().mean())


def binomial_error(accuracy: float, n: int) -> float:
    """Standard error of an accuracy over ``n`` clips; 0 for none."""
    return math.sqrt(accuracy * (1 - accuracy) / n) if n else 0.0


def wilson_interval(hits: int, n: int, *, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of an accuracy; unlike the standard error it is right near 0 and 1."""
    if not n:
        return 0.0, 1.0
    share, z2 = hits / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion_matrix(predictions: Predictions) -> list[list[int]]:
    """Count clips by true class (row) and predicted class (column)."""
    num_classes = predictions.logits.shape[1]
    cells = predictions.labels * num_classes + predictions.logits.argmax(dim=1)
    counts = torch.bincount(cells, minlength=num_classes**2)
    matrix: list[list[int]] = counts.view(num_classes, num_classes).tolist()
    return matrix


def evaluate(
    model: Classifier,
    loader: ClipLoader,
    *,
    device: torch.device,
    plan_id: str,
    classes: list[str],
    epoch: int,
    progress: Callable[[str, int], None] | None = None,
) -> Report:
    """Evaluate a model on a split; a fusion model also with each sense alone, by masking."""
    total = len(loader.dataset)
    views: tuple[View, ...] = ("fusion", "rgb", "event")
    if len(model.senses) == 1:
        views = (model.senses[0],)  # type: ignore[assignment]
    scores: list[Score] = []
    first: Predictions | None = None
    for view in views:
        step = None if progress is None else _named(progress, view)
        predictions = predict(model, loader, device=device, view=view, progress=step)
        masked = len(model.senses) == 2 and view != "fusion"
        how = "by masking" if masked else "trained so"
        scores.append(score(predictions, view=view, how=how, total=total))
        first = first or predictions
    assert first is not None
    labels = torch.bincount(torch.from_numpy(loader.dataset.labels))
    return Report(
        split=loader.dataset.split,
        plan_id=plan_id,
        streams="fusion" if len(model.senses) == 2 else model.senses[0],
        epoch=epoch,
        classes=classes,
        chance=1 / len(classes),
        largest_class=int(labels.max()) / int(labels.sum()),
        scores=scores,
        confusion=confusion_matrix(first),
    )


def _named(progress: Callable[[str, int], None], view: str) -> Callable[[int], None]:
    return lambda done: progress(view, done)


def report_lines(report: Report) -> list[str]:
    """Format a report for reading: accuracies, chance, and the confusion matrix if it is small."""
    lines = [
        f"{report.split} split, weights of epoch {report.epoch}, {len(report.classes)} classes"
    ]
    for s in report.scores:
        low, high = s.top1_interval
        line = (
            f"  {s.view:<6} ({s.how}): top-1 {s.top1:.3f} +- {s.top1_error:.3f} "
            f"(95 %: {low:.3f} to {high:.3f})"
        )
        if s.top5 is not None and s.top5_error is not None:
            line += f", top-5 {s.top5:.3f} +- {s.top5_error:.3f}"
        line += f", {s.samples} clips"
        lines.append(line + (f", {s.left_out} without this sense" if s.left_out else ""))
    lines.append(
        f"  chance {report.chance:.3f}, always the largest class {report.largest_class:.3f}"
    )
    return lines + _confusion_lines(report)


def _confusion_lines(report: Report) -> list[str]:
    matrix, names = report.confusion, report.classes
    if len(names) <= 12:
        width = max(4, *(len(str(cell)) + 1 for row in matrix for cell in row))
        label = max(len(name) for name in names)
        head = "".join(f"{name[: width - 1]:>{width}}" for name in names)
        rows = [
            f"  {name:>{label}}" + "".join(f"{cell:>{width}}" for cell in row)
            for name, row in zip(names, matrix, strict=True)
        ]
        return [
            f"  confusion of {report.scores[0].view} (rows true, columns predicted)",
            "  " + " " * label + head,
            *rows,
        ]
    pairs = [
        (cell, names[i], names[j])
        for i, row in enumerate(matrix)
        for j, cell in enumerate(row)
        if i != j and cell
    ]
    worst = sorted(pairs, reverse=True)[:10]
    return ["  most frequent confusions:"] + [f"  {n:>5}  {a} taken for {b}" for n, a, b in worst]


def confusion_csv(report: Report) -> str:
    """Write the confusion matrix as CSV, class names in the first row and column."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["true \\ predicted", *report.classes])
    rows: list[list[Any]] = [
        [name, *row] for name, row in zip(report.classes, report.confusion, strict=True)
    ]
    writer.writerows(rows)
    return buffer.getvalue()
