"""The tiniest VELoRA, awake, and clips for it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from velora_helpers import TINY

from velora.frames.frames import Frames
from velora.model.backbone import build_trunk
from velora.model.lora import GroupedLoRA, GroupedLowRank
from velora.model.paper import VELoRA
from velora.settings import LoraSettings, ModelSettings

SIZE, PATCH, DEPTH, WIDTH, RANK, ALPHA = 32, 16, 3, 48, 4, 8.0


def make_model(
    streams: str = "fusion",
    *,
    backbone: str = TINY["backbone"],
    backbone_kwargs: dict[str, object] | None = None,
    depth: int = DEPTH,
    num_high: int = 1,
    lora: dict[str, object] | None = None,
    **settings: object,
) -> VELoRA:
    kwargs = {"patch_size": PATCH, "depth": depth, "embed_dim": WIDTH, "num_heads": 3}
    kwargs |= backbone_kwargs or {}
    trunk, _ = build_trunk(
        backbone, num_high=num_high, random_seed=0, img_size=SIZE, backbone_kwargs=kwargs
    )
    torch.manual_seed(1)
    model = VELoRA(
        trunk,
        num_classes=5,
        settings=ModelSettings(streams=streams, **settings),
        lora=LoraSettings(**{"rank": RANK, "alpha": ALPHA, "dropout": 0.0, **(lora or {})}),
    )
    return model.double().eval()


def wake(model: VELoRA) -> VELoRA:
    """Move adapters and stream embeddings away from zero."""
    torch.manual_seed(2)
    for module in model.modules():
        if isinstance(module, GroupedLowRank):
            nn.init.normal_(module.lora_b, std=0.3)
    nn.init.normal_(model.stream_embed, std=0.3)
    return model


def frames_of(clips: list[torch.Tensor | None], num_frames: int) -> Frames:
    """Stack clips of T pictures; None is a clip without the sense."""
    images = [c for c in clips if c is not None]
    rows, start = [], 0
    for clip in clips:
        here = clip is not None
        rows.append(torch.arange(start, start + num_frames) if here else -torch.ones(num_frames))
        start += num_frames * here
    empty = torch.zeros(0, 3, SIZE, SIZE, dtype=torch.float64)
    return Frames(torch.cat([empty, *images]), torch.stack(rows).long())


def random_clips(num_clips: int, num_frames: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(num_frames, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
        for _ in range(num_clips)
    ]


def merged(block: nn.Module, group: int) -> nn.Module:
    """A plain copy of a block with the adapter of one group added to its weights."""
    block = copy.deepcopy(block)
    for name, layer in list(block.named_modules()):
        if isinstance(layer, GroupedLoRA):
            plain = nn.Linear(layer.base.in_features, layer.base.out_features).double()
            with torch.no_grad():
                change = layer.lora_b[group] @ layer.lora_a[group] * ALPHA / RANK
                plain.weight.copy_(layer.base.weight + change)
                plain.bias.copy_(layer.base.bias)
            parent, _, child = name.rpartition(".")
            setattr(block.get_submodule(parent), child, plain)
    return block
