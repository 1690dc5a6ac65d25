"""Batches of clips in lane order, with the augmentation that (seed, epoch, sample) decides.

Clips are decoded by threads ahead of the training step (PNG, gzip and pread release the interpreter
lock).

    B clips
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eventkit.lanes import Lanes
from velora.data.clips import Clip, ClipDataset, Sense
from velora.settings import DataSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Clips with the augmentation drawn for each.

    Parameters
    ----------
    clips : list of B Clip
    shifts : (B, 2) float64
        Down and right, as a share of the picture's side.
    flips : (B,) bool
    """

    clips: list[Clip]
    shifts: NDArray[np.float64]
    flips: NDArray[np.bool_]

    @property
    def keys(self) -> list[str]:
        """The samples' keys."""
        return [clip.key for clip in self.clips]

    @property
    def labels(self) -> torch.Tensor:
        """(B,) int64 positions in the logits."""
        return torch.tensor([clip.label for clip in self.clips])


class ClipLoader:
    """Batches of a dataset, decoded ahead by threads.

    Parameters
    ----------
    dataset : ClipDataset
    batch_size : int
    num_threads : int
        0 decodes in the caller's thread.
    shuffle_seed : int, optional
        Shuffle each epoch anew by (seed, epoch), see `eventkit.lanes`; in the order of the shards
        without it.
    augment : DataSettings, optional
        Draw shifts and flips by (seed, epoch, sample); none without it.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        num_threads: int = 2,
        shuffle_seed: int | None = None,
        augment: DataSettings | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_threads = num_threads
        self.shuffle_seed = shuffle_seed
        self.augment = augment
        self.lanes = Lanes(
            shard_sizes=dataset.shards.shard_sizes(dataset.split),
            global_batch_size=batch_size,
            seed=shuffle_seed,
            tail="pad",
            manifest_sha256=dataset.shards.digest,
        )

    def __len__(self) -> int:
        """The number of batches of an epoch, where no clip is passed over."""
        return self.lanes.steps

    def epoch(self, epoch: int = 0, *, senses: Sequence[Sense]) -> Iterator[Batch]:
        """Yield the batches of an epoch; clips with none of ``senses`` are passed over."""
        rows, valid = self.lanes.batches(epoch)
        order = rows[valid]
        positions: list[int] = []
        clips: list[Clip] = []
        for i, clip in _ahead(self.dataset, order, self.num_threads, 2 * self.batch_size):
            if any(clip.has(sense) for sense in senses):
                positions.append(i)
                clips.append(clip)
            if len(clips) == self.batch_size:
                yield self._batch(clips, positions, epoch)
                clips, positions = [], []
        if clips:
            yield self._batch(clips, positions, epoch)

    def _batch(self, clips: list[Clip], positions: list[int], epoch: int) -> Batch:
        shifts = np.zeros((len(clips), 2))
        flips = np.zeros(len(clips), dtype=np.bool_)
        if self.augment is not None:
            for row, i in enumerate(positions):
                # Drawn by the sample, not by its place in the batch, so that another batch size
                # or a resumed run sees the same picture.
                rng = _generator(self.shuffle_seed or 0, epoch, stream=1, sample=i)
                shifts[row] = rng.uniform(-1, 1, size=2) * self.augment.shift
                flips[row] = rng.random() < 0.5 and self.augment.flip
        return Batch(clips=clips, shifts=shifts, flips=flips)


def _generator(seed: int, epoch: int, *, stream: int, sample: int) -> np.random.Generator:
    # The counter's low word is left to the generator to count with.
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, stream, sample]))


def _ahead(
    dataset: ClipDataset, order: Iterable[int], num_threads: int, depth: int
) -> Iterator[tuple[int, Clip]]:
    """Yield (position, clip) in order, with at most ``depth`` clips decoded ahead."""
    positions = [int(i) for i in order]
    if num_threads == 0:
        yield from ((i, dataset[i]) for i in positions)
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="velora-decode")
    try:
        waiting: deque[tuple[int, Future[Clip]]] = deque()
        for i in positions:
            waiting.append((i, pool.submit(dataset.__getitem__, i)))
            if len(waiting) > depth:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
