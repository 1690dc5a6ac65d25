"""What a run may do besides plain training: averages, early stops, precision, less memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eventkit.errors import SettingsError
from eventkit.shards import ShardSet
from velora.build import build_model
from velora.config import load_settings
from velora.data import ClipDataset, ClipLoader, describe
from velora.data.clip_frames import clip_frames
from velora.evaluate_run import evaluate_run
from velora.model.backbone import build_trunk
from velora.run import BF16_HINT, TrainOptions, train
from velora.training.checkpoint import RunFolder, kept_tensors
from velora.training.ema import MovingAverage
from velora.training.loaders import check_settings
from velora.training.precision import (
    autocast,
    deterministic,
    lower_frozen_weights,
    multiplies_bf16,
    plain_attention_,
)
from velora.training.progress import PlainReporter, Step
from velora.training.step_log import read_steps

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


class Told(PlainReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.steps: list[Step] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, step: Step) -> None:
        self.steps.append(step)


def run_train(
    recipe: Path,
    shards: Path,
    out: Path,
    *,
    options: dict[str, Any] | None = None,
    **changes: object,
) -> tuple[RunFolder, Told]:
    told = Told()
    run, _ = train(
        load_settings(str(recipe), {k.replace("__", "."): v for k, v in changes.items()})[1],
        recipe="tiny",
        options=TrainOptions(shards=shards, out=out, device="cpu", **(options or {})),
        reporter=told,
    )
    return run, told


def curve(run: RunFolder) -> list[float]:
    return [line["loss"] for line in read_steps(run.path)]


def test_an_average_follows_the_parameters_and_forgets_the_start_early() -> None:
    parameter = nn.Parameter(torch.tensor([100.0]))
    average = MovingAverage([parameter], decay=0.9)
    expected = 100.0
    for update, value in enumerate([1.0, 2.0, 3.0, 4.0] * 10, start=1):
        with torch.no_grad():
            parameter.fill_(value)
        average.update()
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value

    with average.applied():
        assert parameter.item() == pytest.approx(expected, rel=1e-5)
    assert parameter.item() == 4.0
    assert expected < 10


def test_the_average_is_what_is_evaluated_and_kept(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    plain, _ = run_train(tiny_recipe, shards, tmp_path / "a", train__epochs=4)
    averaged, _ = run_train(tiny_recipe, shards, tmp_path / "b", train__epochs=4, train__ema=0.5)

    # The average is beside the training, not in it.
    assert curve(averaged) == curve(plain)
    lines = [run.metrics() for run in (plain, averaged)]
    assert lines[0][-1]["val_loss"] != lines[1][-1]["val_loss"]
    state = torch.load(averaged.path / "state-00000012.pt", weights_only=True)
    kept = state["average"]["averages"]
    model, _ = build_model(averaged.read()[0], num_classes=3, device=CPU)
    assert averaged.load_weights(model) == 4
    saved = sorted(float(t.double().sum()) for t in kept_tensors(model).values())
    assert saved == pytest.approx(sorted(float(t.double().sum()) for t in kept))


def test_training_stops_after_epochs_without_a_better_val(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    still = {"train__lr": 1e-30, "train__weight_decay": 0.0, "train__epochs": 30}

    run, _ = run_train(tiny_recipe, shards, tmp_path, train__patience=2, **still)

    assert [line["epoch"] for line in run.metrics()] == [1, 2, 3]
    assert [line["best"] for line in run.metrics()] == [True, False, False]
    result = json.loads((run.path / "result.json").read_bytes())
    assert result["epoch"] == 1


def test_nothing_is_judged_by_the_test_split_where_there_is_no_val(
    make_shards: Any, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, _ = run_train(
        tiny_recipe,
        make_shards(val=0),
        tmp_path,
        train__patience=1,
        train__epochs=4,
        train__lr=1e-30,
    )

    assert len(run.metrics()) == 4
    assert json.loads((run.path / "result.json").read_bytes())["epoch"] == 4


def test_a_step_tells_of_accuracy_waiting_and_memory(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, told = run_train(tiny_recipe, shards, tmp_path)

    last = told.steps[-1]
    assert last.top1 == run.metrics()[-1]["train_top1"]
    assert last.best_val == run.metrics()[0]["val_top1"]
    assert 0 <= last.wait_share <= 1
    assert last.memory_bytes > 50 * 2**20
    lines = read_steps(run.path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["grad_norm"] > 0 and line["clips"] == 8 for line in lines)
    mean = np.mean([line["loss"] for line in lines[3:]])
    assert mean == pytest.approx(run.metrics()[1]["loss"])


def test_tensorboard_gets_the_curves_of_the_epochs(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = run_train(tiny_recipe, shards, tmp_path, options={"tensorboard": True})

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [
        (line["epoch"], pytest.approx(line["loss"], rel=1e-6)) for line in run.metrics()
    ]


def test_frozen_weights_in_bf16_give_the_bits_of_autocast(shards: Path, tiny_recipe: Path) -> None:
    settings = load_settings(str(tiny_recipe), {})[1]
    opened = ShardSet.open(shards)
    dataset = ClipDataset(opened, "val", spec=describe(opened))
    (batch,) = ClipLoader(dataset, batch_size=6).epoch(senses=("rgb", "event"))
    model, _ = build_model(settings, num_classes=3, device=CPU)
    model.eval()
    frames = clip_frames(batch, events=dataset.event_input, size_hw=model.image_size_hw, device=CPU)

    def logits() -> torch.Tensor:
        with torch.no_grad(), autocast(CPU, bf16=True):
            return model(frames).logits

    before = logits()
    saved = lower_frozen_weights(model)

    frozen = sum(
        m.weight.numel()
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.Conv2d) and not m.weight.requires_grad
    )
    assert saved > 0.9 * 2 * 100_000
    assert frozen * 2 >= saved
    assert torch.equal(logits(), before)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_a_run_in_bf16_follows_the_curve_of_fp32(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    wide, _ = run_train(tiny_recipe, shards, tmp_path, train__epochs=3)
    narrow, told = run_train(
        tiny_recipe, shards, tmp_path, train__epochs=3, train__precision="bf16"
    )

    assert any("in bf16" in note for note in told.notes)
    assert not any(note == BF16_HINT for note in told.notes)
    assert curve(narrow) != curve(wide)
    np.testing.assert_allclose(curve(narrow), curve(wide), rtol=0.05)


def test_a_run_in_bf16_is_evaluated_again_to_the_bit(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, _ = run_train(tiny_recipe, shards, tmp_path, train__epochs=1, train__precision="bf16")

    written, _, _ = evaluate_run(
        run.path, shards_path=shards, device_name="cpu", reporter=PlainReporter()
    )

    first, again = (json.loads(path.read_bytes()) for path in (run.path / "result.json", written))
    assert again["scores"] == first["scores"]
    before, after = (
        (run.path / name).read_text()
        for name in ("predictions.csv", f"{written.stem}-predictions.csv")
    )
    assert after == before


def test_a_processor_that_is_fast_in_bf16_is_told_of(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    _, told = run_train(tiny_recipe, shards, tmp_path)

    assert (BF16_HINT in told.notes) == multiplies_bf16()


def test_plain_attention_gives_what_the_fused_kernel_does() -> None:
    trunk, _ = build_trunk("vit_tiny_patch16_224", num_high=1, random_seed=0, img_size=32)
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        before = trunk.vit(pictures)
        plain_attention_(trunk.vit)
        after = trunk.vit(pictures)

    assert not any(block.attn.fused_attn for block in trunk.vit.blocks)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_recomputing_in_the_backward_pass_changes_no_curve(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    plain, _ = run_train(tiny_recipe, shards, tmp_path / "a", lora__dropout=0.2)
    recomputed, _ = run_train(
        tiny_recipe, shards, tmp_path / "b", options={"checkpointing": True}, lora__dropout=0.2
    )

    np.testing.assert_allclose(curve(recomputed), curve(plain), rtol=1e-5)


def test_a_deterministic_run_lets_torch_use_nothing_else_and_puts_that_back(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    class Look(Told):
        def step(self, step: Step) -> None:
            super().step(step)
            assert torch.are_deterministic_algorithms_enabled()

    settings = load_settings(str(tiny_recipe), {})[1]
    look = Look()

    train(
        settings,
        recipe="tiny",
        options=TrainOptions(shards=shards, out=tmp_path, device="cpu", deterministic=True),
        reporter=look,
    )

    assert look.steps
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError), deterministic(wanted=True):
        raise RuntimeError
    assert not torch.are_deterministic_algorithms_enabled()


LIMITED = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from velora.cli import train
import velora.run, velora.scoring.evaluate
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv.pop(1)) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
train()
"""


def limited(megabytes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(megabytes), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_where_memory_runs_out_the_largest_batch_that_fits_is_named(
    make_shards: Any, tiny_recipe: Path, tmp_path: Path
) -> None:
    # 24 clips of 7 + 8 + 6 pictures with 577 tokens of 48 numbers: far more than 500 MB.
    done = limited(
        500,
        *("--shards", make_shards(train=24, val=0, test=6), "--recipe", tiny_recipe),
        *("--img-size", "384", "--batch-size", "24", "--device", "cpu", "--num-workers", "0"),
        *("--out", tmp_path / "runs"),
    )

    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "out of memory with 24 clips at once; the largest batch that fits is" in line
    fits = int(line.partition("that fits is ")[2].partition(":")[0])
    assert 1 <= fits <= 23
    assert f"train.accumulate={-(-24 // fits)}" in line


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_the_batch_that_fits_does_so_in_later_steps_with_the_moments_of_adamw(
    make_shards: Any, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is one of addresses: what is freed must count no longer.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**20))
    # The whole trunk trains: 85 MB of gradients and 170 MB of moments, of 1000 in all.
    wide = "model.backbone_kwargs={patch_size=16,depth=3,embed_dim=768,num_heads=12}"
    command = (
        *("--shards", make_shards(train=48, val=0, test=6), "--recipe", tiny_recipe),
        *("--img-size", "128", "--epochs", "1", "--device", "cpu", "--num-workers", "0"),
        *("--out", tmp_path / "runs", "--set", wide, "--set", "model.tuning=full"),
    )

    refused = limited(1000, *command, "--batch-size", "24")

    assert refused.returncode == 2, refused.stderr
    fits = int(refused.stderr.partition("that fits is ")[2].partition(":")[0])
    assert 2 <= fits <= 23
    parts = re.findall(r"train\.accumulate=\d+", refused.stderr)
    for advice in (["--batch-size", str(fits)], ["--batch-size", "24", "--set", *parts]):
        taken = limited(1000, *command, *advice)
        assert taken.returncode == 0, taken.stderr
        steps = [read_steps(run) for run in (tmp_path / "runs").iterdir()]
        assert max(map(len, steps)) >= 2


def test_two_cures_for_uneven_classes_are_one_too_many(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    both = {"data__sampling": "balanced", "train__class_weights": "balanced"}

    with pytest.raises(SettingsError, match=r"data\.sampling.*train\.class_weights.*twice.*none"):
        run_train(tiny_recipe, shards, tmp_path, **both)
    # Before anything is written, and whatever makes the differences.
    assert not list(tmp_path.glob("tiny-*"))
    with pytest.raises(SettingsError, match="twice"):
        check_settings(
            load_settings(
                str(tiny_recipe),
                {k.replace("__", "."): v for k, v in both.items()} | {"data.diff": "stored"},
            )[1]
        )


COMPILED = """
import sys
from pathlib import Path
import torch._inductor.config as inductor
from eventkit.cli.run import exit_codes
from velora.config import load_settings
from velora.training.progress import PlainReporter
from velora.run import TrainOptions, train
inductor.cpp.cxx = ("/nonexistent/g++",)
inductor.fx_graph_cache = False
recipe, shards, out = sys.argv[1:]
options = TrainOptions(shards=shards, out=Path(out), device="cpu", compile=True)
with exit_codes():
    settings = load_settings(recipe)[1]
    train(settings, recipe="tiny", options=options, reporter=PlainReporter())
"""


@pytest.mark.long
def test_a_compiler_that_fails_is_one_sentence(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    # In a process of its own: torch remembers for good that there is no compiler.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(tiny_recipe), str(shards), str(tmp_path / "runs")],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: torch.compile failed (InvalidCxxCompiler")
    assert last.endswith("leave --compile out")
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_compiled_run_follows_the_curve_of_a_plain_one(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    torch._dynamo.reset()
    plain, _ = run_train(tiny_recipe, shards, tmp_path / "a", lora__dropout=0.0)
    compiled, _ = run_train(
        tiny_recipe, shards, tmp_path / "b", options={"compile": True}, lora__dropout=0.0
    )

    np.testing.assert_allclose(curve(compiled), curve(plain), rtol=1e-3)
