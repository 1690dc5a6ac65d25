"""A frozen ViT, split into low and high blocks.

M rows (images), S streams, N tokens (P prefix + patches), K kept patches, D width, L blocks
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eventkit.errors import SettingsError
from velora._torchvision import ensure_torchvision
from velora.model.pruning import keep_patches

ensure_torchvision()

from timm.models.eva import Eva  # noqa: E402  (needs the line above)

# VisionTransformer or Eva of timm, which types every attribute as Tensor | Module.
Vit = Any
CheckpointContexts = Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]


class Trunk(nn.Module):
    """A frozen timm ViT with its blocks split in two: ``low`` and the last ``num_high``."""

    vit: Vit
    mean: Tensor
    std: Tensor

    def __init__(self, vit: Vit, *, num_high: int) -> None:
        super().__init__()
        depth = len(vit.blocks)
        if not 1 <= num_high < depth:
            msg = f"model.high_blocks must lie in 1..{depth - 1} for {depth} blocks, got {num_high}"
            raise SettingsError(msg)
        self.vit = vit.eval().requires_grad_(requires_grad=False)
        self.num_high = num_high
        self.width = int(vit.embed_dim)
        self.num_prefix = int(vit.num_prefix_tokens)
        self.has_cls = getattr(vit, "cls_token", None) is not None
        height, width = vit.patch_embed.img_size
        self.image_size_hw = (int(height), int(width))
        self.takes_rope = isinstance(vit, Eva)
        cfg: Mapping[str, Any] = vit.pretrained_cfg
        for name in ("mean", "std"):
            values = torch.tensor(cfg.get(name) or (0.5,) * 3, dtype=torch.float32)
            self.register_buffer(name, values.view(1, 3, 1, 1), persistent=False)

    @property
    def low(self) -> list[nn.Module]:
        """The first L - h blocks."""
        return list(self.vit.blocks)[: -self.num_high]

    @property
    def high(self) -> list[nn.Module]:
        """The last h blocks."""
        return list(self.vit.blocks)[-self.num_high :]

    def embed(self, pictures: Tensor, *, kept: Tensor | None = None) -> Tensor:
        """Turn (M, 3, H, W) pictures in [0, 1] into (M, N, D) tokens, of ``kept`` patches only."""
        x = self.vit._pos_embed(self.vit.patch_embed((pictures - self.mean) / self.std))
        tokens: Tensor = self.vit.norm_pre(x[0] if self.takes_rope else x)
        return tokens if kept is None else keep_patches(tokens, kept, num_prefix=self.num_prefix)

    def run(
        self,
        blocks: Iterable[nn.Module],
        x: Tensor,
        *,
        mask: Tensor | None = None,
        num_streams: int = 1,
        kept: Tensor | None = None,
        contexts: CheckpointContexts | None = None,
    ) -> Tensor:
        """Run tokens through blocks.

        Parameters
        ----------
        x : (M, N, D), or (M, S * N, D) with the prefix tokens of ``num_streams`` S streams first
        mask : (M, 1, 1, S * N) bool, optional
            True where a key may be seen.
        kept : (M, K) int64, optional
            Positions of the patches of a stream, where not all are there.
        contexts : callable, optional
            Keep the input of each block only and compute the rest again in the backward pass,
            within these contexts; see `torch.utils.checkpoint`.
        """
        extra = {"attn_mask": mask}
        if self.takes_rope:
            extra["rope"] = self._rope(num_streams, kept)
        for block in blocks:
            if contexts is None:
                x = block(x, **extra)
            else:
                x = checkpoint(block, x, use_reentrant=False, context_fn=contexts, **extra)
        return x

    def _rope(self, num_streams: int, kept: Tensor | None) -> Tensor | None:
        """The rotary table of the patches, or None for a trunk without.

        (S * patches, ...) for all rows, or (M, 1 for all heads, S * K, ...).
        """
        rope = self.vit.rope
        if rope is None:
            return None
        # As timm's own forward pass asks: by shape, unless the table has one already.
        knows = hasattr(rope, "feat_shape") and not self.vit.dynamic_img_size
        table: Tensor = rope.get_embed(shape=None if knows else self.vit.patch_embed.grid_size)
        if kept is None:
            return table.repeat(num_streams, 1)
        return table[kept].repeat(1, num_streams, 1)[:, None]

    def final_norm(self, x: Tensor) -> Tensor:
        """Apply the trunk's last norm, wherever timm keeps it."""
        norm = self.vit.norm
        normed: Tensor = self.vit.fc_norm(x) if isinstance(norm, nn.Identity) else norm(x)
        return normed


def join_prefixes(block: nn.Module, num_prefix: int) -> None:
    """Tell a block that so many prefix tokens come first.

    Rotary attention leaves the first ``num_prefix_tokens`` unrotated; plain ViTs do not care.
    """
    if hasattr(block.attn, "num_prefix_tokens"):
        block.attn.num_prefix_tokens = num_prefix


def twin(block: nn.Module, *, shared: bool) -> nn.Module:
    """Copy a block; a ``shared`` copy holds the tensors of the original, which are frozen."""
    return copy.deepcopy(block, {id(p): p for p in block.parameters()} if shared else {})


def low_half(trunk: Trunk, *, shared: bool) -> Trunk:
    """Copy a trunk without what only its high blocks need; see `twin` for ``shared``."""
    half = copy.deepcopy(trunk, {id(p): p for p in trunk.parameters()} if shared else {})
    for i in range(1, half.num_high + 1):
        half.vit.blocks[-i] = nn.Identity()
    half.vit.norm = half.vit.fc_norm = nn.Identity()
    return half
