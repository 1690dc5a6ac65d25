"""The frames of a batch of clips, their differences and their means; every distinct image once.

B clips, T frames, U distinct images, N tokens, D width, H, W
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a batch of clips, every distinct image once.

    images : (U, 3, H, W) float in [0, 1]
    index : (B, T) int64 on the CPU
        Frame t of clip b is ``images[index[b, t]]``; -1 says that the clip lacks this sense.
    """

    images: Tensor
    index: Tensor

    def without(self) -> Frames:
        """The same clips with this sense taken away."""
        return Frames(self.images[:0], torch.full_like(self.index, -1))


def hide(frames: Frames, rows: Tensor) -> Frames:
    """Take the frames of some clips away, (B,) bool; images that none is left of are dropped."""
    if not bool(rows.any()):
        return frames
    index = frames.index.masked_fill(rows[:, None], -1)
    used = torch.unique(index[index >= 0])
    places = torch.full((len(frames.images) + 1,), -1)  # the last is for -1
    places[used] = torch.arange(len(used))
    return Frames(frames.images[used.to(frames.images.device)], places[index])


def difference_frames(senses: list[Frames]) -> Frames:
    """Difference pictures of consecutive frames, averaged over the senses of the model.

    D_t = sum over the senses of |X_t - X_(t-1)| / number of senses, in [0, 1]. A sense that a clip
    lacks adds nothing. Equal differences (all those between repeated frames) are made once.
    With T = 1 there are none, and the stream is absent.

    Returns
    -------
    Frames
        ``index`` is (B, T - 1).
    """
    like = senses[0].images
    index = torch.stack([f.index for f in senses], dim=-1)  # (B, T, senses)
    if index.shape[1] < 2:
        return Frames(like[:0], index[:, :0, 0])
    pairs = torch.stack([index[:, :-1], index[:, 1:]], dim=-1)  # (B, T - 1, senses, 2)
    pairs = pairs.masked_fill(pairs[..., :1] == pairs[..., 1:], -1)  # the same image: no change
    rows, inverse = torch.unique(pairs.flatten(2).flatten(0, 1), dim=0, return_inverse=True)
    total = like.new_zeros(len(rows), *like.shape[1:])
    for sense, pair in zip(senses, rows.view(-1, len(senses), 2).unbind(1), strict=True):
        moved = (pair[:, 0] >= 0).nonzero().squeeze(1)
        old, new = sense.images[pair[moved].T.to(like.device)]
        total.index_add_(0, moved.to(like.device), (new - old).abs() / len(senses))
    absent = (index[:, :1] < 0).all(dim=-1)  # (B, 1)
    return Frames(total, inverse.view(pairs.shape[:2]).masked_fill(absent, -1))


def is_present(index: Tensor) -> Tensor:
    """(B,) bool: which clips have frames in this stream."""
    return index[:, 0] >= 0 if index.shape[1] else torch.zeros(len(index), dtype=torch.bool)


def frame_mean(rows: Tensor, index: Tensor, *, scores: Tensor | None = None) -> Tensor:
    """Mean over the frames of each clip: (U, N, D) and (B, T) -> (B, N, D), zero where absent.

    A matrix of shares times the rows: repeated frames count as often as they occur although they
    were computed once, and the order of additions is fixed on every device. With ``scores`` (U,)
    the shares of a clip are their softmax over its frames.
    """
    dtype = torch.promote_types(rows.dtype, torch.float32)
    index = index.to(rows.device)
    if scores is None:
        weights = torch.full(index.shape, 1 / max(index.shape[1], 1), dtype=dtype).to(rows.device)
    else:
        weights = F.pad(scores.to(dtype), (0, 1))[index].softmax(dim=1)
    shares = weights.new_zeros(len(index), len(rows) + 1)  # the last is for -1
    shares = shares.scatter_add(1, index % (len(rows) + 1), weights)[:, :-1]
    with torch.autocast(rows.device.type, enabled=False):
        return (shares @ rows.flatten(1).to(dtype)).view(len(index), *rows.shape[1:])


class FramePooling(nn.Module):
    """Learned weights of the frames of a stream; all equal at the start.

    The score of a frame is the product of a learned query with its normalised mean token; the
    frames of a clip are weighed by the softmax of their scores.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))

    def forward(self, rows: Tensor, index: Tensor) -> Tensor:
        """(U, N, D) and (B, T) -> (B, N, D)."""
        mean = F.layer_norm(rows.mean(dim=1), rows.shape[-1:])
        return frame_mean(rows, index, scores=mean @ self.query)
