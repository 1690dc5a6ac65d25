"""The rows of `gpu.py`: the released computation, three copies that PEFT adapts, and VELoRA.

The first two hold weights of their own for each stream, as the release does. Only the cost of a
training step matters here; that ours computes the same as PEFT's copies is tested, not timed.

    B clips, T frames, N tokens, D width, C classes
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from velora.frames.frames import Frames
from velora.model.backbone import build_trunk
from velora.model.classifier import Output
from velora.model.paper import VELoRA
from velora.model.trunk import Trunk
from velora.settings import LoraSettings, ModelSettings
from velora.training.precision import autocast, prepare_

STREAMS = ("rgb", "event", "diff")


CLASSES = 114
LOOP = "released loop, fp32"
COPIES = "three PEFT copies"
PLAIN = "VELoRA"
COMPILED = "VELoRA, compiled"
# What goes beyond the plain method.
HALF_OF_THE_PATCHES = "half of the patches"
UPPER_HALF = "adapters in the upper half"


@dataclass(frozen=True)
class Setup:
    """What is measured."""

    device: torch.device
    bf16: bool
    backbone: str
    img_size: int | None
    clips: int
    loop_clips: int
    frames: int
    rounds: int
    workers: tuple[int, ...]
    count_only: bool

    def trunk(self) -> Trunk:
        """The trunk with random values."""
        return build_trunk(self.backbone, num_high=2, random_seed=0, img_size=self.img_size)[0]

    def clips_for(self, trunk: Trunk, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random RGB and event pictures (count, T, 3, H, W) and labels."""
        generator = torch.Generator().manual_seed(0)
        shape = (count, self.frames, 3, *trunk.image_size_hw)
        rgb, event = (torch.rand(shape, generator=generator).to(self.device) for _ in range(2))
        return rgb, event, torch.arange(count, device=self.device) % CLASSES


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
        with autocast(self.labels.device, bf16=self.bf16):
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
        with autocast(self.labels.device, bf16=self.bf16):
            self.model(self.give())
        self.model.train()


Make = Callable[[int], Trainer]
"""Gives a variant with a batch of so many clips."""


def variants(setup: Setup) -> dict[str, Make]:
    """The makers of the rows; none is built yet."""
    compiled = setup.device.type == "cuda"
    makes: dict[str, Make] = {
        LOOP: partial(loop_row, setup),
        COPIES: partial(copies_row, setup),
        PLAIN: partial(velora_row, setup, compiled=False),
    }
    if compiled:
        makes[COMPILED] = partial(velora_row, setup, compiled=True)
    half = ModelSettings(keep_tokens=0.5)
    makes[HALF_OF_THE_PATCHES] = partial(velora_row, setup, compiled=compiled, settings=half)
    makes[UPPER_HALF] = partial(velora_row, setup, compiled=compiled, upper_half=True)
    return makes


def loop_row(setup: Setup, clips: int) -> Trainer:
    """The released loop, which always computes in fp32."""
    trunk = setup.trunk()
    rgb, event, labels = setup.clips_for(trunk, clips)
    model = ReleasedLoop(trunk, num_classes=CLASSES).to(setup.device)
    return Trainer(model, lambda: streams_of(rgb, event), labels, bf16=False)


def copies_row(setup: Setup, clips: int) -> Trainer:
    """Three copies that PEFT adapts, with the same numbers as VELoRA."""
    trunk = setup.trunk()
    rgb, event, labels = setup.clips_for(trunk, clips)
    model = PeftCopies(trunk, num_classes=CLASSES).to(setup.device)
    prepare_(model, setup.device, bf16=setup.bf16)
    return Trainer(model, lambda: streams_of(rgb, event), labels, bf16=setup.bf16)


def velora_row(
    setup: Setup,
    clips: int,
    *,
    compiled: bool,
    settings: ModelSettings | None = None,
    upper_half: bool = False,
) -> Trainer:
    """VELoRA's own training step, made ready as `velora.run` does."""
    trunk = setup.trunk()
    rgb, event, labels = setup.clips_for(trunk, clips)
    lora = LoraSettings(skip_blocks=len(trunk.vit.blocks) // 2 if upper_half else 0)
    model = VELoRA(trunk, num_classes=CLASSES, settings=settings or ModelSettings(), lora=lora).to(
        setup.device
    )
    prepare_(model, setup.device, bf16=setup.bf16)
    if compiled:
        model.compile_blocks()
    return Trainer(model, lambda: frames_of(rgb, event), labels, bf16=setup.bf16)


def adapted(vit: nn.Module, names: list[str], rank: int, alpha: float) -> nn.Module:
    """A copy of a ViT with PEFT's adapters on the layers of these names; returns the ViT."""
    import peft

    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.01, target_modules=names, bias="none"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(copy.deepcopy(vit), config)
    inner: nn.Module = model.base_model.model
    return inner


def layer_names(vit: nn.Module, blocks: range) -> list[str]:
    """The feed-forward layers of some blocks."""
    return [f"blocks.{i}.mlp.{name}" for i in blocks for name in ("fc1", "fc2")]


class PeftCopies(nn.Module):
    """The paper's model, but with a PEFT-adapted copy of the trunk per stream; batched images."""

    def __init__(self, trunk: Trunk, *, num_classes: int, rank: int = 4, alpha: float = 8.0):
        super().__init__()
        depth, self.high = len(trunk.vit.blocks), trunk.num_high
        low = layer_names(trunk.vit, range(depth - self.high))
        top = layer_names(trunk.vit, range(depth - self.high, depth))
        self.register_buffer("mean", trunk.mean)
        self.register_buffer("std", trunk.std)
        self.towers = nn.ModuleList(adapted(trunk.vit, low, rank, alpha) for _ in STREAMS)
        self.joint = adapted(trunk.vit, top, rank, alpha)
        self.rec = adapted(trunk.vit, top[-2:], rank, alpha).blocks[-1]
        self.stream_embed = nn.Parameter(torch.zeros(3, trunk.width))
        self.head = nn.Linear(3 * 2 * trunk.width, num_classes)

    def forward(self, clips: dict[str, Tensor]) -> Output:
        """Classify clips given as (B, T, 3, H, W) pictures of every stream."""
        features = [
            self._encode(tower, clips[name]) + embed
            for name, tower, embed in zip(STREAMS, self.towers, self.stream_embed, strict=True)
        ]
        x = torch.cat(features, dim=1)
        for block in self.joint.blocks[-self.high :]:
            x = block(x)
        streams = self.joint.norm(x).chunk(3, dim=1)
        pooled = [part for s in streams for part in (s[:, 0], s[:, 1:].mean(dim=1))]
        return Output(self.head(torch.cat(pooled, dim=1)), mutual_loss(self.rec, *features[:2]))

    def _encode(self, vit: nn.Module, clips: Tensor) -> Tensor:
        x = (clips.flatten(0, 1) - self.mean) / self.std
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(x)))
        for block in vit.blocks[: -self.high]:
            x = block(x)
        return x.unflatten(0, clips.shape[:2]).mean(dim=1)


class ReleasedLoop(nn.Module):
    """The computation of the release (velora.md 1.3), one image after the other, in fp32."""

    def __init__(self, trunk: Trunk, *, num_classes: int, rank: int = 4, alpha: float = 8.0):
        super().__init__()
        width = trunk.width
        names = layer_names(trunk.vit, range(len(trunk.vit.blocks)))
        self.register_buffer("mean", trunk.mean)
        self.register_buffer("std", trunk.std)
        self.towers = nn.ModuleList(adapted(trunk.vit, names, rank, alpha) for _ in STREAMS)
        self.visual_embed = nn.Linear(width, width)
        self.stream_embed = nn.Parameter(torch.zeros(3, width))
        self.rec = copy.deepcopy(trunk.vit.blocks[-1]).requires_grad_()
        self.fuse = copy.deepcopy(trunk.vit.blocks[-1]).requires_grad_()
        self.qkv = nn.Linear(width, 3 * width)
        self.head = nn.Linear(10 * width, num_classes)

    def forward(self, clips: dict[str, Tensor]) -> Output:
        """Classify clips given as (B, T, 3, H, W) pictures of every stream."""
        z = [
            self.visual_embed(self._encode(tower, clips[name])) + embed
            for name, tower, embed in zip(STREAMS, self.towers, self.stream_embed, strict=True)
        ]
        u = self.fuse(torch.cat([z[2], z[0], z[1]], dim=1)).chunk(3, dim=1)[1:]
        y = [
            tower.blocks[-1](mine) + fused + tower.blocks[-1].mlp(fused)
            for tower, mine, fused in zip(self.towers, z, u, strict=False)
        ]
        q, k, v = self.qkv(torch.cat(y, dim=1)).chunk(3, dim=-1)
        first, second = F.scaled_dot_product_attention(q, k, v).chunk(2, dim=1)
        logits = self.head((first + second)[:, -10:].flatten(1))
        return Output(logits, mutual_loss(self.rec, *z[:2]))

    def _encode(self, vit: nn.Module, clips: Tensor) -> Tensor:
        encoded = []
        for clip in clips:
            images = [self._one(vit, image[None]) for image in clip]
            encoded.append(torch.cat(images).mean(dim=0))
        return torch.stack(encoded)

    def _one(self, vit: nn.Module, image: Tensor) -> Tensor:
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed((image - self.mean) / self.std)))
        for block in vit.blocks:
            x = block(x)
        tokens: Tensor = vit.norm(x)
        return tokens


def mutual_loss(rec: nn.Module, rgb: Tensor, event: Tensor) -> Tensor:
    """The reconstruction loss, both ways."""
    norm = lambda x: F.layer_norm(x, x.shape[-1:])  # noqa: E731
    one = F.mse_loss(norm(rec(event)), norm(rgb).detach())
    return one + F.mse_loss(norm(rec(rgb)), norm(event).detach())


def streams_of(rgb: Tensor, event: Tensor) -> dict[str, Tensor]:
    """Pictures of every stream, the differences included."""
    moved = (rgb[:, 1:] - rgb[:, :-1]).abs() + (event[:, 1:] - event[:, :-1]).abs()
    return {"rgb": rgb, "event": event, "diff": moved / 2}


def frames_of(rgb: Tensor, event: Tensor) -> dict[str, Frames]:
    """The same clips as VELoRA takes them."""
    index = torch.arange(rgb.shape[0] * rgb.shape[1]).view(rgb.shape[:2])
    return {"rgb": Frames(rgb.flatten(0, 1), index), "event": Frames(event.flatten(0, 1), index)}
