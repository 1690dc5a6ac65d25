"""The confusion matrix: as a table of numbers for few classes, as a picture for many."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eventkit.html import Markup, element, picture, table
from velora.report.text import most_confused
from velora.report.words import cut, number, percent
from velora.scoring.scores import Report

STYLE = """
.matrix { width: auto; } .matrix th, .matrix td { padding: .15rem .4rem; text-align: right;
  border: 1px solid var(--line); font-variant-numeric: tabular-nums; min-width: 2rem; }
.matrix thead th { vertical-align: bottom; }
.matrix thead th.long { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  border-width: 0 1px; padding: .4rem .15rem; }
.matrix th[scope=row] { white-space: nowrap; }
.map { display: block; width: 100%; max-width: 48rem; image-rendering: pixelated;
  border: 1px solid var(--line); }
"""
MOST_NUMBERED = 24
"""Classes up to which every cell is a number."""
_MOST_PAIRS = 20
_SIDE = 600
# Of both the light and the dark page; how full a cell is painted says the share of its row.
_RIGHT, _WRONG = (70, 130, 200), (200, 70, 80)


def confusion(report: Report) -> Iterator[Markup]:
    """Yield the matrix of the first view, and the most frequent errors where it is large."""
    how = "Rows are true classes, columns predicted ones; blue is right, red is wrong. "
    if len(report.classes) <= MOST_NUMBERED:
        yield element("p", how + "A colour's strength is the share of its row.", class_="faint")
        yield element("div", _table(report), class_="wide")
        return
    how += "Both are in the order of the classes; a colour's strength is the share of its row."
    yield element("p", how, class_="faint")
    right = sum(row[i] for i, row in enumerate(report.confusion))
    total = sum(map(sum, report.confusion))
    alt = (
        f"Confusion matrix of {len(report.classes)} classes: {number(right)} of {number(total)} "
        "clips are on its diagonal; the most frequent errors stand in the table below."
    )
    yield picture(_png(_map(report.confusion)), kind="png", alt=alt, class_="map")
    counts = {name: sum(row) for name, row in zip(report.classes, report.confusion, strict=True)}
    rows = [
        (cut(true), cut(taken), number(n), percent(n / counts[true]))
        for n, true, taken in most_confused(report)[:_MOST_PAIRS]
    ]
    if rows:
        yield table(["true", "taken for", "clips", "of the class"], rows, numbers=(2, 3))


def _table(report: Report) -> Markup:
    names = [cut(name, 24) for name in report.classes]
    long = any(len(name) > 4 for name in names)
    head = [element("th", name, scope="col", class_="long" if long else None) for name in names]
    rows = [
        element("tr", element("th", name, scope="row"), *_cells(row, i))
        for i, (name, row) in enumerate(zip(names, report.confusion, strict=True))
    ]
    return element(
        "table",
        element("thead", element("tr", element("td"), *head)),
        element("tbody", *rows),
        class_="matrix",
    )


def _cells(row: list[int], true: int) -> Iterator[Markup]:
    whole = max(1, sum(row))
    for j, n in enumerate(row):
        share = round(70 * n / whole)
        colour = "--c0" if j == true else "--c2"
        style = f"background:color-mix(in srgb,var({colour}) {share}%,transparent)" if n else None
        yield element("td", number(n) if n else "", style=style)


def _map(matrix: list[list[int]]) -> NDArray[np.uint8]:
    """Paint (C, C) counts as (S, S, 4) pixels, every cell a square of the same size."""
    counts = np.array(matrix, dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    pixels = np.zeros((*counts.shape, 4), np.uint8)
    pixels[..., :3] = np.where(np.eye(len(counts), dtype=bool)[..., None], _RIGHT, _WRONG)
    # The root keeps single errors visible.
    pixels[..., 3] = np.rint(255 * np.sqrt(share))
    times = max(1, -(-_SIDE // len(counts)))
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
