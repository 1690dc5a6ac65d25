"""The commands as a user runs them: what they print, and the exit code of every ending."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers import run_tool, start_tool

from velora.cli import evaluate, train

ROOT = Path(__file__).resolve().parents[2]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(train, [str(a) for a in arguments])


def test_train_again_and_evaluate_from_another_folder_without_a_terminal(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    common = ("--shards", shards, "--recipe", tiny_recipe, "--device", "cpu")

    first = start_tool(*common, cwd=tmp_path, program="velora-train")
    out, err = first.communicate(timeout=120)
    assert (first.returncode, err) == (0, "")
    (run,) = (tmp_path / "runs").iterdir()
    for text in (
        "RANDOM",
        "trains ",
        "head ",
        "epoch 2/2",
        "clips/s",
        "by masking",
        "chance 0.333",
    ):
        assert text in out
    assert f"run folder: runs/{run.name}" in out

    measured = start_tool(run, "--shards", shards, "--json", cwd=tmp_path, program="velora-eval")
    out, err = measured.communicate(timeout=120)
    assert measured.returncode == 0
    report, stored = json.loads(out), json.loads((run / "result.json").read_bytes())
    assert report["confusion"] == stored["confusion"]
    assert (run / "eval-test-01234567.csv").is_file()
    assert "RANDOM" in err

    again = CliRunner().invoke(train, [*map(str, common), "--out", str(tmp_path / "runs")])
    assert again.exit_code == 0
    assert "finished: nothing to do" in again.output


@pytest.mark.long
def test_an_evaluation_may_spoil_each_sense(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    common = ("--shards", shards, "--recipe", tiny_recipe, "--device", "cpu")
    assert run_tool(*common, "--name", "one", cwd=tmp_path, program="velora-train").returncode == 0

    words = ("runs/one", "--shards", shards, "--robustness")
    done = run_tool(*words, cwd=tmp_path, program="velora-eval")

    assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "runs" / "one").glob("robustness-test-*.json")
    rows = {row["name"]: row for row in json.loads(table.read_bytes())["rows"]}
    assert rows["clean"]["against_clean"] is None
    for name, row in rows.items():
        top1 = f"top-1 {row['score']['top1']:.3f}"
        assert any(name in line and top1 in line for line in done.stdout.splitlines()), name
    assert len(rows) >= 6
    as_json = run_tool(*words, "--json", cwd=tmp_path, program="velora-eval")
    assert json.loads(as_json.stdout)["split"] == "test"
    assert "events missing" in as_json.stderr
    (page,) = (tmp_path / "runs" / "one").glob("eval-test-*.html")
    assert page.name in done.stdout
    assert "at test time" in page.read_text()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)],
)
def test_an_interrupted_run_says_how_to_go_on_and_does(
    shards: Path, tiny_recipe: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    arguments = ("--shards", shards, "--recipe", tiny_recipe, "--epochs", "2000", "--name", "long")
    process = start_tool(*arguments, "--out", tmp_path, cwd=tmp_path, program="velora-train")
    run = tmp_path / "long"
    deadline = time.monotonic() + 100
    while (
        not list(run.glob("state-*.pt")) and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.05)

    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert "same command goes on" in err
    assert "Traceback" not in err
    assert not list((tmp_path / "long").glob(".*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--shards", "nowhere"], 2, "nowhere: no such folder"),
        (["--recipe", "nowhere.toml"], 2, "no recipe 'nowhere.toml'"),
        (["--rank", "0"], 2, "`$.lora.rank`"),
        (["--lr", "nan"], 2, "`$.train.lr`"),
        (["--backbone", "swin_tiny_patch4_window7_224"], 2, "not a plain ViT"),
        (["--weights", "nowhere.safetensors"], 2, "no weights file"),
        (["--weights", "a", "--random-trunk"], 2, "exclude each other"),
        (["--streams", "both"], 2, "--streams"),
        (["--device", "tpu"], 2, "--device"),
        (["--out", "/dev/null/runs"], 6, "Not a directory"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_an_exit_code(
    shards: Path, tiny_recipe: Path, arguments: list[str], code: int, reason: str
) -> None:
    result = invoke("--shards", shards, "--recipe", tiny_recipe, "--device", "cpu", *arguments)

    assert result.exit_code == code
    assert reason in result.output
    assert "Traceback" not in result.output


def test_unlabelled_shards_are_refused_with_the_cure(make_shards, tmp_path: Path) -> None:
    path = make_shards(train=3, val=0, test=0, labelled=False)

    result = invoke("--shards", path, "--out", tmp_path / "runs")

    assert result.exit_code == 2
    assert "<class>/<recording> <frames> <label>" in result.output
    assert not (tmp_path / "runs").exists()


def test_a_corrupt_shard_is_named_with_exit_code_4(
    make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    path = make_shards(train=6, val=0, test=3)
    tar = path / "train" / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[512:2048] = bytes(1536)
    tar.write_bytes(data)

    result = invoke("--shards", path, "--recipe", tiny_recipe, "--out", tmp_path / "runs")

    assert result.exit_code == 4
    assert "train_00" in result.output


def test_running_out_of_memory_names_the_batch_size(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    # 10^6 x 10^6 pictures: the allocator refuses at once, nothing is touched.
    result = invoke(
        "--shards", shards, "--recipe", tiny_recipe, "--out", tmp_path, "--img-size", "1600000"
    )

    assert result.exit_code == 2
    assert "out of memory: lower --batch-size" in result.output


def test_a_run_that_is_none_cannot_be_evaluated(shards: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(evaluate, [str(tmp_path), "--shards", str(shards)])

    assert result.exit_code == 2
    assert "not a run folder" in result.output


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from velora.cli import train\n"
        "print(CliRunner().invoke(train, ['--help']).exit_code, 'torch' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["0", "False"]
