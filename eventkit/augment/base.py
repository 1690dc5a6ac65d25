"""What augmentations share: settings, a draw, and the transform that the draw makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.differences import Kind, Order
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations.base import check_sensor, inside, outside_error

Span = tuple[int, int]
Size = tuple[int, int]
Of = Literal["events", "rgb"]
COUNTS = "counts:eventkit"
# One number, or the ends of a range from which one is drawn evenly.
Amount = float | tuple[float, float]


class Transform(ABC):
    """One draw: what is done to every array of one clip.

    It holds numbers, and where it treats each event apart a seed, so applying it twice gives the
    same. Arrays that it does not concern are returned as they are, not copied; others are new, the
    inputs are never changed.
    """

    @abstractmethod
    def events(self, events: Events) -> Events:
        """Return the events: in time order and on the sensor."""

    def frames(self, frames: NDArray[Any], *, representation: str = COUNTS) -> NDArray[Any]:
        """Return the event frames (T, C, H, W) as those of the transformed events would be.

        Parameters
        ----------
        frames : (T, C, H, W)
            As a store has them, H and W those of the sensor.
        representation : str
            The name or spec of what they are.

        Raises
        ------
        SettingsError
            If single events are treated apart, which frames no longer tell.
        """
        raise SettingsError(_needs_events(self))

    def rgb(self, pictures: NDArray[Any]) -> NDArray[Any]:
        """Return the pictures (T, H, W, C); as they are if only events are concerned."""
        return pictures

    def differences(
        self,
        differences: NDArray[Any],
        *,
        of: Of,
        kind: Kind = "absolute",
        order: Order = "consecutive",
        representation: str = COUNTS,
    ) -> NDArray[Any]:
        """Return frame differences as those of the transformed frames would be.

        Parameters
        ----------
        differences : (T - 1, C, H, W) of events, (T - 1, H, W, C) of rgb
        of : {"events", "rgb"}
        kind, order
            How they were made, see `eventkit.differences.frame_difference`.
        representation : str
            The name or spec of what the event frames are.
        """
        if of == "rgb":
            return differences
        raise SettingsError(_needs_events(self))


class Augmentation(ABC):
    """Settings of one augmentation."""

    @abstractmethod
    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw a transform for one clip.

        Parameters
        ----------
        rng : numpy.random.Generator
        sensor_size : (W, H)
        span : (start, stop), microseconds
            The clip is ``[start, stop)``.
        """

    def __call__(
        self,
        events: Events,
        *,
        sensor_size: Size,
        rng: np.random.Generator,
        span: Span | None = None,
    ) -> Events:
        """Draw and apply to events alone; the span is that of the events unless given."""
        if span is None:
            span = (int(events.t[0]), int(events.t[-1]) + 1) if len(events) else (0, 1)
        return self.draw(rng=rng, sensor_size=sensor_size, span=span).events(events)


@dataclass(frozen=True, slots=True)
class Unchanged(Transform):
    """Returns everything as it is."""

    def events(self, events: Events) -> Events:
        """Return the events."""
        return events

    def frames(self, frames: NDArray[Any], *, representation: str = COUNTS) -> NDArray[Any]:
        """Return the frames."""
        return frames

    def differences(
        self,
        differences: NDArray[Any],
        *,
        of: Of,
        kind: Kind = "absolute",
        order: Order = "consecutive",
        representation: str = COUNTS,
    ) -> NDArray[Any]:
        """Return the differences."""
        return differences


@dataclass(frozen=True, slots=True)
class Chain(Transform):
    """One transform after the other."""

    transforms: tuple[Transform, ...]

    def events(self, events: Events) -> Events:
        """Return the events after all transforms."""
        for transform in self.transforms:
            events = transform.events(events)
        return events

    def frames(self, frames: NDArray[Any], *, representation: str = COUNTS) -> NDArray[Any]:
        """Return the frames after all transforms."""
        for transform in self.transforms:
            frames = transform.frames(frames, representation=representation)
        return frames

    def rgb(self, pictures: NDArray[Any]) -> NDArray[Any]:
        """Return the pictures after all transforms."""
        for transform in self.transforms:
            pictures = transform.rgb(pictures)
        return pictures

    def differences(
        self,
        differences: NDArray[Any],
        *,
        of: Of,
        kind: Kind = "absolute",
        order: Order = "consecutive",
        representation: str = COUNTS,
    ) -> NDArray[Any]:
        """Return the differences after all transforms."""
        for transform in self.transforms:
            differences = transform.differences(
                differences, of=of, kind=kind, order=order, representation=representation
            )
        return differences


@dataclass(frozen=True)
class Compose(Augmentation):
    """Several augmentations, drawn and applied in this order.

    Parameters
    ----------
    augmentations : tuple of Augmentation

    Examples
    --------
    >>> from eventkit.augment import DropByChance, FlipX
    >>> ev = Events(x=[0, 3], y=[0, 1], t=[0, 9], p=[0, 1])
    >>> both = Compose((FlipX(chance=1), DropByChance(chance=0)))
    >>> both(ev, sensor_size=(4, 2), rng=np.random.default_rng(0)).x.tolist()
    [3, 0]
    """

    augmentations: tuple[Augmentation, ...]

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw one transform of each."""
        check_draw(rng, sensor_size, span)
        return Chain(
            tuple(a.draw(rng=rng, sensor_size=sensor_size, span=span) for a in self.augmentations)
        )


def check_draw(rng: np.random.Generator, sensor_size: Size, span: Span) -> tuple[Size, Span]:
    """Return the sensor size and the span as integers, or say what cannot be."""
    given: object = rng  # None, a seed or the old RandomState come easily
    if not isinstance(given, np.random.Generator):
        msg = f"expected rng as np.random.default_rng(seed), got {type(given).__name__}"
        raise SettingsError(msg)
    size = check_sensor(sensor_size)
    start, stop = (int(v) for v in span)
    if not (-(2**63) <= start < stop < 2**63) or stop - start >= 2**63:
        msg = f"expected a span that ends after it starts, within 2^63 us, got [{start}, {stop})"
        raise SettingsError(msg)
    return size, (start, stop)


def check_amount(name: str, amount: Amount, low: float, high: float) -> None:
    """Raise `SettingsError` unless an amount, or both ends of its range, lie in low..high."""
    ends = amount if isinstance(amount, tuple) else (amount, amount)
    if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high:
        msg = f"expected {name} as a number in {low}..{high} or a range (low, high), got {amount}"
        raise SettingsError(msg)


def drawn_amount(rng: np.random.Generator, amount: Amount) -> float:
    """Return the amount, drawn evenly where it is a range."""
    if isinstance(amount, tuple):
        return float(rng.uniform(*amount))
    return float(amount)


def drawn_seed(rng: np.random.Generator) -> int:
    """Return a seed for what is drawn event by event."""
    return int(rng.integers(1 << 63))


def check_events(events: Events, sensor_size: Size) -> None:
    """Raise `InvalidEventsError` for the first event outside the sensor."""
    if not inside(events, sensor_size).all():
        raise outside_error(events, sensor_size)


def check_frames(frames: NDArray[Any], sensor_size: Size) -> None:
    """Raise `SettingsError` unless every cell of the frames is a pixel of the sensor."""
    width, height = sensor_size
    if frames.ndim != 4 or frames.shape[2:] != (height, width):
        msg = (
            f"expected event frames (T, C, {height}, {width}), as drawn for, got {frames.shape}; "
            "apply it to the events and make the frames from those"
        )
        raise SettingsError(msg)


def check_in_span(events: Events, span: Span) -> None:
    """Raise `InvalidEventsError` for the first event outside the span."""
    t = events.t
    if not t.size or (t[0] >= span[0] and t[-1] < span[1]):
        return
    i = int(np.argmax((t < span[0]) | (t >= span[1])))
    msg = (
        f"expected events in the span [{span[0]}, {span[1]}) us, got {t[i]} us at event {i}; "
        "draw with the span of the clip, or give the events of the clip alone"
    )
    raise InvalidEventsError(msg)


def _needs_events(transform: Transform) -> str:
    return (
        f"{type(transform).__name__} treats single events, which frames do not tell apart; "
        "apply it to the events and make the frames from those"
    )
