"""The table of velora-ablate holds what earlier calls finished, and nothing of other settings."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers import run_tool
from velora_helpers import TINY_RECIPE

from velora.ablation.earlier import Expected, earlier_results, run_name
from velora.ablation.grid import Row, read_grid
from velora.ablation.table import Result, as_csv
from velora.config import load_settings
from velora.run import train
from velora.training.options import TrainOptions
from velora.training.progress import PlainReporter

ROWS = read_grid()
SET = {"train.epochs": 1}


def trained(recipe: Path, shards: Path, out: Path, row: str, seed: int, **changes: object) -> Path:
    """Train a row as velora-ablate does, in this process."""
    _, plain = load_settings(str(recipe), SET)
    overrides = {**SET, **ROWS[row].changes(plain), "train.seed": seed, **changes}
    _, settings = load_settings(str(recipe), overrides)
    options = TrainOptions(
        shards=shards, out=out, name=run_name("tiny", row, seed), device="cpu", num_workers=0
    )
    return train(settings, recipe="tiny", options=options, reporter=PlainReporter())[0].path


@pytest.fixture(scope="module")
def made(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a recipe and a folder of finished rows: three of seed 0, one of seed 1."""
    folder = tmp_path_factory.mktemp("earlier")
    recipe = folder / "tiny.toml"
    recipe.write_text(TINY_RECIPE)
    for row, seed in (("rank-1", 0), ("full", 1), ("linear-probe", 0), ("full", 0)):
        trained(recipe, shards, folder / "grid", row, seed)
    return recipe, folder / "grid"


def expected(recipe: Path, out: Path, overrides: Mapping[str, object] = SET) -> Expected:
    reference = out / "tiny-full-seed0"
    return Expected.of(recipe=str(recipe), overrides=overrides, rows=ROWS, reference=reference)


def found(
    recipe: Path, out: Path, overrides: Mapping[str, object] = SET
) -> tuple[list[tuple[str, int, bool]], list[str]]:
    """Row, seed, and whether it is compared with the full model, in order; and what is left out."""
    results, strange = earlier_results(out, expected(recipe, out, overrides))
    in_order = [results[key] for key in sorted(results)]
    assert not any(r.problem for r in in_order)
    return [(r.name, r.seed, r.p_value is not None) for r in in_order], strange


def test_all_finished_rows_are_found_by_seed_and_in_the_order_of_the_grid(
    made: tuple[Path, Path],
) -> None:
    rows, strange = found(*made)

    of_seed_0 = [name for name in ROWS if name in ("full", "rank-1", "linear-probe")]
    assert rows == [(name, 0, True) for name in of_seed_0] + [("full", 1, True)]
    assert strange == []


def test_runs_of_other_settings_or_shards_stay_out_with_the_reason(
    made: tuple[Path, Path], make_shards, shards: Path, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "tiny.toml", tmp_path / "grid"
    shutil.copy(made[0], recipe)
    shutil.copytree(made[1], out)
    trained(recipe, shards, out, "rank-1", 1, **{"train.lr": 0.5})
    trained(recipe, make_shards(plan_id="f" * 16), out, "linear-probe", 1)
    shutil.copytree(out / "tiny-full-seed0", out / "other-full-seed3")
    shutil.copytree(out / "tiny-full-seed0", out / "tiny-no-such-row-seed0")
    (out / "tiny-rank-1-seed0" / "result.json").unlink()

    rows, strange = found(recipe, out)

    assert [(name, seed) for name, seed, _ in rows] == [
        ("full", 0),
        ("linear-probe", 0),
        ("full", 1),
    ]
    by_name = {sentence.split("/")[-1].split(" ")[0]: sentence for sentence in strange}
    assert set(by_name) == {"tiny-rank-1-seed1", "tiny-linear-probe-seed1"}
    assert "train.lr: 0.5 and 0.003" in by_name["tiny-rank-1-seed1"]
    assert "shards: plan ffffffffffff and 0123456789ab" in by_name["tiny-linear-probe-seed1"]


def test_a_seed_without_its_full_model_is_compared_with_nothing(
    made: tuple[Path, Path], shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "grid"
    shutil.copytree(made[1], out)
    trained(made[0], shards, out, "rank-1", 7)

    rows, _ = found(made[0], out)

    assert rows[-1] == ("rank-1", 7, False)


def test_a_run_that_lost_a_file_is_named(made: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, out = made[0], tmp_path / "grid"
    shutil.copytree(made[1], out)
    (out / "tiny-rank-1-seed0" / "run.json").unlink()
    (out / "tiny-linear-probe-seed0" / "parameters.json").unlink()

    results, strange = earlier_results(out, expected(recipe, out))

    assert len(strange) == 1
    assert "tiny-rank-1-seed0 is not a run folder" in strange[0]
    (problem,) = (r.problem for r in results.values() if r.name == "linear-probe")
    assert "is no finished run" in problem


def test_rows_that_failed_stay_where_this_call_would_run_them_alike(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe, out = made[0], tmp_path / "grid"
    shutil.copytree(made[1], out)
    call = expected(recipe, out)

    def failed(row: str, seed: int, sha256: str | None = None) -> Result:
        alike = call.row_sha256(row, seed) if sha256 is None else sha256
        title = "an old title"
        return Result(name=row, title=title, seed=seed, problem="why", settings_sha256=alike)

    table = [
        failed("frames-16", 0),
        failed("frames-16", 5),
        failed("frames-8", 0, "of other settings or shards"),
        failed("frames-4", 0, ""),
        failed("rank-1", 0),  # has run since
        failed("rank-2", 0),
        failed("no-such-row", 0, "any"),
    ]
    table.append(Result(name="rank-64", title="x", seed=0, settings_sha256=table[0].name))
    (out / "ablations.csv").write_text(as_csv(table))

    results, strange = earlier_results(out, call)

    problems = {(k.row, k.seed): (r.problem, r.title) for k, r in results.items() if r.problem}
    assert problems == {
        ("frames-16", 0): ("why", "16 frames"),
        ("frames-16", 5): ("why", "16 frames"),
        ("rank-2", 0): ("why", "rank 2"),
    }
    assert strange == []
    assert len({call.row_sha256("frames-16", 0), call.row_sha256("frames-16", 5)}) == 2


@pytest.mark.parametrize("content", [b"name,title\nx,y\n", b"\xff\xfe", b"a\n1,2\n"])
def test_a_table_that_is_none_is_told_and_the_runs_stay(
    made: tuple[Path, Path], tmp_path: Path, content: bytes
) -> None:
    out = tmp_path / "grid"
    shutil.copytree(made[1], out)
    (out / "ablations.csv").write_bytes(content)

    rows, strange = found(made[0], out)

    assert len(rows) == 4
    (sentence,) = strange
    assert f"{out / 'ablations.csv'} is no table of velora-ablate" in sentence


def test_a_grid_has_the_full_model_first(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text("[a]\ntitle = 'x'\n[full]\ntitle = 'y'\n")

    assert read_grid(path) == {"full": Row(title="y"), "a": Row(title="x")}
    assert next(iter(read_grid(path))) == "full"


@pytest.mark.long
def test_a_table_never_shrinks(made: tuple[Path, Path], shards: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.toml", tmp_path / "grid"
    shutil.copy(made[0], recipe)
    shutil.copytree(made[1], out)
    words = (recipe, "--shards", shards, "--out", out, "--device", "cpu")
    words += ("--set", "train.epochs=1", "--only", "no-difference", "--num-workers", "0")

    done = run_tool(*words, cwd=tmp_path, program="velora-ablate")

    assert done.returncode == 0, done.stderr
    table = csv.DictReader(io.StringIO((out / "ablations.csv").read_text()))
    assert {(row["name"], row["seed"]) for row in table} == {
        ("full", "0"), ("no-difference", "0"), ("rank-1", "0"), ("linear-probe", "0"),
        ("full", "1"),
    }  # fmt: skip
    assert sum(line.startswith("| ") for line in done.stdout.splitlines()) == 1 + 5
