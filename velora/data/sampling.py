"""Balanced sampling: every class equally often in an epoch, in an order of its own.

N samples, C classes
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def balanced_order(
    order: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    epoch: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return N draws of which every class that occurs has N / C, rounded.

    A class with fewer samples repeats them, one with more shows a part, another one in each epoch
    since ``order`` is another one. The draws of a class lie evenly over the epoch. Which classes
    get one draw more where C does not divide N changes with the epoch.

    Parameters
    ----------
    order : (N,) int64
        The epoch's order of all samples.
    labels : (N,) int64
        Of the samples, by number.
    epoch : int
    rng : numpy.random.Generator

    Returns
    -------
    (N,) int64

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> drawn = balanced_order(np.arange(4), np.array([0, 0, 0, 1]), epoch=0, rng=rng)
    >>> np.bincount(np.array([0, 0, 0, 1])[drawn]).tolist()
    [2, 2]
    """
    by_class = [order[labels[order] == c] for c in np.unique(labels[order])]
    base, rest = divmod(order.size, len(by_class))
    draws, places = [], []
    for c, samples in enumerate(by_class):
        count = base + ((c - epoch) % len(by_class) < rest)
        draws.append(np.resize(samples, count))
        places.append((np.arange(count) + rng.random(count)) / max(count, 1))
    together = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(draws)[together]


def occurrences(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each draw's sample has been drawn before it.

    Examples
    --------
    >>> occurrences(np.array([3, 1, 3, 3])).tolist()
    [0, 0, 1, 2]
    """
    by_sample = np.argsort(order, kind="stable")
    ordered = order[by_sample]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, order.size])
    result = np.empty_like(order)
    result[by_sample] = np.arange(order.size) - np.repeat(starts, counts)
    return result
