"""Speed and memory of training, on a GPU or a CPU, with random values and no data files.

    python benchmarks/gpu.py                      a GPU where there is one; under 10 minutes
    python benchmarks/gpu.py --device cpu         the same ratios on a CPU, with two small clips

Rows are called in turns and compared within a round. FLOPs are those of the model that runs,
counted by torch; utilisation is against the bf16 matmul rate measured on the same device. The last
table is what the loader gives (`feed.py`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import common  # noqa: F401  (first: one thread, or spinning ones cost a factor of ten)
import torch
from feed import tell_feed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from velora_variants import PeftCopies, ReleasedLoop, frames_of, streams_of

from velora.model.backbone import build_trunk
from velora.model.classifier import Output
from velora.model.paper import VELoRA
from velora.settings import LoraSettings, ModelSettings

CLASSES = 114
# What goes beyond the plain method.
HALF_OF_THE_PATCHES = "half of the patches"
UPPER_HALF = "adapters in the upper half"


@dataclass(frozen=True)
class Setup:
    """What is measured."""

    device: torch.device
    backbone: str
    img_size: int | None
    clips: int
    loop_clips: int
    frames: int
    rounds: int
    workers: tuple[int, ...]

    def clips_of(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random RGB and event pictures (count, T, 3, H, W) and labels."""
        side = self.img_size or 224
        generator = torch.Generator().manual_seed(0)
        shape = (count, self.frames, 3, side, side)
        rgb, event = (torch.rand(shape, generator=generator).to(self.device) for _ in range(2))
        return rgb, event, torch.arange(count, device=self.device) % CLASSES

    def trunk(self) -> Any:
        """The trunk with random values."""
        size = {} if self.img_size is None else {"img_size": self.img_size}
        return build_trunk(self.backbone, num_high=2, random_seed=0, **size)[0]


class Trainer:
    """One variant with its optimiser and a batch."""

    def __init__(self, model: nn.Module, give: Callable[[], Any], labels: Tensor, *, bf16: bool):
        self.model = model.train()
        self.give = give
        self.labels = labels
        self.bf16 = bf16
        trains = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trains, lr=1e-4, fused=labels.is_cuda)

    def loss(self) -> Tensor:
        """The loss of the batch."""
        with torch.autocast(self.labels.device.type, torch.bfloat16, enabled=self.bf16):
            output: Output = self.model(self.give())
        assert output.rec_loss is not None
        return F.cross_entropy(output.logits.float(), self.labels) + output.rec_loss

    def step(self) -> None:
        """One update."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.loss())
        self.optimizer.step()

    @torch.no_grad()
    def evaluate(self) -> None:
        """The logits of the batch."""
        self.model.eval()
        with torch.autocast(self.labels.device.type, torch.bfloat16, enabled=self.bf16):
            self.model(self.give())
        self.model.train()


def main() -> None:
    """Measure and print."""
    setup = parse()
    print(f"# {name_of(setup.device)}, torch {torch.__version__}, {setup}")
    bf16 = setup.device.type == "cuda"
    rows = variants(setup, bf16=bf16)
    times = measure({name: row.step for name, row in rows.items()}, setup)
    rates = {name: len(rows[name].labels) / t for name, t in times.items()}
    for name, rate in rates.items():
        print(f"{name:<34} {rate:9.2f} clips/s")
    ours = "VELoRA, compiled" if "VELoRA, compiled" in rates else "VELoRA"
    print(f"beside the released loop: {rates[ours] / rates['released loop, fp32']:.2f}x")
    print(f"beside three PEFT copies: {rates[ours] / rates['three PEFT copies']:.2f}x")
    for name in (HALF_OF_THE_PATCHES, UPPER_HALF):
        print(f"{name} beside all: {rates[name] / rates[ours]:.2f}x")
    evaluation = measure({"evaluate": rows["VELoRA"].evaluate}, setup)["evaluate"]
    ratio = setup.clips / evaluation / rates["VELoRA"]
    print(f"evaluation beside training: {ratio:.2f}x")
    tell_utilisation(rows["VELoRA"], setup, rates[ours], bf16=bf16)
    tell_memory(rows["VELoRA"], setup)
    pin = setup.device.type == "cuda"
    tell_feed(rates[ours], workers=setup.workers, rounds=setup.rounds, pin=pin)


def variants(setup: Setup, *, bf16: bool) -> dict[str, Trainer]:
    """Build the rows."""
    rgb, event, labels = setup.clips_of(setup.clips)
    few = setup.loop_clips
    copies = PeftCopies(setup.trunk(), num_classes=CLASSES).to(setup.device)
    loop = ReleasedLoop(setup.trunk(), num_classes=CLASSES).to(setup.device)
    rows = {
        "released loop, fp32": Trainer(
            loop, lambda: streams_of(rgb[:few], event[:few]), labels[:few], bf16=False
        ),
        "three PEFT copies": Trainer(copies, lambda: streams_of(rgb, event), labels, bf16=bf16),
        "VELoRA": velora_row(setup, bf16=bf16, compiled=False),
    }
    compiled = setup.device.type == "cuda"
    if compiled:
        rows["VELoRA, compiled"] = velora_row(setup, bf16=bf16, compiled=True)
    settings = ModelSettings(keep_tokens=0.5)
    rows[HALF_OF_THE_PATCHES] = velora_row(setup, bf16=bf16, compiled=compiled, settings=settings)
    plain: Any = rows["VELoRA"].model
    lora = LoraSettings(skip_blocks=len(plain.trunk.vit.blocks) // 2)
    rows[UPPER_HALF] = velora_row(setup, bf16=bf16, compiled=compiled, lora=lora)
    return rows


def velora_row(
    setup: Setup,
    *,
    bf16: bool,
    compiled: bool,
    settings: ModelSettings | None = None,
    lora: LoraSettings | None = None,
) -> Trainer:
    """VELoRA's own training step."""
    rgb, event, labels = setup.clips_of(setup.clips)
    model = VELoRA(
        setup.trunk(),
        num_classes=CLASSES,
        settings=settings or ModelSettings(),
        lora=lora or LoraSettings(),
    ).to(setup.device)
    if compiled:
        model.compile_blocks()
    return Trainer(model, lambda: frames_of(rgb, event), labels, bf16=bf16)


def measure(rows: dict[str, Callable[[], None]], setup: Setup) -> dict[str, float]:
    """Median seconds of every row over the rounds, each round calling all of them."""
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
    return {name: statistics.median(times) for name, times in seconds.items()}


def tell_utilisation(row: Trainer, setup: Setup, rate: float, *, bf16: bool) -> None:
    """Print the FLOPs of a training step and the share of the matmul rate that they get."""
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(row.loss())
    flops = counter.get_total_flops() / setup.clips
    with FlopCounterMode(display=False) as counter:
        row.evaluate()
    forward = counter.get_total_flops() / setup.clips
    dtype = torch.bfloat16 if bf16 else torch.float32
    limit = matmul_rate(setup.device, dtype)
    print(
        f"a training step counts {flops / 1e9:.1f} GFLOP a clip, {flops / forward:.2f} times an "
        "evaluation"
    )
    print(f"{dtype} matmul: {limit / 1e12:.3f} TFLOP/s; utilisation {rate * flops / limit:.1%}")


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


def tell_memory(row: Trainer, setup: Setup) -> None:
    """Print what a step holds: measured on a GPU, counted from the saved tensors everywhere."""
    held: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in row.model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        torch.autograd.backward(row.loss())
    kept = sum(held.values()) / setup.clips
    print(f"tensors kept for the backward pass: {kept / 2**20:.0f} MiB a clip")
    if setup.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        row.step()
        peak = torch.cuda.max_memory_allocated() / 1e9
        print(f"peak of a step of {setup.clips} clips (all rows loaded): {peak:.1f} GB")


def wait(device: torch.device) -> None:
    """Let the device finish."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def name_of(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def parse() -> Setup:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backbone", default="vit_base_patch16_clip_quickgelu_224.openai")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--clips", type=int)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2, 4))
    args = parser.parse_args()
    device = torch.device(args.device)
    clips = args.clips or (16 if device.type == "cuda" else 2)
    return Setup(
        device=device,
        backbone=args.backbone,
        img_size=args.img_size,
        clips=clips,
        loop_clips=min(clips, 2),
        frames=args.frames,
        rounds=args.rounds,
        workers=tuple(args.workers),
    )


if __name__ == "__main__":
    main()
