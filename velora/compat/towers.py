"""Three CLIP towers on one frozen ViT: each stream has adapters of its own, the rest is shared.

The release holds three copies of CLIP whose frozen weights are equal; one copy computes the same.

    M images, B clips, N tokens, D width of the trunk, p width of CLIP's space, r rank, L layers
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eventkit.errors import SettingsError
from velora.model.lora import Adapter, GroupedLoRA, RowGroups, add_lora
from velora.model.quick_gelu import QuickGELU
from velora.model.trunk import Trunk

STREAMS = ("rgb", "event", "diff")
# c_fc and c_proj of CLIP.
TARGETS = ("fc1", "fc2")
# CLIP ViT-B/16's; the release adapts these layers too, because their names end alike.
TEXT_LAYERS = 12
TEXT_WIDTH = 512


class Towers(nn.Module):
    """What the release asks of its three adapted CLIP models.

    Parameters
    ----------
    trunk : Trunk
        Of a CLIP ViT; adapters are put into all its blocks, and QuickGELU, CLIP's own.
    projection : (D, p) Tensor
        From the trunk's width to CLIP's space; frozen here.
    adapter : Adapter

    Raises
    ------
    SettingsError
        If the trunk is not built like CLIP's.
    """

    def __init__(self, trunk: Trunk, projection: Tensor, *, adapter: Adapter) -> None:
        super().__init__()
        _check_clip(trunk)
        for block in trunk.vit.blocks:
            block.mlp.act = QuickGELU()
        self.groups = RowGroups()
        add_lora(
            list(trunk.vit.blocks),
            targets=TARGETS,
            num_groups=len(STREAMS),
            adapter=adapter,
            groups=self.groups,
        )
        self.trunk = trunk
        self.projection = nn.Parameter(projection, requires_grad=False)

    def forward(self, images: Tensor, sizes: Sequence[int], *, recompute: bool = False) -> Tensor:
        """Encode the images of all streams in one pass.

        Parameters
        ----------
        images : (M, 3, H, W)
            As the towers see them: normalised; those of a stream lie together.
        sizes : (3,) int
            Images of each stream.
        recompute : bool
            Keep the input of each block only, for the backward pass.

        Returns
        -------
        (M, N, p) Tensor
            All tokens after the last norm and the projection.
        """
        vit = self.trunk.vit
        with torch.no_grad():  # nothing before the first adapter trains
            x = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
        contexts = self.groups.for_checkpoint if recompute else None
        with self.groups(sizes, like=images):
            x = self.trunk.run(vit.blocks, x, contexts=contexts)
        projected: Tensor = vit.norm(x) @ self.projection
        return projected

    def last_block(self, z: Tensor, *, attention: Literal["batch", "tokens"]) -> Tensor:
        """Apply the last block of the RGB and of the event tower once more.

        Parameters
        ----------
        z : (2, B, N, D)
        attention : {"batch", "tokens"}
            "batch" attends across the clips at each token, as the release does: it hands (B, N, D)
            to a block that expects (N, B, D).

        Returns
        -------
        (2, B, N, D) Tensor
        """
        if attention == "batch":
            return self.last_block(z.transpose(1, 2), attention="tokens").transpose(1, 2)
        rows = z.shape[1]
        with self.groups([rows, rows, 0], like=z):
            y = self.trunk.run([self.trunk.vit.blocks[-1]], z.flatten(0, 1))
        return y.unflatten(0, (2, rows))

    def side_branch(self, u: Tensor) -> Tensor:
        """Run (2, B, N, D) through the last block's adapters alone, without ``alpha / r``."""
        mlp = self.trunk.vit.blocks[-1].mlp
        hidden = mlp.act(_unscaled(mlp.fc1, u.flatten(1, 2)))
        return _unscaled(mlp.fc2, hidden).unflatten(1, u.shape[1:3])


def _unscaled(layer: GroupedLoRA, x: Tensor) -> Tensor:
    """``B A x`` of the first two towers, (2, B * N, in) -> (2, B * N, out)."""
    code = layer.dropout(x) @ layer.lora_a[:2].mT
    return code @ layer.lora_b[:2].mT


def _check_clip(trunk: Trunk) -> None:
    vit = trunk.vit
    norms = all(isinstance(getattr(vit, n, None), nn.LayerNorm) for n in ("norm_pre", "norm"))
    if not (norms and trunk.has_cls and trunk.num_prefix == 1 and not trunk.takes_rope):
        msg = (
            "mode = 'compat' needs a CLIP ViT (a norm before and after the blocks, one CLS token), "
            f"got {type(vit).__name__} without; choose a vit_*_clip_* backbone"
        )
        raise SettingsError(msg)


class TextAdapters(nn.Module):
    """The adapters of the three text towers, which nothing calls; one row of tensors a tower."""

    def __init__(self, *, rank: int) -> None:
        super().__init__()
        hidden = 4 * TEXT_WIDTH
        for name, (inside, outside) in {
            "c_fc": (TEXT_WIDTH, hidden),
            "c_proj": (hidden, TEXT_WIDTH),
        }.items():
            a = torch.empty(len(STREAMS), TEXT_LAYERS, rank, inside)
            for one in a.flatten(0, 1):
                nn.init.kaiming_uniform_(one, a=math.sqrt(5))
            b = torch.zeros(len(STREAMS), TEXT_LAYERS, outside, rank)
            self.register_parameter(f"{name}_a", nn.Parameter(a))
            self.register_parameter(f"{name}_b", nn.Parameter(b))


class SelfAttention(nn.Module):
    """Attention with one head, without a residual and without a last projection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        heads = [layer(x)[:, None] for layer in (self.query, self.key, self.value)]
        return F.scaled_dot_product_attention(*heads)[:, 0]
