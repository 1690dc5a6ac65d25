"""Augmentation: one change per clip, the same for its RGB, its events and its differences.

A change is drawn on the host and applied to pictures on the device, before differences are taken.

    U pictures, H, W
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from velora.settings import DataSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What is done to a clip; nothing by default.

    Parameters
    ----------
    down, right : float
        Shift as a share of the picture's side.
    flip : bool
        Mirror left and right.
    side : float
        Side of the crop as a share of the picture's, which is resized back.
    top, left : float
        Where the crop lies in the room that it leaves, 0 to 1.
    brightness : float
        Added to RGB in [0, 1].
    contrast : float
        By which RGB moves away from its mean.
    hidden : {"rgb", "event"}, optional
        The sense that a clip of both is shown without.
    """

    down: float = 0.0
    right: float = 0.0
    flip: bool = False
    side: float = 1.0
    top: float = 0.0
    left: float = 0.0
    brightness: float = 0.0
    contrast: float = 1.0
    hidden: Literal["rgb", "event"] | None = None

    @property
    def moves(self) -> bool:
        """Whether it moves pixels."""
        return self.flip or self.down != 0 or self.right != 0 or self.side != 1


UNCHANGED = Change()


def draw_change(settings: DataSettings, rng: np.random.Generator) -> Change:
    """Draw the change of a clip; every setting uses numbers of its own, whatever the others are."""
    down, right = rng.uniform(-1, 1, size=2) * settings.shift
    mirrored = rng.random() < 0.5
    cut, top, left = rng.random(3)
    brightness, contrast = rng.uniform(-1, 1, size=2) * settings.color
    dropped, which = rng.random(2)
    return Change(
        down=float(down),
        right=float(right),
        flip=bool(mirrored and settings.flip),
        side=1 - float(cut) * settings.crop,
        top=float(top),
        left=float(left),
        brightness=float(brightness),
        contrast=1 + float(contrast),
        hidden=("rgb" if which < 0.5 else "event") if dropped < settings.drop_sense else None,
    )


def move(pictures: Tensor, change: Change, *, ground: float | None) -> Tensor:
    """Crop, shift and mirror (U, 3, H, W) pictures.

    ``ground`` fills what a shift brings in from outside; None repeats the edge.
    """
    if not change.moves:
        return pictures
    *_, height, width = pictures.shape
    pictures = crop(pictures, side=change.side, top=change.top, left=change.left)
    pictures = shift(
        pictures, dy=round(change.down * height), dx=round(change.right * width), fill=ground
    )
    return pictures.flip(-1) if change.flip else pictures


def crop(pictures: Tensor, *, side: float, top: float, left: float) -> Tensor:
    """Cut out ``side`` of the picture's side in whole pixels, and resize it back."""
    *_, height, width = pictures.shape
    rows, columns = max(1, round(side * height)), max(1, round(side * width))
    if (rows, columns) == (height, width):
        return pictures
    y, x = round(top * (height - rows)), round(left * (width - columns))
    cut = pictures[..., y : y + rows, x : x + columns]
    return F.interpolate(cut, size=(height, width), mode="bilinear")


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


def recolor(pictures: Tensor, change: Change) -> Tensor:
    """Change brightness and contrast of the RGB (U, 3, H, W) of one clip, all its frames alike."""
    if change.contrast == 1 and change.brightness == 0:
        return pictures
    mean = pictures.mean()
    return ((pictures - mean) * change.contrast + mean + change.brightness).clamp(0, 1)
