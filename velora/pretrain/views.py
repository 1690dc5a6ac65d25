"""What the trunk is shown of a gray picture: itself in colours, events of a motion, a difference.

A trunk for VELoRA meets RGB frames, painted events and difference pictures, so it learns from all
three. Events are made as a camera would: the picture moves a little, and pixels that become
brighter are ON, darker ones OFF.

    B pictures, S pixels
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from velora.inputs.painters import OFF_RGB, ON_RGB

# Largest change of place, angle (radians) and size between the two pictures of a motion.
_MOTION = (0.12, 0.15, 0.06)


def make_views(
    gray: Tensor,
    *,
    size: int,
    shares: Sequence[float],
    rng: torch.Generator,
) -> Tensor:
    """Draw one view of every picture.

    Parameters
    ----------
    gray : (B, H, W) float in [0, 1]
    size : int, pixels
        Side of the views, S.
    shares : three float
        Of pictures, events and differences; they add up to 1.
    rng : torch.Generator

    Returns
    -------
    (B, 3, S, S) float32 in [0, 1]
    """
    count = len(gray)
    place = _place(count, rng)
    before = _seen(gray, place, size)
    after = _seen(gray, place @ _moved(count, rng), size)
    pictures = _coloured(torch.cat([before, after]), rng, count)
    events = _painted(after - before, rng)
    differences = (pictures[count:] - pictures[:count]).abs()
    kind = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=rng)
    kind = kind.view(-1, 1, 1, 1)
    return torch.where(kind == 0, pictures[:count], torch.where(kind == 1, events, differences))


def _uniform(count: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=rng)


def _place(count: int, rng: torch.Generator) -> Tensor:
    """(B, 3, 3): where a view looks in its picture; near the middle, nearly upright."""
    zoom = _uniform(count, 0.8, 1.25, rng)
    squeeze = _uniform(count, 0.85, 1.18, rng)
    shear = _uniform(count, -0.15, 0.15, rng)
    right, down = _uniform(count, -0.15, 0.15, rng), _uniform(count, -0.15, 0.15, rng)
    zero, one = torch.zeros(count), torch.ones(count)
    stretch = _matrix([zoom, shear, right], [zero, zoom * squeeze, down], [zero, zero, one])
    return _turned(_uniform(count, -0.2, 0.2, rng)) @ stretch


def _moved(count: int, rng: torch.Generator) -> Tensor:
    """(B, 3, 3): a small motion."""
    far, turn, grow = _MOTION
    right, down = _uniform(count, -far, far, rng), _uniform(count, -far, far, rng)
    zoom = 1 + _uniform(count, -grow, grow, rng)
    zero, one = torch.zeros(count), torch.ones(count)
    shift = _matrix([zoom, zero, right], [zero, zoom, down], [zero, zero, one])
    return _turned(_uniform(count, -turn, turn, rng)) @ shift


def _turned(angle: Tensor) -> Tensor:
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return _matrix([cos, -sin, zero], [sin, cos, zero], [zero, zero, one])


def _matrix(*rows: list[Tensor]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _seen(gray: Tensor, place: Tensor, size: int) -> Tensor:
    """(B, S, S): the pictures through an affine map; black outside."""
    grid = F.affine_grid(place[:, :2], [len(gray), 1, size, size], align_corners=False)
    return F.grid_sample(gray[:, None], grid, align_corners=False)[:, 0]


def _coloured(gray: Tensor, rng: torch.Generator, count: int) -> Tensor:
    """(2 B, 3, S, S): black to white, or from one random colour to another, and some noise.

    Both pictures of a motion have the same colours.
    """
    plain = torch.rand(count, 1, generator=rng) < 0.5
    ground = torch.rand(count, 3, generator=rng)
    # Far enough from the ground in every channel to be seen.
    ink = (ground + 0.3 + 0.4 * torch.rand(count, 3, generator=rng)) % 1
    ground, ink = torch.where(plain, 0.0, ground), torch.where(plain, 1.0, ink)
    ground, ink = (x.repeat(2, 1)[:, :, None, None] for x in (ground, ink))
    gamma = torch.exp(_uniform(count, -0.4, 0.4, rng)).repeat(2)[:, None, None]
    noise = _uniform(count, 0, 0.06, rng).repeat(2)[:, None, None, None]
    pictures = torch.lerp(ground, ink, gray.clamp(min=1e-6).pow(gamma)[:, None])
    grain = torch.randn(pictures.shape, generator=rng)
    return (pictures + noise * grain).clamp(0, 1)


def _painted(change: Tensor, rng: torch.Generator) -> Tensor:
    """(B, 3, S, S): ON and OFF above a threshold, with noise, on a ground.

    Half in the authors' colours on white; half in random colours on a random gray.
    """
    count = len(change)
    threshold = _uniform(count, 0.04, 0.3, rng)[:, None, None]
    strength = (change.abs() / threshold).floor()
    full = torch.where(torch.rand(count, generator=rng) < 0.5, 1.0, 3.0)[:, None, None]
    strength = (strength / full).clamp(max=1)
    rate = _uniform(count, 0, 0.03, rng)[:, None, None]
    noise = torch.rand(change.shape, generator=rng) < rate
    sign = torch.where(noise, torch.randn(change.shape, generator=rng), change)
    strength = torch.where(noise, 1 / full, strength)[:, None]
    authors = torch.rand(count, 1, generator=rng) < 0.5
    ground = torch.where(authors, 1.0, torch.rand(count, 1, generator=rng)).expand(-1, 3)
    on = torch.where(authors, torch.tensor(ON_RGB), torch.rand(count, 3, generator=rng))
    off = torch.where(authors, torch.tensor(OFF_RGB), torch.rand(count, 3, generator=rng))
    ground, on, off = (colour[:, :, None, None] for colour in (ground, on, off))
    return torch.lerp(ground, torch.where(sign[:, None] > 0, on, off), strength)
