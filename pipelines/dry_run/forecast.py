"""What is said of work that is not done: numbers with their spread, and words."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eventkit.location import Location
from pipelines.report.words import size

EACH_MORE = 0.6
"""What a second worker adds to the first: two threads were measured at 1.5 to 1.65 times one."""


@dataclass(frozen=True, slots=True)
class Span:
    """A number, and how far apart the parts of a sample place it; ``low`` is None for one part."""

    likely: float
    low: float | None = None
    high: float | None = None

    def __add__(self, other: Span | float) -> Span:
        if not isinstance(other, Span):
            other = Span(other, other, other)
        ends = (self.low, other.low, self.high, other.high)
        if any(end is None for end in ends):
            return Span(self.likely + other.likely)
        low_a, low_b, high_a, high_b = (float(end) for end in ends if end is not None)
        return Span(self.likely + other.likely, low_a + low_b, high_a + high_b)

    def times(self, factor: float) -> Span:
        """Return the number and its ends, each times ``factor``."""
        if self.low is None or self.high is None:
            return Span(self.likely * factor)
        return Span(self.likely * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a command would do.

    Parameters
    ----------
    plan : tuple of str
        How many are known, left and set aside, in words.
    measured : str
        What stands behind the numbers; if they are None, why there are none.
    num_bytes : Span, optional
        Of the finished output.
    num_files : int, optional
        In it.
    seconds : Span, optional
        That it takes from here on.
    memory : int, optional
        Bytes at the highest point, of all processes together.
    workers : int
        That time and memory are for.
    """

    plan: tuple[str, ...]
    measured: str
    num_bytes: Span | None = None
    num_files: int | None = None
    seconds: Span | None = None
    memory: int | None = None
    workers: int = 1

    def lines(self, out: Location) -> list[str]:
        """Return what to print."""
        lines = [*self.plan, self.measured]
        if self.num_bytes is not None and self.num_files is not None:
            words = _words(self.num_bytes, size)
            lines.append(f"output: about {words} in about {self.num_files:,} files")
        if self.seconds is not None:
            each = "1 worker" if self.workers == 1 else f"{self.workers} workers"
            lines.append(f"time: about {_words(self.seconds, _time)} with {each}")
        if self.memory is not None:
            lines.append(f"memory: about {size(self.memory)} at the highest point")
        free = free_bytes(out)
        need = self.num_bytes and (self.num_bytes.high or self.num_bytes.likely)
        if free is not None and need is not None and free < need:
            lines.append(f"note: {size(free)} are free where {out} would lie; choose another --out")
        return lines


def estimate(parts: Sequence[tuple[float, float]], total: float) -> Span:
    """Return what comes out of ``total``, by what came out of the parts of a sample.

    Parameters
    ----------
    parts : sequence of (in, out)
        Each is a sample of the whole set by itself, so that their spread is that of the estimate.
    total : float
        Of all that goes in.

    Examples
    --------
    >>> estimate([(10, 1), (10, 3)], 100)
    Span(likely=20.0, low=10.0, high=30.0)
    """
    into, out = (sum(values) for values in zip(*parts, strict=True))
    likely = total * out / into if into else 0.0
    each = [total * gave / took for took, gave in parts if took]
    return Span(likely, min(each), max(each)) if len(each) > 1 else Span(likely)


def side_by_side(workers: int) -> float:
    """Return how many times as fast as one so many workers are."""
    return 1 + EACH_MORE * (workers - 1)


def free_bytes(path: Location) -> int | None:
    """Return what is free on the disk of a folder that need not be there; None behind a URL."""
    if not isinstance(path, Path):
        return None
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def _words(span: Span, unit: object) -> str:
    assert callable(unit)
    if span.low is None or span.high is None:
        return f"{unit(round(span.likely))} (one part measured, no spread)"
    return f"{unit(round(span.likely))} ({unit(round(span.low))} to {unit(round(span.high))})"


def _time(seconds: int) -> str:
    if seconds < 100:
        return f"{seconds} s"
    return f"{seconds / 60:,.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
