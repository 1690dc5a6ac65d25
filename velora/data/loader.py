"""Batches read by threads straight into the batch's own arrays.

Worker processes copy every batch through shared memory: for clips of 2 MB two of them are slower
than none (docs/benchmarks.md). Threads need no copy, since reading and inflating let go of the
interpreter lock, and there is nothing to fork, pickle or leak.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from eventkit.errors import SettingsError
from velora.data.buffers import ArrayPool
from velora.data.dataset import ShardDataset
from velora.data.sampler import LaneSampler


@dataclass(slots=True)
class _Waiting:
    """A batch that is being read."""

    arrays: dict[str, NDArray[Any]]
    parts: list[Future[list[Any]]]


class ShardLoader:
    """Batches of a dataset in the order of a sampler, read ahead by threads.

    A batch is what `DataLoader` would make of the items: ``events`` and the like as (B, ...)
    tensors, ``label`` and ``index`` (B,) int64, ``valid`` (B,) bool, ``key`` and ``json`` as lists.
    With a transform, items are collated as `DataLoader` does it.

    Parameters
    ----------
    dataset : ShardDataset
    sampler : LaneSampler
        Is advanced with every batch that is handed out, so ``sampler.state_dict()`` in the loop,
        after the step, is the state to go on from. A loop that is left early is gone on with.
    num_threads : int
        0 reads in the caller's thread.
    prefetch : int
        Batches read ahead.

    Raises
    ------
    DamageError
        In the loop; names sample and shard.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        sampler: LaneSampler,
        *,
        num_threads: int = 2,
        prefetch: int = 2,
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.num_threads = num_threads
        self.prefetch = max(1, prefetch)
        self._pools: dict[str, ArrayPool] = {}

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        waiting: deque[_Waiting] = deque()
        pool = ThreadPoolExecutor(max(1, self.num_threads), thread_name_prefix="shard-loader")
        try:
            for indices in self.sampler:
                if self.num_threads == 0:
                    arrays = self._arrays(len(indices))
                    items = self._read(indices, arrays, 0)
                    self.sampler.advance()
                    yield self._batch(items, arrays)
                    continue
                waiting.append(self._submit(pool, indices))
                if len(waiting) > self.prefetch:
                    yield self._next(waiting)
            while waiting:
                yield self._next(waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, indices: list[int]) -> _Waiting:
        arrays = self._arrays(len(indices))
        # One part a thread: a future costs as much as reading a clip of 80 kB.
        size = -(-len(indices) // self.num_threads)
        parts = [
            pool.submit(self._read, indices[first : first + size], arrays, first)
            for first in range(0, len(indices), size)
        ]
        return _Waiting(arrays, parts)

    def _next(self, waiting: deque[_Waiting]) -> Any:
        first = waiting.popleft()
        items = [item for part in first.parts for item in part.result()]
        self.sampler.advance()
        return self._batch(items, first.arrays)

    def _arrays(self, size: int) -> dict[str, NDArray[Any]]:
        """Return an array for each member that is one; none where a transform makes the items."""
        if self.dataset.transform is not None:
            return {}
        if not self._pools:
            for name in self.dataset.members:
                if name != "json":
                    shape, dtype = self._layout(name)
                    # Those read ahead, the one handed out, and the one before, still held.
                    pool = ArrayPool((size, *shape), dtype, most=self.prefetch + 3)
                    self._pools[name] = pool
        return {name: pool.take() for name, pool in self._pools.items()}

    def _layout(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        reader = self.dataset.reader(name)
        if reader is None:
            first = self.dataset.rgb(0)
            return first.shape, first.dtype
        return reader.shape, reader.dtype

    def _read(self, indices: list[int], arrays: dict[str, NDArray[Any]], first: int) -> list[Any]:
        """Fill rows of the arrays from ``first`` on; return what does not go into arrays."""
        dataset = self.dataset
        if dataset.transform is not None:
            return [dataset[i] for i in indices]
        for name, array in arrays.items():
            reader = dataset.reader(name)
            for row, i in enumerate(indices, first):
                if reader is not None:
                    reader.read_into(i, array[row])
                else:
                    self._put(dataset.rgb(i), array[row], i)
        items = [dataset.facts(i) for i in indices]
        if "json" in dataset.members:
            for item in items:
                item["json"] = dataset.json(item["index"])
        return items

    def _put(self, pictures: NDArray[np.uint8], row: NDArray[np.uint8], i: int) -> None:
        if pictures.shape != row.shape:
            msg = (
                f"sample {self.dataset.facts(i)['key']}: expected pictures of {row.shape} as in "
                f"the first sample, got {pictures.shape}; give the dataset a transform that brings "
                "them to one shape"
            )
            raise SettingsError(msg)
        np.copyto(row, pictures)

    def _batch(self, items: list[Any], arrays: dict[str, NDArray[Any]]) -> Any:
        if self.dataset.transform is not None:
            return default_collate(items)
        batch: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for name in ("key", "json"):
            if name in items[0]:
                batch[name] = [item[name] for item in items]
        for name in ("index", "label", "valid"):
            batch[name] = torch.tensor([item[name] for item in items])
        return batch
