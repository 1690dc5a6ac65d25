"""The order of samples in training: the same for any number of ranks, resumed from one integer.

    shards, permuted   [ 4 | 0 | 3 | 1 | 2 ]      by (seed, epoch); samples mixed within each
    cut into L lanes   [ lane 0 | lane 1 | ... ]  mixed in windows of 8 shards within each
    interleaved        lane 0, 1 .. L-1, 0, 1 ..  -> order
    global batch b     order[b * G : (b + 1) * G]; rank r of R takes every R-th sample from r on

Samples are cut, not shards, so every rank has as many steps as the others for any number of shards.
A rank whose R divides L reads R-th part of the lanes and so about an R-th part of the shards; where
R divides only G the batches are the same and that locality is lost. Nothing but the raw words of
Philox is used, which NumPy keeps for good (NEP 19), so an order outlives a change of version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError

ORDER = "lane-philox-v1"
NUM_LANES = 64
WINDOW_SHARDS = 8
_BLOCK = 1 << 17

Tail = Literal["drop", "pad"]


def lane_order(
    shard_sizes: NDArray[np.int64], *, seed: int | None, epoch: int, num_lanes: int
) -> NDArray[np.int64]:
    """Return a permutation of all samples; samples are numbered shard after shard.

    Parameters
    ----------
    shard_sizes : (S,) int64
        Samples of each shard.
    seed : int, optional
        Without it nothing is mixed: the lanes of the shards as they stand, interleaved.
    epoch : int
        Each has an order of its own.
    num_lanes : int
        May exceed the number of samples.

    Returns
    -------
    (N,) int64

    Examples
    --------
    >>> lane_order(np.array([3, 2]), seed=None, epoch=0, num_lanes=2).tolist()
    [0, 3, 1, 4, 2]
    """
    num_samples = int(shard_sizes.sum())
    if seed is None:
        return _interleaved(np.arange(num_samples), num_lanes)
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    stream = _mixed_shards(shard_sizes, words)
    windows = _windows(num_samples, num_lanes, shard_sizes)
    within = _mixed(windows, np.cumsum(windows) - windows, words)
    return _interleaved(stream[within], num_lanes)


def _interleaved(stream: NDArray[np.int64], num_lanes: int) -> NDArray[np.int64]:
    """Return the first samples of the lanes, then the second ones ...; no lane is copied twice."""
    rows, num_longer = divmod(stream.size, num_lanes)
    cut = num_longer * (rows + 1)
    longer = stream[:cut].reshape(num_longer, rows + 1)
    order = np.empty_like(stream)
    table = order[: rows * num_lanes].reshape(rows, num_lanes)
    table[:, :num_longer] = longer[:, :rows].T
    table[:, num_longer:] = stream[cut:].reshape(num_lanes - num_longer, rows).T
    # The lanes that are longer by one make the last, incomplete row.
    order[rows * num_lanes :] = longer[:, rows]
    return order


def _mixed_shards(shard_sizes: NDArray[np.int64], words: np.random.Philox) -> NDArray[np.int64]:
    """Return the samples of the permuted shards, mixed within each; of few shards, all together."""
    if shard_sizes.size <= WINDOW_SHARDS:
        return _mixed(np.array([shard_sizes.sum()]), np.array([0]), words)
    shards = _mixed(np.array([shard_sizes.size]), np.array([0]), words)
    starts = np.cumsum(shard_sizes) - shard_sizes
    return _mixed(shard_sizes[shards], starts[shards], words)


def _windows(num_samples: int, num_lanes: int, shard_sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the lengths of the windows: each lane in equal parts of about 8 shards, at least."""
    lanes = np.full(num_lanes, num_samples // num_lanes)
    lanes[: num_samples % num_lanes] += 1
    parts = max(1, int(lanes[-1] * shard_sizes.size // max(1, WINDOW_SHARDS * num_samples)))
    cuts = lanes[:, None] * np.arange(parts + 1) // parts
    return np.diff(cuts, axis=1).ravel()


def _mixed(
    lengths: NDArray[np.int64], starts: NDArray[np.int64], words: np.random.Philox
) -> NDArray[np.int64]:
    """Return the numbers of windows, start to start + length, one after the other, each mixed.

    One sort of words made of window, random bits and place in the window: the place tells equal
    random bits apart, so that the result does not depend on the sort. In blocks, which stay in the
    cache: 10^7 numbers take 0.2 s, in one piece 0.3 s.
    """
    window_bits = max(lengths.size - 1, 1).bit_length()
    place_bits = max(int(lengths.max(initial=1)) - 1, 1).bit_length()
    mask = np.uint64((1 << place_bits) - 1)
    ends = np.cumsum(lengths)
    mixed = np.empty(int(lengths.sum()), np.int64)
    first = 0
    while first < lengths.size:
        done = int(ends[first - 1]) if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, done + _BLOCK, side="right")))
        size = lengths[first:stop]
        places = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
        keys = np.asarray(words.random_raw(places.size), np.uint64)
        keys >>= np.uint64(window_bits)
        keys &= ~mask
        keys |= places.view(np.uint64)
        keys |= np.repeat(
            np.arange(first, stop, dtype=np.uint64) << np.uint64(64 - window_bits), size
        )
        keys.sort()
        keys &= mask
        mixed[done : done + keys.size] = keys.view(np.int64) + np.repeat(starts[first:stop], size)
        first = stop
    return mixed


@dataclass(frozen=True, kw_only=True, slots=True)
class Lanes:
    """Global batches of a split, each rank's part of them, and where to go on.

    Parameters
    ----------
    shard_sizes : (S,) int64
        Samples of each shard, see `eventkit.shards.ShardSet.shard_sizes`.
    global_batch_size : int
        G, samples of a batch over all ranks together.
    seed : int, optional
        0 to 2^64 - 1. Without it the order is that of the shards.
    num_lanes : int, optional
        L. Default: 64 with a seed, else 1.
    tail : {"drop", "pad"}
        What becomes of the last N mod G samples: left out of the epoch (other ones in each), or
        filled up to a batch with samples that are marked as not valid (evaluation).
    manifest_sha256 : str
        Of the set, so that a state is not used with another one.

    Raises
    ------
    SettingsError
        If not even one batch can be made, or a number is out of range.
    """

    shard_sizes: NDArray[np.int64]
    global_batch_size: int
    seed: int | None = None
    num_lanes: int = 0
    tail: Tail = "drop"
    manifest_sha256: str = ""

    def __post_init__(self) -> None:
        if self.num_lanes == 0:
            object.__setattr__(self, "num_lanes", 1 if self.seed is None else NUM_LANES)
        if self.global_batch_size < 1 or self.num_lanes < 1:
            got = f"{self.global_batch_size} and {self.num_lanes}"
            msg = f"expected a global batch and a number of lanes of 1 or more, got {got}"
            raise SettingsError(msg)
        if self.seed is not None and not 0 <= self.seed < 1 << 64:
            msg = f"expected a seed of 0 to 2^64 - 1, got {self.seed}"
            raise SettingsError(msg)
        if self.tail == "drop" and self.num_samples < self.global_batch_size:
            msg = (
                f"expected at least {self.global_batch_size} samples, one global batch, got "
                f"{self.num_samples}; choose a smaller batch, or tail='pad'"
            )
            raise SettingsError(msg)

    @property
    def num_samples(self) -> int:
        """N, samples of the split."""
        return int(self.shard_sizes.sum())

    @property
    def steps(self) -> int:
        """Global batches of an epoch: the steps of every rank."""
        n, g = self.num_samples, self.global_batch_size
        return n // g if self.tail == "drop" else -(-n // g)

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1, samples_consumed: int = 0
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the samples of a rank, a row a step, and which of them are valid.

        Parameters
        ----------
        epoch : int
        rank, world_size : int
            r and R; R divides G.
        samples_consumed : int
            Of this epoch, by all ranks together; a multiple of G.

        Returns
        -------
        (steps left, G / R) int64
        (steps left, G / R) bool
        """
        self.check_rank(rank, world_size)
        first = self._step(samples_consumed)
        order = lane_order(self.shard_sizes, seed=self.seed, epoch=epoch, num_lanes=self.num_lanes)
        size = self.steps * self.global_batch_size
        if size > order.size:  # repeated from the start, to fill the last batch up
            order = np.resize(order, size)
        table = order[:size].reshape(self.steps, self.global_batch_size)[first:, rank::world_size]
        valid = np.ones(table.shape, np.bool_)
        filled = self.global_batch_size - max(0, size - self.num_samples)
        valid[-1:] = np.arange(rank, self.global_batch_size, world_size) < filled
        return table, valid

    def state(self, epoch: int, samples_consumed: int) -> dict[str, Any]:
        """Return what a checkpoint keeps; plain numbers and strings."""
        self._step(samples_consumed)
        return {**self._identity(), "epoch": epoch, "samples_consumed": samples_consumed}

    def resume(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """Return (epoch, samples consumed) to go on from.

        Raises
        ------
        SettingsError
            If the state is that of another set, seed, L or G; names what differs.
        """
        here = self._identity()
        differing = [
            f"{key} ({state.get(key)!r} there, {value!r} here)"
            for key, value in here.items()
            if state.get(key) != value
        ]
        if differing:
            msg = (
                f"expected the state of this order of samples, got another one: "
                f"{', '.join(differing)}; go on with the same shards and settings, or start anew"
            )
            raise SettingsError(msg)
        epoch, consumed = int(state["epoch"]), int(state["samples_consumed"])
        return (epoch + 1, 0) if self._step(consumed) == self.steps else (epoch, consumed)

    def _identity(self) -> dict[str, Any]:
        return {
            "manifest_sha256": self.manifest_sha256,
            "order": ORDER,
            "seed": self.seed,
            "L": self.num_lanes,
            "G": self.global_batch_size,
        }

    def _step(self, samples_consumed: int) -> int:
        step, rest = divmod(samples_consumed, self.global_batch_size)
        if rest or not 0 <= step <= self.steps:
            msg = (
                f"expected samples_consumed as a multiple of {self.global_batch_size} up to "
                f"{self.steps * self.global_batch_size}, got {samples_consumed}"
            )
            raise SettingsError(msg)
        return step

    def check_rank(self, rank: int, world_size: int) -> None:
        """Refuse a number of processes that does not divide the batch, before the first step.

        Raises
        ------
        SettingsError
        """
        batch = self.global_batch_size
        if not 0 <= rank < world_size:
            msg = f"expected a rank below the world size of {world_size}, got {rank}"
            raise SettingsError(msg)
        if batch % world_size:
            fitting = ", ".join(str(n) for n in range(1, world_size) if batch % n == 0)
            msg = (
                f"expected a world size that divides the global batch of {batch}, got {world_size} "
                f"processes: take {fitting}, or another batch size"
            )
            raise SettingsError(msg)
