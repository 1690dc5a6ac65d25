"""The frames of a batch of clips, their differences and their means; every distinct image once.

B clips, T frames, U distinct images, N tokens, D width, H, W
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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


def frame_mean(rows: Tensor, index: Tensor) -> Tensor:
    """Mean over the frames of each clip: (U, N, D) and (B, T) -> (B, N, D), zero where absent.

    A matrix of shares times the rows: repeated frames count as often as they occur although they
    were computed once, and the order of additions is fixed on every device.
    """
    num_frames = max(index.shape[1], 1)
    dtype = torch.promote_types(rows.dtype, torch.float32)
    shares = torch.zeros(len(index), len(rows) + 1, dtype=dtype)  # the last is for -1
    shares.scatter_add_(1, index % (len(rows) + 1), torch.ones(index.shape, dtype=dtype))
    shares = (shares[:, :-1] / num_frames).to(rows.device)
    with torch.autocast(rows.device.type, enabled=False):
        return (shares @ rows.flatten(1).to(dtype)).view(len(index), *rows.shape[1:])
