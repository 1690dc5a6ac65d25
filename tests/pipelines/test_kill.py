"""Kills at seeded moments: what is there after the next run is what one clean run leaves."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from crash_helpers import Clean, assert_as_clean, damage_of, finish, struck, wait_for_worker
from helpers import start_tool

from eventkit.shards import MANIFEST

FULL = os.environ.get("EVENTKIT_LONG", "full") == "full"
SEED = int(os.environ.get("EVENTKIT_SEED", "0"))
# How often each point is passed at least, by a convert of four packs and a shard of ten tars.
PASSED = {
    "convert": {"write": 8, "fsync": 10, "rename": 6, "folder": 10, "receipt": 4, "done": 4},
    "shard": {"write": 10, "fsync": 40, "rename": 40, "folder": 40, "receipt": 10, "done": 10}
    | {"manifest": 1},
}
OF_WORKERS = ["write", "receipt", "done"]
"""Points that a coordinator with workers does not pass itself."""


@dataclass(frozen=True)
class Moment:
    """When, in which command, and who is killed."""

    victim: str
    command: str
    executor: str
    point: str = ""
    nth: int = 0
    share: float = 0.0

    def __str__(self) -> str:
        when = f"{self.point}:{self.nth}" if self.point else f"{self.share:.2f}"
        return f"{self.victim}-{self.command}-{self.executor}-{when}"


def seeded(seed: int) -> list[Moment]:
    """Twelve points of a commit, and then two of each: workers and coordinators at any time."""
    rng = random.Random(seed)
    pairs = [(command, point) for command, points in PASSED.items() for point in points]
    found = []
    for command, point in rng.sample(pairs, 12):
        executor = rng.choice(["inline", "threads"])
        nth = rng.randint(1, PASSED[command][point])
        found.append(Moment("coordinator", command, executor, point, nth))
    for victim, hooked in (("worker", True), ("worker", False), ("coordinator", False)):
        for command in ("convert", "shard"):
            point = rng.choice(OF_WORKERS) if hooked else ""
            found.append(Moment(victim, command, "processes", point, 1, rng.uniform(0.3, 0.9)))
    for command in ("convert", "shard"):
        found.append(Moment("coordinator", command, "threads", share=rng.uniform(0.2, 1.0)))
    return found


MOMENTS = seeded(SEED)
SLICE = [
    next(m for m in MOMENTS if m.point and (m.victim, m.command) == kind)
    for kind in (("coordinator", "convert"), ("coordinator", "shard"), ("worker", "convert"))
]


def strike(moment: Moment, command: tuple[str | Path, ...], folder: Path, seconds: float) -> None:
    """Run a command and kill somebody at the moment."""
    run = (*command, "--executor", moment.executor, "--workers", "2")
    if moment.point:
        token = folder / "token"
        token.touch()
        only_once = f":{token}" if moment.victim == "worker" else ""
        fault = f"{moment.point}:{moment.nth}:kill{only_once}"
        code, errors = struck(*run, cwd=folder, fault=fault)
        if moment.victim == "worker":
            assert code == 0, errors  # the others go on, and what it did is done again
            assert not token.exists()
        else:
            assert code == -signal.SIGKILL, errors
            token.unlink()
        return
    process = start_tool(*run, cwd=folder)
    if moment.victim == "worker":
        worker = wait_for_worker(process)
        time.sleep(moment.share)
        # A short run may be over by then, and its worker with it: nobody is struck.
        with contextlib.suppress(ProcessLookupError):
            if worker:
                os.kill(worker, signal.SIGKILL)
    else:
        time.sleep(moment.share * seconds)
        process.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGKILL), errors


def check(moment: Moment, clean: Clean, folder: Path) -> None:
    command = clean.prepare(folder, moment.command)

    strike(moment, command, folder, clean.seconds[moment.command])
    if (folder / "shards" / MANIFEST).exists():
        assert damage_of(folder / "shards") == []  # never one over a part of the set
    finish(*command, cwd=folder)

    assert_as_clean(folder, clean, moment.command)


@pytest.mark.parametrize("moment", SLICE, ids=str)
def test_a_killed_run_ends_in_the_bytes_of_a_clean_one(
    clean: Clean, tmp_path: Path, moment: Moment
) -> None:
    check(moment, clean, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("moment", MOMENTS if FULL else MOMENTS[3:20:4], ids=str)
def test_runs_killed_anywhere_end_in_the_bytes_of_a_clean_one(
    clean: Clean, tmp_path: Path, moment: Moment
) -> None:
    check(moment, clean, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", ["convert", "shard"])
def test_a_run_killed_after_every_second_unit_gets_there(
    clean: Clean, tmp_path: Path, name: str
) -> None:
    command = (*clean.prepare(tmp_path, name), "--executor", "inline")
    kills = 0
    while (code := struck(*command, cwd=tmp_path, fault="done:2:kill")[0]) != 0:
        assert code == -signal.SIGKILL
        kills += 1
        assert kills < 20

    assert kills >= 2
    assert_as_clean(tmp_path, clean, name)
