"""From a batch to the frames that a model looks at, on its device.

Pictures are painted and resized, then changed as was drawn for their clip, then mixed with those of
the clip's partner; the model takes differences last.

    B clips, T frames, U pictures, H, W
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from velora.data import Batch, Sense
from velora.frames.augment import move, recolor
from velora.frames.frames import Frames, hide
from velora.frames.mixup import mix_frames
from velora.frames.pictures import resize, rgb_pictures
from velora.inputs import EventInput

SENSES: tuple[Sense, ...] = ("rgb", "event")


def clip_frames(
    batch: Batch,
    *,
    events: EventInput,
    size_hw: tuple[int, int],
    device: torch.device,
    senses: Sequence[Sense] = SENSES,
    moving: Sequence[Sense] = SENSES,
) -> dict[str, Frames]:
    """Make the frames of a batch.

    What a shift brings in from outside is the repeated edge for RGB and for event pictures whose
    ground is not known, else the ground of the input, which says that nothing happened.

    Parameters
    ----------
    batch : Batch
    events : EventInput
    size_hw : (int, int)
        Of the pictures in pixels: the trunk's.
    device : torch.device
    senses : sequence of Sense
        Those that are shown; the others are as if the clips lacked them.
    moving : sequence of Sense
        Whose differences the model looks at.

    Returns
    -------
    dict
        "rgb" and "event", and "diff" where the clips carry stored differences.
    """
    size, num_frames = len(batch), len(batch.clips[0].rgb_index)
    hidden = Frames(
        torch.zeros(0, 3, *size_hw, device=device),
        torch.full((size, num_frames), -1, dtype=torch.int64),
    )
    made = {"rgb": hidden, "event": hidden}
    if "rgb" in senses:
        frames = _rgb_frames(batch, size_hw, device)
        made["rgb"] = mix_frames(frames, batch.partner, batch.share)
    if "event" in senses:
        frames = _event_frames(batch, events, size_hw, device)
        made["event"] = mix_frames(frames, batch.partner, batch.share)
    if "rgb" in senses and "event" in senses:
        for sense in SENSES:
            made[sense] = hide(made[sense], batch.hides(sense))
    if moving and all(clip.diff_events is not None for clip in batch.clips):
        shown = [sense for sense in moving if sense in senses]
        total = _stored_differences(batch, events, size_hw, device, shown)
        made["diff"] = Frames(total.images / len(moving), total.index)
    return made


def _rgb_frames(batch: Batch, size_hw: tuple[int, int], device: torch.device) -> Frames:
    rows = [len(clip.rgb) for clip in batch.clips]
    pictures = _pictures(batch.packs["rgb"], rgb_pictures, size_hw, device)
    changed = [
        move(recolor(part, change), change, ground=None) if len(part) else part
        for part, change in zip(torch.split(pictures, rows), batch.changes, strict=True)
    ]
    index = [
        np.where(clip.rgb_index < 0, -1, clip.rgb_index + start)
        for clip, start in zip(batch.clips, _starts(rows), strict=True)
    ]
    return Frames(torch.cat(changed), torch.from_numpy(np.stack(index)))


def _event_frames(
    batch: Batch, events: EventInput, size_hw: tuple[int, int], device: torch.device
) -> Frames:
    rows = [len(clip.events) for clip in batch.clips]
    pictures = _pictures(batch.packs["events"], events.paint, size_hw, device)
    num_frames = len(batch.clips[0].rgb_index)
    index = [
        np.arange(num_frames) + start if n else np.full(num_frames, -1)
        for n, start in zip(rows, _starts(rows), strict=True)
    ]
    changed = _moved(pictures, rows, batch, ground=events.ground)
    return Frames(changed, torch.from_numpy(np.stack(index)))


def _stored_differences(
    batch: Batch,
    events: EventInput,
    size_hw: tuple[int, int],
    device: torch.device,
    moving: Sequence[Sense],
) -> Frames:
    """Return the sum of the stored differences of the moving senses, changed like the pictures.

    Contrast scales a difference and brightness falls out of it. A sense that a clip lacks was
    stored as zeros and so adds nothing.
    """
    steps = len(batch.clips[0].rgb_index) - 1
    rows = [steps] * len(batch.clips)
    total = torch.zeros(sum(rows), 3, *size_hw, device=device)
    if steps and "event" in moving:
        packs = batch.packs["diff_events"]
        total += _pictures(packs, events.paint_differences, size_hw, device)
    if steps and "rgb" in moving:
        pictures = _pictures(batch.packs["diff_rgb"], rgb_pictures, size_hw, device)
        contrast = torch.tensor([change.contrast for change in batch.changes], device=device)
        scale = contrast.repeat_interleave(steps).view(-1, 1, 1, 1)
        total += (pictures * scale).clamp(max=1)
    absent = [not any(clip.has(sense) for sense in moving) for clip in batch.clips]
    index = torch.arange(sum(rows)).view(len(rows), steps)
    index = index.masked_fill(torch.tensor(absent)[:, None], -1)
    return Frames(_moved(total, rows, batch, ground=0.0), index)


def _moved(pictures: Tensor, rows: list[int], batch: Batch, *, ground: float | None) -> Tensor:
    if not any(change.moves for change in batch.changes):
        return pictures
    parts = zip(torch.split(pictures, rows), batch.changes, strict=True)
    return torch.cat(
        [move(part, change, ground=ground) if len(part) else part for part, change in parts]
    )


def _starts(rows: list[int]) -> list[int]:
    return list(accumulate(rows, initial=0))[:-1]


def _pictures(
    packs: list[Tensor],
    paint: Callable[[Tensor], Tensor],
    size_hw: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """Paint and resize what was packed; (U, 3, H, W) in the given order."""
    parts = [torch.zeros(0, 3, *size_hw, device=device)]
    parts += [resize(paint(pack.to(device, non_blocking=True)), size_hw) for pack in packs]
    return torch.cat(parts)
