"""velora-ablate: rows that cannot run, need no run, or are called by names that are none."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import run_tool, start_tool
from velora_helpers import TINY_RECIPE

from eventkit.errors import SettingsError
from velora.ablation.grid import longer_than, read_grid, same_as_full, value_of
from velora.ablation.table import Result, as_markdown
from velora.config import load_settings, parse_assignments
from velora.tools.ablate import _words


def grid_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(f"[full]\ntitle = 'all of it'\n{text}")
    return path


def recipe_of(tmp_path: Path, train: str = "", rank: int = 4) -> str:
    path = tmp_path / "own.toml"
    path.write_text(f"[lora]\nrank = {rank}\nalpha = {2 * rank}\n[train]\nlr = 0.002\n{train}\n")
    return str(path)


@pytest.mark.parametrize("row", ["full-tuning", "separate-trunks"])
def test_full_tuning_leaves_the_head_the_rate_that_it_has_in_the_recipe(
    tmp_path: Path, row: str
) -> None:
    got = {}
    for given in ("", "head_lr = 0.05"):
        recipe = recipe_of(tmp_path, given)
        changes = read_grid()[row].changes(load_settings(recipe)[1])
        _, changed = load_settings(recipe, changes)
        got[given] = changed.train.head_lr
        assert changed.train.lr == pytest.approx(0.002 * 0.033)

    assert got == {"": 0.002, "head_lr = 0.05": 0.05}


@pytest.mark.parametrize("name", ["a/b", "/../../escaped", ".", "..", "", "a b", "a\\n", "naïve"])
def test_a_row_whose_name_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = grid_of(tmp_path, f'["{name}"]\ntitle = "x"\n')

    with pytest.raises(SettingsError, match=r"expected letters, digits, '\.', '_' and '-'") as info:
        read_grid(path)

    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)


def test_names_of_letters_digits_dots_and_dashes_are_rows(tmp_path: Path) -> None:
    path = grid_of(tmp_path, '["lr-0.1_B"]\ntitle = "x"\n["..."]\ntitle = "y"\n')

    assert list(read_grid(path)) == ["full", "lr-0.1_B", "..."]


def test_a_table_of_settings_reaches_velora_train_as_it_is_in_the_grid(tmp_path: Path) -> None:
    given = "{depth = 4, weight_init = 'moco', qkv_bias = true, \"a b.c\" = 'ü😀\\u007f\"'}"
    path = grid_of(tmp_path, f'[deep]\ntitle = "x"\nset."model.backbone_kwargs" = {given}\n')
    _, settings = load_settings("default")
    changes = read_grid(path)["deep"].changes(settings)

    _, changed = load_settings("default", parse_assignments(_words(changes)))

    kwargs = value_of(changed, "model.backbone_kwargs")
    assert kwargs == changes["model.backbone_kwargs"]
    assert (kwargs["depth"], kwargs["qkv_bias"]) == (4, True)


def test_a_value_that_no_setting_has_is_one_sentence(tmp_path: Path) -> None:
    path = grid_of(tmp_path, '[day]\ntitle = "x"\nset."train.epochs" = 2020-01-01\n')
    changes = read_grid(path)["day"].changes(load_settings("default")[1])

    with pytest.raises(SettingsError, match="Expected `int`, got `str`"):
        load_settings("default", parse_assignments(_words(changes)))


def test_a_title_or_a_reason_makes_no_columns_of_its_own() -> None:
    results = [
        Result(name="full", title="all", seed=0, trainable=1, total=2),
        Result(name="a", title="A | B\nC", seed=0, trainable=1, total=2),
        Result(name="b", title="B", seed=0, problem="no | way"),
    ]

    text = as_markdown(results, heading="x")

    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(results)
    assert {line.replace("\\|", "").count("|") for line in table} == {13}
    assert "| A \\| B C |" in text
    assert "| no \\| way |" in text


def test_names_of_rows_may_have_blanks_around_them(tmp_path: Path) -> None:
    words = ("default", "--list", "--only", " rank-1, rank-2 ,")

    done = run_tool(*words, cwd=tmp_path, program="velora-ablate")

    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["full", "rank-1", "rank-2"]


@pytest.mark.parametrize("only", ["", " , "])
def test_no_names_are_not_all_rows(tmp_path: Path, only: str) -> None:
    done = run_tool("default", "--list", "--only", only, cwd=tmp_path, program="velora-ablate")

    assert done.returncode == 2
    assert "--only: expected names of rows with commas between" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(("rank", "same"), [(4, ["rank-4"]), (8, ["rank-8"]), (3, [])])
def test_rows_with_the_settings_of_full_are_found(
    tmp_path: Path, rank: int, same: list[str]
) -> None:
    assert same_as_full(read_grid(), recipe_of(tmp_path, rank=rank), {}) == same


def test_what_is_set_for_all_rows_counts_for_same_rows(tmp_path: Path) -> None:
    overrides = {"model.rec_weight": 0.0, "lora.rank": 2, "lora.alpha": 4.0}

    assert same_as_full(read_grid(), recipe_of(tmp_path), overrides) == [
        "no-reconstruction",
        "rank-2",
    ]


def test_a_row_that_is_no_valid_change_is_not_the_same(tmp_path: Path) -> None:
    path = grid_of(tmp_path, '[bad]\ntitle = "x"\nset."train.epochs" = 0\n')

    assert same_as_full(read_grid(path), "default", {}) == []


def test_rows_of_more_frames_than_there_are_bins_are_found() -> None:
    _, settings = load_settings("default")

    assert longer_than(4, read_grid(), settings) == ["frames-8", "frames-16"]
    assert longer_than(16, read_grid(), settings) == []


@pytest.mark.long
def test_rows_that_cannot_run_here_or_need_no_run_leave_the_exit_code_alone(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    words = (tiny_recipe, "--shards", shards, "--out", "grid", "--set", "train.epochs=1")
    words += ("--only", "rank-4,frames-4,frames-16", "--device", "cpu", "--num-workers", "0")

    done = run_tool(*words, cwd=tmp_path, program="velora-ablate")

    assert done.returncode == 0, done.stderr
    notes = done.stderr.split("==")[0]
    assert "frames-4, frames-16: more frames than the 3 bins of " in notes
    assert "rank-4: the settings of full, which is trained once" in notes
    assert "without numbers" not in done.stderr
    assert [path.name for path in (tmp_path / "grid").glob("*-seed0")] == ["tiny-full-seed0"]
    rows = {row["name"]: row for row in csv.DictReader((tmp_path / "grid/ablations.csv").open())}
    assert list(rows) == ["full", "frames-4", "frames-16"]
    assert "expected at most the 3 bins" in rows["frames-4"]["problem"]
    assert "The full model's settings are also those of: rank 4." in done.stdout


@pytest.mark.long
def test_a_failed_row_stays_until_it_runs_again(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    grid = grid_of(
        tmp_path,
        '[odd]\ntitle = "odd"\nset."lora.targets" = ["none"]\n'
        '[long]\ntitle = "long"\nset."data.frames" = 16\n',
    )
    words = (tiny_recipe, "--shards", shards, "--out", "grid", "--set", "train.epochs=1")
    words += ("--grid", grid, "--device", "cpu", "--num-workers", "0")

    def call(*more: str) -> tuple[int, list[tuple[str, str, bool]]]:
        done = run_tool(*words, *more, cwd=tmp_path, program="velora-ablate")
        assert ("without numbers: odd; the table says why" in done.stderr) == (not more)
        table = csv.DictReader(io.StringIO((tmp_path / "grid/ablations.csv").read_text()))
        return done.returncode, [(r["name"], r["seed"], bool(r["problem"])) for r in table]

    of_seed_0 = [("full", "0", False), ("odd", "0", True), ("long", "0", True)]
    assert call() == (2, of_seed_0)
    # Asked for less, and for another seed: nothing goes, and what went wrong before is no news.
    assert call("--only", "full") == (0, of_seed_0)
    assert call("--only", "long", "--seed", "1") == (
        0,
        [*of_seed_0, ("full", "1", False), ("long", "1", True)],
    )
    mended = '[odd]\ntitle = "even"\nset."lora.targets" = ["fc1"]\n[long]\ntitle = "long"\n'
    grid.write_text(f'[full]\ntitle = "x"\n{mended}set."data.frames" = 16\n')
    code, table = call("--only", "odd")
    assert (code, table[:3]) == (0, [of_seed_0[0], ("odd", "0", False), of_seed_0[2]])


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a child with its parent")
def test_a_run_ends_with_the_command_that_started_it(shards: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_RECIPE.replace("epochs = 2", "epochs = 100000"))
    words = (recipe, "--shards", shards, "--out", "grid", "--device", "cpu")
    tool = start_tool(*words, cwd=tmp_path, program="velora-ablate")
    started = tmp_path / "grid" / "tiny-full-seed0" / "metrics.jsonl"
    child = 0
    try:
        wait_for(lambda: started.is_file() or tool.poll() is not None)
        assert tool.poll() is None
        (child,) = children(tool.pid)
        tool.kill()
        tool.wait()
        wait_for(lambda: not runs(child))
    finally:
        tool.kill()
        tool.communicate()
        if child and runs(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a child with its parent")
def test_a_process_whose_starter_is_gone_already_ends_at_once() -> None:
    program = "from velora.orphan import die_with; die_with({}); print('alive')"

    gone, there = (
        subprocess.run(
            [sys.executable, "-c", program.format(starter)],
            capture_output=True,
            text=True,
            check=False,
        )
        for starter in (2**22 + 1, os.getpid())
    )

    assert (gone.stdout, gone.returncode) == ("", -signal.SIGKILL)
    assert (there.stdout, there.returncode) == ("alive\n", 0)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Tell whether a process is there and not a dead one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
