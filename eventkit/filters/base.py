"""What all filters share: settings, one call, and a state that takes a stream chunk by chunk.

A `Filter` is a frozen set of settings with a name. ``start(sensor_size)`` returns a `FilterState`,
whose ``update(chunk)`` returns what is kept of each chunk at once: no filter holds events back, and
none looks at later ones, so the kept events do not depend on where the stream is cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypedDict, Unpack

import numpy as np

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.representations.base import (
    EventsLike,
    Outside,
    as_events,
    check_choice,
    check_sensor,
    inside,
    outside_error,
)

# Above this, room that was reserved and not used was never touched, so it costs no memory; below,
# what is kept moves to arrays of its own size where that saves half.
LARGE = 1 << 20
# A filter with a map indexes its cells with uint32.
MAX_CELLS = (1 << 32) - 1
MAX_US = (1 << 63) - 1


class FilterOptions(TypedDict, total=False):
    """What every call takes beside its settings.

    Keys
    ----
    sort : bool
        Sort arrays that are no `Events` yet by time, stable, instead of raising.
    outside : {"raise", "drop"}
        Events outside the sensor: raise naming the first, or drop and count them.
    ledger : Ledger
        Its ``decoded`` grows by the events given, its ``dropped`` by ``filtered.NAME`` (and
        ``outside``).
    """

    sort: bool
    outside: Outside
    ledger: Ledger | None


@dataclass(frozen=True, slots=True)
class Filtered:
    """What a filter returns.

    Parameters
    ----------
    events : Events
    sensor_size : (W, H)
        That of the kept events.
    dropped : int
        Events that are missing: ``len(given) == len(events) + dropped``.
    """

    events: Events
    sensor_size: tuple[int, int]
    dropped: int


class FilterState(ABC):
    """A filter at work on one stream.

    Parameters
    ----------
    reason : str
        Under which dropped events are counted.
    sensor_size : (W, H)
        That of the events to come.
    outside : {"raise", "drop"}

    Notes
    -----
    Memory is that of a map of the sensor, whatever the length of the stream. After an error start
    a new state: this one may have seen a part of the chunk.
    """

    def __init__(self, reason: str, sensor_size: tuple[int, int], outside: Outside) -> None:
        self.sensor_size = sensor_size
        self._reason = reason
        self._outside = outside
        self._drops: Counter[str] = Counter()
        self._seen = 0
        self._origin = 0
        self._latest: int | None = None

    @property
    def drops(self) -> Counter[str]:
        """Events dropped until now, by reason, for `Ledger.drop`."""
        return self._drops.copy()

    @property
    def dropped(self) -> int:
        """Events dropped until now."""
        return sum(self.drops.values())

    def update(self, events: Events) -> Events:
        """Return what is kept of a chunk that follows the ones before in time.

        Raises
        ------
        InvalidEventsError
            If it steps back in time, or an event is outside the sensor and that is not allowed.
        """
        if not len(events):
            return events
        self._follow(events)
        given = len(events)
        if self._outside == "drop":
            good = inside(events, self.sensor_size)
            if not good.all():
                self._drops["outside"] += given - int(good.sum())
                events = events[good]
        kept = self._apply(events) if len(events) else events
        if len(kept) < len(events):
            self._drops[self._reason] += len(events) - len(kept)
        self._seen += given
        return kept

    def _follow(self, events: Events) -> None:
        first = int(events.t[0])
        if self._latest is None:
            self._origin = first
        elif first < self._latest:
            msg = f"expected a chunk from {self._latest} us on, got {first} us at its first event"
            raise InvalidEventsError(msg)
        self._latest = int(events.t[-1])

    def _check_span(self) -> None:
        """Raise where times relative to the first event would pass int64."""
        if self._latest is not None and self._latest - self._origin > MAX_US:
            msg = f"expected a stream shorter than 2^63 us, got {self._origin} .. {self._latest} us"
            raise InvalidEventsError(msg)

    def _check_inside(self, events: Events) -> None:
        """Raise for an event outside the sensor, where no kernel looks."""
        width, height = self.sensor_size
        good = events.x.max() < width and events.y.max() < height
        if not (good and events.p.min() >= 0 and events.p.max() <= 1):
            raise outside_error(events, self.sensor_size, before=self._seen)

    def _select(
        self,
        kernel: Callable[..., int],
        events: Events,
        *settings: Any,
        moves: bool = False,
    ) -> Events:
        """Run a kernel that writes the kept events together; ``moves`` if it changes them too."""
        room = len(events) + 1
        x, y = np.empty(room, np.uint16), np.empty(room, np.uint16)
        t, p = np.empty(room, np.int64), np.empty(room, np.int8)
        width, height = self.sensor_size
        columns = (events.x, events.y, events.t, events.p)
        kept = int(kernel(*columns, width, height, *settings, x, y, t, p))
        if kept < 0:
            raise outside_error(events, self.sensor_size, start=-1 - kept, before=self._seen)
        if kept == len(events) and not moves:
            return events
        found = Events.from_checked(x[:kept], y[:kept], t[:kept], p[:kept])
        if room < LARGE and kept < room // 2:
            return Events.from_checked(
                found.x.copy(), found.y.copy(), found.t.copy(), found.p.copy()
            )
        return found

    @abstractmethod
    def _apply(self, events: Events) -> Events:
        """Return what is kept of a chunk of at least one event."""


@dataclass(frozen=True, kw_only=True)
class Filter(ABC):
    """Settings of one named filter.

    Attributes
    ----------
    name : str
        Dropped events are counted as ``filtered.NAME``.
    """

    name: ClassVar[str]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as plain types, for plans and attributes."""
        return asdict(self)

    def size(self, sensor_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (W, H) of the kept events."""
        return check_sensor(sensor_size)

    def start(self, sensor_size: tuple[int, int], *, outside: Outside = "raise") -> FilterState:
        """Return a state for one stream.

        Parameters
        ----------
        sensor_size : (W, H)
        outside : {"raise", "drop"}

        Raises
        ------
        SettingsError
            If the settings do not fit the sensor, or the filter has to see the stream beforehand.
        """
        check_choice("outside", outside, ("raise", "drop"))
        size = check_sensor(sensor_size)
        self.size(size)
        return self._start(size, outside)

    @abstractmethod
    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        """Return a new state; everything is checked."""

    def __call__(
        self,
        events: EventsLike,
        *,
        sensor_size: tuple[int, int],
        **options: Unpack[FilterOptions],
    ) -> Filtered:
        """Filter a whole stream.

        Parameters
        ----------
        events : Events, structured array or mapping of columns
            May be empty.
        sensor_size : (W, H)
        **options
            See `FilterOptions`.
        """
        check_options(options)
        outside, ledger = options.get("outside", "raise"), options.get("ledger")
        stream = as_events(events, sort=options.get("sort", False))
        kept, drops = self._whole(stream, check_sensor(sensor_size), outside)
        if ledger is not None:
            ledger.decoded += len(stream)
            ledger.drop(drops)
        return Filtered(kept, self.size(sensor_size), sum(drops.values()))

    def _whole(
        self, events: Events, sensor_size: tuple[int, int], outside: Outside
    ) -> tuple[Events, Counter[str]]:
        state = self.start(sensor_size, outside=outside)
        return state.update(events), state.drops


def check_options(options: FilterOptions) -> None:
    """Raise `SettingsError` for an option no filter has."""
    unknown = sorted(set(options) - set(FilterOptions.__annotations__))
    if unknown:
        known = ", ".join(FilterOptions.__annotations__)
        msg = f"unknown option {unknown[0]!r}; filters take sensor_size, {known}"
        raise SettingsError(msg)


def check_whole(*, low: int, high: int = MAX_US, **values: Any) -> None:
    """Raise `SettingsError` for the first value that is no whole number within ``low..high``."""
    for name, value in values.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not low <= int(value) <= high:
            top = "2^63 - 1" if high == MAX_US else high
            msg = f"expected {name} as a whole number within {low}..{top}, got {value!r}"
            raise SettingsError(msg)


def check_flag(**values: Any) -> None:
    """Raise `SettingsError` for the first value that is neither true nor false."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            msg = f"expected {name} as true or false, got {value!r}"
            raise SettingsError(msg)


def check_cells(cells: int, sensor_size: tuple[int, int]) -> int:
    """Return the size of a map, or raise where its cells cannot be numbered."""
    if cells > MAX_CELLS:
        msg = f"expected a map of at most {MAX_CELLS} cells, got {cells} for {sensor_size}"
        raise SettingsError(msg)
    return cells


def reason_of(flt: Filter) -> str:
    """Return the ledger's name for what a filter drops."""
    return f"filtered.{flt.name}"
