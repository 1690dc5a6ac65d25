"""Change the places of events, or add new ones: jitter and noise."""

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
    check_events,
    drawn_amount,
    drawn_seed,
)
from eventkit.events import Events
from eventkit.representations.base import check_choice


@dataclass(frozen=True, slots=True)
class ShiftedPlaces(Transform):
    """Adds a normal number of pixels to each place; concerns events only."""

    sensor_size: Size
    sigma_px: float
    outside: str
    seed: int

    def events(self, events: Events) -> Events:
        """Return the events that are on the sensor, in the same order."""
        check_events(events, self.sensor_size)
        width, height = self.sensor_size
        shift = np.random.default_rng(self.seed).normal(0.0, self.sigma_px, (2, len(events)))
        moved = np.rint(shift).astype(np.int64)
        x, y = events.x + moved[0], events.y + moved[1]
        if self.outside == "clamp":
            x, y = x.clip(0, width - 1), y.clip(0, height - 1)
            return Events.from_checked(x.astype(np.uint16), y.astype(np.uint16), events.t, events.p)
        kept = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        x, y = x[kept].astype(np.uint16), y[kept].astype(np.uint16)
        return Events.from_checked(x, y, events.t[kept], events.p[kept])


@dataclass(frozen=True)
class SpatialJitter(Augmentation):
    """Shift each event's column and row by normal whole numbers of pixels.

    Parameters
    ----------
    sigma_px : float, pixels, 0 to 65536, or a range (low, high) to draw from
        Standard deviation before rounding, of columns and of rows.
    outside : {"drop", "clamp"}
        Events that leave the sensor: drop them, or bring them to its border.

    Examples
    --------
    >>> ev = Events(x=[5] * 4, y=[5] * 4, t=range(4), p=[1] * 4)
    >>> jitter = SpatialJitter(sigma_px=1, outside="clamp")
    >>> len(jitter(ev, sensor_size=(9, 9), rng=np.random.default_rng(0)))
    4
    """

    sigma_px: Amount = 1.0
    outside: Literal["drop", "clamp"] = "drop"

    def __post_init__(self) -> None:
        check_amount("sigma_px", self.sigma_px, 0, 65536)
        check_choice("outside", self.outside, ("drop", "clamp"))

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw the deviation, and a seed for the events."""
        size, _ = check_draw(rng, sensor_size, span)
        return ShiftedPlaces(size, drawn_amount(rng, self.sigma_px), self.outside, drawn_seed(rng))


@dataclass(frozen=True, slots=True)
class AddedNoise(Transform):
    """Adds ``count`` events, each anywhere, at any time, of either polarity; only to events."""

    sensor_size: Size
    span: Span
    count: int
    seed: int

    def events(self, events: Events) -> Events:
        """Return all events; at one time the given ones come first."""
        width, height = self.sensor_size
        rng = np.random.default_rng(self.seed)
        t = np.sort(rng.integers(*self.span, self.count))
        at = np.searchsorted(events.t, t, side="right")
        return Events.from_checked(
            np.insert(events.x, at, rng.integers(0, width, self.count).astype(np.uint16)),
            np.insert(events.y, at, rng.integers(0, height, self.count).astype(np.uint16)),
            np.insert(events.t, at, t),
            np.insert(events.p, at, rng.integers(0, 2, self.count).astype(np.int8)),
        )


@dataclass(frozen=True)
class UniformNoise(Augmentation):
    """Add events that are spread evenly over the sensor, the clip and both polarities.

    Parameters
    ----------
    rate_hz : float, events by pixel and second, or a range (low, high) to draw from
        The number of events is drawn from a Poisson distribution of this rate.

    Examples
    --------
    >>> noise = UniformNoise(rate_hz=1)
    >>> transform = noise.draw(
    ...     rng=np.random.default_rng(0), sensor_size=(10, 10), span=(0, 10**6)
    ... )
    >>> len(transform.events(Events.empty())) == transform.count
    True
    """

    rate_hz: Amount = 0.1

    def __post_init__(self) -> None:
        check_amount("rate_hz", self.rate_hz, 0, 1e6)

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw the number of events, and a seed for them."""
        size, interval = check_draw(rng, sensor_size, span)
        seconds = (interval[1] - interval[0]) * 1e-6
        mean = drawn_amount(rng, self.rate_hz) * size[0] * size[1] * seconds
        return AddedNoise(size, interval, int(rng.poisson(mean)), drawn_seed(rng))
