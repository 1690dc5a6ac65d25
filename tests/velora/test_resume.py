"""A run that was stopped at any step goes on to the bits of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventkit.errors import DamageError, SettingsError
from velora.config import load_settings
from velora.run import TrainOptions, train
from velora.training.checkpoint import RunFolder
from velora.training.progress import PlainReporter, Step
from velora.training.states import load_state, save_state, state_paths
from velora.training.step_log import StepLog, read_steps

ROOT = Path(__file__).resolve().parents[2]
# Everything that is random or has a state of its own.
EVERYTHING: dict[str, object] = {
    "train.epochs": 3,
    "train.mixup": 0.4,
    "train.ema": 0.9,
    "train.accumulate": 2,
    "lora.dropout": 0.2,
    "model.head_dropout": 0.2,
    "data.sampling": "balanced",
    "data.shift": 0.1,
    "data.crop": 0.2,
    "data.color": 0.2,
    "data.flip": True,
}
STEPS = 9  # 24 clips in batches of 8, three epochs


class Stop(PlainReporter):
    """Stops a run after some steps, as a person at the keyboard does."""

    def __init__(self, after: int = 10**9) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.left = after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, step: Step) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def run_train(
    recipe: Path, shards: Path, out: Path, reporter: Stop, *, every_s: float, **changes: object
) -> Path:
    options = TrainOptions(shards=shards, out=out, device="cpu", save_every_s=every_s)
    settings = load_settings(str(recipe), {**EVERYTHING, **changes})[1]
    return train(settings, recipe="tiny", options=options, reporter=reporter)[0].path


def outcome(run: Path) -> dict[str, Any]:
    """What must be equal: the curve of every step, the weights, the result."""
    return {
        "steps": read_steps(run),
        "epochs": [
            {k: line[k] for k in ("epoch", "loss", "rec_loss", "train_top1", "val_loss", "best")}
            for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        ],
        "weights": (run / "model.safetensors").read_bytes(),
        "result": (run / "result.json").read_bytes(),
    }


@pytest.fixture(scope="module")
def uninterrupted(
    shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    from velora_helpers import TINY_RECIPE

    folder = tmp_path_factory.mktemp("whole")
    recipe = folder / "tiny.toml"
    recipe.write_text(TINY_RECIPE)
    run = run_train(recipe, shards, folder / "runs", Stop(), every_s=1e9)
    found = outcome(run)
    assert [line["step"] for line in found["steps"]] == list(range(1, STEPS + 1))
    return recipe, found


@pytest.mark.parametrize("every_s", [0.0, 1e9])
def test_stops_at_every_step_leave_the_curve_and_the_weights_bit_for_bit(
    uninterrupted: tuple[Path, dict[str, Any]], shards: Path, tmp_path: Path, every_s: float
) -> None:
    recipe, expected = uninterrupted
    stops = 0
    # With a state after every step each restart goes one step on; without, an epoch.
    while True:
        reporter = Stop(after=2 if every_s == 0 else 4)
        try:
            run = run_train(recipe, shards, tmp_path, reporter, every_s=every_s)
        except KeyboardInterrupt:
            stops += 1
            continue
        break

    assert stops == (STEPS - 1 if every_s == 0 else 2)
    assert outcome(run) == expected
    assert len(state_paths(run)) == 2


def test_a_damaged_state_is_named_and_the_one_before_it_taken(
    uninterrupted: tuple[Path, dict[str, Any]], shards: Path, tmp_path: Path
) -> None:
    recipe, expected = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        run_train(recipe, shards, tmp_path, Stop(after=6), every_s=0.0)
    (run,) = tmp_path.iterdir()
    newest, older = state_paths(run)
    assert [p.name for p in (newest, older)] == ["state-00000005.pt", "state-00000004.pt"]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    reporter = Stop()

    assert run_train(recipe, shards, tmp_path, reporter, every_s=0.0) == run

    assert any("state-00000005.pt is damaged" in n and "before it" in n for n in reporter.notes)
    assert "going on after epoch 1 and 1 steps" in reporter.notes
    assert outcome(run) == expected


def test_states_are_checked_byte_by_byte_and_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        save_state(tmp_path, {"tensors": {"a": torch.full((64,), float(step))}}, step=step)
    assert [path.name for path in state_paths(tmp_path)] == [
        "state-00000030.pt",
        "state-00000002.pt",
    ]
    newest = state_paths(tmp_path)[0]
    whole = newest.read_bytes()
    rng = np.random.default_rng(0)
    read = []
    for place in rng.integers(0, len(whole), 60):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        newest.write_bytes(data)
        state, damaged = load_state(tmp_path)
        assert state is not None
        read.append(float(state["tensors"]["a"][0]))
        # Either it is known to be damaged, or what was flipped holds no content.
        assert torch.equal(state["tensors"]["a"], torch.full((64,), 2.0 if damaged else 30.0))
    assert 2.0 in read

    newest.write_bytes(b"")
    state_paths(tmp_path)[1].write_bytes(whole[:-30])
    with pytest.raises(DamageError, match=r"no state .* is whole .*delete the state files"):
        load_state(tmp_path)


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    torch.save({"schema": 1}, tmp_path / "state-00000001.pt")

    with pytest.raises(SettingsError, match="schema 1, this version reads 3"):
        load_state(tmp_path)


def test_the_log_of_steps_drops_what_a_state_does_not_have_and_half_a_line(tmp_path: Path) -> None:
    log = StepLog(tmp_path, done=0)
    for step in (1, 2, 3):
        log.add({"step": step, "loss": 0.1 * step})
    log.close()
    with (tmp_path / "steps.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "lo')

    log = StepLog(tmp_path, done=2)
    log.add({"step": 3, "loss": 0.5})
    log.close()

    assert read_steps(tmp_path) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 0.2},
        {"step": 3, "loss": 0.5},
    ]


class Slow(Stop):
    """Takes its time over the first clips of an epoch."""

    def step(self, step: Step) -> None:
        if step.done == 8:
            time.sleep(1.0)
        super().step(step)


def seconds_of(run: Path) -> list[float]:
    return [json.loads(line)["seconds"] for line in (run / "metrics.jsonl").open()]


def test_the_seconds_of_an_epoch_are_those_of_all_of_it(
    uninterrupted: tuple[Path, dict[str, Any]], shards: Path, tmp_path: Path
) -> None:
    recipe, expected = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        run_train(recipe, shards, tmp_path, Slow(after=3), every_s=0.0)
    (folder,) = tmp_path.iterdir()
    kept = torch.load(state_paths(folder)[0], weights_only=True)["totals"]["seconds"]
    assert kept >= 1.0

    run = run_train(recipe, shards, tmp_path, Stop(), every_s=0.0)

    first, *others = seconds_of(run)
    assert first > kept
    # What came before is of its epoch alone.
    assert all(second < first for second in others)
    assert outcome(run) == expected


def test_a_state_without_seconds_is_gone_on_with(
    uninterrupted: tuple[Path, dict[str, Any]], shards: Path, tmp_path: Path
) -> None:
    recipe, expected = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        run_train(recipe, shards, tmp_path, Stop(after=3), every_s=0.0)
    (folder,) = tmp_path.iterdir()
    for path in state_paths(folder):
        state = torch.load(path, weights_only=True)
        del state["totals"]["seconds"]
        torch.save(state, path)

    run = run_train(recipe, shards, tmp_path, Stop(), every_s=0.0)

    assert outcome(run) == expected
    assert all(second > 0 for second in seconds_of(run))


DAMAGE = [
    b'{"NAME": 2, "loss',
    b"\x00" * 20,
    b"\xff\xfe",
    b"[2]",
    b'{"loss": 1}',
    b'{"NAME": "2"}',
    b"",
]


@pytest.mark.parametrize("line", DAMAGE)
@pytest.mark.parametrize(("name", "key"), [("steps.jsonl", "step"), ("metrics.jsonl", "epoch")])
def test_a_damaged_line_is_named_with_its_file_number_and_cure(
    tmp_path: Path, name: str, key: str, line: bytes
) -> None:
    good = [json.dumps({key: number}).encode() for number in (1, 2, 3)]
    damaged = [good[0], line.replace(b"NAME", key.encode()), good[2]]
    (tmp_path / name).write_bytes(b"\n".join(damaged) + b"\n")

    def read() -> list[dict[str, Any]]:
        return read_steps(tmp_path) if name == "steps.jsonl" else RunFolder(tmp_path).metrics()

    with pytest.raises(DamageError, match=rf"{name}, line 2: .*{key}.*delete the line"):
        read()
    (tmp_path / name).write_bytes(b"\n".join(good))
    assert read() == [{key: 1}, {key: 2}, {key: 3}]
    # What a kill cut off is no line.
    (tmp_path / name).write_bytes(b"\n".join(good)[:-2])
    assert read() == [{key: 1}, {key: 2}]


def test_a_run_with_a_damaged_line_ends_in_one_sentence(
    uninterrupted: tuple[Path, dict[str, Any]], shards: Path, tmp_path: Path
) -> None:
    recipe, _ = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        run_train(recipe, shards, tmp_path, Stop(after=5), every_s=0.0)
    (folder,) = tmp_path.iterdir()
    path = folder / "steps.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1][:9] + b"\n", *lines[2:]]))

    with pytest.raises(DamageError, match=r"steps\.jsonl, line 2: "):
        run_train(recipe, shards, tmp_path, Stop(), every_s=0.0)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    run = run_train(recipe, shards, tmp_path, Stop(), every_s=0.0)
    assert [step["step"] for step in read_steps(run)] == [1, *range(3, STEPS + 1)]


DRIVER = """
import json, sys
from pathlib import Path
from velora.config import load_settings
from velora.training.progress import PlainReporter
from velora.run import TrainOptions, train
recipe, shards, out, changes = sys.argv[1:]
options = TrainOptions(
    shards=shards, out=Path(out), name="killed", device="cpu", save_every_s=0.05
)
settings = load_settings(recipe, json.loads(changes))[1]
train(settings, recipe="tiny", options=options, reporter=PlainReporter())
"""


def tool(recipe: Path, shards: Path, out: Path, changes: dict[str, object]) -> list[str]:
    """Return the command as a user gives it; states at the ends of epochs only."""
    command = [sys.executable, "-c", "from velora.cli import train; train()"]
    command += ["--shards", str(shards), "--recipe", str(recipe), "--out", str(out)]
    command += ["--name", "killed", "--device", "cpu"]
    command += ["--epochs", str(changes["train.epochs"])]
    for key, value in changes.items():
        if key == "train.epochs":
            continue
        command += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return command


def driver(recipe: Path, shards: Path, out: Path, changes: dict[str, object]) -> list[str]:
    """Return a command that saves states within epochs, every 0.05 s."""
    return [sys.executable, "-c", DRIVER, str(recipe), str(shards), str(out), json.dumps(changes)]


def killed_and_gone_on(
    command: list[str], run: Path, moments: Sequence[int], rng: random.Random
) -> None:
    """Kill a run with SIGKILL about these steps, and finish it."""
    for moment in [*moments, None]:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while moment is not None and process.poll() is None:
            if len(read_steps(run)) >= moment:
                time.sleep(rng.random() * 0.03)  # within a step, a save, a validation
                process.kill()
                break
            time.sleep(0.002)
        _, err = process.communicate(timeout=240)
        assert process.returncode == (0 if moment is None else -signal.SIGKILL), err


def test_kill_9_in_the_middle_of_an_epoch_costs_no_bit(
    uninterrupted: tuple[Path, dict[str, Any]], shards: Path, tmp_path: Path
) -> None:
    recipe, expected = uninterrupted
    command = tool(recipe, shards, tmp_path, EVERYTHING)

    killed_and_gone_on(command, tmp_path / "killed", [5], random.Random(5))

    assert outcome(tmp_path / "killed") == expected


@pytest.mark.long
def test_kill_9_at_many_random_steps_costs_no_bit(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    rng = random.Random(int(os.environ.get("EVENTKIT_SEED", "0")))
    changes = {**EVERYTHING, "train.epochs": 40}
    moments = sorted(rng.sample(range(1, 110), 6))

    for folder, stops in (("killed", moments), ("whole", [])):
        out = tmp_path / folder
        killed_and_gone_on(driver(tiny_recipe, shards, out, changes), out / "killed", stops, rng)

    killed, whole = tmp_path / "killed" / "killed", tmp_path / "whole" / "killed"
    assert (killed / "steps.jsonl").read_bytes() == (whole / "steps.jsonl").read_bytes()
    assert outcome(killed) == outcome(whole)
