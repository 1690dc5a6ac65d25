"""Tables of an evaluation as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from velora.scoring.predictions import Predictions
from velora.scoring.scores import Report

PREDICTION_COLUMNS = (
    "key",
    "recording",
    "true",
    "predicted",
    "correct",
    "probability",
    "probability_of_true",
    "margin",
    "loss",
    "top5",
)


def confusion_csv(report: Report) -> str:
    """Write the confusion matrix, class names in the first row and column."""
    rows = ([name, *row] for name, row in zip(report.classes, report.confusion, strict=True))
    return _csv(["true \\ predicted", *report.classes], rows)


def predictions_csv(
    predictions: Predictions, *, classes: Sequence[str], recordings: Mapping[str, str]
) -> str:
    """Write a row a clip, in the order of the keys: equal predictions give equal bytes.

    ``margin`` is the logit of the true class minus the highest other one: how far the clip is from
    changing sides. ``top5`` names the classes, best first, apart by `` | ``.
    """
    order = sorted(range(len(predictions.keys)), key=predictions.keys.__getitem__)
    logits = predictions.logits[order].double()
    labels = predictions.labels[order, None]
    log_p = logits.log_softmax(dim=1)
    ranked = logits.argsort(dim=1, descending=True, stable=True)[:, :5].tolist()
    of_true = logits.gather(1, labels)
    best_other = logits.scatter(1, labels, float("-inf")).amax(dim=1, keepdim=True)
    columns = zip(
        order,
        labels[:, 0].tolist(),
        ranked,
        log_p.amax(dim=1).exp().tolist(),
        log_p.gather(1, labels)[:, 0].tolist(),
        (of_true - best_other)[:, 0].tolist(),
        strict=True,
    )
    rows = (
        [
            predictions.keys[i],
            recordings[predictions.keys[i]],
            classes[label],
            classes[top[0]],
            int(top[0] == label),
            f"{p:.6f}",
            f"{math.exp(log_p_true):.6f}",
            f"{margin:.6f}",
            f"{-log_p_true:.6f}",
            " | ".join(classes[c] for c in top),
        ]
        for i, label, top, p, log_p_true, margin in columns
    )
    return _csv(PREDICTION_COLUMNS, rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()
