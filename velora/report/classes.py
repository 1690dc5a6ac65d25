"""Accuracy by class and by sense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventkit.html import Markup, element, table
from velora.report.charts import share_bar
from velora.report.words import cut, number
from velora.scoring.scores import Report

MOST_SHOWN = 20
"""Classes that are seen at once; more are folded away behind the hardest of these."""
VIEW_NAMES = {"fusion": "both senses", "rgb": "RGB", "event": "events"}


def view_title(view: str, how: str) -> str:
    """Say which senses a view shows."""
    name = VIEW_NAMES[view]
    return f"{name} alone, by masking" if how == "by masking" else name


def by_class(report: Report, train_clips: Sequence[int] | None) -> Iterator[Markup]:
    """Yield a table of the classes, hardest first where there are too many to see at once.

    Parameters
    ----------
    report : Report
    train_clips : sequence of int, optional
        Clips to learn from, one a class.
    """
    order = range(len(report.classes))
    if len(order) <= MOST_SHOWN:
        yield _table(report, order, train_clips)
        return
    first = report.scores[0].per_class
    filled = [i for i in order if first[i].samples]
    hardest = sorted(filled, key=lambda i: (first[i].share, -first[i].samples, i))
    yield element("p", f"The {MOST_SHOWN} hardest of {number(len(order))} classes.")
    yield _table(report, hardest[:MOST_SHOWN], train_clips)
    summary = element("summary", f"All {number(len(order))} classes")
    yield element("details", summary, _table(report, order, train_clips))


def _table(report: Report, order: Sequence[int], train_clips: Sequence[int] | None) -> Markup:
    head = ["class", *(["to learn from"] if train_clips is not None else []), "clips"]
    numbers = range(1, len(head))
    views = [view_title(one.view, one.how) for one in report.scores]
    rows = []
    for i in order:
        row = [cut(report.classes[i])]
        if train_clips is not None:
            row.append(number(train_clips[i]))
        row.append(number(report.scores[0].per_class[i].samples))
        bars = (share_bar(one.per_class[i], colour=c) for c, one in enumerate(report.scores))
        rows.append([*row, *bars])
    return table([*head, *views], rows, numbers=numbers, class_="stack")
