"""Batches of clips in lane order, with what (seed, epoch, sample) decides of each.

Clips are decoded by threads ahead of the step, straight into the rows of its batch (PNG, gzip and
pread let go of the interpreter lock). A step is a row of the lanes: each process has its share of
it, cut into parts that are computed one after the other. Clips without a wanted sense are left out
of their step, which makes it smaller; so every process has as many steps as the others, and a step
is known by its number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.lanes import Lanes
from velora.data.batches import Batch, make_batch
from velora.data.clips import Clip, ClipDataset, Sense
from velora.data.rows import Places, StepMemory
from velora.data.sampling import balanced_order, occurrences
from velora.data.seen import seen_clips
from velora.frames.augment import UNCHANGED, Change, draw_change
from velora.frames.mixup import draw_partners, draw_share
from velora.parallel import ALONE, Ranks
from velora.settings import DataSettings

PREFETCH = 2
"""Steps that are decoded ahead of the one that is computed."""

# What random numbers are for; together with seed, epoch and sample this names a generator.
_CHANGE, _PARTNERS, _SHARE, _BALANCE = 1, 2, 3, 4


_ClipOf = Callable[[int], Clip]


@dataclass(frozen=True, slots=True)
class _Draw:
    """A sample, how often the epoch had it before, and its partner (itself for none)."""

    sample: int
    occurrence: int
    partner: int
    partner_occurrence: int


class ClipLoader:
    """Batches of a dataset, decoded ahead by threads.

    Parameters
    ----------
    dataset : ClipDataset
    batch_size : int
        Clips of a step over all processes and parts.
    num_threads : int
        0 decodes in the caller's thread.
    shuffle_seed : int, optional
        Shuffle each epoch anew by (seed, epoch), see `eventkit.lanes`; in the order of the shards
        without it.
    augment : DataSettings, optional
        Draw changes by (seed, epoch, sample); none without it.
    sampling : {"natural", "balanced"}
    mixup : float
        Of Beta(mixup, mixup); 0 mixes nothing.
    parts : int
        Into which a process cuts its share of a step.
    ranks : Ranks
    pin : bool
        For transfers to a CUDA device.

    Raises
    ------
    SettingsError
        If the number of processes does not divide the batch.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        num_threads: int = 2,
        shuffle_seed: int | None = None,
        augment: DataSettings | None = None,
        sampling: Literal["natural", "balanced"] = "natural",
        mixup: float = 0.0,
        parts: int = 1,
        ranks: Ranks = ALONE,
        pin: bool = False,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_threads = num_threads
        self.shuffle_seed = shuffle_seed
        self.augment = augment
        self.sampling = sampling
        self.mixup = mixup
        self.parts = parts
        self.ranks = ranks
        self.pin = pin
        self.lanes = Lanes(
            shard_sizes=dataset.shards.shard_sizes(dataset.split),
            global_batch_size=batch_size,
            seed=shuffle_seed,
            tail="pad",
            manifest_sha256=dataset.shards.digest,
        )
        self.lanes.check_rank(ranks.rank, ranks.world_size)
        self._seen: dict[tuple[Sense, ...], NDArray[np.bool_]] = {}

    def seen(self, senses: Sequence[Sense]) -> NDArray[np.bool_]:
        """(N,) bool: whether each sample has one of the senses; see `seen_clips`, read once."""
        key = tuple(senses)
        if key not in self._seen:
            self._seen[key] = seen_clips(self.dataset.shards, self.dataset.split, key)
        return self._seen[key]

    def __len__(self) -> int:
        """The number of steps of an epoch."""
        return self.lanes.steps

    def epoch(self, epoch: int = 0, *, senses: Sequence[Sense]) -> Iterator[Batch]:
        """Yield this process's batches of an epoch, none of them empty."""
        for parts in self.steps(epoch, senses=senses):
            yield from parts

    def steps(
        self, epoch: int = 0, *, senses: Sequence[Sense], first: int = 0
    ) -> Iterator[list[Batch]]:
        """Yield the steps of an epoch: the parts of this process's share, none of them empty.

        Parameters
        ----------
        epoch : int
        senses : sequence of Sense
            Clips with none of them are left out.
        first : int
            The step to begin with.
        """
        memory = StepMemory(most=PREFETCH + 3, pin=self.pin)
        work = self._draws(epoch, senses, first)
        if self.num_threads == 0:
            for draws in work:
                clips = {int(i): self.dataset[i] for i in _wanted(draws)}
                yield self._made(epoch, draws, senses, clips.__getitem__, Places())
            return
        pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="velora-decode")
        try:
            waiting: deque[Future[list[Batch]]] = deque()
            for draws in work:
                waiting.append(self._submit(pool, epoch, draws, senses, memory))
                if len(waiting) > PREFETCH:
                    yield _learnt(memory, waiting.popleft().result())
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        epoch: int,
        draws: list[list[_Draw]],
        senses: Sequence[Sense],
        memory: StepMemory,
    ) -> Future[list[Batch]]:
        wanted = _wanted(draws)
        places = memory.take(len(wanted))
        decoding = {
            int(i): pool.submit(self.dataset.__getitem__, i) for i in places.numbered(wanted)
        }
        # What it waits for comes before it in the queue, so one thread is enough.
        return pool.submit(self._made, epoch, draws, senses, lambda i: decoding[i].result(), places)

    def _draws(
        self, epoch: int, senses: Sequence[Sense], first: int
    ) -> Iterator[list[list[_Draw]]]:
        """Yield who is in the steps of an epoch from ``first`` on, by parts of this process."""
        rows, valid = self.lanes.batches(epoch)
        order = rows[valid]
        times = np.zeros_like(order)
        if self.sampling == "balanced":
            # A clip without the senses keeps its place, which is left out: drawn for its class, it
            # would take away from what the model sees of that class.
            seen = self.seen(senses)[order]
            if seen.any():
                rng = self._rng(epoch, _BALANCE)
                order[seen] = balanced_order(order[seen], self.dataset.labels, epoch=epoch, rng=rng)
            times = occurrences(order)
        for step in range(first, len(self)):
            row = slice(step * self.batch_size, (step + 1) * self.batch_size)
            yield self._step_draws(epoch, step, order[row], times[row])

    def _step_draws(
        self, epoch: int, step: int, row: NDArray[np.int64], times: NDArray[np.int64]
    ) -> list[list[_Draw]]:
        partners = np.arange(len(row))
        if self.mixup > 0:
            partners = draw_partners(len(row), self._rng(epoch, _PARTNERS, sample=step))
        mine = range(self.ranks.rank, len(row), self.ranks.world_size)
        draws = [
            _Draw(int(row[i]), int(times[i]), int(row[j]), int(times[j]))
            for i, j in ((i, partners[i]) for i in mine)
        ]
        cuts = [len(draws) * part // self.parts for part in range(self.parts + 1)]
        return [draws[a:b] for a, b in pairwise(cuts)]

    def _made(
        self,
        epoch: int,
        draws: list[list[_Draw]],
        senses: Sequence[Sense],
        clip_of: _ClipOf,
        places: Places,
    ) -> list[Batch]:
        made = [self._batch(epoch, part, senses, clip_of, places) for part in draws]
        return [batch for batch in made if len(batch)]

    def _batch(
        self,
        epoch: int,
        part: list[_Draw],
        senses: Sequence[Sense],
        clip_of: _ClipOf,
        places: Places,
    ) -> Batch:
        part = [draw for draw in part if any(clip_of(draw.sample).has(s) for s in senses)]
        where = {(draw.sample, draw.occurrence): i for i, draw in enumerate(part)}
        partner, share = np.arange(len(part)), np.ones(len(part))
        for i, draw in enumerate(part):
            if draw.partner == draw.sample or not _alike(
                clip_of(draw.sample), clip_of(draw.partner)
            ):
                continue
            other = (draw.partner, draw.partner_occurrence)
            partner[i] = where.setdefault(other, len(where))
            rng = self._rng(epoch, _SHARE, sample=draw.sample, occurrence=draw.occurrence)
            share[i] = draw_share(self.mixup, rng)
        return make_batch(
            [clip_of(sample) for sample, _ in where],
            positions=[draw.sample for draw in part],
            changes=[self._change(epoch, sample, occurrence) for sample, occurrence in where],
            partner=partner,
            share=share,
            pin=self.pin,
            places=places,
        )

    def _change(self, epoch: int, sample: int, occurrence: int) -> Change:
        if self.augment is None:
            return UNCHANGED
        # By the sample, not by its place in the batch, so that another batch size, another number
        # of processes or a resumed run sees the same picture.
        rng = self._rng(epoch, _CHANGE, sample=sample, occurrence=occurrence)
        return draw_change(self.augment, rng)

    def _rng(
        self, epoch: int, purpose: int, *, sample: int = 0, occurrence: int = 0
    ) -> np.random.Generator:
        # The counter's low word is left to the generator to count with.
        key = [self.shuffle_seed or 0, epoch]
        return np.random.Generator(
            np.random.Philox(key=key, counter=[0, occurrence, purpose, sample])
        )


def _wanted(draws: list[list[_Draw]]) -> list[int]:
    """List the clips of a step once, those of a part in the order in which they are packed."""
    listed = (i for part in draws for i in (*(d.sample for d in part), *(d.partner for d in part)))
    return list(dict.fromkeys(listed))


def _learnt(memory: StepMemory, step: list[Batch]) -> list[Batch]:
    for batch in step[:1]:
        clip = batch.clips[0]
        memory.learn({"rgb": clip.rgb, "events": clip.events})
    return step


def _alike(a: Clip, b: Clip) -> bool:
    return all(a.has(sense) == b.has(sense) for sense in ("rgb", "event"))
