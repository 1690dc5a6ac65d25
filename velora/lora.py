"""Grouped LoRA: one frozen Linear, one low-rank term per stream, one batched pass.

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
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eventkit.errors import SettingsError


class RowGroups:
    """How many rows of the running batch belong to each group; empty groups are fine."""

    def __init__(self) -> None:
        self.sizes: tuple[int, ...] | None = None
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
        before = self.sizes, self.members
        groups = torch.arange(len(sizes), device=like.device).repeat_interleave(
            torch.tensor(tuple(sizes), device=like.device), output_size=sum(sizes)
        )
        self.sizes = tuple(sizes)
        self.members = F.one_hot(groups, len(sizes)).to(like.dtype)
        try:
            yield
        finally:
            self.sizes, self.members = before


class GroupedLoRALinear(nn.Module):
    """A frozen Linear plus ``alpha / r * B_g A_g x`` with the pair of the row's group g.

    ``A`` starts Kaiming-uniform, ``B`` at zero, so a new layer computes what its base computes.

    Parameters
    ----------
    base : nn.Linear
        Frozen here.
    num_groups : int
        1 is plain LoRA and needs no row groups.
    rank, alpha, dropout
        As in the LoRA paper; dropout acts on the input of ``A``.
    groups : RowGroups, optional
        Required for more than one group.
    """

    def __init__(
        self,
        base: nn.Linear,
        *,
        num_groups: int,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        groups: RowGroups | None = None,
    ) -> None:
        super().__init__()
        if num_groups > 1 and groups is None:
            msg = f"{num_groups} groups need a RowGroups object that says which row is whose"
            raise ValueError(msg)
        self.base = base.requires_grad_(requires_grad=False)
        self.groups = groups
        self.num_groups = num_groups
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.lora_a = nn.Parameter(base.weight.new_empty(num_groups, rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(num_groups, base.out_features, rank))
        for a in self.lora_a:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(M, ..., in)`` to ``(M, ..., out)``."""
        num_groups, rank, _ = self.lora_a.shape
        code = F.linear(self.dropout(x), self.lora_a.flatten(0, 1)) * self.scale
        if num_groups > 1:
            own = self._members(x).repeat_interleave(rank, dim=1)  # (M, G * r)
            code = code * own.view(len(own), *(1,) * (x.ndim - 2), -1)
        up = self.lora_b.transpose(0, 1).flatten(1)  # (out, G * r)
        out: Tensor = self.base(x)
        return out + F.linear(code, up)

    def _members(self, x: Tensor) -> Tensor:
        members = self.groups.members if self.groups is not None else None
        if members is None or members.shape != (x.shape[0], self.num_groups):
            got = None if members is None else tuple(members.shape)
            msg = f"row groups {got} do not fit {x.shape[0]} rows in {self.num_groups} groups"
            raise RuntimeError(msg)
        return members


def add_lora(
    blocks: Sequence[nn.Module],
    *,
    targets: Sequence[str],
    num_groups: int,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    groups: RowGroups | None = None,
) -> list[GroupedLoRALinear]:
    """Wrap every Linear of the blocks whose last name is a target; return the new layers.

    Raises
    ------
    SettingsError
        If a target names no Linear in some block: a silent miss would train less than was asked.
    """
    layers: list[GroupedLoRALinear] = []
    for block in blocks:
        linears = {n: m for n, m in block.named_modules() if isinstance(m, nn.Linear)}
        for target in targets:
            names = [name for name in linears if name.rsplit(".", 1)[-1] == target]
            if not names:
                known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linears}))
                msg = (
                    f"LoRA target {target!r} names no linear layer in a block of this trunk, "
                    f"which has: {known}; choose lora.targets among these"
                )
                raise SettingsError(msg)
            for name in names:
                layer = GroupedLoRALinear(
                    linears[name],
                    num_groups=num_groups,
                    rank=rank,
                    alpha=alpha,
                    dropout=dropout,
                    groups=groups,
                )
                parent, _, child = name.rpartition(".")
                setattr(block.get_submodule(parent), child, layer)
                layers.append(layer)
    return layers
