"""SIGTERM and Ctrl-C: five seconds, a sentence, the right code, and the next run goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_helpers import MADE, Clean, assert_as_clean, finish, struck, temporaries
from helpers import ROOT, start_tool

from eventkit.cli.run import FROM_THE_START, GO_ON

FULL = os.environ.get("EVENTKIT_LONG", "full") == "full"
SEED = int(os.environ.get("EVENTKIT_SEED", "0"))
STOPS = [("term", 143, "terminated"), ("int", 130, "interrupted")]
GRACE_S = 5.0

# A command whose tasks take a minute, each with a temporary file of its own.
SLOW = """
import time, click
from pathlib import Path
from eventkit.atomic import committed
from eventkit.cli.run import GO_ON, exit_codes, run
from pipelines.executors import Site, open_pool
from pipelines.lock import locked

def write(name):
    with committed(Path("out", name)) as temporary:
        temporary.touch()
        print("writing", flush=True)
        for _ in range(600):
            time.sleep(0.1)

@click.command()
@exit_codes(go_on=GO_ON)
def slow():
    out = Path("out")
    with locked(out), open_pool(EXECUTOR, workers=2, site=Site(folder=out.resolve())) as pool:
        for _ in pool.run(write, ["a", "b", "c"]):
            pass

run(slow, name="slow")
"""


@pytest.mark.parametrize(
    ("executor", "action", "code", "word"), [("inline", *STOPS[1]), ("threads", *STOPS[0])]
)
def test_work_that_takes_longer_than_five_seconds_is_rolled_back(
    tmp_path: Path, executor: str, action: str, code: int, word: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.replace("EXECUTOR", repr(executor))],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()

    began = time.monotonic()
    process.send_signal(getattr(signal, f"SIG{action.upper()}"))
    _, errors = process.communicate(timeout=60)

    assert time.monotonic() - began < GRACE_S
    assert process.returncode == code, errors
    assert f"{word}; run the same command again to go on" in errors
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == [".eventkit", "lock"]


@pytest.mark.long
@pytest.mark.parametrize(("action", "code", "word"), STOPS)
@pytest.mark.parametrize("name", ["convert", "shard"])
def test_a_run_that_is_stopped_at_a_commit_goes_on(
    clean: Clean, tmp_path: Path, name: str, action: str, code: int, word: str
) -> None:
    command = clean.prepare(tmp_path, name)

    got, errors = struck(*command, "--executor", "inline", cwd=tmp_path, fault=f"rename:9:{action}")
    assert got == code, errors
    assert f"{word}; run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert temporaries(tmp_path) == []
    finish(*command, cwd=tmp_path)

    assert_as_clean(tmp_path, clean, name)


@pytest.mark.long
@pytest.mark.parametrize("turn", range(4 if FULL else 1))
@pytest.mark.parametrize(("action", "code", "word"), STOPS)
@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_a_run_that_is_stopped_at_any_time_goes_on(
    clean: Clean, tmp_path: Path, executor: str, action: str, code: int, word: str, turn: int
) -> None:
    rng = random.Random(f"{SEED}-{turn}-{executor}-{action}")
    name = rng.choice(["convert", "shard"])
    command = clean.prepare(tmp_path, name)
    process = start_tool(*command, "--executor", executor, "--workers", "2", cwd=tmp_path)
    time.sleep(rng.uniform(1.0, 3.5) if executor == "processes" else rng.uniform(0.6, 1.4))

    began = time.monotonic()
    process.send_signal(getattr(signal, f"SIG{action.upper()}"))
    _, errors = process.communicate(timeout=60)

    assert time.monotonic() - began < GRACE_S
    if process.returncode > 0:  # below: it had not begun, or was over
        assert process.returncode == code, errors
        # Before the command has begun there is nothing to go on from.
        begun = (tmp_path / MADE[name] / ".eventkit").exists()
        assert f"{word}; {GO_ON}" in errors or (f"{word}; {FROM_THE_START}" in errors and not begun)
    assert "Traceback" not in errors
    finish(*command, cwd=tmp_path)
    assert_as_clean(tmp_path, clean, name)
