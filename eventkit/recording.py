"""A recording: events in chunks or whole, frames, triggers, IMU, and the ledger of its reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Columns
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.frames import Frames
from eventkit.ledger import Ledger

OnError = Literal["raise", "skip", "repair"]

MAX_EMPTY_WINDOWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive events, and the times of those that were dropped beside them.

    ``dropped[reason]`` is an (n,) int64 array of times in microseconds, so that a drop can be
    booked on the clip it fell into.
    """

    events: Events
    dropped: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


class EventSource(Protocol):
    """Where the events of a recording come from.

    A source may have two methods more, which are used where they are there:
    ``load(ledger, out=None) -> Events`` and a call with ``since_us``; see
    `eventkit.readers.stream.EventStream`.
    """

    def __call__(self, ledger: Ledger) -> Iterator[Chunk]:
        """Yield the events from the beginning, and book on the ledger."""
        ...


@dataclass(slots=True)
class Recording:
    """What one recording holds; made by `eventkit.open`.

    Parameters
    ----------
    path : Path
    format : str
        ``aedat4``, ``evt3``, ``atis-bin``, ``npz``, ``images``, ``video`` ...
    sensor_size : (W, H) or None
        None only where the format does not say and the caller did not either.
    geometry_source : str
        Where ``sensor_size`` comes from, in words.
    source : callable, optional
        ``source(ledger)`` yields `Chunk` and books on the ledger; absent without an event side.
    frames : Frames, optional
    side_data : callable, optional
        Reads what stands beside events and frames; see `triggers` and `imu`.
    t_offset_us : int
        Add to ``events.t`` for absolute time; 0 where the file's times are absolute already.
    notes : list of str
        Assumptions the reader made.
    evidence : str
        Why the file was taken to be of this format, in words.
    side_faults : list of dict
        Damage of frames, triggers and IMU samples, as in `Ledger.faults`; complete once these have
        been read.

    Examples
    --------
    >>> import eventkit
    >>> recording = eventkit.open("recording.npz", sensor_size=(8, 6))  # doctest: +SKIP
    >>> for events in recording.chunks(us=10_000):  # doctest: +SKIP
    ...     print(len(events))
    >>> recording.between(1_000_000, 1_500_000)  # doctest: +SKIP
    """

    path: Path
    format: str
    sensor_size: tuple[int, int] | None = None
    geometry_source: str = ""
    source: EventSource | None = None
    frames: Frames | None = None
    side_data: Callable[[], Mapping[str, NDArray[Any]]] | None = None
    t_offset_us: int = 0
    notes: list[str] = field(default_factory=list)
    evidence: str = ""
    side_faults: list[dict[str, Any]] = field(default_factory=list)
    _side: Mapping[str, NDArray[Any]] | None = field(default=None, repr=False, init=False)
    _events: Events | None = field(default=None, repr=False, init=False)
    _ledger: Ledger | None = field(default=None, repr=False, init=False)

    @property
    def has_events(self) -> bool:
        """Whether there is an event side at all (it may still hold no event)."""
        return self.source is not None

    def stream(self, ledger: Ledger | None = None) -> Iterator[Chunk]:
        """Read the events piece by piece in bounded memory, drops beside them.

        Parameters
        ----------
        ledger : Ledger, optional
            Receives the counts as it goes.
        """
        if self.source is not None:
            yield from self.source(ledger if ledger is not None else Ledger())

    def chunks(
        self, *, n: int | None = None, us: int | None = None, ledger: Ledger | None = None
    ) -> Iterator[Events]:
        """Read the events in parts of one length, in bounded memory.

        Parameters
        ----------
        n : int, optional
            Events in each part; the last has what is left.
        us : int, microseconds, optional
            Length of each part; the first one starts at the first event, and a window without
            events is an empty part, so that part ``k`` is ``[first + k * us, first + (k+1) * us)``.
        ledger : Ledger, optional
            Receives the counts as it goes.

        Yields
        ------
        Events
            Neither ``n`` nor ``us``: parts as they come from the file.

        Raises
        ------
        SettingsError
            If both are given or one is below 1, or the next event is a million windows away.
        """
        given: list[Any] = [v for v in (n, us) if v is not None]
        if len(given) > 1 or any(not isinstance(v, Integral) or int(v) < 1 for v in given):
            msg = f"expected n or us, a whole number of at least 1, got n={n!r}, us={us!r}"
            raise SettingsError(msg)
        events = (chunk.events for chunk in self.stream(ledger) if len(chunk.events))
        if n is not None:
            return _by_number(events, n)
        return events if us is None else _by_time(events, us)

    def between(self, start_us: int, stop_us: int) -> Events:
        """Return the events of ``[start_us, stop_us)``, microseconds.

        Where the format can be entered in the middle, what was read before is remembered: the first
        call decodes up to ``stop_us``, later ones begin near ``start_us``. Memory holds the result
        and one chunk.
        """
        # NumPy compares larger numbers as floats.
        start_us, stop_us = (max(-(1 << 63), min(v, (1 << 63) - 1)) for v in (start_us, stop_us))
        if self._events is not None or self.source is None:
            whole = self.events
            first, last = np.searchsorted(whole.t, [start_us, stop_us])
            return whole[int(first) : int(last)]
        seek = getattr(self.source, "load", None) is not None
        options: dict[str, Any] = {"since_us": start_us} if seek else {}
        parts: list[Events] = []
        for chunk in self.source(Ledger(), **options):
            first, last = np.searchsorted(chunk.events.t, [start_us, stop_us])
            if last > first:  # an empty slice would hold on to the memory of its chunk
                parts.append(chunk.events[int(first) : int(last)])
            if last < len(chunk.events):
                break
        return Events.concatenate(parts)

    def load(self, *, out: Columns | None = None, ledger: Ledger | None = None) -> Events:
        """Decode all events now, without keeping them here.

        Parameters
        ----------
        out : Columns, optional
            Columns to decode into; memory that was used before is faster by half than fresh memory.
            The result are views of it, good until it is used again; without room for all, it is in
            fresh memory instead.
        ledger : Ledger, optional
            Receives the counts.
        """
        ledger = ledger if ledger is not None else Ledger()
        whole = getattr(self.source, "load", None)
        if whole is not None:
            events: Events = whole(ledger, out=out)
            return events
        return Events.concatenate(chunk.events for chunk in self.stream(ledger))

    @property
    def events(self) -> Events:
        """All events; decoded at the first use and kept."""
        if self._events is None:
            ledger = Ledger()
            self._events = self.load(ledger=ledger)
            self._ledger = ledger
        return self._events

    @property
    def triggers(self) -> NDArray[Any] | None:
        """External signals (N,) as the camera tells them, or None; see `eventkit.triggers`."""
        return self._side_array("triggers")

    @property
    def imu(self) -> NDArray[Any] | None:
        """Inertial samples, structured (N,): ``t`` in microseconds and the camera's columns."""
        return self._side_array("imu")

    def _side_array(self, name: str) -> NDArray[Any] | None:
        if self._side is None:
            self._side = self.side_data() if self.side_data is not None else {}
        return self._side.get(name)

    @property
    def ledger(self) -> Ledger:
        """The ledger of reading all events."""
        if self._ledger is None:
            _ = self.events
        assert self._ledger is not None
        return self._ledger

    def with_frames(self, frames: Frames | None) -> Recording:
        """Return this recording with another frame side."""
        return replace(self, frames=frames)


def _by_number(source: Iterator[Events], n: int) -> Iterator[Events]:
    waiting: list[Events] = []
    held = 0
    for events in source:
        waiting.append(events)
        held += len(events)
        if held < n:
            continue
        joined = Events.concatenate(waiting)
        whole = held - held % n
        for start in range(0, whole, n):
            yield joined[start : start + n]
        waiting, held = [joined[whole:]], held - whole
    if held:
        yield Events.concatenate(waiting)


def _by_time(source: Iterator[Events], us: int) -> Iterator[Events]:
    waiting: list[Events] = []
    stop: int | None = None
    for events in source:
        rest = events
        if stop is None:
            stop = int(rest.t[0]) + us
        while len(rest) and int(rest.t[-1]) >= stop:
            cut = int(np.searchsorted(rest.t, stop))
            ahead = (int(rest.t[cut]) - stop) // us
            if ahead > MAX_EMPTY_WINDOWS:
                msg = (
                    f"expected events within {MAX_EMPTY_WINDOWS} windows of {us} us, the next one "
                    f"after {stop} us is at {int(rest.t[cut])} us; longer windows, or is a time "
                    "damaged?"
                )
                raise SettingsError(msg)
            yield Events.concatenate([*waiting, rest[:cut]])
            waiting, rest, stop = [], rest[cut:], stop + us
        waiting.append(rest)
    if stop is not None:
        yield Events.concatenate(waiting)
