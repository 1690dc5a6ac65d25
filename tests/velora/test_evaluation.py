"""Accuracies, their errors, and how they are shown."""

from __future__ import annotations

import csv
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from velora.evaluate import (
    Predictions,
    Report,
    binomial_error,
    confusion_csv,
    confusion_matrix,
    report_lines,
    score,
    wilson_interval,
)


def predictions(labels: list[int], guesses: list[list[int]], num_classes: int) -> Predictions:
    """Predictions whose classes, best first, are ``guesses``."""
    logits = torch.full((len(labels), num_classes), -9.0)
    for row, guess in enumerate(guesses):
        for rank, label in enumerate(guess):
            logits[row, label] = -rank
    keys = [str(i) for i in range(len(labels))]
    return Predictions(keys=keys, labels=torch.tensor(labels), logits=logits)


def report(made: Predictions, classes: list[str]) -> Report:
    return Report(
        split="test",
        plan_id="p",
        streams="fusion",
        epoch=3,
        classes=classes,
        chance=1 / len(classes),
        largest_class=0.5,
        scores=[score(made, view="fusion", how="trained so", total=len(made.labels))],
        confusion=confusion_matrix(made),
    )


def test_top_1_and_top_5_are_counted_with_the_binomial_error() -> None:
    made = predictions([0, 1, 2, 3], [[0], [2, 1], [4, 5, 0, 1, 3, 2], [3]], num_classes=6)

    result = score(made, view="fusion", how="trained so", total=5)

    assert (result.top1, result.top5) == (0.5, 0.75)
    assert result.top1_error == pytest.approx(0.25)
    assert result.top5_error == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    assert (result.samples, result.left_out) == (4, 1)


def test_there_is_no_top_5_among_five_classes_and_no_clip_is_no_accuracy() -> None:
    assert score(predictions([0], [[0]], 5), view="", how="", total=1).top5 is None
    nothing = score(predictions([], [], 7), view="", how="", total=3)
    assert (nothing.samples, nothing.left_out, nothing.top1_interval) == (0, 3, (0.0, 1.0))


def test_wilson_intervals_equal_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I: 81 of 263, 15 of 148, 0 of 20.
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_accuracy_and_stays_in_zero_to_one(pair: tuple[int, int]) -> None:
    hits, n = pair

    low, high = wilson_interval(hits, n)

    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1
    assert binomial_error(hits / n, n) <= 0.5 / n**0.5 + 1e-12


def test_rows_of_the_confusion_matrix_are_true_classes() -> None:
    made = predictions([0, 0, 2], [[1], [0], [1]], num_classes=3)

    assert confusion_matrix(made) == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_a_small_matrix_is_shown_whole_and_a_large_one_by_its_largest_errors() -> None:
    small = report(predictions([0, 1], [[0], [0]], 3), ["a", "b", "c"])
    names = [f"class{i}" for i in range(40)]
    large = report(predictions([7, 7, 8], [[9], [9], [8]], 40), names)

    shown = "\n".join(report_lines(small))
    assert "top-1 0.500 +- 0.354" in shown
    assert "chance 0.333" in shown
    assert "rows true, columns predicted" in shown
    assert "2  class7 taken for class9" in "\n".join(report_lines(large))


def test_the_csv_survives_names_with_commas() -> None:
    made = report(predictions([0, 1], [[1], [1]], 2), ["sea, hare", "orca"])

    rows = list(csv.reader(io.StringIO(confusion_csv(made))))

    assert rows == [["true \\ predicted", "sea, hare", "orca"], ["sea, hare", "0", "1"],
                    ["orca", "0", "1"]]  # fmt: skip
