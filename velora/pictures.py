"""Pictures: what the trunk sees of RGB frames and of event frames, made on the device.

An event frame becomes the red and blue picture of the authors' data sets: white ground, ON red,
OFF blue, OFF painted over ON. All pictures are float in [0, 1] and are brought to the trunk's size
*before* any difference is taken, so that two senses of different size can meet.

    U pictures, T frames, C channels, H, W
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from velora.data import Batch
from velora.frames import Frames

# The colours of scripts/read_aedat4.py, with which PokerEvent and HARDVS were drawn.
ON_RGB = (220 / 255, 30 / 255, 30 / 255)
OFF_RGB = (30 / 255, 30 / 255, 200 / 255)


def event_pictures(frames: Tensor) -> Tensor:
    """Paint event frames as red (ON) and blue (OFF) on white; pictures of events stay.

    Parameters
    ----------
    frames : (U, 2, H, W) counts, channel 0 = OFF, 1 = ON; (U, 1, H, W) signed voxels; or \
             (U, 3, H, W) uint8 pictures
        A count paints its pixel fully. A voxel paints red where positive and blue where negative,
        as strongly as its absolute value, at most fully.

    Returns
    -------
    (U, 3, H, W) float32 in [0, 1]
    """
    if frames.shape[1] == 3 and frames.dtype == torch.uint8:
        return frames.float() / 255
    if frames.shape[1] == 2:
        off, on = (frames[:, i : i + 1].ne(0).float() for i in (0, 1))
    elif frames.shape[1] == 1:
        values = frames.float()
        on, off = values.clamp(0, 1), (-values).clamp(0, 1)
    else:
        msg = (
            "event frames have 2 channels (counts), 1 (voxels) or 3 of uint8 (pictures), not "
            f"{frames.shape[1]} of {frames.dtype}"
        )
        raise ValueError(msg)
    white = frames.new_ones((1, 3, 1, 1), dtype=torch.float32)
    red = white.new_tensor(ON_RGB).view(1, 3, 1, 1)
    blue = white.new_tensor(OFF_RGB).view(1, 3, 1, 1)
    return torch.lerp(torch.lerp(white, red, on), blue, off)


def rgb_pictures(images: Tensor) -> Tensor:
    """Bring (U, H, W, C) uint8 images to (U, 3, H, W) float32 in [0, 1]; gray is repeated."""
    pictures = images.permute(0, 3, 1, 2).float() / 255
    return pictures.expand(-1, 3, -1, -1)


def resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (U, 3, H, W) pictures to ``size`` = (H, W), bilinear with antialiasing."""
    if pictures.shape[-2:] == size:
        return pictures
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True)


def shift(pictures: Tensor, *, dy: int, dx: int, fill: float | None = None) -> Tensor:
    """Shift (U, 3, H, W) pictures down by ``dy`` and right by ``dx`` pixels.

    ``fill`` fills what comes in from outside; None repeats the edge.
    """
    if dy == dx == 0:
        return pictures
    *_, height, width = pictures.shape
    pad = max(abs(dy), abs(dx))
    if fill is None:
        padded = F.pad(pictures, (pad,) * 4, mode="replicate")
    else:
        padded = F.pad(pictures, (pad,) * 4, value=fill)
    return padded[..., pad - dy : pad - dy + height, pad - dx : pad - dx + width]


def clip_frames(
    batch: Batch, *, size_hw: tuple[int, int], device: torch.device
) -> dict[str, Frames]:
    """Make the pictures of a batch on the device, at the trunk's size.

    Both senses of a clip are shifted and flipped alike. What a shift brings in from outside is the
    repeated edge for RGB and for pictures that came as such, whose ground is not known; white - no
    events - for those painted here.
    """
    rgb_rows = [len(clip.rgb) for clip in batch.clips]
    event_rows = [len(clip.events) for clip in batch.clips]
    rgb = _pictures([c.rgb for c in batch.clips], rgb_pictures, size_hw, device)
    events = _pictures([c.events for c in batch.clips], event_pictures, size_hw, device)
    rgb_index = [
        np.where(clip.rgb_index < 0, -1, clip.rgb_index + start)
        for clip, start in zip(batch.clips, _starts(rgb_rows), strict=True)
    ]
    num_frames = len(batch.clips[0].rgb_index)
    event_index = [
        np.arange(num_frames) + start if rows else np.full(num_frames, -1)
        for rows, start in zip(event_rows, _starts(event_rows), strict=True)
    ]
    return {
        "rgb": Frames(
            _augmented(rgb, rgb_rows, batch, fill=None), torch.from_numpy(np.stack(rgb_index))
        ),
        "event": Frames(
            _augmented(events, event_rows, batch, fill=_ground(batch)),
            torch.from_numpy(np.stack(event_index)),
        ),
    }


def _ground(batch: Batch) -> float | None:
    """Return the ground of the event pictures: white; None where they came as pictures."""
    came = any(len(clip.events) and clip.events.shape[1] == 3 for clip in batch.clips)
    return None if came else 1.0


def _starts(rows: list[int]) -> list[int]:
    return list(accumulate(rows, initial=0))[:-1]


def _pictures(
    arrays: list[NDArray[Any]],
    paint: Callable[[Tensor], Tensor],
    size_hw: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """Paint and resize arrays, those of one shape together; (U, 3, H, W) in the given order."""
    parts = [torch.zeros(0, 3, *size_hw, device=device)]
    for _, run in groupby((a for a in arrays if len(a)), key=lambda a: (a.shape[1:], a.dtype)):
        pixels = torch.from_numpy(np.concatenate(list(run))).to(device, non_blocking=True)
        parts.append(resize(paint(pixels), size_hw))
    return torch.cat(parts)


def _augmented(pictures: Tensor, rows: list[int], batch: Batch, *, fill: float | None) -> Tensor:
    if not (batch.shifts.any() or batch.flips.any()):
        return pictures
    *_, height, width = pictures.shape
    moved = []
    for part, (down, right), flip in zip(
        torch.split(pictures, rows), batch.shifts, batch.flips, strict=True
    ):
        part = shift(part, dy=round(down * height), dx=round(right * width), fill=fill)
        moved.append(part.flip(-1) if flip else part)
    return torch.cat(moved)
