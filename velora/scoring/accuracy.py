"""An accuracy, how sure it is, and its interval."""

from __future__ import annotations

import math

from msgspec import Struct


class Accuracy(Struct, frozen=True, kw_only=True):
    """A share of right answers, with the binomial standard error and Wilson's 95 % interval."""

    samples: int
    hits: int
    share: float
    error: float
    interval: tuple[float, float]


def accuracy(hits: int, samples: int) -> Accuracy:
    """Return ``hits`` of ``samples`` as an accuracy; 0 in [0, 1] for no samples."""
    share = hits / samples if samples else 0.0
    return Accuracy(
        samples=samples,
        hits=hits,
        share=share,
        error=binomial_error(share, samples),
        interval=wilson_interval(hits, samples),
    )


def binomial_error(share: float, n: int) -> float:
    """Standard error of an accuracy over ``n`` clips; 0 for none."""
    return math.sqrt(share * (1 - share) / n) if n else 0.0


def wilson_interval(hits: int, n: int, *, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of an accuracy; unlike the standard error it is right near 0 and 1."""
    if not n:
        return 0.0, 1.0
    share, z2 = hits / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
