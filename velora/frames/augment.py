"""Augmentation: one change per clip, the same for its RGB, its events and its differences.

A change is drawn on the host and applied to pictures on the device, before differences are taken.

    U pictures, H, W
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from velora.settings import DataSettings

LATTICE = 4
"""Points a side that a warp displaces."""


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
    rotation : float
        Clockwise about the middle, in degrees.
    shear : float
        By how many columns a row slides right for each row that it lies below the middle.
    warp : tuple of float
        Of a lattice of 4x4 points over the picture, from its top left by rows: how far down each is
        taken from, then how far right, as a share of the picture's side. Between the points the
        displacement is bicubic, up to half beyond theirs. None where there is no warp.
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
    rotation: float = 0.0
    shear: float = 0.0
    warp: tuple[float, ...] | None = None
    brightness: float = 0.0
    contrast: float = 1.0
    hidden: Literal["rgb", "event"] | None = None

    @property
    def moves(self) -> bool:
        """Whether it moves pixels."""
        shifts = self.down != 0 or self.right != 0
        return self.flip or shifts or self.side != 1 or self.bends

    @property
    def bends(self) -> bool:
        """Whether lines do not stay as they lie."""
        return self.rotation != 0 or self.shear != 0 or self.warp is not None


UNCHANGED = Change()


def draw_change(settings: DataSettings, rng: np.random.Generator) -> Change:
    """Draw the change of a clip; every setting uses numbers of its own, whatever the others are."""
    down, right = rng.uniform(-1, 1, size=2) * settings.shift
    mirrored = rng.random() < 0.5
    cut, top, left = rng.random(3)
    brightness, contrast = rng.uniform(-1, 1, size=2) * settings.color
    dropped, which = rng.random(2)
    rotation, shear = rng.uniform(-1, 1, size=2) * (settings.rotate, settings.shear)
    warp = rng.uniform(-1, 1, size=2 * LATTICE**2) * settings.warp
    return Change(
        down=float(down),
        right=float(right),
        flip=bool(mirrored and settings.flip),
        side=1 - float(cut) * settings.crop,
        top=float(top),
        left=float(left),
        rotation=float(rotation),
        shear=float(shear),
        warp=tuple(warp.tolist()) if settings.warp else None,
        brightness=float(brightness),
        contrast=1 + float(contrast),
        hidden=("rgb" if which < 0.5 else "event") if dropped < settings.drop_sense else None,
    )


def move(pictures: Tensor, change: Change, *, ground: float | None) -> Tensor:
    """Crop, bend, shift and mirror (U, 3, H, W) pictures.

    ``ground`` fills what comes in from outside; None repeats the edge.
    """
    if not change.moves:
        return pictures
    *_, height, width = pictures.shape
    pictures = crop(pictures, side=change.side, top=change.top, left=change.left)
    if change.bends:
        pictures = bend(pictures, change, ground=ground)
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


def bend(pictures: Tensor, change: Change, *, ground: float | None) -> Tensor:
    """Rotate, shear and warp (U, 3, H, W) pictures, bilinearly.

    The warp is the elastic distortion of Simard et al. (ICDAR 2003) with a coarse lattice in place
    of a blurred field.
    """
    *_, height, width = pictures.shape
    grid = sources(change, height, width, device=pictures.device).to(pictures)
    grid = grid.expand(len(pictures), -1, -1, -1)
    if ground is None:
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return F.grid_sample(pictures - ground, grid, align_corners=False) + ground


def sources(change: Change, height: int, width: int, *, device: torch.device) -> Tensor:
    """Where each pixel of a bent picture comes from: (1, H, W, 2) x and y, -1 to 1."""
    x = torch.arange(width, device=device) + 0.5 - width / 2
    y = (torch.arange(height, device=device) + 0.5 - height / 2)[:, None]
    # Inverse of the rotation after the shear. Not a matrix product, which autocast would round to
    # bf16: a third of a pixel at 70 pixels.
    across, down = cos(radians(change.rotation)), sin(radians(change.rotation))
    back_x, back_y = across * x + down * y, across * y - down * x
    back_x = back_x - change.shear * back_y
    grid = torch.stack([back_x * (2 / width), back_y * (2 / height)], dim=-1)[None]
    if change.warp is None:
        return grid
    lattice = torch.tensor(change.warp, device=device).view(1, 2, LATTICE, LATTICE)
    field = F.interpolate(lattice, size=(height, width), mode="bicubic", align_corners=True)
    return grid + 2 * field.flip(1).permute(0, 2, 3, 1)


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
