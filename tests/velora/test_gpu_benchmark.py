"""`benchmarks/gpu.py`: what it prints for the smallest shape, and what it says without a GPU."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
BACKBONE, SIDE, PATCH = "velora_tiny", 40, 8
DEPTH, HIGH, WIDTH, HIDDEN, RANK, CLASSES = 6, 2, 192, 768, 4, 114
FRAMES = 2
IMAGES = 2 * FRAMES + FRAMES - 1
SHAPE = (
    *("--device", "cpu", "--backbone", BACKBONE, "--img-size", str(SIDE)),
    *("--frames", str(FRAMES), "--clips", "1", "--rounds", "1", "--workers", "1"),
)
needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="three of the rows are PEFT's"
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("gpu")


def setup_of(gpu: ModuleType, *words: str) -> Any:
    return gpu.parse([*SHAPE, *words])


def run(*command: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent)}
    return subprocess.run(
        [sys.executable, *command], env=env, capture_output=True, text=True, timeout=120
    )


def cells(printed: str, row: str, *, after: str) -> list[float]:
    """The numbers of the first row of this name that stands behind a heading."""
    (line, *_) = re.findall(rf"^\| {row} \|(.*)\|$", printed.split(after)[1], re.MULTILINE)
    return [float(cell.strip().rstrip("x")) for cell in line.split("|")]


def by_hand() -> int:
    """FLOPs of an evaluation of a clip: two for each multiplication in a matrix product."""
    tokens = (SIDE // PATCH) ** 2 + 1

    def block(rows: int, tokens: int, adapters: int) -> int:
        linear = 4 * WIDTH**2 + 2 * WIDTH * HIDDEN
        low_rank = adapters * 2 * RANK * (WIDTH + HIDDEN)
        return 2 * rows * tokens * (linear + low_rank + 2 * tokens * WIDTH)

    patches = 2 * IMAGES * (tokens - 1) * 3 * PATCH**2 * WIDTH
    # Every image goes through the adapters of all three streams, and what is not its own is masked.
    low = (DEPTH - HIGH) * block(IMAGES, tokens, adapters=3)
    mean = 2 * IMAGES * tokens * WIDTH
    high = HIGH * block(1, 3 * tokens, adapters=1)
    head = 2 * 3 * 2 * WIDTH * CLASSES
    return patches + low + mean + high + head


def with_plain_attention(model: nn.Module, call: Any) -> int:
    """FLOPs by torch's counter where timm multiplies queries and keys by itself."""
    fused = [m for m in model.modules() if isinstance(getattr(m, "fused_attn", None), bool)]
    assert fused
    for module in fused:
        module.fused_attn = False
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def test_flops_of_an_evaluation_are_those_counted_by_hand(gpu: ModuleType) -> None:
    row = gpu.variants(setup_of(gpu))["VELoRA"](1)

    assert gpu.flops_of(row.evaluate) == by_hand()


@needs_peft
@pytest.mark.parametrize("name", ["VELoRA", "three PEFT copies", "released loop, fp32"])
def test_flops_of_a_step_hold_attention(gpu: ModuleType, name: str) -> None:
    row = gpu.variants(setup_of(gpu))[name](1)
    counted = gpu.flops_of(row.step)

    plain = with_plain_attention(row.model, row.step)

    assert counted == pytest.approx(plain, rel=1e-3)


def test_flops_of_a_clip_do_not_depend_on_their_number(gpu: ModuleType) -> None:
    rows = [gpu.variants(setup_of(gpu))["VELoRA"](clips) for clips in (1, 3)]

    one, three = (gpu.flops_of(row.step) for row in rows)

    assert three == pytest.approx(3 * one, rel=1e-3)


def frozen_linear_types(model: nn.Module) -> set[torch.dtype]:
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return {m.weight.dtype for m in linears if not m.weight.requires_grad}


@needs_peft
def test_in_bf16_frozen_weights_are_in_bf16_as_in_a_run_and_the_loop_stays_in_fp32(
    gpu: ModuleType,
) -> None:
    rows = gpu.variants(setup_of(gpu, "--precision", "bf16"))
    loop = rows.pop("released loop, fp32")(1)

    assert frozen_linear_types(loop.model) == {torch.float32}
    assert not loop.bf16
    for make in rows.values():
        row = make(1)
        assert row.bf16
        assert frozen_linear_types(row.model) == {torch.bfloat16}
        assert {p.dtype for p in row.model.parameters() if p.requires_grad} == {torch.float32}
        row.step()


@needs_peft
@pytest.mark.timeout(120)
def test_every_section_is_printed() -> None:
    # The other clips of the loader's table take 20 s.
    done = run("-c", "import feed, gpu; feed.CASES = feed.CASES[:1]; gpu.main()", *SHAPE)

    assert done.returncode == 0, done.stderr
    headings = ["## Counts", "## Speed of training", "## Loader beside training"]
    assert [line.split(",")[0] for line in done.stdout.splitlines() if line[:2] == "##"] == headings
    step, evaluation, ratio, kept = cells(done.stdout, "VELoRA", after="## Counts")
    assert evaluation == pytest.approx(by_hand() / 1e9, rel=1e-3)
    assert ratio == pytest.approx(step / evaluation, rel=1e-2)
    assert kept > 0
    rows = ["released loop, fp32", "three PEFT copies", "VELoRA"]
    rates = {row: cells(done.stdout, row, after="## Speed") for row in rows}
    for column, row in enumerate(rows[:2], start=1):
        assert rates[row][column] == 1
        beside = rates["VELoRA"][0] / rates[row][0]
        assert rates["VELoRA"][column] == pytest.approx(beside, rel=0.05)
    assert re.search(r"^evaluation beside training: \d+\.\d\dx$", done.stdout, re.MULTILINE)
    assert re.search(r"matmul: .* utilisation \d+\.\d%$", done.stdout, re.MULTILINE)
    assert "as many pictures as" in done.stdout  # the loader's clips have 8 frames


@needs_peft
def test_counts_alone(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main([*SHAPE, "--count-only"])

    printed = capsys.readouterr().out
    assert "## Counts" in printed
    assert "## Speed" not in printed
    assert "## Loader" not in printed


def test_without_a_gpu_cuda_is_refused_in_one_sentence() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")

    done = run(str(SCRIPT), "--device", "cuda")

    assert done.returncode != 0
    assert done.stderr == "error: no CUDA device is to be had here; use --device cpu\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--frames", "1"), "--frames: expected at least 2, got 1"),
        (("--clips", "0"), "--clips: expected at least 1, got 0"),
        (("--backbone", "velora_tinny"), "error: neither timm nor this package has"),
    ],
)
def test_bad_options_are_refused(
    gpu: ModuleType, capsys: pytest.CaptureFixture[str], words: tuple[str, str], said: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        gpu.main([*SHAPE, *words])

    assert stopped.value.code
    assert said in capsys.readouterr().err + str(stopped.value.code)


def test_what_was_counted_is_compiled_afterwards(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    plain = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **options: plain(self, backend=backend, **options)
    )
    variants = importlib.import_module("velora_variants")
    make = functools.partial(variants.velora_row, setup_of(gpu), compiled=True, upper_half=True)

    gpu.tell_counts({gpu.UPPER_HALF: make})
    assert not graphs
    make(1).step()

    assert graphs
