"""Classes of other shards are those of the same name, whatever number they have there."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click import Command
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from velora_helpers import make_sample, write_shards

from eventkit.errors import SettingsError
from eventkit.shards import ShardSet
from velora.cli import evaluate, train
from velora.data import check_fits, check_splits, describe
from velora.data.class_match import places
from velora.report.setup import clips_by_class

NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(st.dictionaries(st.integers(0, 9), NAMES), st.dictionaries(st.integers(0, 9), NAMES))
def test_a_class_has_the_place_of_one_of_its_name_or_none(
    here: dict[int, str], run: dict[int, str]
) -> None:
    found = places(here, run)

    order = [run[i] for i in sorted(run)]
    assert all(order[place] == here[class_id] for class_id, place in found.items())
    for class_id in here.keys() - found.keys():
        assert order.count(here[class_id]) != 1
        assert run.get(class_id) != here[class_id]


@given(st.dictionaries(st.integers(0, 9), NAMES))
def test_the_classes_of_the_run_itself_keep_their_places_even_with_names_twice(
    run: dict[int, str],
) -> None:
    assert places(run, run) == {class_id: i for i, class_id in enumerate(sorted(run))}


def test_a_set_with_fewer_classes_numbered_anew_is_measured_as_the_whole_one(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    command = ("--shards", shards, "--device", "cpu", "--num-workers", "0")
    run = tmp_path / "runs" / "one"
    more = ("--recipe", tiny_recipe, "--out", run.parent, "--name", "one", "--epochs", "1")
    assert invoke(train, *command, *more).exit_code == 0
    of_run = rows(run / "predictions.csv")
    # The same clips without the class in the middle: `eventkit convert` numbers the others anew.
    rng = np.random.default_rng(2)
    samples = [make_sample(f"test_{i:03d}_000000", label=i % 3, rng=rng) for i in range(9)]
    kept = [sample for sample in samples if sample.label != 1]
    for sample in kept:
        object.__setattr__(sample, "label", {0: 1, 2: 0}[sample.label])
    fewer = write_shards(tmp_path / "fewer", {"test": kept}, classes={0: "top", 1: "low"})

    result = invoke(evaluate, run, "--shards", fewer, *command[2:], "--out", tmp_path / "out")

    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "out").glob("*-predictions.csv")
    assert rows(path) == {key: row for key, row in of_run.items() if row["true"] != "middle"}
    assert len(rows(path)) == 6


@pytest.mark.parametrize("names", [{0: "low", 1: "high"}, {0: "low", 1: "top", 2: "other"}])
def test_a_class_that_the_run_has_not_is_refused_by_name(
    shards: Path, make_shards: Callable[..., Path], names: dict[int, str]
) -> None:
    run = describe(ShardSet.open(shards))
    other = describe(ShardSet.open(make_shards(train=0, val=0, test=len(names), classes=names)))

    with pytest.raises(SettingsError, match=r"on low, middle, top and .* names: \d (high|other);"):
        check_fits(other, run)


def test_a_set_of_one_class_is_measured_and_not_trained_on(
    shards: Path, make_shards: Callable[..., Path]
) -> None:
    lone = ShardSet.open(make_shards(train=1, val=0, test=1, classes={0: "low"}))

    check_fits(describe(lone), describe(ShardSet.open(shards)))
    with pytest.raises(SettingsError, match="has classes: low; a classifier needs at least two"):
        check_splits(lone)


def test_the_page_counts_the_classes_of_other_splits_as_far_as_they_are_known(
    make_shards: Callable[..., Path], shards: Path
) -> None:
    run = describe(ShardSet.open(shards))
    other = ShardSet.open(make_shards(train=7, val=0, test=0, classes={0: "top", 1: "low"}))

    # Labels 0, 1, 2, 0, 1, 2, 0, and nothing says what 2 is.
    assert clips_by_class(other, "train", run) == [2, 0, 3]
    assert clips_by_class(other, "val", run) is None


def invoke(command: Command, *words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["key"]: row for row in csv.DictReader(file)}
