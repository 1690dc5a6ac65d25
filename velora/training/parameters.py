"""How many numbers a model has, and how many of them train, part by part."""

from __future__ import annotations

from velora.model.classifier import Classifier
from velora.training.progress import ParameterRow

_FIRST, _LAST = ("trunk",), ("stream embeddings", "frame pooling", "head")


def parameter_table(model: Classifier) -> list[ParameterRow]:
    """Count parameters by part, each tensor once; the last row is the whole model."""
    parts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        for part, total in model.parts(name, parameter.numel()):
            row = parts.setdefault(part, [0, 0])
            row[0] += total
            row[1] += total * parameter.requires_grad
    rows = [ParameterRow(part, *counts) for part, counts in parts.items()]
    whole = ParameterRow("total", sum(r.total for r in rows), sum(r.trainable for r in rows))
    return [*sorted(rows, key=_place), whole]


def _place(row: ParameterRow) -> int:
    if row.part in _FIRST:
        return -1
    return _LAST.index(row.part) + 1 if row.part in _LAST else 0
