"""Reports: which recordings clips are of, what a terminal shows, what the tables hold."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_scores import guesses
from velora_helpers import make_sample, write_shards

from eventkit.shards import ShardSet
from velora.report.tables import confusion_csv, predictions_csv
from velora.report.text import report_lines
from velora.scoring.evaluate import recordings_of
from velora.scoring.predictions import Predictions
from velora.scoring.scores import Report, confusion_matrix, score


def report(
    made: Predictions, classes: list[str], recordings: dict[str, str] | None = None
) -> Report:
    return Report(
        split="test",
        plan_id="p",
        streams="fusion",
        epoch=3,
        classes=classes,
        chance=1 / len(classes),
        largest_class=0.5,
        scores=[
            score(
                made,
                view="fusion",
                how="trained so",
                total=len(made.labels),
                recordings=recordings or dict(zip(made.keys, made.keys, strict=True)),
            )
        ],
        confusion=confusion_matrix(made),
    )


def test_a_small_matrix_is_shown_whole_and_a_large_one_by_its_largest_errors() -> None:
    small = report(guesses([0, 1], [[0], [0]], 3), ["a", "b", "c"])
    names = [f"class{i}" for i in range(40)]
    large = report(guesses([7, 7, 8], [[9], [9], [8]], 40), names)

    shown = "\n".join(report_lines(small))
    assert "top-1 0.500 +- 0.354" in shown
    assert "chance 0.333" in shown
    assert "rows true, columns predicted" in shown
    assert "2  class7 taken for class9" in "\n".join(report_lines(large))


def test_classes_and_recordings_have_a_line_and_all_fits_one_screen() -> None:
    labels = [0, 0, 0, 1]
    made = guesses(labels, [[0], [0], [1], [1]], num_classes=10)
    names = [str(i) for i in range(10)]

    alone = report_lines(report(made, names))
    together = report_lines(
        report(made, names, {key: "ab"[label] for key, label in zip("0123", labels, strict=True)})
    )

    assert "mean-class 0.833 +- 0.248, recording-level the same: one clip each" in alone[2]
    assert "recording-level 1.000 +- 0.000 (2 recordings)" in together[2]
    assert len(together) <= 24
    assert max(map(len, together)) <= 120


def test_the_confusion_csv_survives_names_with_commas() -> None:
    made = report(guesses([0, 1], [[1], [1]], 2), ["sea, hare", "orca"])

    rows = list(csv.reader(io.StringIO(confusion_csv(made))))

    assert rows == [["true \\ predicted", "sea, hare", "orca"], ["sea, hare", "0", "1"],
                    ["orca", "0", "1"]]  # fmt: skip


def test_every_clip_has_a_row_of_predictions_in_the_order_of_the_keys() -> None:
    made = Predictions(
        keys=["z_000001", "a_000000"],
        labels=torch.tensor([2, 0]),
        logits=torch.tensor([[1.0, 3.0, 2.0], [4.0, 0.0, 1.0]]),
    )
    of = {"z_000001": "z/long", "a_000000": "a"}

    text = predictions_csv(made, classes=["x", "y, too", "w"], recordings=of)

    first, second = csv.DictReader(io.StringIO(text))
    p = np.exp([1.0, 3.0, 2.0]) / np.exp([1.0, 3.0, 2.0]).sum()
    assert (first["key"], first["correct"], first["margin"]) == ("a_000000", "1", "3.000000")
    assert (second["key"], second["recording"], second["true"]) == ("z_000001", "z/long", "w")
    assert (second["predicted"], second["correct"]) == ("y, too", "0")
    assert second["top5"] == "y, too | w | x"
    numbers = [second[k] for k in ("probability", "probability_of_true", "margin", "loss")]
    assert [float(n) for n in numbers] == pytest.approx([p[1], p[2], -1.0, -np.log(p[2])], abs=1e-6)
    turned = Predictions(
        keys=made.keys[::-1], labels=made.labels.flip(0), logits=made.logits.flip(0)
    )
    assert predictions_csv(turned, classes=["x", "y, too", "w"], recordings=of) == text


def test_recordings_are_those_of_the_samples_and_not_read_off_the_keys(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [make_sample(f"cut_off-0a1b2c3d_00000{i}", label=0, rng=rng) for i in range(3)]
    for sample in samples[:2]:
        sample.meta["recording"] = "long/name.aedat4"
    shards = ShardSet.open(
        write_shards(tmp_path / "shards", {"test": samples}, classes={0: "a", 1: "b"})
    )

    found = recordings_of(shards, "test")

    assert list(found) == [sample.key for sample in samples]
    # A sample of another maker that does not say so stands alone.
    assert list(found.values()) == ["long/name.aedat4"] * 2 + [samples[2].key]


def test_a_report_survives_json() -> None:
    import msgspec

    made = report(guesses([0, 1], [[0], [0]], 7), [str(i) for i in range(7)])

    data = msgspec.json.encode(made)

    assert msgspec.json.decode(data, type=Report) == made
    assert json.loads(data)["scores"][0]["per_class"][0]["hits"] == 1
