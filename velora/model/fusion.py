"""How the streams of a clip meet: in the high blocks, or in a block beside them.

Attention does not depend on the order of its tokens, so the prefix tokens of all streams go first,
which trunks with rotary positions need.

    B clips, S streams, N tokens (P prefix + patches), K kept patches, D width
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from velora.model.lora import Adapter, GroupedLowRank, RowGroups, add_lora
from velora.model.trunk import Trunk, join_prefixes, twin


class JointFusion(nn.Module):
    """All streams through the high blocks together, with one shared low-rank term per layer.

    Parameters
    ----------
    trunk : Trunk
        Its high blocks are adapted in place.
    streams : sequence of str
    adapter : Adapter, optional
        None adds none: the high blocks stay as they are.
    targets : sequence of str
    """

    def __init__(
        self,
        trunk: Trunk,
        *,
        streams: Sequence[str],
        adapter: Adapter | None,
        targets: Sequence[str],
    ) -> None:
        super().__init__()
        if adapter is not None:
            add_lora(trunk.high, targets=targets, num_groups=1, adapter=adapter)
        for block in trunk.high:
            join_prefixes(block, len(streams) * trunk.num_prefix)
        self.num_prefix = trunk.num_prefix
        self.out_streams = tuple(streams)

    def forward(
        self,
        trunk: Trunk,
        features: Tensor,
        present: Tensor,
        *,
        kept: Tensor | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Map (B, S, N, D) features to (B, S, N, D); ``present`` (B, S) says what to look at.

        ``kept`` (B, K) are the positions of the patches, where not all are there.
        """
        num_streams = features.shape[1]
        x = trunk.run(
            trunk.high,
            join_tokens(features, self.num_prefix),
            mask=key_mask(features, present, self.num_prefix),
            num_streams=num_streams,
            kept=kept,
            contexts=_no_groups if recompute else None,
        )
        return split_tokens(x, num_streams, self.num_prefix)


class FigureFusion(nn.Module):
    """The framework figure: a fusion block beside the high blocks of each sense.

    The fusion block, a copy of the first high block with a shared low-rank term, takes the tokens
    of all streams. Its RGB part and its event part each go through a low-rank term of their own,
    which is added after the feed-forward of that sense's high blocks. See velora.md 1.2.
    """

    def __init__(
        self,
        trunk: Trunk,
        *,
        streams: Sequence[str],
        adapter: Adapter,
        shared: Adapter | None,
        targets: Sequence[str],
    ) -> None:
        super().__init__()
        self.block = twin(trunk.high[0], shared=True)
        join_prefixes(self.block, len(streams) * trunk.num_prefix)
        self.num_prefix = trunk.num_prefix
        self.out_streams = ("rgb", "event")
        self.groups = RowGroups()
        if shared is not None:
            add_lora([self.block], targets=targets, num_groups=1, adapter=shared)
        # The only way of the fused tokens to the output, whatever `shared` is.
        self.branches = nn.ModuleList(
            GroupedLowRank(
                trunk.width,
                trunk.width,
                num_groups=2,
                adapter=adapter,
                groups=self.groups,
                like=next(trunk.parameters()),
            )
            for _ in trunk.high
        )

    def forward(
        self,
        trunk: Trunk,
        features: Tensor,
        present: Tensor,
        *,
        kept: Tensor | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Map (B, S, N, D) features to (B, 2, N, D), RGB and event; see `JointFusion`."""
        contexts = self.groups.for_checkpoint if recompute else None
        num_clips, num_streams = features.shape[:2]
        x = trunk.run(
            [self.block],
            join_tokens(features, self.num_prefix),
            mask=key_mask(features, present, self.num_prefix),
            num_streams=num_streams,
            kept=kept,
            contexts=contexts,
        )
        fused = _senses_first(split_tokens(x, num_streams, self.num_prefix))
        y = _senses_first(features)
        twice = None if kept is None else kept.repeat(2, 1)
        with self.groups([num_clips] * 2, like=y):
            for i, block in enumerate(trunk.high):
                y = trunk.run([block], y, kept=twice, contexts=contexts)
                y = y + self.branches[i](fused)
        return y.unflatten(0, (2, num_clips)).transpose(0, 1)


def _no_groups() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), nullcontext()


def _senses_first(x: Tensor) -> Tensor:
    """(B, S, N, D) -> (2 * B, N, D): the rows of RGB, then those of events."""
    return x[:, :2].transpose(0, 1).flatten(0, 1)


def join_tokens(features: Tensor, num_prefix: int) -> Tensor:
    """(B, S, N, D) -> (B, S * N, D), the prefix tokens of all streams first."""
    parts = torch.split(features, _lengths(features, num_prefix), dim=2)
    return torch.cat([part.flatten(1, 2) for part in parts], dim=1)


def split_tokens(x: Tensor, num_streams: int, num_prefix: int) -> Tensor:
    """Undo `join_tokens`."""
    lengths = [num_streams * num_prefix, x.shape[1] - num_streams * num_prefix]
    parts = torch.split(x, lengths, dim=1)
    return torch.cat([part.unflatten(1, (num_streams, -1)) for part in parts], dim=2)


def key_mask(features: Tensor, present: Tensor, num_prefix: int) -> Tensor | None:
    """(B, 1, 1, S * N) True where a joined token may be seen; None where all may."""
    if bool(present.all()):
        return None
    lengths = _lengths(features, num_prefix)
    keys = torch.cat([present.repeat_interleave(n, dim=1) for n in lengths], dim=1)
    return keys[:, None, None].to(features.device)


def _lengths(features: Tensor, num_prefix: int) -> list[int]:
    return [num_prefix, features.shape[2] - num_prefix]
