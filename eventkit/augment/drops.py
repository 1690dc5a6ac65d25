"""Drop events: by chance, by time, by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.augment.base import (
    COUNTS,
    Amount,
    Augmentation,
    Of,
    Size,
    Span,
    Transform,
    check_amount,
    check_draw,
    check_events,
    check_frames,
    drawn_amount,
    drawn_seed,
)
from eventkit.differences import Kind, Order
from eventkit.events import Events
from eventkit.representations.base import Representation
from eventkit.representations.registry import parse


@dataclass(frozen=True, slots=True)
class ChanceDrop(Transform):
    """Drops each event with probability ``chance``; concerns events only."""

    chance: float
    seed: int

    def events(self, events: Events) -> Events:
        """Return the events that stay."""
        # random() is below 1, so a chance of 1 drops all and 0 none.
        return events[np.random.default_rng(self.seed).random(len(events)) >= self.chance]


@dataclass(frozen=True)
class DropByChance(Augmentation):
    """Drop each event with the same probability (the EventDrop paper, IJCAI 2021).

    Parameters
    ----------
    chance : float, 0 to 1, or a range (low, high) to draw from

    Examples
    --------
    >>> ev = Events(x=[0] * 100, y=[0] * 100, t=range(100), p=[1] * 100)
    >>> kept = DropByChance(chance=0.5)(ev, sensor_size=(1, 1), rng=np.random.default_rng(0))
    >>> 20 < len(kept) < 80
    True
    """

    chance: Amount = 0.1

    def __post_init__(self) -> None:
        check_amount("chance", self.chance, 0, 1)

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw the probability, and a seed for the events."""
        check_draw(rng, sensor_size, span)
        return ChanceDrop(drawn_amount(rng, self.chance), drawn_seed(rng))


@dataclass(frozen=True, slots=True)
class TimeDrop(Transform):
    """Drops the events of ``[start, stop)``; concerns events only, pictures stay."""

    start: int
    stop: int

    def events(self, events: Events) -> Events:
        """Return the events before and after."""
        first, last = np.searchsorted(events.t, [self.start, self.stop], side="left")
        return Events.concatenate([events[: int(first)], events[int(last) :]])


@dataclass(frozen=True)
class DropByTime(Augmentation):
    """Drop all events of one interval within the clip (EventDrop, IJCAI 2021).

    Parameters
    ----------
    share : float, 0 to 1, or a range (low, high) to draw from
        Length of the interval by that of the clip, rounded down to microseconds; its place is
        drawn evenly from all that lie within the clip.

    Examples
    --------
    >>> ev = Events(x=[0] * 10, y=[0] * 10, t=range(10), p=[1] * 10)
    >>> len(DropByTime(share=0.4)(ev, sensor_size=(1, 1), rng=np.random.default_rng(0)))
    6
    """

    share: Amount = 0.1

    def __post_init__(self) -> None:
        check_amount("share", self.share, 0, 1)

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw the interval."""
        _, (start, stop) = check_draw(rng, sensor_size, span)
        length = min(int((stop - start) * drawn_amount(rng, self.share)), stop - start)
        first = int(rng.integers(start, stop - length, endpoint=True))
        return TimeDrop(first, first + length)


@dataclass(frozen=True, slots=True)
class AreaDrop(Transform):
    """Empties one rectangle, columns ``x0 .. x1 - 1`` and rows ``y0 .. y1 - 1`` of the sensor.

    Arrays of another size than the sensor (RGB frames) lose every pixel that the same relative
    rectangle touches. Event frames become what they are without events there, pictures ``fill``,
    differences 0. Frames whose bins begin with their first event (``stack:rvt``) keep the bins of
    the whole clip.
    """

    sensor_size: Size
    x0: int
    x1: int
    y0: int
    y1: int
    fill: int

    def events(self, events: Events) -> Events:
        """Return the events outside the rectangle."""
        check_events(events, self.sensor_size)
        x, y = events.x, events.y
        within = (x >= self.x0) & (x < self.x1) & (y >= self.y0) & (y < self.y1)
        return events[~within]

    def frames(self, frames: NDArray[Any], *, representation: str = COUNTS) -> NDArray[Any]:
        """Return the frames, without events in the rectangle."""
        check_frames(frames, self.sensor_size)
        rows, columns = slice(self.y0, self.y1), slice(self.x0, self.x1)
        blanked = frames.copy()
        empty = _without_events(parse(representation), self.sensor_size)
        blanked[:, :, rows, columns] = empty[:, :, rows, columns]
        return blanked

    def rgb(self, pictures: NDArray[Any]) -> NDArray[Any]:
        """Return the pictures, ``fill`` in the rectangle."""
        return self._pictures(pictures, self.fill)

    def differences(
        self,
        differences: NDArray[Any],
        *,
        of: Of,
        kind: Kind = "absolute",
        order: Order = "consecutive",
        representation: str = COUNTS,
    ) -> NDArray[Any]:
        """Return the differences, 0 in the rectangle: all frames are the same there."""
        if of == "rgb":
            return self._pictures(differences, 0)
        check_frames(differences, self.sensor_size)
        blanked = differences.copy()
        blanked[:, :, self.y0 : self.y1, self.x0 : self.x1] = 0
        return blanked

    def _pictures(self, pictures: NDArray[Any], fill: int) -> NDArray[Any]:
        rows, columns = self._place(pictures.shape[1], pictures.shape[2])
        blanked = pictures.copy()
        blanked[:, rows, columns] = fill
        return blanked

    def _place(self, height: int, width: int) -> tuple[slice, slice]:
        if self.x0 == self.x1 or self.y0 == self.y1:
            return slice(0, 0), slice(0, 0)
        own_width, own_height = self.sensor_size
        rows = slice(self.y0 * height // own_height, -(-self.y1 * height // own_height))
        columns = slice(self.x0 * width // own_width, -(-self.x1 * width // own_width))
        return rows, columns


def _without_events(representation: Representation, sensor_size: Size) -> NDArray[Any]:
    """Return (T or 1, C, H, W): pictures, for one, are white without events."""
    return representation.as_stored(representation(Events.empty(), sensor_size=sensor_size)[None])


@dataclass(frozen=True)
class DropByArea(Augmentation):
    """Empty one rectangle of the picture (EventDrop, IJCAI 2021).

    Parameters
    ----------
    share : float, 0 to 1, or a range (low, high) to draw from
        Of the sensor's area: both sides are ``sqrt(share)`` of the sensor's, rounded to pixels
        (at least one, unless the share is 0); the place is drawn evenly from all within the sensor.
    fill : int, 0 to 255
        What RGB pictures become there.

    Examples
    --------
    >>> ev = Events(x=range(8), y=[0] * 8, t=range(8), p=[1] * 8)
    >>> len(DropByArea(share=0.25)(ev, sensor_size=(8, 1), rng=np.random.default_rng(0)))
    4
    """

    share: Amount = 0.1
    fill: int = 0

    def __post_init__(self) -> None:
        check_amount("share", self.share, 0, 1)
        check_amount("fill", self.fill, 0, 255)

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw the rectangle."""
        (width, height), _ = check_draw(rng, sensor_size, span)
        side = drawn_amount(rng, self.share) ** 0.5
        least = int(side > 0)
        wide, high = max(least, round(width * side)), max(least, round(height * side))
        x0 = int(rng.integers(0, width - wide, endpoint=True))
        y0 = int(rng.integers(0, height - high, endpoint=True))
        return AreaDrop((width, height), x0, x0 + wide, y0, y0 + high, int(self.fill))
