"""Accuracies, calibration and tests between models, each beside a slow twin."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import SettingsError
from velora.scoring.accuracy import accuracy, binomial_error, wilson_interval
from velora.scoring.mcnemar import mcnemar
from velora.scoring.predictions import Predictions
from velora.scoring.scores import (
    by_recording,
    calibration_error,
    class_accuracies,
    confusion_matrix,
    mean_class_accuracy,
    reliability,
    restricted,
    score,
)


def guesses(labels: list[int], guessed: list[list[int]], num_classes: int) -> Predictions:
    """Predictions whose classes, best first, are ``guessed``."""
    logits = torch.full((len(labels), num_classes), -9.0)
    for row, guess in enumerate(guessed):
        for rank, label in enumerate(guess):
            logits[row, label] = -rank
    keys = [str(i) for i in range(len(labels))]
    return Predictions(keys=keys, labels=torch.tensor(labels, dtype=torch.int64), logits=logits)


def drawn(n: int, num_classes: int, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(num_classes, size=n))
    logits = torch.from_numpy(rng.normal(0, 2, (n, num_classes)).astype(np.float32))
    logits[torch.arange(n), labels] += 1.5
    return Predictions(keys=[f"k{i}" for i in range(n)], labels=labels, logits=logits)


some = st.tuples(st.integers(0, 40), st.integers(2, 9), st.integers(0, 2**32)).map(
    lambda drawing: drawn(*drawing)
)


def test_top_1_and_top_5_are_counted_with_the_binomial_error() -> None:
    made = guesses([0, 1, 2, 3], [[0], [2, 1], [4, 5, 0, 1, 3, 2], [3]], num_classes=6)

    result = score(made, view="fusion", how="trained so", total=5)

    assert (result.top1, result.top5) == (0.5, 0.75)
    assert result.top1_error == pytest.approx(0.25)
    assert result.top5_error == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    assert (result.samples, result.left_out) == (4, 1)


def test_there_is_no_top_5_among_five_classes_and_no_clip_is_no_accuracy() -> None:
    assert score(guesses([0], [[0]], 5), view="", how="", total=1).top5 is None
    nothing = score(guesses([], [], 7), view="", how="", total=3, recordings={})
    assert (nothing.samples, nothing.left_out, nothing.top1_interval) == (0, 3, (0.0, 1.0))
    assert (nothing.mean_class, nothing.ece) == (0.0, 0.0)
    assert nothing.recordings == accuracy(0, 0)


def test_wilson_intervals_equal_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I: 81 of 263, 15 of 148, 0 of 20.
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipys_and_holds_the_accuracy(pair: tuple[int, int]) -> None:
    hits, n = pair

    low, high = wilson_interval(hits, n)

    known = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((known.low, known.high), abs=1e-6)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1
    assert binomial_error(hits / n, n) <= 0.5 / n**0.5 + 1e-12


@given(some)
def test_classes_are_counted_one_by_one(made: Predictions) -> None:
    guessed = made.logits.numpy().argmax(axis=1) if len(made.keys) else []
    hits: dict[int, list[bool]] = defaultdict(list)
    for label, guess in zip(made.labels.tolist(), guessed, strict=True):
        hits[label].append(guess == label)

    found = class_accuracies(made)

    assert len(found) == made.logits.shape[1]
    for label, one in enumerate(found):
        of = hits.get(label, [])
        assert (one.samples, one.hits) == (len(of), sum(of))
    shares = [np.mean(h) for h in hits.values()]
    mean, error = mean_class_accuracy(found)
    assert mean == pytest.approx(np.mean(shares) if shares else 0.0)
    every = [right for of in hits.values() for right in of]
    overall = (sum(every) + 1) / (len(every) + 2)
    variance = 0.0
    for of in hits.values():
        p = (sum(of) + 2 * overall) / (len(of) + 2)
        variance += p * (1 - p) / len(of)
    assert error == pytest.approx(math.sqrt(variance) / max(1, len(shares)))
    matrix = np.array(confusion_matrix(made))
    assert matrix.sum(axis=1).tolist() == [one.samples for one in found]
    assert np.diag(matrix).tolist() == [one.hits for one in found]


def drawn_means(shares: np.ndarray, clips: int, times: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Mean-class accuracies and their errors of many splits with so many clips a class."""
    rng = np.random.default_rng(0)
    hits = rng.binomial(clips, shares, (times, len(shares))).tolist()
    found = [mean_class_accuracy([accuracy(h, clips) for h in row]) for row in hits]
    means, errors = np.array(found).T
    return means, errors


@pytest.mark.parametrize(("classes", "clips"), [(114, 1), (114, 3), (300, 5), (114, 72)])
@pytest.mark.parametrize("share", [0.3, 0.58, 0.9, 0.97])
def test_the_error_of_the_mean_of_classes_is_its_deviation(
    classes: int, clips: int, share: float
) -> None:
    _, errors = drawn_means(np.full(classes, share), clips)

    deviation = math.sqrt(share * (1 - share) / clips / classes)
    assert errors.mean() == pytest.approx(deviation, rel=0.15)


def test_the_error_is_right_for_classes_of_unlike_difficulty_too() -> None:
    # Mean 0.8: most classes are easy, some are hardly ever right.
    shares = np.random.default_rng(1).beta(4, 1, 114)

    means, errors = drawn_means(shares, 3, times=2000)

    assert errors.mean() == pytest.approx(means.std(), rel=0.15)


@pytest.mark.parametrize("right", [0, 5, 10])
def test_one_clip_a_class_still_has_an_error(right: int) -> None:
    mean, error = mean_class_accuracy([accuracy(int(i < right), 1) for i in range(10)])

    assert mean == right / 10
    # Half right: that of 5 of 10 clips is 0.158.
    assert 0.05 < error < 0.17


def test_rows_of_the_confusion_matrix_are_true_classes() -> None:
    made = guesses([0, 0, 2], [[1], [0], [1]], num_classes=3)

    assert confusion_matrix(made) == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_the_clips_of_a_recording_are_averaged_before_the_class_is_chosen() -> None:
    made = Predictions(
        keys=["a0", "b0", "a1", "a2"],
        labels=torch.tensor([0, 1, 0, 0]),
        logits=torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 1.0], [9.0, 0.0]]),
    )
    of = {"a0": "a", "a1": "a", "a2": "a", "b0": "b", "unseen": "c"}

    found = by_recording(made, of)

    # One clip out of three of "a" is right, and sure enough to carry the others.
    assert found.keys == ["a", "b"]
    assert found.logits.tolist() == [[3.0, 2 / 3], [2.0, 0.0]]
    result = score(made, view="", how="", total=4, recordings=of)
    assert result.top1 == 0.25
    assert result.recordings == accuracy(1, 2)


def test_a_recording_of_two_classes_counts_once_for_each() -> None:
    made = guesses([0, 1, 1], [[0], [1], [0]], num_classes=2)

    found = by_recording(made, dict.fromkeys(made.keys, "long"))

    assert (found.keys, found.labels.tolist()) == (["long", "long"], [0, 1])


@given(some)
def test_calibration_equals_a_loop_over_the_clips(made: Predictions) -> None:
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for label, row in zip(made.labels.tolist(), made.logits.double().tolist(), strict=True):
        largest = max(row)
        p = 1 / sum(math.exp(x - largest) for x in row)
        bins[min(int(p * 15), 14)].append((p, row.index(largest) == label))

    found = reliability(made)

    expected = 0.0
    for place, of in bins.items():
        p, right = (sum(column) / len(of) for column in zip(*of, strict=True))
        assert found[place] == pytest.approx((len(of), p, right))
        expected += len(of) / len(made.keys) * abs(p - right)
    assert sum(one.samples for one in found) == len(made.keys)
    assert calibration_error(found) == pytest.approx(expected)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_exact_binomial_test(lost: int, won: int) -> None:
    labels = [0] * (lost + won + 3)
    first = guesses(labels, [[0]] * lost + [[1]] * won + [[0]] * 3, num_classes=2)
    second = guesses(labels, [[1]] * lost + [[0]] * won + [[0]] * 3, num_classes=2)

    found = mcnemar(first, second)

    assert (found.samples, found.only_first, found.only_second) == (len(labels), lost, won)
    expected = scipy.stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_very_many_clips_is_still_exact() -> None:
    labels = [0] * 20_000
    first = guesses(labels, [[0]] * 9_800 + [[1]] * 10_200, num_classes=2)
    second = guesses(labels, [[1]] * 9_800 + [[0]] * 10_200, num_classes=2)

    expected = scipy.stats.binomtest(9_800, 20_000).pvalue
    assert mcnemar(first, second).p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_pairs_by_key_and_refuses_other_clips() -> None:
    made = drawn(30, 4, seed=1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    turned = Predictions(
        keys=[made.keys[i] for i in order], labels=made.labels[order], logits=made.logits[order]
    )

    assert mcnemar(made, turned) == mcnemar(made, made)
    fewer = restricted(made, set(made.keys[:20]))
    assert len(fewer.keys) == len(fewer.labels) == len(fewer.logits) == 20
    with pytest.raises(SettingsError, match="10 that only one of the two has"):
        mcnemar(made, fewer)
    other = Predictions(keys=made.keys, labels=(made.labels + 1) % 4, logits=made.logits)
    with pytest.raises(SettingsError, match="same labels"):
        mcnemar(made, other)
