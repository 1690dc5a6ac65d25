"""Clips of a single frame: nothing differs, so no difference stream is built or counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from velora.config import load_settings
from velora.evaluate_run import evaluate_run
from velora.run import TrainOptions, train
from velora.training.progress import PlainReporter


@pytest.mark.parametrize(
    ("changes", "has_stream"),
    [({"data.frames": 1}, False), ({"model.difference": "none"}, False), ({}, True)],
)
def test_what_is_counted_is_what_can_train(
    changes: dict[str, object], has_stream: bool, shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, report = train(
        load_settings(str(tiny_recipe), {"train.epochs": 1, **changes})[1],
        recipe="tiny",
        options=TrainOptions(shards=shards, out=tmp_path, device="cpu"),
        reporter=PlainReporter(),
    )

    table = json.loads((run.path / "parameters.json").read_text())
    rows = {row["part"]: row["trainable"] for row in table}
    assert any("diff" in part for part in rows) == has_stream
    assert rows.pop("total") == sum(rows.values())
    assert (run.path / "adapters" / "diff").exists() == has_stream
    _, again, _ = evaluate_run(
        run.path, shards_path=shards, device_name="cpu", reporter=PlainReporter()
    )
    assert again.scores[0].top1 == report.scores[0].top1
