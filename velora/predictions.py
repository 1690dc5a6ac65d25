"""What a model says of every clip of a split.

n clips, C classes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from msgspec import Struct
from torch import Tensor

from velora.classifier import Classifier
from velora.data import ClipLoader
from velora.pictures import clip_frames

View = Literal["fusion", "rgb", "event"]


class Predictions(Struct, frozen=True, kw_only=True):
    """Logits (n, C) and labels (n,) on the CPU, with the keys of the samples."""

    keys: list[str]
    labels: Tensor
    logits: Tensor


@torch.no_grad()
def predict(
    model: Classifier,
    loader: ClipLoader,
    *,
    device: torch.device,
    view: View | None = None,
    progress: Callable[[int], None] | None = None,
) -> Predictions:
    """Run a model over a loader's split.

    Parameters
    ----------
    view : {"rgb", "event"}, optional
        Hide the other sense. Clips without the shown one are left out.
    progress : callable, optional
        Called with the number of clips done after every batch.
    """
    shown = model.senses if view in (None, "fusion") else (view,)
    was_training = model.training
    model.eval()
    keys: list[str] = []
    labels: list[Tensor] = []
    logits: list[Tensor] = [torch.zeros(0, model.num_classes)]
    try:
        for batch in loader.epoch(senses=shown):
            frames = clip_frames(batch, size_hw=model.image_size_hw, device=device)
            frames = {name: f if name in shown else f.without() for name, f in frames.items()}
            with autocast(device):
                output = model(frames)
            keys += batch.keys
            labels.append(batch.labels)
            logits.append(output.logits.float().cpu())
            if progress is not None:
                progress(len(keys))
    finally:
        model.train(was_training)
    empty = torch.zeros(0, dtype=torch.int64)
    return Predictions(keys=keys, labels=torch.cat([empty, *labels]), logits=torch.cat(logits))


def autocast(device: torch.device) -> torch.autocast:
    """bf16 on CUDA, full precision elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
