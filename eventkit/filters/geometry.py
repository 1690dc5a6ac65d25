"""Crop, flip, transpose and downsample: filters that change places, and the sensor with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.filters.base import (
    Filter,
    Filtered,
    FilterOptions,
    FilterState,
    check_cells,
    check_whole,
    reason_of,
)
from eventkit.representations.base import EventsLike, Outside, check_choice, check_sensor

Axis = Literal["x", "y"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Crop(Filter):
    """``crop``: keep a box of the sensor; see `crop`.

    Parameters
    ----------
    box : (x, y, w, h), pixels
    """

    name: ClassVar[str] = "crop"
    box: Box

    def __post_init__(self) -> None:
        box: Any = self.box
        if not isinstance(box, tuple | list) or len(box) != 4:
            msg = f"expected box (x, y, w, h), got {box!r}"
            raise SettingsError(msg)
        x, y, w, h = box
        check_whole(low=0, high=65535, x=x, y=y)
        check_whole(low=1, high=65536, w=w, h=h)
        object.__setattr__(self, "box", (int(x), int(y), int(w), int(h)))

    def size(self, sensor_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (w, h) of the box, which must lie on the sensor."""
        width, height = check_sensor(sensor_size)
        x, y, w, h = self.box
        if x + w > width or y + h > height:
            msg = f"expected a box on the {width}x{height} sensor, got {w}x{h} at ({x}, {y})"
            raise SettingsError(msg)
        return w, h

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _CropState(self, sensor_size, outside)


class _CropState(FilterState):
    def __init__(self, flt: Crop, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(reason_of(flt), sensor_size, outside)
        self._box = np.array(flt.box, np.int64)

    def _apply(self, events: Events) -> Events:
        from eventkit.kernels.filters import boxed

        moves = bool(self._box[:2].any())
        return self._select(boxed, events, self._box, moves=moves)


@dataclass(frozen=True, kw_only=True)
class Flip(Filter):
    """``flip``: mirror the sensor; see `flip`.

    Parameters
    ----------
    axis : {"x", "y"}
    """

    name: ClassVar[str] = "flip"
    axis: Axis = "x"

    def __post_init__(self) -> None:
        check_choice("axis", self.axis, ("x", "y"))

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _FlipState(self, sensor_size, outside)


class _FlipState(FilterState):
    def __init__(self, flt: Flip, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(reason_of(flt), sensor_size, outside)
        self._axis = flt.axis

    def _apply(self, events: Events) -> Events:
        self._check_inside(events)
        x, y = events.x, events.y
        if self._axis == "x":
            x = np.uint16(self.sensor_size[0] - 1) - x
        else:
            y = np.uint16(self.sensor_size[1] - 1) - y
        return Events.from_checked(x, y, events.t, events.p)


@dataclass(frozen=True, kw_only=True)
class Transpose(Filter):
    """``transpose``: swap x and y; see `transpose`."""

    name: ClassVar[str] = "transpose"

    def size(self, sensor_size: tuple[int, int]) -> tuple[int, int]:
        """Return (H, W)."""
        width, height = check_sensor(sensor_size)
        return height, width

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _TransposeState(reason_of(self), sensor_size, outside)


class _TransposeState(FilterState):
    def _apply(self, events: Events) -> Events:
        self._check_inside(events)
        return Events.from_checked(events.y, events.x, events.t, events.p)


@dataclass(frozen=True, kw_only=True)
class Downsample(Filter):
    """``downsample``: fewer pixels, and fewer events of each; see `downsample`.

    Parameters
    ----------
    factor : int
    step_us : int, microseconds
        0 keeps all events.
    """

    name: ClassVar[str] = "downsample"
    factor: int = 2
    step_us: int = 0

    def __post_init__(self) -> None:
        check_whole(low=1, high=65535, factor=self.factor)
        check_whole(low=0, step_us=self.step_us)

    def size(self, sensor_size: tuple[int, int]) -> tuple[int, int]:
        """Return (W, H) over the factor, rounded up: a last pixel may be narrower."""
        width, height = check_sensor(sensor_size)
        return -(-width // self.factor), -(-height // self.factor)

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _DownsampleState(self, sensor_size, outside)


class _DownsampleState(FilterState):
    def __init__(self, flt: Downsample, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(reason_of(flt), sensor_size, outside)
        self._factor, self._step = flt.factor, flt.step_us
        width, height = flt.size(sensor_size)
        cells = 2 * width * height if self._step else 0
        self._steps = np.zeros(check_cells(cells, sensor_size), np.uint32)
        self._clock: NDArray[np.int64] | None = None

    def _apply(self, events: Events) -> Events:
        if self._step:
            return self._thin(events)
        self._check_inside(events)
        if self._factor == 1:
            return events
        factor = np.uint16(self._factor)
        return Events.from_checked(events.x // factor, events.y // factor, events.t, events.p)

    def _thin(self, events: Events) -> Events:
        from eventkit.kernels.filters import thinned

        self._check_span()
        if self._clock is None:
            self._clock = np.array([events.t[0], 1], np.int64)
        settings = (self._factor, self._step, self._clock, self._steps)
        return self._select(thinned, events, *settings, moves=self._factor > 1)


def crop(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    box: Box,
    **options: Unpack[FilterOptions],
) -> Filtered:
    """Keep the events in a box, ``x0 <= x < x0 + w`` and the same for y, moved to its corner.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    box : (x, y, w, h), pixels
        Must lie on the sensor.
    **options
        See `FilterOptions`.

    Examples
    --------
    >>> ev = Events(x=[1, 3], y=[1, 4], t=[0, 5], p=[0, 1])
    >>> done = crop(ev, sensor_size=(7, 5), box=(2, 1, 4, 4))
    >>> done.events.x.tolist(), done.events.y.tolist(), done.sensor_size, done.dropped
    ([1], [3], (4, 4), 1)
    """
    return Crop(box=box)(events, sensor_size=sensor_size, **options)


def flip(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    axis: Axis = "x",
    **options: Unpack[FilterOptions],
) -> Filtered:
    """Mirror the events: ``x -> W - 1 - x``, or ``y -> H - 1 - y``; all are kept.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    axis : {"x", "y"}
        The coordinate that changes.
    **options
        See `FilterOptions`.

    Examples
    --------
    >>> ev = Events(x=[1, 3], y=[1, 4], t=[0, 5], p=[0, 1])
    >>> flip(ev, sensor_size=(7, 5)).events.x.tolist()
    [5, 3]
    """
    return Flip(axis=axis)(events, sensor_size=sensor_size, **options)


def transpose(
    events: EventsLike, *, sensor_size: tuple[int, int], **options: Unpack[FilterOptions]
) -> Filtered:
    """Swap x and y, and the sides of the sensor; all events are kept, none is copied.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    **options
        See `FilterOptions`.

    Examples
    --------
    >>> ev = Events(x=[6], y=[4], t=[0], p=[1])
    >>> done = transpose(ev, sensor_size=(7, 5))
    >>> done.events.x.tolist(), done.sensor_size
    ([4], (5, 7))
    """
    return Transpose()(events, sensor_size=sensor_size, **options)


def downsample(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    factor: int = 2,
    step_us: int = 0,
    **options: Unpack[FilterOptions],
) -> Filtered:
    """Merge pixels, ``x // factor`` and ``y // factor``, then thin out what they have in time.

    With ``step_us``, time is cut into half-open steps of that length from the first event on, and
    of each (new) pixel and polarity the first event in a step is kept, at its own time. Merging
    ``factor * factor`` pixels gives as many times the events to one pixel; thinning brings the
    rate down again. Rounding times to the step instead would drop nothing and lose the order
    within a step.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
        Where it is no multiple of ``factor``, the last pixels of the result are narrower, so that
        no event is lost: the new size is rounded up.
    factor : int
        1 leaves places as they are.
    step_us : int, microseconds
        0 keeps all events.
    **options
        See `FilterOptions`.

    Examples
    --------
    >>> ev = Events(x=[0, 1, 6, 1], y=[0, 1, 4, 0], t=[0, 5, 9, 10], p=[1, 1, 0, 1])
    >>> done = downsample(ev, sensor_size=(7, 5), step_us=10)
    >>> done.events.x.tolist(), done.events.t.tolist(), done.sensor_size
    ([0, 3, 0], [0, 9, 10], (4, 3))
    """
    flt = Downsample(factor=factor, step_us=step_us)
    return flt(events, sensor_size=sensor_size, **options)
