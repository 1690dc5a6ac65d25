"""What a model says of every clip of a split.

n clips, C classes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from msgspec import Struct
from torch import Tensor

from velora.data import Batch, ClipLoader
from velora.data.clip_frames import clip_frames
from velora.model.classifier import Classifier
from velora.non_finite import NonFiniteError, listed
from velora.out_of_memory import OutOfMemoryError, is_out_of_memory, largest_that_fits

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

    Raises
    ------
    NonFiniteError
        Names the clips whose logits are no numbers.
    OutOfMemoryError
        Names the largest batch that fits.
    """
    shown = model.senses if view in (None, "fusion") else (view,)
    was_training = model.training
    model.eval()
    positions: list[int] = []
    labels: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]
    logits: list[Tensor] = [torch.zeros(0, model.num_classes)]

    def answers(batch: Batch) -> Tensor:
        frames = clip_frames(
            batch,
            events=loader.dataset.event_input,
            size_hw=model.image_size_hw,
            device=device,
            senses=shown,
            moving=loader.dataset.moving,
        )
        found: Tensor = model(frames).logits.float().cpu()
        return found

    try:
        for batch in loader.epoch(senses=shown):
            logits.append(_fitting(answers, batch))
            _check_finite(batch, logits[-1], split=loader.dataset.split)
            positions += batch.positions
            labels.append(batch.labels)
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


def _fitting(answers: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """Return the answers to a batch, or say how much of it would have fitted in the memory."""
    try:
        return answers(batch)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # The traceback holds the tensors that the search needs the room of.
        error.__traceback__ = None
    fits = largest_that_fits(lambda size: answers(batch.rows(0, size)), len(batch))
    raise OutOfMemoryError(_too_large(len(batch), fits))


def _check_finite(batch: Batch, logits: Tensor, *, split: str) -> None:
    bad = (~torch.isfinite(logits).all(dim=1)).tolist()
    keys = [key for key, wrong in zip(batch.keys, bad, strict=True) if wrong]
    if not keys:
        return
    msg = (
        f"the logits of {len(keys)} of {len(batch)} {split} clips of a batch are not finite "
        f"({listed(keys)}): look at these samples; where it is all of them, training has diverged, "
        "and another run wants a lower --lr"
    )
    raise NonFiniteError(msg)


def _too_large(size: int, fits: int) -> str:
    if not fits:
        return (
            f"out of memory with {size} clips at once in an evaluation, and with one: choose "
            "another --device, or train with a smaller --img-size"
        )
    return (
        f"out of memory with {size} clips at once in an evaluation; the largest batch that fits is "
        f"{fits}: velora-eval --batch-size {fits}, or train in parts of as few clips, by "
        "train.accumulate or --batch-size"
    )
