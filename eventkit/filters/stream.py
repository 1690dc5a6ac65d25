"""Polarity and rate: filters that look at no place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from eventkit.events import Events
from eventkit.filters.base import (
    Filter,
    Filtered,
    FilterOptions,
    FilterState,
    check_whole,
    reason_of,
)
from eventkit.representations.base import EventsLike, Outside, check_choice

PolarityMode = Literal["on", "off", "merge", "invert"]


@dataclass(frozen=True, kw_only=True)
class Polarity(Filter):
    """``polarity``: keep one polarity, or change it; see `polarity`.

    Parameters
    ----------
    mode : {"merge", "on", "off", "invert"}
    """

    name: ClassVar[str] = "polarity"
    mode: PolarityMode = "merge"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("on", "off", "merge", "invert"))

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _PolarityState(self, sensor_size, outside)


class _PolarityState(FilterState):
    def __init__(self, flt: Polarity, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(reason_of(flt), sensor_size, outside)
        self._mode = flt.mode

    def _apply(self, events: Events) -> Events:
        if self._mode in ("on", "off"):
            from eventkit.kernels.filters import of_polarity

            return self._select(of_polarity, events, int(self._mode == "on"))
        self._check_inside(events)
        p = np.ones_like(events.p) if self._mode == "merge" else events.p ^ np.int8(1)
        return Events.from_checked(events.x, events.y, events.t, p)


@dataclass(frozen=True, kw_only=True)
class RateLimit(Filter):
    """``rate``: at most so many events in an interval; see `limit_rate`.

    Parameters
    ----------
    count : int
    per_us : int, microseconds
    """

    name: ClassVar[str] = "rate"
    count: int
    per_us: int = 1000

    def __post_init__(self) -> None:
        check_whole(low=1, count=self.count, per_us=self.per_us)

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _RateState(self, sensor_size, outside)


class _RateState(FilterState):
    def __init__(self, flt: RateLimit, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(reason_of(flt), sensor_size, outside)
        self._limit = flt.count
        self._per_us = flt.per_us
        self._clock: NDArray[np.int64] | None = None

    def _apply(self, events: Events) -> Events:
        from eventkit.kernels.filters import limited

        self._check_span()
        if self._clock is None:
            self._clock = np.array([events.t[0], 0], np.int64)
        return self._select(limited, events, self._per_us, self._limit, self._clock)


def polarity(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    mode: PolarityMode = "merge",
    **options: Unpack[FilterOptions],
) -> Filtered:
    """Keep one polarity, or make all ON, or swap ON and OFF.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    mode : {"merge", "on", "off", "invert"}
        ``merge`` sets p to 1 and ``invert`` to ``1 - p``, keeping all events; ``on`` keeps those
        with p = 1, ``off`` those with p = 0.
    **options
        See `FilterOptions`.

    Examples
    --------
    >>> ev = Events(x=[0, 1], y=[0, 0], t=[0, 5], p=[0, 1])
    >>> polarity(ev, sensor_size=(7, 5), mode="on").events.x.tolist()
    [1]
    >>> polarity(ev, sensor_size=(7, 5), mode="invert").events.p.tolist()
    [1, 0]
    """
    return Polarity(mode=mode)(events, sensor_size=sensor_size, **options)


def limit_rate(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    count: int,
    per_us: int = 1000,
    **options: Unpack[FilterOptions],
) -> Filtered:
    """Keep the first ``count`` events of each interval of ``per_us`` microseconds.

    Intervals are half-open and follow each other from the first event on. The first events rather
    than evenly spaced ones: which those are is known only when the interval has ended, so a stream
    would have to be held back. A short interval keeps what is left evenly spread: 1000 events a
    millisecond rather than a million a second.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    count : int
    per_us : int, microseconds
    **options
        See `FilterOptions`.

    Examples
    --------
    >>> ev = Events(x=[0] * 5, y=[0] * 5, t=[0, 1, 2, 10, 11], p=[1] * 5)
    >>> limit_rate(ev, sensor_size=(7, 5), count=2, per_us=10).events.t.tolist()
    [0, 1, 10, 11]
    """
    flt = RateLimit(count=count, per_us=per_us)
    return flt(events, sensor_size=sensor_size, **options)
