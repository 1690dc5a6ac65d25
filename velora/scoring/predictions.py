"""What a model says of every clip of a split.

n clips, C classes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from msgspec import Struct
from torch import Tensor

from velora.data import ClipLoader
from velora.data.clip_frames import clip_frames
from velora.model.classifier import Classifier

View = Literal["fusion", "rgb", "event"]


class Predictions(Struct, frozen=True, kw_only=True):
    """Logits (n, C) and labels (n,) on the CPU, with the keys of the samples."""

    keys: list[str]
    labels: Tensor
    logits: Tensor

    @property
    def right(self) -> Tensor:
        """Which clips have their own class as the likeliest, (n,) bool."""
        found: Tensor = self.logits.argmax(dim=1) == self.labels
        return found


@torch.no_grad()
def predict(
    model: Classifier,
    loader: ClipLoader,
    *,
    device: torch.device,
    view: View | None = None,
    progress: Callable[[int], None] | None = None,
) -> Predictions:
    """Run a model over a loader's split, in the precision of the caller's autocast.

    Where several processes share the loader's batches, each computes its clips once and all get the
    predictions of all clips, in the order of one process.

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
    positions: list[int] = []
    labels: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]
    logits: list[Tensor] = [torch.zeros(0, model.num_classes)]
    try:
        for batch in loader.epoch(senses=shown):
            frames = clip_frames(
                batch,
                events=loader.dataset.event_input,
                size_hw=model.image_size_hw,
                device=device,
                senses=shown,
                moving=loader.dataset.moving,
            )
            positions += batch.positions
            labels.append(batch.labels)
            logits.append(model(frames).logits.float().cpu())
            if progress is not None:
                progress(len(positions) * loader.ranks.world_size)
    finally:
        model.train(was_training)
    everyone = loader.ranks.gather((positions, torch.cat(labels), torch.cat(logits)))
    where = torch.tensor([i for some, _, _ in everyone for i in some], dtype=torch.int64)
    order = torch.argsort(where)
    return Predictions(
        keys=[str(loader.dataset.keys[i]) for i in where[order].tolist()],
        labels=torch.cat([part for _, part, _ in everyone])[order],
        logits=torch.cat([part for _, _, part in everyone])[order],
    )
