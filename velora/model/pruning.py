"""Which patches of a clip are looked at, where only a share of them is (``model.keep_tokens``).

Problem: most patches of an event picture are blank, and cost as much as the others.
Choice: a clip keeps the K positions with most ink in its event and difference pictures, the same in
all frames and streams: tensors keep one shape, streams stay aligned. Cost: what only RGB shows and
what stands still may go.
Ink is the mean distance from blank: the most frequent gray of the event pictures of a clip, which
is the ground of every input of this package and needs no knowledge of those of others.

    B clips, T frames, M pictures of one clip each, P patches, K kept patches, N tokens, D width
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from velora.frames.frames import Frames

# 1/2 and all k/255 are multiples of 1/510.
_LEVELS = 510
# Resized blank is off by 1e-7, and equal sums may differ in the last bit; ties must not.
_DECIMALS = 5


class Pruned(NamedTuple):
    """Streams in which no picture belongs to two clips, and the rising positions that are kept."""

    streams: list[Frames]
    clips: Tensor  # (B, K) int64
    pictures: list[Tensor]  # (M, K) int64 of each stream


def prune(streams: Mapping[str, Frames], *, share: float, grid_hw: tuple[int, int]) -> Pruned:
    """Choose ceil(share * P) patches of each clip; of two with equal ink the first.

    Where no ink is at all, as in a still RGB clip, RGB patches with most variance are taken.

    Parameters
    ----------
    streams : {"rgb", "event", "diff"} -> Frames
    share : float
    grid_hw : (int, int)
        Patches of a picture, row by row.
    """
    own = {name: own_pictures(frames) for name, frames in streams.items()}
    ink = _ink(own, grid_hw).round(decimals=_DECIMALS)
    most = ink.sort(dim=1, descending=True, stable=True).indices
    clips = most[:, : num_kept(share, ink.shape[1])].sort(dim=1).values
    pictures = [clips[owners.to(clips.device)] for _, owners in own.values()]
    return Pruned([frames for frames, _ in own.values()], clips, pictures)


def num_kept(share: float, num_patches: int) -> int:
    """K; 0.28 of 25 patches are 7, although the product of floats is a little more."""
    return max(1, math.ceil(share * num_patches - 1e-9))


def keep_patches(tokens: Tensor, kept: Tensor, *, num_prefix: int) -> Tensor:
    """Keep the prefix and the (M, K) ``kept`` patches: (M, N, D) -> (M, prefix + K, D)."""
    positions = (kept + num_prefix)[..., None].expand(-1, -1, tokens.shape[2])
    return torch.cat([tokens[:, :num_prefix], tokens.gather(1, positions)], dim=1)


def own_pictures(frames: Frames) -> tuple[Frames, Tensor]:
    """Repeat pictures that clips share; also return the (M,) clips that the pictures belong to."""
    images, index = frames.images, frames.index
    present = index >= 0
    clips = torch.arange(len(index))[:, None].expand_as(index)
    pairs = torch.stack([clips[present], index[present]], dim=1)
    pairs, inverse = torch.unique(pairs, dim=0, return_inverse=True)
    owners, rows = pairs.unbind(1)
    if not torch.equal(rows, torch.arange(len(images))):
        images = images[rows.to(images.device)]
    return Frames(images, torch.full_like(index, -1).masked_scatter(present, inverse)), owners


@torch.no_grad()
def _ink(own: Mapping[str, tuple[Frames, Tensor]], grid_hw: tuple[int, int]) -> Tensor:
    """(B, P) float64, summed over the frames of a clip."""
    like, _ = next(iter(own.values()))
    ink = like.images.new_zeros(len(like.index), math.prod(grid_hw), dtype=torch.float64)
    drawn = [own["diff"][0]] if "diff" in own else []
    if "event" in own:
        events, owners = own["event"]
        blank = _blanks(events)[owners.to(ink.device)].view(-1, 1, 1, 1)
        drawn.append(Frames((events.images - blank).abs(), events.index))
    for frames in drawn:
        ink += _over_frames(_patches(frames.images, grid_hw).mean(dim=2), frames.index)
    bare = (ink < 10**-_DECIMALS).all(dim=1, keepdim=True)
    if "rgb" not in own or not bool(bare.any()):
        return ink
    rgb, _ = own["rgb"]
    return torch.where(bare, _over_frames(_patches(rgb.images, grid_hw).var(dim=2), rgb.index), ink)


def _blanks(events: Frames) -> Tensor:
    """(B,) the most frequent gray of each clip; every fourth row and column tell it."""
    gray = events.images[..., ::4, ::4].clamp(0, 1).flatten(1)
    first = torch.arange(len(gray), device=gray.device)[:, None] * (_LEVELS + 1)
    levels = (gray * _LEVELS).round().long() + first
    counts = torch.bincount(levels.flatten(), minlength=len(gray) * (_LEVELS + 1))
    return _over_frames(counts.view(-1, _LEVELS + 1), events.index).argmax(dim=1) / _LEVELS


def _over_frames(rows: Tensor, index: Tensor) -> Tensor:
    """Sum (M, n) rows over the frames of each clip, zero where absent: (B, n)."""
    padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])  # the last is for -1
    return padded[index.to(rows.device)].sum(dim=1)


def _patches(pictures: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(M, 3, H, W) -> (M, P, numbers of a patch) float64."""
    split = pictures.unflatten(3, (grid_hw[1], -1)).unflatten(2, (grid_hw[0], -1))
    return split.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2).double()
