"""Grouped LoRA: one frozen layer, one low-rank term per stream, one batched pass.

Problem: RGB, event and difference images share a frozen trunk but each stream has adapters of
its own. Running the trunk once per stream wastes the device; switching a "current adapter" between
passes is hidden state that checkpointed recomputation gets wrong (without an error).
Choice: all images are rows of one batch, the rows of a stream lie together, and a
:class:`RowGroups` object shared by the layers of one model says how many rows each stream has
during one pass. A layer computes the low-rank codes of *all* groups for every row and keeps only
the row's own. Cost: the r-wide code is computed G times over, under 1 % of the layer's work; in
return there is no slicing, no concatenation and no copy of the wide activations.

    G groups (streams), M rows (images or clips), r rank
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eventkit.errors import SettingsError

#: The target that stands for an adapter around the whole feed-forward of a block.
FEED_FORWARD = "ffn"

#: What some trunks, EVA-02 for one, have in the place of a layer: the halves of a gated
#: feed-forward, and queries, keys and values apart.
_PARTS = {"fc1": ("fc1_g", "fc1_x"), "qkv": ("q_proj", "k_proj", "v_proj")}


class RowGroups:
    """How many rows of the running batch belong to each group; empty groups are fine."""

    def __init__(self) -> None:
        self.members: Tensor | None = None

    @contextmanager
    def __call__(self, sizes: Sequence[int], *, like: Tensor) -> Iterator[None]:
        """Set the group sizes for the layers that run inside the ``with`` block.

        Parameters
        ----------
        sizes : (G,) int
            Rows per group, in the order in which the groups lie in the batch.
        like : Tensor
            Gives the device and dtype of the membership table.
        """
        groups = torch.arange(len(sizes), device=like.device).repeat_interleave(
            torch.tensor(tuple(sizes), device=like.device), output_size=sum(sizes)
        )
        with self._set(F.one_hot(groups, len(sizes)).to(like.dtype)):
            yield

    def for_checkpoint(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of ``torch.utils.checkpoint``: the groups of now for the second run.

        The backward pass runs a block again after the ``with`` block has ended.
        """
        return nullcontext(), self._set(self.members)

    @contextmanager
    def _set(self, members: Tensor | None) -> Iterator[None]:
        before, self.members = self.members, members
        try:
            yield
        finally:
            self.members = before


class Adapter(NamedTuple):
    """What all adapters of a model have in common; `alpha / rank` scales, as in the LoRA paper.

    ``dropout`` acts on the input of ``A``. Without ``train_a``, ``A`` stays as drawn (LoRA-FA,
    arXiv 2308.03303).
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    train_a: bool = True


class GroupedLowRank(nn.Module):
    """``alpha / r * B_g A_g x`` with the pair of the row's group g.

    ``A`` starts Kaiming-uniform, ``B`` at zero, so that a new term is zero.

    Parameters
    ----------
    in_features, out_features : int
    num_groups : int
        1 is plain LoRA and needs no row groups.
    adapter : Adapter
    groups : RowGroups, optional
        Required for more than one group.
    like : Tensor
        Gives device and dtype.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_groups: int,
        adapter: Adapter,
        like: Tensor,
        groups: RowGroups | None = None,
    ) -> None:
        super().__init__()
        if num_groups > 1 and groups is None:
            msg = f"{num_groups} groups need a RowGroups object that says which row is whose"
            raise ValueError(msg)
        rank = adapter.rank
        self.groups = groups
        self.num_groups = num_groups
        self.scale = adapter.alpha / rank
        self.dropout = nn.Dropout(adapter.dropout)
        self.lora_a = nn.Parameter(like.new_empty(num_groups, rank, in_features))
        self.lora_b = nn.Parameter(like.new_zeros(num_groups, out_features, rank))
        for a in self.lora_a:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        self.lora_a.requires_grad_(adapter.train_a)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(M, ..., in)`` to ``(M, ..., out)``."""
        num_groups, rank, _ = self.lora_a.shape
        code = F.linear(self.dropout(x), self.lora_a.flatten(0, 1)) * self.scale
        if num_groups > 1:
            own = self._members(x).repeat_interleave(rank, dim=1)  # (M, G * r)
            code = code * own.view(len(own), *(1,) * (x.ndim - 2), -1)
        return F.linear(code, self.lora_b.transpose(0, 1).flatten(1))  # (out, G * r)

    def _members(self, x: Tensor) -> Tensor:
        members = self.groups.members if self.groups is not None else None
        if members is None or members.shape != (x.shape[0], self.num_groups):
            got = None if members is None else tuple(members.shape)
            msg = f"row groups {got} do not fit {x.shape[0]} rows in {self.num_groups} groups"
            raise RuntimeError(msg)
        return members


class GroupedLoRA(GroupedLowRank):
    """A frozen layer plus the low-rank term of the row's group.

    Parameters
    ----------
    base : nn.Module
        A Linear, or a whole feed-forward; frozen here.
    """

    def __init__(
        self,
        base: nn.Module,
        *,
        num_groups: int,
        adapter: Adapter,
        groups: RowGroups | None = None,
    ) -> None:
        linears = [m for m in base.modules() if isinstance(m, nn.Linear)]
        super().__init__(
            linears[0].in_features,
            linears[-1].out_features,
            num_groups=num_groups,
            adapter=adapter,
            groups=groups,
            like=linears[0].weight,
        )
        self.base = base.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(M, ..., in)`` to ``(M, ..., out)``."""
        out: Tensor = self.base(x)
        return out + super().forward(x)


def add_lora(
    blocks: Sequence[nn.Module],
    *,
    targets: Sequence[str],
    num_groups: int,
    adapter: Adapter,
    groups: RowGroups | None = None,
) -> list[GroupedLoRA]:
    """Wrap every Linear of the blocks whose last name is a target; return the new layers.

    The target ``"ffn"`` wraps the feed-forward of each block as a whole. Where a trunk has several
    layers in the place of ``fc1`` or ``qkv``, the target means all of them.

    Raises
    ------
    SettingsError
        If a target names no Linear in some block: a silent miss would train less than was asked.
    """
    layers: list[GroupedLoRA] = []
    for block in blocks:
        for name in _target_names(block, targets):
            layer = GroupedLoRA(
                block.get_submodule(name), num_groups=num_groups, adapter=adapter, groups=groups
            )
            block.set_submodule(name, layer)
            layers.append(layer)
    return layers


def _target_names(block: nn.Module, targets: Sequence[str]) -> list[str]:
    linears = [name for name, m in block.named_modules() if isinstance(m, nn.Linear)]
    found: list[str] = []
    for target in targets:
        if target == FEED_FORWARD and hasattr(block, "mlp"):
            found.append("mlp")
            continue
        names = _named(linears, (target,)) or _named(linears, _PARTS.get(target, ()))
        if not names:
            known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linears}))
            msg = (
                f"LoRA target {target!r} names no linear layer in a block of this trunk, "
                f"which has: {known}; choose lora.targets among these, or {FEED_FORWARD!r}"
            )
            raise SettingsError(msg)
        found += names
    return list(dict.fromkeys(found))


def _named(linears: Sequence[str], last: Sequence[str]) -> list[str]:
    return [name for name in linears if name.rsplit(".", 1)[-1] in last]
