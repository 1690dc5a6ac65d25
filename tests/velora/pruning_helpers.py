"""Clips with ink in a few patches, models that keep some, and their slow twins."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from model_helpers import make_model, merged, wake
from torch import Tensor

from velora.frames.frames import Frames
from velora.model.paper import VELoRA
from velora.model.pruning import prune

GRID, SIDE = 4, 8  # patches of 32 x 32 pixels
TRUNKS = {
    "vit": {"backbone": "vit_tiny_patch16_224"},
    "dinov3": {"backbone": "vit_small_patch16_dinov3"},  # registers and rotary positions
    "eva02": {"backbone": "eva02_tiny_patch14_224", "lora": {"targets": ("fc2",)}},
}


def pruning_model(kind: str = "vit", *, keep_tokens: float = 0.5, **options: Any) -> VELoRA:
    made = {**TRUNKS[kind], **options}
    return wake(make_model(backbone_kwargs={"patch_size": SIDE}, keep_tokens=keep_tokens, **made))


def event_clips(num_clips: int, num_frames: int, *, seed: int, ground: float = 1.0) -> list[Tensor]:
    """Clips with ink in a few patches, of other strength in each."""
    generator = torch.Generator().manual_seed(seed)
    clips = torch.full((num_clips, num_frames, 3, 32, 32), ground, dtype=torch.float64)
    for clip, frame in itertools.product(range(num_clips), range(num_frames)):
        for _ in range(4):
            row, column = torch.randint(0, 29, (2,), generator=generator).tolist()
            color = torch.rand(3, 1, 1, generator=generator, dtype=torch.float64)
            clips[clip, frame, :, row : row + 3, column : column + 3] = color
    return list(clips)


def patch(picture: Tensor, position: int) -> Tensor:
    row, column = divmod(position, GRID)
    return picture[:, SIDE * row : SIDE * (row + 1), SIDE * column : SIDE * (column + 1)]


def differences(*clips: Tensor) -> Tensor:
    return sum((clip[1:] - clip[:-1]).abs() for clip in clips) / len(clips)


def kept_by_hand(event: Tensor, difference: Tensor, *, ground: float, count: int) -> list[int]:
    ink = []
    for position in range(GRID * GRID):
        of_events = sum(float((patch(p, position) - ground).abs().mean()) for p in event)
        ink.append(of_events + sum(float(patch(p, position).mean()) for p in difference))
    return sorted(sorted(range(len(ink)), key=lambda i: (-round(ink[i], 5), i))[:count])


def by_the_loop(
    model: VELoRA, rgb: Tensor, event: Tensor, *, ground: float, count: int
) -> tuple[Tensor, Tensor]:
    """Logits and reconstruction loss of one clip, one picture at a time."""
    trunk, prefix = model.trunk, model.trunk.num_prefix
    difference = differences(rgb, event)
    kept = kept_by_hand(event, difference, ground=ground, count=count)
    rope = None
    if trunk.takes_rope:
        rope = trunk.vit.rope.get_embed(shape=trunk.vit.patch_embed.grid_size)[kept]

    def run(block: torch.nn.Module, x: Tensor, group: int, streams: int = 1) -> Tensor:
        extra = {} if rope is None else {"rope": rope.repeat(streams, 1)}
        return merged(block, group)(x, **extra)

    features = []
    for s, pictures in enumerate((rgb, event, difference)):
        total = torch.zeros((), dtype=torch.float64)
        for picture in pictures:
            x = trunk.embed(picture[None])
            x = torch.stack([x[:, i] for i in (*range(prefix), *(prefix + p for p in kept))], dim=1)
            for block in trunk.low:
                x = run(block, x, s)
            total = total + x
        features.append(total / len(pictures) + model.stream_embed[s])
    x = torch.cat([f[:, :prefix] for f in features] + [f[:, prefix:] for f in features], dim=1)
    for block in trunk.high:
        x = run(block, x, 0, streams=3)
    x = trunk.final_norm(x)
    pooled = []
    for s in range(3):
        own = x[:, 3 * prefix + s * count : 3 * prefix + (s + 1) * count]
        pooled += [x[:, s * prefix], own.mean(dim=1)]
    norm = lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:])  # noqa: E731
    loss = sum(
        (norm(run(model.rec, features[a], 0)) - norm(features[b])).square().mean()
        for a, b in ((0, 1), (1, 0))
    )
    return model.head(torch.cat(pooled, dim=1))[0], loss


def kept_of(share: float = 0.25, **streams: Frames) -> list[list[int]]:
    return prune(streams, share=share, grid_hw=(GRID, GRID)).clips.tolist()


def drawn(positions: dict[int, float], *, ground: float) -> Tensor:
    """One picture with a stroke of some strength in each of these patches."""
    picture = torch.full((1, 3, 32, 32), ground, dtype=torch.float64)
    for position, strength in positions.items():
        patch(picture[0], position)[:, 2:4] += strength
    return picture
