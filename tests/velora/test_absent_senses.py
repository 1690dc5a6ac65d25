"""Sets that lack a sense or clips of a class: what is refused, what is said before training."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from page_helpers import Page
from velora_helpers import make_sample, write_shards

from velora.cli import evaluate, train

EVENTS = ("event",)
BOTH = ("rgb", "event")


def write(
    folder: Path,
    *,
    senses: Callable[[str], tuple[str, ...]],
    labels: dict[str, list[int]] | None = None,
) -> Path:
    """Write shards of three classes whose splits have the senses that a function of them says."""
    rng = np.random.default_rng(0)
    by_split = labels or {"train": [0, 1, 2] * 4, "val": [0, 1, 2], "test": [0, 1, 2]}
    splits = {
        split: [
            make_sample(f"{split}_{i:02d}_000000", label=label, rng=rng, senses=senses(split))
            for i, label in enumerate(of)
        ]
        for split, of in by_split.items()
    }
    path = write_shards(folder / "shards", splits, classes={0: "a", 1: "b", 2: "odd, one"})
    counts = [len(of) for split, of in by_split.items() if senses(split) == BOTH]
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["clips"] = {"both": sum(counts), "clips": sum(map(len, by_split.values()))}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def invoke(command, *arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def start(shards: Path, recipe: Path, *more: str) -> Result:
    common = ("--shards", shards, "--recipe", recipe, "--device", "cpu", "--num-workers", "0")
    out = ("--out", recipe.parent / "runs", "--epochs", "1")
    return invoke(train, *common, *out, *more)


@pytest.mark.parametrize("lacking", ["train", "test"])
def test_a_model_of_a_sense_that_no_clip_of_a_split_has_is_refused_and_leaves_no_folder(
    tiny_recipe: Path, tmp_path: Path, lacking: str
) -> None:
    shards = write(tmp_path, senses=lambda split: EVENTS if split == lacking else BOTH)

    result = start(shards, tiny_recipe, "--streams", "rgb")

    assert result.exit_code == 2
    assert f"no {lacking} clip of {shards} has RGB, which is all that this model" in result.output
    assert "--streams event" in result.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("lacking", ["train", "val", "test"])
def test_the_released_model_is_refused_a_split_with_clips_that_lack_a_sense(
    tiny_recipe: Path, tmp_path: Path, lacking: str
) -> None:
    shards = write(tmp_path, senses=lambda split: EVENTS if split == lacking else BOTH)

    result = start(shards, tiny_recipe, "--set", "model.mode=compat")

    assert result.exit_code == 2
    assert f"{lacking} clips of {shards} lack RGB or events, which the released" in result.output
    assert "model.mode = 'paper'" in result.output
    assert not (tmp_path / "runs").exists()


def test_a_val_split_that_the_model_cannot_see_is_told_and_so_is_its_evaluation(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    shards = write(tmp_path, senses=lambda split: EVENTS if split == "val" else BOTH)

    result = start(shards, tiny_recipe, "--streams", "rgb", "--name", "one")

    assert result.exit_code == 0, result.output
    assert "no val clip has RGB: the last epoch is kept" in result.output
    measured = invoke(evaluate, tmp_path / "runs/one", "--shards", shards, "--split", "val")
    assert measured.exit_code == 2
    assert f"no val clip of {shards} has RGB" in measured.output


def test_a_fusion_model_of_events_alone_says_so_and_gives_no_number_for_what_nobody_saw(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    shards = write(tmp_path, senses=lambda split: EVENTS)

    result = start(shards, tiny_recipe)

    assert result.exit_code == 0, result.output
    assert "no clip of these shards has both RGB and events" in result.output
    (line,) = [text for text in result.output.splitlines() if text.startswith("  rgb ")]
    assert line == "  rgb    (by masking): no clips, 3 without this sense"
    (run,) = (tmp_path / "runs").iterdir()
    page = Page((run / "report.html").read_text("utf-8"))
    row = page.table("what it sees")["RGB alone, by masking"]
    assert row == ["no clips", "", "", "no clips", "0, 3 without it"]
    spoilt = invoke(evaluate, run, "--shards", shards, "--device", "cpu", "--robustness")
    (line,) = [text for text in spoilt.output.splitlines() if "events missing" in text]
    assert line == "  events missing  no clips (3 left out)"
    (path,) = run.glob("eval-test-*.html")
    table = Page(path.read_text("utf-8")).table("at test time")
    assert table["events missing"][1:] == ["no clips", "", "0, 3 left out", "", "", ""]


def test_a_set_of_both_senses_is_told_nothing_of_the_kind(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    shards = write(tmp_path, senses=lambda split: BOTH)

    result = start(shards, tiny_recipe)

    assert result.exit_code == 0, result.output
    assert "no clip" not in result.output
    assert "nothing to learn" not in result.output


@pytest.mark.parametrize("streams", ["fusion", "event"])
def test_a_class_without_a_training_clip_is_named(
    tiny_recipe: Path, tmp_path: Path, streams: str
) -> None:
    labels = {"train": [0, 1] * 4, "test": [0, 1, 2]}
    shards = write(tmp_path, senses=lambda split: BOTH, labels=labels)

    result = start(shards, tiny_recipe, "--streams", streams)

    assert result.exit_code == 0, result.output
    assert "1 of 3 classes has no train clip, and nothing to learn it from: odd, one" in (
        result.output
    )


def test_a_run_that_may_not_be_written_is_named_before_it_is_measured(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    shards = write(tmp_path, senses=lambda split: BOTH)
    assert start(shards, tiny_recipe, "--name", "one").exit_code == 0
    run = tmp_path / "runs" / "one"
    run.chmod(stat.S_IRUSR | stat.S_IXUSR)
    program = str(Path(sys.executable).parent / "velora-eval")
    command = [program, str(run), "--shards", str(shards), "--device", "cpu"]
    if os.access(run, os.W_OK):
        if shutil.which("setpriv") is None:
            pytest.skip("this user may write whatever the mode of a folder says")
        command = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", *command]

    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    run.chmod(stat.S_IRWXU)

    assert result.returncode == 6
    assert f"error: {run}: Permission denied: the report cannot be written" in result.stderr


@pytest.mark.parametrize(
    ("out", "reason"), [("file", "File exists"), ("/proc/none", "No such file or directory")]
)
def test_a_folder_that_cannot_be_written_is_named_before_anything_is_measured(
    tiny_recipe: Path, tmp_path: Path, out: str, reason: str
) -> None:
    shards = write(tmp_path, senses=lambda split: BOTH)
    assert start(shards, tiny_recipe, "--name", "one").exit_code == 0
    (tmp_path / "file").touch()
    out = str(tmp_path / out)

    result = invoke(
        evaluate, tmp_path / "runs" / "one", "--shards", shards, "--device", "cpu", "--out", out
    )

    assert result.exit_code == 6
    assert f"error: {out}: {reason}: the report cannot be written there; give" in result.output
    assert "top-1" not in result.output


def test_a_report_may_go_to_another_folder_than_the_run(tiny_recipe: Path, tmp_path: Path) -> None:
    shards = write(tmp_path, senses=lambda split: BOTH)
    assert start(shards, tiny_recipe, "--name", "one").exit_code == 0
    run, out = tmp_path / "runs" / "one", tmp_path / "new" / "reports"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    common = ("--shards", shards, "--device", "cpu", "--num-workers", "0")

    result = invoke(evaluate, run, *common, "--robustness", "--out", out)

    assert result.exit_code == 0, result.output
    assert f"written: {out}" in result.output
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    names = sorted((*path.name.split("-")[:2], path.suffix) for path in out.iterdir())
    tables = [("one", "eval", suffix) for suffix in (".csv", ".csv", ".html", ".json")]
    assert names == [*tables, ("one", "robustness", ".json")]
    (page,) = out.glob("*.html")
    assert "RGB missing" in page.read_text()  # the table beside it, not one of the run
