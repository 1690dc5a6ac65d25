"""Kills at seeded moments: what is there afterwards is what one clean run leaves."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from helpers import start_tool
from pipelines_helpers import tree_bytes, write_recording

FULL = os.environ.get("EVENTKIT_LONG", "full") == "full"
SEED = int(os.environ.get("EVENTKIT_SEED", "0"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A raw folder, one clean run over it, and how long each command took."""
    folder = tmp_path_factory.mktemp("clean")
    for i in range(120):
        write_recording(folder / "raw" / f"c{i % 3}" / f"{i:04d}", seed=i, events=2000)
    seconds = {}
    for command in (["convert", "raw"], ["shard", "--num-shards", "12"]):
        began = time.monotonic()
        assert start_tool(*command, cwd=folder).wait() == 0
        seconds[command[0]] = time.monotonic() - began
    return folder, seconds


@pytest.mark.long
@pytest.mark.parametrize("turn", range(20 if FULL else 4))
def test_killed_runs_end_in_the_bytes_of_a_clean_one(
    reference: tuple[Path, dict[str, float]], tmp_path: Path, turn: int
) -> None:
    folder, seconds = reference
    rng = random.Random(f"{SEED}-{turn}")
    executor = rng.choice(["inline", "threads"])
    commands = (["convert", folder / "raw"], ["shard", "--num-shards", "12"])

    for command in commands:
        process = start_tool(*command, "--executor", executor, cwd=tmp_path)
        time.sleep(rng.uniform(0.2, 1.0) * seconds[str(command[0])])
        process.kill()
        process.wait()
        finished = start_tool(*command, cwd=tmp_path)
        _, errors = finished.communicate()
        assert finished.returncode == 0, errors

    for name in ("store", "shards"):
        assert tree_bytes(tmp_path / name) == tree_bytes(folder / name)
        assert not list((tmp_path / name).rglob(".tmp-*"))


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("executor", ["inline", "threads", "dask"])
def test_a_stopped_run_says_how_to_go_on(
    reference: tuple[Path, dict[str, float]], tmp_path: Path, number: int, code: int, executor: str
) -> None:
    folder, seconds = reference
    process = start_tool("convert", folder / "raw", "--executor", executor, cwd=tmp_path)
    time.sleep(0.6 * seconds["convert"])

    process.send_signal(number)
    _, errors = process.communicate(timeout=30)

    if process.returncode == 0:
        pytest.skip("the run was over before the signal came")
    assert process.returncode == code, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert start_tool("convert", folder / "raw", cwd=tmp_path).wait() == 0
    assert tree_bytes(tmp_path / "store") == tree_bytes(folder / "store")
