"""What the training is made of, and the ViT it trains."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from msgspec import Meta, Struct
from torch import Tensor, nn

from velora._torchvision import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402  (needs the line above)

NAME = "velora_tiny"
TIMM_NAME = "vit_tiny_patch16_224"
#: What makes timm's model this one: 2.7 million parameters, 5.4 MB in fp16.
TIMM_KWARGS: dict[str, int] = {
    "patch_size": 8,
    "img_size": 64,
    "embed_dim": 192,
    "depth": 6,
    "num_heads": 3,
}
MEAN = STD = 0.5


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the weights, besides the images."""

    #: Pictures seen, over all epochs. A run may be told to end earlier or later than it was begun
    #: with, as long as the rate has not begun to fall.
    images: Annotated[int, Meta(ge=1)] = 640_000
    batch_size: Annotated[int, Meta(ge=1)] = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    #: Updates over which the rate rises.
    warmup: Annotated[int, Meta(ge=1)] = 200
    #: Share of the updates, at the end, over which the rate falls to zero.
    cooldown: float = 0.25
    label_smoothing: float = 0.1
    grad_clip: float = 1.0
    #: Decay of the moving average that is published.
    ema: float = 0.999
    #: Sides of the pictures in pixels and their shares of the steps. Positions are resampled, so
    #: the trunk serves all of them.
    sizes: tuple[tuple[int, float], ...] = ((32, 0.7), (48, 0.2), (64, 0.1))
    #: Shares of what a picture is shown as: itself, events of a small motion, its difference.
    views: tuple[float, float, float] = (0.5, 0.35, 0.15)
    seed: Annotated[int, Meta(ge=0)] = 0

    @property
    def steps(self) -> int:
        """The number of updates."""
        return -(-self.images // self.batch_size)

    @property
    def cooldown_from(self) -> int:
        """The update from which the rate falls."""
        return self.steps - round(self.cooldown * self.steps)


def make_vit(*, num_outputs: int, seed: int) -> nn.Module:
    """Build the untrained ViT; the same seed gives the same weights."""
    kwargs: dict[str, Any] = {**TIMM_KWARGS, "num_classes": num_outputs, "dynamic_img_size": True}
    # timm's default of 0.02 lets almost nothing through at first; this is Xavier's for qkv.
    kwargs["weight_init"] = "moco"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit: nn.Module = timm.create_model(TIMM_NAME, **kwargs)
    return vit


def normalised(pictures: Tensor) -> Tensor:
    """Bring pictures in [0, 1] to what the trunk takes."""
    return (pictures - MEAN) / STD
