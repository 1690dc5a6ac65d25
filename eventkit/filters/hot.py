"""Hot pixels: count the events of each pixel, then drop the pixels with too many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.filters.base import Filter, Filtered, FilterOptions, FilterState, reason_of
from eventkit.representations.base import (
    EventsLike,
    Outside,
    as_events,
    check_positive,
    check_sensor,
    inside,
    outside_error,
)


@dataclass(frozen=True, kw_only=True)
class HotPixels(Filter):
    """``hot-pixels``: drop pixels with too many events; see `hot_pixels`.

    It has to see the stream before it can filter it: `learn` returns the filter for that. A call
    on a whole array does both.

    Parameters
    ----------
    n_std : float, optional
    rate_hz : float, optional
    percentile : float, optional
    over_neighbours : float, optional
        A pixel is hot if it exceeds every threshold that is given.
    """

    name: ClassVar[str] = "hot-pixels"
    n_std: float | None = 5.0
    rate_hz: float | None = None
    percentile: float | None = None
    over_neighbours: float | None = 3.0

    def __post_init__(self) -> None:
        for name, value in self.settings.items():
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if value is not None and not number:
                msg = f"expected {name} as a number, got {value!r}"
                raise SettingsError(msg)
        check_positive(**{k: v for k, v in self.settings.items() if v is not None})
        if self.n_std is None and self.rate_hz is None and self.percentile is None:
            msg = "hot-pixels needs n_std, rate_hz or percentile"
            raise SettingsError(msg)
        if self.percentile is not None and self.percentile > 100:
            msg = f"expected percentile within 0..100, got {self.percentile}"
            raise SettingsError(msg)

    def learn(
        self, events: EventsLike | Iterable[Events], *, sensor_size: tuple[int, int]
    ) -> HotPixelMask:
        """Return the filter for a stream, given whole or as an iterable of chunks.

        Parameters
        ----------
        events : Events, structured array, mapping of columns, or iterable of Events
        sensor_size : (W, H)

        Raises
        ------
        InvalidEventsError
            If an event lies outside the sensor.
        """
        chunks: Iterable[Events]
        if isinstance(events, Events | np.ndarray | Mapping):
            chunks = [as_events(events)]
        else:
            chunks = events
        return HotPixelMask(hot=self._hot(*_statistics(chunks, check_sensor(sensor_size))))

    def _hot(self, counts: NDArray[np.int64], duration_us: int) -> NDArray[np.bool_]:
        hot = np.zeros(counts.shape, np.bool_)
        active = int(np.count_nonzero(counts))
        # A stream of one instant has no rates.
        if not active or (self.rate_hz is not None and not duration_us):
            return hot
        limits = [0.0]
        if self.n_std is not None:
            # Sums of integers: no rounding but the last, and pixels without events add nothing.
            flat = counts.reshape(-1)
            total, squares = int(flat.sum()), int(np.dot(flat, flat))
            spread = math.sqrt(active * squares - total * total) / active
            limits.append(total / active + self.n_std * spread)
        if self.percentile is not None:
            limits.append(float(np.percentile(counts[counts > 0], self.percentile)))
        if self.rate_hz is not None:
            limits.append(self.rate_hz * duration_us * 1e-6)
        y, x = np.divmod(np.flatnonzero(counts > max(limits)), counts.shape[1])
        if self.over_neighbours is not None:
            over = counts[y, x] > self.over_neighbours * _most_around(counts, y, x)
            y, x = y[over], x[over]
        hot[y, x] = True
        return hot

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        msg = (
            "hot-pixels has to see the stream before it can filter chunks of it; "
            "HotPixels(...).learn(chunks, sensor_size=...) returns the filter"
        )
        raise SettingsError(msg)

    def _whole(
        self, events: Events, sensor_size: tuple[int, int], outside: Outside
    ) -> tuple[Events, Counter[str]]:
        seen = events[inside(events, sensor_size)] if outside == "drop" else events
        mask = self.learn(seen, sensor_size=sensor_size)
        return mask._whole(events, sensor_size, outside)


@dataclass(frozen=True, kw_only=True, eq=False)
class HotPixelMask(Filter):
    """The hot pixels of a stream; drops their events.

    Parameters
    ----------
    hot : (H, W) bool
    """

    name: ClassVar[str] = "hot-pixels"
    hot: NDArray[np.bool_]

    def __post_init__(self) -> None:
        hot = np.array(self.hot)
        if hot.ndim != 2 or hot.dtype != np.bool_:
            msg = f"expected hot as (H, W) bool, got {hot.dtype}{hot.shape}"
            raise SettingsError(msg)
        hot.flags.writeable = False
        object.__setattr__(self, "hot", hot)

    @property
    def settings(self) -> dict[str, Any]:
        """The hot pixels as ``[x, y]``."""
        return {"pixels": np.argwhere(self.hot)[:, ::-1].tolist()}

    def size(self, sensor_size: tuple[int, int]) -> tuple[int, int]:
        """Return (W, H), which must be that of the mask."""
        width, height = check_sensor(sensor_size)
        if self.hot.shape != (height, width):
            rows, columns = self.hot.shape
            msg = f"expected the {columns}x{rows} sensor of the mask, got {width}x{height}"
            raise SettingsError(msg)
        return width, height

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _MaskState(self, sensor_size, outside)


class _MaskState(FilterState):
    def __init__(self, flt: HotPixelMask, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(reason_of(flt), sensor_size, outside)
        self._good = (~flt.hot).view(np.uint8).reshape(-1)

    def _apply(self, events: Events) -> Events:
        from eventkit.kernels.filters import masked

        return self._select(masked, events, self._good)


def _statistics(
    chunks: Iterable[Events], sensor_size: tuple[int, int]
) -> tuple[NDArray[np.int64], int]:
    """Return the (H, W) number of events of each pixel, and the duration in microseconds."""
    from eventkit.kernels.filters import tally

    width, height = sensor_size
    counts = np.zeros(width * height, np.int64)
    first, latest, seen = 0, 0, 0
    for events in chunks:
        if not len(events):
            continue
        added = int(tally(events.x, events.y, events.p, width, height, counts))
        if added < 0:
            raise outside_error(events, sensor_size, start=-1 - added, before=seen)
        first = first if seen else int(events.t[0])
        latest = int(events.t[-1])
        seen += len(events)
    return counts.reshape(height, width), latest - first


def _most_around(
    counts: NDArray[np.int64], y: NDArray[np.intp], x: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Return (K,) the largest count among the eight neighbours of each of K pixels, 0 without."""
    height, width = counts.shape
    most = np.zeros(y.size, np.int64)
    for dy, dx in product((-1, 0, 1), repeat=2):
        if dy or dx:
            row, column = y + dy, x + dx
            there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            most[there] = np.maximum(most[there], counts[row[there], column[there]])
    return most


def hot_pixels(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    n_std: float | None = 5.0,
    rate_hz: float | None = None,
    percentile: float | None = None,
    over_neighbours: float | None = 3.0,
    **options: Unpack[FilterOptions],
) -> Filtered:
    """Drop all events of pixels that have too many, both polarities together.

    With ``c`` the events of a pixel, ``mean`` and ``std`` (over N, not N - 1) over the pixels that
    have any, and the time ``T`` from the first event to the last, a pixel is hot if ``c`` exceeds
    every threshold given: ``mean + n_std * std``, ``rate_hz * T``, the ``percentile`` of the
    pixels that have any, and ``over_neighbours`` times the most active of its eight neighbours.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    n_std : float, optional
        None leaves this threshold out.
    rate_hz : float, optional
        Events a second. In a stream of one instant nothing is hot by rate.
    percentile : float, optional
        0 < percentile <= 100, linear between counts.
    over_neighbours : float, optional
        Tells a hot pixel from a scene: a line or a lamp that flickers in one place has neighbours
        that fire as well. In ten seconds of a 1280x720 recording with a fixed camera 5 standard
        deviations alone take 1645 pixels with 35 % of all events; 6 of them, with 0.2 %, exceed
        their neighbours. Two hot pixels side by side shield each other.
    **options
        See `FilterOptions`.

    Notes
    -----
    All events count, the first and the last included. With ``over_neighbours=None``, ``n_std`` is
    eventcv's rule (its default is 3), ``rate_hz`` alone (``n_std=None``) ``hot_pixel_frequency``
    of tonic's ``DropPixel``, ``percentile`` alone that of evlib.

    Examples
    --------
    >>> ev = Events(x=[3] * 90 + [0, 1, 2], y=[1] * 93, t=range(93), p=[1] * 93)
    >>> done = hot_pixels(ev, sensor_size=(7, 5), n_std=1.5)
    >>> done.events.x.tolist(), done.dropped
    ([0, 1, 2], 90)
    """
    flt = HotPixels(
        n_std=n_std, rate_hz=rate_hz, percentile=percentile, over_neighbours=over_neighbours
    )
    return flt(events, sensor_size=sensor_size, **options)
