"""Background activity and refractory filters: what the times of a pixel and its neighbours say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from eventkit.events import Events
from eventkit.filters.base import (
    Filter,
    Filtered,
    FilterOptions,
    FilterState,
    check_cells,
    check_flag,
    check_whole,
    reason_of,
)
from eventkit.representations.base import EventsLike, Outside, check_choice

Refresh = Literal["kept", "all"]


class _LatestTimes:
    """A map of times relative to the first event; int32 until the stream outgrows it.

    Parameters
    ----------
    cells : int
    limit_us : int
        The age that ages are compared with.
    """

    def __init__(self, cells: int, limit_us: int) -> None:
        self.limit_us = int(limit_us)
        kind = np.int32 if self.limit_us < 1 << 31 else np.int64
        self._map: NDArray[Any] = np.full(cells, np.iinfo(kind).min, kind)

    def until(self, span_us: int) -> NDArray[Any]:
        """Return the map, wide enough for times up to ``span_us``."""
        if span_us >= 1 << 31 and self._map.dtype == np.int32:
            never = self._map == np.iinfo(np.int32).min
            self._map = self._map.astype(np.int64)
            self._map[never] = np.iinfo(np.int64).min
        return self._map


@dataclass(frozen=True, kw_only=True)
class Background(Filter):
    """``background``: drop events that no neighbour supports; see `background_activity`.

    Parameters
    ----------
    within_us : int, microseconds
    neighbours : {8, 4}
    """

    name: ClassVar[str] = "background"
    within_us: int = 2000
    neighbours: int = 8

    def __post_init__(self) -> None:
        check_whole(low=0, within_us=self.within_us)
        check_choice("neighbours", str(self.neighbours), ("8", "4"))

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _BackgroundState(self, sensor_size, outside)


class _BackgroundState(FilterState):
    def __init__(self, flt: Background, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(reason_of(flt), sensor_size, outside)
        cells = check_cells((sensor_size[0] + 2) * (sensor_size[1] + 2), sensor_size)
        self._times = _LatestTimes(cells, flt.within_us)
        self._corners = int(flt.neighbours == 8)

    def _apply(self, events: Events) -> Events:
        from eventkit.kernels.filters import background

        self._check_span()
        last = self._times.until(int(events.t[-1]) - self._origin)
        settings = (self._origin, self._times.limit_us, self._corners, last)
        return self._select(background, events, *settings)


@dataclass(frozen=True, kw_only=True)
class Refractory(Filter):
    """``refractory``: a dead time after each event of a pixel; see `refractory`.

    Parameters
    ----------
    period_us : int, microseconds
    by_polarity : bool
    refresh : {"kept", "all"}
    """

    name: ClassVar[str] = "refractory"
    period_us: int = 1000
    by_polarity: bool = False
    refresh: Refresh = "kept"

    def __post_init__(self) -> None:
        check_whole(low=0, period_us=self.period_us)
        check_flag(by_polarity=self.by_polarity)
        check_choice("refresh", self.refresh, ("kept", "all"))

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _RefractoryState(self, sensor_size, outside)


class _RefractoryState(FilterState):
    def __init__(self, flt: Refractory, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(reason_of(flt), sensor_size, outside)
        area = sensor_size[0] * sensor_size[1]
        self._plane = area if flt.by_polarity else 0
        self._times = _LatestTimes(check_cells(area + self._plane, sensor_size), flt.period_us)
        self._always = int(flt.refresh == "all")

    def _apply(self, events: Events) -> Events:
        from eventkit.kernels.filters import refractory as kernel

        self._check_span()
        last = self._times.until(int(events.t[-1]) - self._origin)
        settings = (self._origin, self._times.limit_us, self._plane, self._always, last)
        return self._select(kernel, events, *settings)


def background_activity(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    within_us: int = 2000,
    neighbours: int = 8,
    **options: Unpack[FilterOptions],
) -> Filtered:
    """Keep events that a neighbouring pixel supports: correlated in space and time.

    An event at ``(x, y, t)`` is kept if one of the neighbours of its pixel, not the pixel itself,
    had an event of either polarity, kept or not, at a time ``s`` before it in the stream with
    ``t - s <= within_us``. (Delbruck, "Frame-free dynamic digital vision", 2008.)

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    within_us : int, microseconds
        0 asks for a neighbour at the same time, earlier in the stream.
    neighbours : {8, 4}
        With the corners or without.
    **options
        See `FilterOptions`.

    Notes
    -----
    The first event has no support and is dropped; the last one is like any other. At the border
    there are fewer neighbours.

    dv-processing compares ``t - s < duration``: ``within_us = duration - 1`` is equal. tonic's
    ``Denoise`` too, with 4 neighbours. Both begin with a map of zeros, which supports every event
    until ``duration`` after time 0. eventcv's filter is equal (``block`` 8, ``cross`` 4).

    Examples
    --------
    >>> ev = Events(x=[4, 5, 0], y=[2, 3, 0], t=[0, 1500, 1600], p=[1, 0, 1])
    >>> done = background_activity(ev, sensor_size=(7, 5))
    >>> done.events.t.tolist(), done.dropped
    ([1500], 2)
    """
    flt = Background(within_us=within_us, neighbours=neighbours)
    return flt(events, sensor_size=sensor_size, **options)


def refractory(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    period_us: int = 1000,
    by_polarity: bool = False,
    refresh: Refresh = "kept",
    **options: Unpack[FilterOptions],
) -> Filtered:
    """Keep events of a pixel that are at least ``period_us`` after its last one.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    period_us : int, microseconds
        An event is kept if ``t - t_last >= period_us``; 0 keeps all.
    by_polarity : bool
        ON and OFF of a pixel have dead times of their own.
    refresh : {"kept", "all"}
        What ``t_last`` is: the pixel's last kept event, as in the hardware, or its last event, so
        that it must be silent for a period.
    **options
        See `FilterOptions`.

    Notes
    -----
    The first event of a pixel is kept. eventcv is equal in both senses of ``refresh``. tonic and
    evutils compare ``t - t_last > period`` with the last event: ``period_us = period + 1`` and
    ``refresh="all"``.

    Examples
    --------
    >>> ev = Events(x=[2] * 4, y=[1] * 4, t=[0, 600, 1000, 1700], p=[1, 0, 1, 0])
    >>> refractory(ev, sensor_size=(7, 5)).events.t.tolist()
    [0, 1000]
    >>> refractory(ev, sensor_size=(7, 5), refresh="all").events.t.tolist()
    [0]
    """
    flt = Refractory(period_us=period_us, by_polarity=by_polarity, refresh=refresh)
    return flt(events, sensor_size=sensor_size, **options)
