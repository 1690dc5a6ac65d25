"""velora-ablate: each row changes what it says; the table is right, resumes, and names failures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from helpers import run_tool

from eventkit.errors import SettingsError
from velora.ablation.grid import REFERENCE, choose, read_grid, value_of
from velora.ablation.table import Result, as_csv, verdicts
from velora.config import load_settings, parse_assignments
from velora.scoring.mcnemar import both_tails
from velora.tools.ablate import _words

ROWS = "full,linear-probe,rank-1,frames-16"


def test_every_row_of_the_grid_is_a_valid_change_of_every_recipe() -> None:
    for recipe in ("default", "nmnist", "pokerevent"):
        _, settings = load_settings(recipe)
        for row in read_grid().values():
            changes = row.changes(settings)

            _, changed = load_settings(recipe, parse_assignments(_words(changes)))

            for key, value in changes.items():
                got = value_of(changed, key)
                assert list(got) == value if isinstance(value, list) else got == value, key


def test_ranks_keep_the_scale_and_full_tuning_keeps_the_heads_rate() -> None:
    _, settings = load_settings("nmnist")
    rows = read_grid()

    assert rows["rank-32"].changes(settings) == {"lora.rank": 32, "lora.alpha": 64.0}
    full = rows["full-tuning"].changes(settings)
    assert full["train.lr"] == pytest.approx(settings.train.lr * 0.033)
    assert full["train.head_lr"] == settings.train.lr


def test_the_reference_is_always_there_and_a_strange_row_is_refused() -> None:
    assert list(choose(read_grid(), ["rank-1"])) == [REFERENCE, "rank-1"]
    with pytest.raises(SettingsError, match="no ablation 'rank-3'; there are full, "):
        choose(read_grid(), ["rank-3"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[other]\ntitle = 'x'", "has no row"),
        ("[full]\ntitle = 'x'\nsett = {}", "unknown field"),
        ("[full", "is no grid"),
    ],
)
def test_a_grid_that_is_none_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(text)

    with pytest.raises(SettingsError, match=reason):
        read_grid(path)


def test_a_row_without_a_result_has_no_numbers_that_a_program_could_average() -> None:
    results = [
        Result(name="full", title="full model", seed=0, trainable=3, total=4, clips=2, top1=0.5),
        Result(name="rgb-only", title="RGB only", seed=0, problem="no clip, has RGB"),
    ]

    full, problem = csv.DictReader(io.StringIO(as_csv(results)))

    assert (full["top1"], full["clips"], full["problem"]) == ("0.5", "2", "")
    assert problem.pop("problem") == "no clip, has RGB"
    assert [k for k, v in problem.items() if v] == ["name", "title", "seed"]


@pytest.mark.long
def test_the_grid_is_trained_once_and_compared_with_the_full_model(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    words = (tiny_recipe, "--shards", shards, "--out", tmp_path / "grid", "--only", ROWS)
    words += ("--set", "model.rec_weight=0.2", "--device", "cpu")

    first = run_tool(*words, cwd=tmp_path, program="velora-ablate")
    made = (tmp_path / "grid" / "ablations.csv").read_bytes()
    runs = {path.parent.name for path in (tmp_path / "grid").glob("*/result.json")}
    results = [path.stat().st_mtime_ns for path in (tmp_path / "grid").glob("*/result.json")]
    again = run_tool(*words, cwd=tmp_path, program="velora-ablate")

    assert first.returncode == again.returncode == 0
    assert "frames-16: more frames than the 3 bins of " in first.stderr
    assert runs == {"tiny-full-seed0", "tiny-linear-probe-seed0", "tiny-rank-1-seed0"}
    assert (tmp_path / "grid" / "ablations.csv").read_bytes() == made
    assert results == [p.stat().st_mtime_ns for p in (tmp_path / "grid").glob("*/result.json")]
    rows = {row["name"]: row for row in csv.DictReader(made.decode().splitlines())}
    assert "expected at most the 3 bins" in rows["frames-16"]["problem"]
    full, probe = (tmp_path / "grid" / f"tiny-{n}-seed0" for n in ("full", "linear-probe"))
    parts = json.loads((probe / "parameters.json").read_bytes())
    assert int(rows["linear-probe"]["trainable"]) == parts[-1]["trainable"]
    assert parts[-1]["trainable"] == next(p["trainable"] for p in parts if p["part"] == "head")
    a, b = verdicts(full), verdicts(probe)
    only_full = sum(a[key] and not b[key] for key in a)
    only_this = sum(b[key] and not a[key] for key in a)
    assert len(a) == 9
    assert float(rows["linear-probe"]["p_value"]) == both_tails(only_full, only_this)
    assert (int(rows["linear-probe"]["only_full"]), int(rows["linear-probe"]["only_this"])) == (
        only_full,
        only_this,
    )
    assert float(rows["full"]["top1"]) == sum(a.values()) / 9
    assert "| linear probe | 0 |" in (tmp_path / "grid" / "ablations.md").read_text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('scale."train.foo" = 2.0', "'train.foo', which there is not"),
        ('scale."train.head_lr" = 2.0', "scales train.head_lr, which is no number"),
        ('keep."train.lr" = "lr"', "'lr', which there is not"),
    ],
)
def test_a_row_that_cannot_be_is_one_sentence(tmp_path: Path, change: str, reason: str) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(f"[full]\ntitle = 'x'\n[a]\ntitle = 'y'\n{change}\n")
    words = ("default", "--list", "--grid", grid)

    done = run_tool(*words, cwd=tmp_path, program="velora-ablate")

    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_full_model_nothing_else_is_trained(tmp_path: Path) -> None:
    words = ("default", "--shards", "nowhere", "--only", "rank-1", "--out", "grid")

    done = run_tool(*words, cwd=tmp_path, program="velora-ablate")

    assert done.returncode == 2
    assert "the full model could not be trained: nowhere: no such folder" in done.stderr
    assert done.stderr.count("==") == 1
    assert not (tmp_path / "grid").exists()


def test_the_rows_are_listed_with_what_they_change(tmp_path: Path) -> None:
    done = run_tool("default", "--list", cwd=tmp_path, program="velora-ablate")

    assert done.returncode == 0
    assert 'lora.targets=["qkv", "proj"]' in done.stdout
    assert "the recipe as it is" in done.stdout
