"""Speed and memory of training, on a GPU or a CPU, with random values and no data files.

    python benchmarks/gpu.py                      a GPU where there is one; under 10 minutes
    python benchmarks/gpu.py --device cpu         the same ratios on a CPU, with two small clips
    python benchmarks/gpu.py --count-only         FLOPs and kept tensors alone, which need no speed

Rows are called in turns and compared within a round. FLOPs are those of the model that runs,
counted by torch; utilisation is against the matmul rate measured on the same device in the same
precision. In bf16, which a GPU gets, VELoRA keeps its frozen matrices in bf16 as a run does, and so
do PEFT's copies; the released loop stays in fp32. The last table is what the loader gives
(`feed.py`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import common  # noqa: F401  (first: one thread, or spinning ones cost a factor of ten)
import torch
from feed import BINS, tell_feed
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from velora_variants import (
    COMPILED,
    COPIES,
    HALF_OF_THE_PATCHES,
    LOOP,
    PLAIN,
    UPPER_HALF,
    Make,
    Setup,
    Trainer,
    variants,
)

from eventkit.errors import EventKitError
from velora.build import choose_device
from velora.settings import TrainSettings
from velora.training.precision import uses_bf16

EVALUATION = "evaluation"


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print; without a device or a trunk that fits, say so and end."""
    try:
        tell(parse(words))
    except EventKitError as error:
        sys.exit(f"error: {error}")


def tell(setup: Setup) -> None:
    """Measure and print."""
    print(f"# {name_of(setup.device)}, torch {torch.__version__}, {setup}")
    makes = variants(setup)
    # Before the others are there: counts and peak are of one model alone.
    flops = tell_counts(makes)
    if setup.count_only:
        return
    if setup.device.type == "cuda":
        tell_peak(makes[PLAIN](setup.clips), setup)
    rate = tell_speed(makes, setup, flops)
    if setup.frames != BINS:
        alike = rate * setup.frames / BINS
        print(
            f"\n{rate:.2f} clips/s of {setup.frames} frames are as many pictures as {alike:.2f} of "
            f"{BINS}, which the loader's clips have"
        )
        rate = alike
    pin = setup.device.type == "cuda"
    tell_feed(rate, workers=setup.workers, rounds=setup.rounds, pin=pin)


def tell_counts(makes: dict[str, Make]) -> dict[str, int]:
    """Print the FLOPs of a clip and the bytes kept for its backward pass; returns those of a step.

    One clip is enough, as both grow with their number. What is compiled counts as it did before.
    Nothing is compiled here: dynamo, which cannot under a counter, would leave it so for good.
    """
    print("\n## Counts, of one clip\n")
    print(
        "| model | GFLOP of a training step | of an evaluation | step / evaluation "
        "| MiB kept for the backward pass |\n|---|---|---|---|---|"
    )
    steps: dict[str, int] = {}
    for name, make in makes.items():
        if name == COMPILED:
            steps[name] = steps[PLAIN]
            continue
        row = make(1)
        with torch.compiler.set_stance("force_eager"):
            step, evaluation = flops_of(row.step), flops_of(row.evaluate)
            kept = kept_bytes(row)
        print(
            f"| {name} | {step / 1e9:.5g} | {evaluation / 1e9:.5g} | {step / evaluation:.2f} "
            f"| {kept / 2**20:.4g} |",
            flush=True,
        )
        steps[name] = step
    return steps


def flops_of(call: Callable[[], None]) -> int:
    """FLOPs of a call by torch's counter, with attention as the plain products that it is.

    The counter has no formula for the fused kernel of a CPU, and of CUDA's it counts also what the
    backward pass computes a second time. Plain products count alike everywhere.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def kept_bytes(row: Trainer) -> int:
    """Bytes of the tensors that a step keeps for its backward pass, weights left out."""
    held: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in row.model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # Held until all is noted: freed memory would be given out again under the same address.
        loss = row.loss()
    del loss
    return sum(held.values())


def tell_peak(row: Trainer, setup: Setup) -> None:
    """Print the peak of a step on a GPU that holds no other model."""
    row.step()  # makes the optimiser's moments
    torch.cuda.reset_peak_memory_stats(setup.device)
    row.step()
    peak = torch.cuda.max_memory_allocated(setup.device) / 1e9
    print(
        f"\npeak of a step of {setup.clips} clips: {peak:.1f} GB (VELoRA alone on the device, not "
        "compiled, without checkpointing; weights, batch and optimiser included)"
    )


def tell_speed(makes: dict[str, Make], setup: Setup, flops: dict[str, int]) -> float:
    """Print clips/s, their ratios and the utilisation; returns the clips/s of VELoRA."""
    rows = {n: make(setup.loop_clips if n == LOOP else setup.clips) for n, make in makes.items()}
    calls = {name: row.step for name, row in rows.items()}
    seconds = measure(calls | {EVALUATION: rows[PLAIN].evaluate}, setup)
    clips = {name: len(row.labels) for name, row in rows.items()} | {EVALUATION: setup.clips}
    # Clips/s of every round, so that rows are compared within one.
    rates = {name: [clips[name] / s for s in spent] for name, spent in seconds.items()}
    print(
        f"\n## Speed of training, medians of {setup.rounds} rounds\n\n"
        "| row | clips/s | beside the released loop | beside three PEFT copies |\n|---|---|---|---|"
    )
    for name in rows:
        beside = " | ".join(f"{ratio(rates, name, other):.2f}x" for other in (LOOP, COPIES))
        print(f"| {name} | {statistics.median(rates[name]):.4g} | {beside} |")
    ours = COMPILED if COMPILED in rows else PLAIN
    print()
    for name in (HALF_OF_THE_PATCHES, UPPER_HALF):
        print(f"{name} beside all: {ratio(rates, name, ours):.2f}x")
    print(f"evaluation beside training: {ratio(rates, EVALUATION, PLAIN):.2f}x")
    rate = statistics.median(rates[ours])
    dtype = torch.bfloat16 if setup.bf16 else torch.float32
    limit = matmul_rate(setup.device, dtype)
    share = rate * flops[ours] / limit
    print(f"{dtype} matmul: {limit / 1e12:.3f} TFLOP/s; utilisation {share:.1%}")
    return rate


def ratio(rates: dict[str, list[float]], name: str, other: str) -> float:
    """The median over rounds of what one row does beside another."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True))


def measure(rows: dict[str, Callable[[], None]], setup: Setup) -> dict[str, list[float]]:
    """Seconds of every row in every round, each round calling all of them."""
    for call in rows.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(setup.rounds):
        for name, call in rows.items():
            wait(setup.device)
            start = time.perf_counter()
            call()
            wait(setup.device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matmul that fills the device, the best of ten."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        wait(device)
        start = time.perf_counter()
        torch.mm(a, b)
        wait(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def wait(device: torch.device) -> None:
    """Let the device finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def name_of(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}"


def at_least(least: int, word: str) -> int:
    """A whole number of the command line."""
    if int(word) < least:
        msg = f"expected at least {least}, got {word}"
        raise argparse.ArgumentTypeError(msg)
    return int(word)


def parse(words: Sequence[str] | None = None) -> Setup:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    one, two = partial(at_least, 1), partial(at_least, 2)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--backbone", default="vit_base_patch16_clip_quickgelu_224.openai")
    parser.add_argument("--img-size", type=one)
    parser.add_argument("--clips", type=one)
    parser.add_argument("--frames", type=two, default=BINS)
    parser.add_argument("--rounds", type=one, default=3)
    parser.add_argument("--workers", type=one, nargs="+", default=(1, 2, 4))
    parser.add_argument("--count-only", action="store_true", help="FLOPs and kept tensors alone")
    args = parser.parse_args(words)
    device = choose_device(args.device)
    clips = args.clips or (16 if device.type == "cuda" else 2)
    return Setup(
        device=device,
        bf16=uses_bf16(device, TrainSettings(precision=args.precision)),
        backbone=args.backbone,
        img_size=args.img_size,
        clips=clips,
        loop_clips=min(clips, 2),
        frames=args.frames,
        rounds=args.rounds,
        workers=tuple(args.workers),
        count_only=args.count_only,
    )


if __name__ == "__main__":
    main()
