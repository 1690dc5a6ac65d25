"""VELoRA, ``mode = "paper"``, ``fusion = "joint"``: the method as figure and abstract describe it.

One frozen ViT serves all streams. Its low blocks run once over the images of every stream, each
stream with low-rank terms of its own; the frame means of the streams are joined along the tokens
and run through the high blocks with one shared low-rank term; a linear head reads the pooled
streams. A frozen copy of the last block, with an adapter of its own, learns to reconstruct each
sense from the other while training.

    B clips, T frames, S streams, U distinct images, M rows (images of all streams)
    N tokens (P prefix + patches), D width, C classes, H, W
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from velora.backbone import Trunk
from velora.classifier import Classifier, Output
from velora.frames import Frames, difference_frames, frame_mean, is_present
from velora.lora import GroupedLoRALinear, RowGroups, add_lora

Streams = Literal["fusion", "rgb", "event"]
STREAM_NAMES: dict[Streams, tuple[str, ...]] = {
    "fusion": ("rgb", "event", "diff"),
    "rgb": ("rgb", "diff"),
    "event": ("event", "diff"),
}


class VELoRA(Classifier):
    """The classifier; only adapters, stream embeddings and head train.

    Parameters
    ----------
    trunk : Trunk
        Frozen; adapters are put into its blocks.
    num_classes : int
    streams : {"fusion", "rgb", "event"}
        ``rgb`` and ``event`` build single-sense models: the other sense is in no stream, the
        difference included.
    rank, alpha, dropout, targets
        Of every adapter.
    reconstruct : bool
        Build the reconstruction block (only ever with ``streams = "fusion"``).
    head_dropout : float
    """

    def __init__(
        self,
        trunk: Trunk,
        *,
        num_classes: int,
        streams: Streams = "fusion",
        rank: int = 4,
        alpha: float = 8.0,
        dropout: float = 0.0,
        targets: tuple[str, ...] = ("fc1", "fc2"),
        reconstruct: bool = True,
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.streams = STREAM_NAMES[streams]
        self.senses = tuple(name for name in self.streams if name != "diff")
        self.num_classes = num_classes
        self.row_groups = RowGroups()
        num_streams = len(self.streams)

        # The copy comes before the adapters, so that it is the trunk's last block and no more.
        rec = _twin(trunk.high[-1]) if reconstruct and len(self.senses) == 2 else None
        adapt = partial(add_lora, targets=targets, rank=rank, alpha=alpha, dropout=dropout)
        adapt(trunk.low, num_groups=num_streams, groups=self.row_groups)
        adapt(trunk.high, num_groups=1)
        if rec is not None:
            adapt([rec], num_groups=1)
        trunk.join_high(num_streams)
        self.trunk = trunk
        self.rec = rec

        self.stream_embed = nn.Parameter(torch.zeros(num_streams, trunk.width))
        self.pools = 2 if trunk.has_cls else 1
        self.head_dropout = nn.Dropout(head_dropout)
        self.head = nn.Linear(num_streams * self.pools * trunk.width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return self.trunk.image_size_hw

    def train(self, mode: bool = True) -> VELoRA:  # noqa: FBT001, FBT002 - the signature of torch
        """Set the mode of what trains; the frozen trunk always computes as in evaluation."""
        super().train(mode)
        for part in (self.trunk, self.rec):
            if part is not None:
                part.eval()
                for module in part.modules():
                    if isinstance(module, GroupedLoRALinear):
                        module.dropout.train(mode)
        return self

    def forward(self, frames: dict[str, Frames]) -> Output:
        """Classify clips.

        Parameters
        ----------
        frames : {"rgb": Frames, "event": Frames}
            Pictures at the trunk's size; a single-sense model looks at its own sense only. A sense
            that a clip lacks is masked. A clip must have at least one of the model's senses.
        """
        per_stream = self._stream_frames({name: frames[name] for name in self.senses})
        present = torch.stack([is_present(f.index) for f in per_stream], dim=1)  # (B, S)
        if not bool(present.any(dim=1).all()):
            msg = f"a clip of the batch has none of the senses {self.senses}"
            raise ValueError(msg)
        features, rope = self._low(per_stream)
        joint = self._high(features, present, rope)
        pooled = self._pool(joint, present)
        logits = self.head(self.head_dropout(pooled))
        if not self.training or self.rec is None:
            return Output(logits)
        both = present[:, :2].all(dim=1).nonzero().squeeze(1).to(features.device)
        if not len(both):
            return Output(logits)
        rec_loss = self._reconstruction_loss(self.rec, features[both], rope)
        return Output(logits, rec_loss, rec_clips=len(both))

    def _stream_frames(self, senses: dict[str, Frames]) -> list[Frames]:
        everything = {**senses, "diff": difference_frames(list(senses.values()))}
        return [everything[name] for name in self.streams]

    def _low(self, streams: list[Frames]) -> tuple[Tensor, Tensor | None]:
        """One pass of the low blocks over the images of all streams -> (B, S, N, D)."""
        pictures = torch.cat([f.images for f in streams])
        sizes = [len(f.images) for f in streams]
        with torch.no_grad():  # nothing before the first adapter trains
            x, rope = self.trunk.embed(pictures)
        with self.row_groups(sizes, like=pictures):
            x = self.trunk.run(self.trunk.low, x, rope=rope)
        means = [
            frame_mean(rows, f.index)
            for rows, f in zip(torch.split(x, sizes), streams, strict=True)
        ]
        return torch.stack(means, dim=1) + self.stream_embed[:, None], rope

    def _high(self, features: Tensor, present: Tensor, rope: Tensor | None) -> Tensor:
        """Joint attention over the tokens of all streams, then the trunk's norm.

        The prefix tokens of all streams go first, which rotary trunks need; attention does not
        depend on the order of its tokens. Returns (B, S, N, D).
        """
        num_clips, num_streams, num_tokens, width = features.shape
        lengths = [self.trunk.num_prefix, num_tokens - self.trunk.num_prefix]
        parts = torch.split(features, lengths, dim=2)
        x = torch.cat([part.flatten(1, 2) for part in parts], dim=1)
        mask = None
        if not bool(present.all()):
            keys = torch.cat([present.repeat_interleave(n, dim=1) for n in lengths], dim=1)
            mask = keys[:, None, None].to(x.device)
        rope = None if rope is None else rope.repeat(num_streams, 1)
        x = self.trunk.run(self.trunk.high, x, rope=rope, mask=mask)
        x = self.trunk.final_norm(x)
        parts = torch.split(x, [num_streams * n for n in lengths], dim=1)
        by_stream = [
            part.reshape(num_clips, num_streams, n, width)
            for part, n in zip(parts, lengths, strict=True)
        ]
        return torch.cat(by_stream, dim=2)

    def _pool(self, x: Tensor, present: Tensor) -> Tensor:
        """[CLS if there is one, mean of patches] of each stream, zero for absent streams."""
        pooled = [x[:, :, self.trunk.num_prefix :].mean(dim=2)]
        if self.trunk.has_cls:
            pooled.insert(0, x[:, :, 0])
        return (torch.cat(pooled, dim=-1) * present[..., None].to(x)).flatten(1)

    def _reconstruction_loss(self, rec: nn.Module, features: Tensor, rope: Tensor | None) -> Tensor:
        rgb, event = features[:, 0], features[:, 1]
        rebuilt = self.trunk.run([rec], torch.cat([event, rgb]), rope=rope)
        targets = torch.cat([rgb, event]).detach()
        # Each direction is a mean over as many numbers, so their sum is twice the joint mean.
        return 2 * F.mse_loss(_plain_norm(rebuilt), _plain_norm(targets))


def _twin(block: nn.Module) -> nn.Module:
    """A copy of the structure that shares every (frozen) tensor with the original."""
    return copy.deepcopy(block, {id(p): p for p in block.parameters()})


def _plain_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
