"""Mixup: a clip becomes a mixture of two, in both senses alike, before differences are taken.

arXiv 1710.09412. The partner of a clip is another one of its batch over all processes and parts, so
that neither their number nor the batch's division changes what is learnt from.

    B clips, T frames, U distinct images
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from velora.frames.frames import Frames


def draw_partners(size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return whom each clip of a batch is mixed with, a permutation; some may be left alone."""
    return rng.permutation(size)


def draw_share(mixup: float, rng: np.random.Generator) -> float:
    """Return the share of the clip itself, at least one half.

    Beta(mixup, mixup) is symmetric and so are pairs, so this loses nothing; and the clip stays the
    one that its label and its key name.
    """
    share = float(rng.beta(mixup, mixup))
    return max(share, 1 - share)


def mix_frames(frames: Frames, partner: NDArray[np.int64], share: NDArray[np.float64]) -> Frames:
    """Mix the frames of clips with those of their partners.

    Parameters
    ----------
    frames : Frames
        Of at least B clips; both of a pair have this sense or lack it.
    partner : (B,) int64
        Rows of ``frames.index``.
    share : (B,) float64
        Of the clip itself; 1 leaves it alone.

    Returns
    -------
    Frames
        Of the B clips; equal mixtures within a clip are made once.
    """
    size = len(partner)
    own, other = frames.index[:size], frames.index[torch.from_numpy(partner)]
    shares = torch.from_numpy(share)
    if bool((shares == 1).all()):
        return Frames(frames.images, own)
    # Rows that tell mixtures apart: image, partner's image, clip (which has the share).
    clip = torch.arange(size)[:, None].expand_as(own)
    rows = torch.stack([own, other, clip], dim=-1)
    alone = shares[clip] == 1
    rows[..., 1:].masked_fill_(alone[..., None], -1)
    absent = own < 0
    distinct, inverse = torch.unique(rows[~absent], dim=0, return_inverse=True)
    images, device = frames.images, frames.images.device
    first, second, whose = distinct.unbind(1)
    weight = torch.where(second < 0, 1.0, shares[whose.clamp(min=0)]).to(images.dtype)
    mixed = torch.lerp(
        images[second.clamp(min=0).to(device)],
        images[first.to(device)],
        weight.to(device).view(-1, 1, 1, 1),
    )
    index = torch.full_like(own, -1)
    index[~absent] = inverse
    return Frames(mixed, index)
