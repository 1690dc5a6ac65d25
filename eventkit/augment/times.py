"""Change the times of events: jitter and skew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eventkit.augment.base import (
    Amount,
    Augmentation,
    Size,
    Span,
    Transform,
    check_amount,
    check_draw,
    check_in_span,
    drawn_amount,
    drawn_seed,
)
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.base import check_choice

SIGMA_TOP_US = 1e15
# Skews are whole multiples of 2^-20, so that times stay integers.
SKEW_BITS = 20
SKEW_TOP = 1024


@dataclass(frozen=True, slots=True)
class ShiftedTimes(Transform):
    """Adds a normal number of microseconds to each time; concerns events only."""

    span: Span
    sigma_us: float
    outside: str
    seed: int

    def events(self, events: Events) -> Events:
        """Return the events in their new order, stable."""
        check_in_span(events, self.span)
        t = events.t
        rng = np.random.default_rng(self.seed)
        shift = np.rint(rng.normal(0.0, self.sigma_us, t.size)).astype(np.int64)
        low, high = self.span[0] - t, self.span[1] - 1 - t
        x, y, p = events.x, events.y, events.p
        if self.outside == "clamp":
            shift = shift.clip(low, high)
        else:
            kept = (shift >= low) & (shift <= high)
            x, y, t, p, shift = x[kept], y[kept], t[kept], p[kept], shift[kept]
        moved = t + shift
        order = np.argsort(moved, kind="stable")
        return Events.from_checked(x[order], y[order], moved[order], p[order])


@dataclass(frozen=True)
class TimeJitter(Augmentation):
    """Shift each event's time by a normal number of whole microseconds.

    Parameters
    ----------
    sigma_us : float, microseconds, or a range (low, high) to draw from
        Standard deviation before rounding.
    outside : {"drop", "clamp"}
        Events that leave the clip: drop them, or bring them to its first or last microsecond.

    Examples
    --------
    >>> ev = Events(x=[0] * 4, y=[0] * 4, t=[0, 100, 200, 300], p=[1] * 4)
    >>> jitter = TimeJitter(sigma_us=10, outside="clamp")
    >>> moved = jitter(ev, sensor_size=(1, 1), rng=np.random.default_rng(0), span=(0, 400))
    >>> len(moved), bool((abs(moved.t - ev.t) < 60).all())
    (4, True)
    """

    sigma_us: Amount = 100.0
    outside: Literal["drop", "clamp"] = "drop"

    def __post_init__(self) -> None:
        check_amount("sigma_us", self.sigma_us, 0, SIGMA_TOP_US)
        check_choice("outside", self.outside, ("drop", "clamp"))

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw the deviation, and a seed for the events."""
        _, interval = check_draw(rng, sensor_size, span)
        sigma = drawn_amount(rng, self.sigma_us)
        return ShiftedTimes(interval, sigma, self.outside, drawn_seed(rng))


@dataclass(frozen=True, slots=True)
class SkewedTimes(Transform):
    """``t`` becomes ``start + (t - start) * factor // 2^20``; concerns events only."""

    span: Span
    factor: int
    outside: str

    def events(self, events: Events) -> Events:
        """Return the events with their new times, in the same order."""
        check_in_span(events, self.span)
        start, stop = self.span
        since = events.t - start
        if self.outside == "drop":
            # The first time since the start whose image is not in the clip any more.
            limit = -(-((stop - start) << SKEW_BITS) // self.factor)
            kept = since.size if limit >= 1 << 63 else int(np.searchsorted(since, limit))
            events, since = events[:kept], since[:kept]
        elif since.size and start + (int(since[-1]) * self.factor >> SKEW_BITS) >= 1 << 63:
            msg = "expected skewed times within 2^63 us; outside='drop' drops what leaves the clip"
            raise SettingsError(msg)
        # In two parts, since the whole product may pass 2^63.
        whole, rest = since >> SKEW_BITS, since & ((1 << SKEW_BITS) - 1)
        t = start + (whole * self.factor + (rest * self.factor >> SKEW_BITS))
        return Events.from_checked(events.x, events.y, t, events.p)


@dataclass(frozen=True)
class TimeSkew(Augmentation):
    """Stretch or squeeze time from the start of the clip on, in integers.

    Parameters
    ----------
    factor : float, above 0 to 1024, or a range (low, high) to draw from
        Rounded to a multiple of 2^-20, which is also the least. 2 is half the speed. Times are
        rounded down; their order stays.
    outside : {"drop", "keep"}
        Events that leave the clip.

    Examples
    --------
    >>> ev = Events(x=[0] * 3, y=[0] * 3, t=[10, 13, 18], p=[1] * 3)
    >>> TimeSkew(factor=1.5)(
    ...     ev, sensor_size=(1, 1), rng=np.random.default_rng(0), span=(10, 20)
    ... ).t.tolist()
    [10, 14]
    """

    factor: Amount = (0.8, 1.2)
    outside: Literal["drop", "keep"] = "drop"

    def __post_init__(self) -> None:
        check_amount("factor", self.factor, 2.0**-SKEW_BITS, SKEW_TOP)
        check_choice("outside", self.outside, ("drop", "keep"))

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw the factor."""
        _, interval = check_draw(rng, sensor_size, span)
        factor = max(1, round(drawn_amount(rng, self.factor) * (1 << SKEW_BITS)))
        return SkewedTimes(interval, factor, self.outside)
