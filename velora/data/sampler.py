"""Lane order as a PyTorch batch sampler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Sampler

from eventkit.lanes import Lanes
from velora.data.dataset import Padding, ShardDataset


class LaneSampler(Sampler[list[int]]):
    """The batches of one rank: as many as on the other ranks, and resumed from one integer.

    Goes to `ShardLoader`, or to ``torch.utils.data.DataLoader(batch_sampler=)``. What counts as
    consumed is what `advance` was called for, not what workers have read ahead; `ShardLoader` calls
    it for every batch that it hands out, the loop around a `DataLoader` after every step.

    Parameters
    ----------
    dataset : ShardDataset
    global_batch_size : int
        Samples of a step over all ranks together.
    seed : int or None
        None is for evaluation: the order of the shards, the last batch filled up with samples of
        which ``valid`` is False. With a seed the last N mod G samples of an epoch are left out.
    rank, world_size : int, optional
        By default those of `torch.distributed`, or one process.
    num_lanes : int
        See `eventkit.lanes.Lanes`.

    Raises
    ------
    SettingsError
        If the world size does not divide the batch, or the split has no whole batch.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        *,
        global_batch_size: int,
        seed: int | None,
        rank: int | None = None,
        world_size: int | None = None,
        num_lanes: int = 0,
    ) -> None:
        self.lanes = Lanes(
            shard_sizes=dataset.shards.shard_sizes(dataset.split),
            global_batch_size=global_batch_size,
            seed=seed,
            num_lanes=num_lanes,
            tail="pad" if seed is None else "drop",
            manifest_sha256=dataset.shards.digest,
        )
        self.rank = _distributed("rank") if rank is None else rank
        self.world_size = _distributed("world_size") if world_size is None else world_size
        self.lanes.check_rank(self.rank, self.world_size)
        self.epoch = 0
        self.samples_consumed = 0

    def __len__(self) -> int:
        """The steps of a whole epoch."""
        return self.lanes.steps

    def __iter__(self) -> Iterator[list[int]]:
        rows, valid = self.lanes.batches(
            self.epoch,
            rank=self.rank,
            world_size=self.world_size,
            samples_consumed=self.samples_consumed,
        )
        for row, mask in zip(rows, valid, strict=True):
            yield [
                i if whole else Padding(i)
                for i, whole in zip(row.tolist(), mask.tolist(), strict=True)
            ]

    def advance(self) -> None:
        """Count one batch as consumed; after the last one comes the next epoch."""
        self.samples_consumed += self.lanes.global_batch_size
        if self.samples_consumed >= self.lanes.steps * self.lanes.global_batch_size:
            self.epoch, self.samples_consumed = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, to its beginning unless it is the current one."""
        if epoch != self.epoch:
            self.epoch, self.samples_consumed = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the same on every rank, plain numbers and strings."""
        return self.lanes.state(self.epoch, self.samples_consumed)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state says, on any number of ranks; before the loader is iterated.

        Raises
        ------
        SettingsError
            If the state is that of other shards, another seed, L or G.
        """
        self.epoch, self.samples_consumed = self.lanes.resume(state)


def _distributed(what: str) -> int:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0 if what == "rank" else 1
    return int(getattr(torch.distributed, f"get_{what}")())
