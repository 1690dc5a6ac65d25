"""A recording: events in chunks or whole, frames, triggers, IMU, and the ledger of its reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.events import Events
from eventkit.frames import Frames
from eventkit.ledger import Ledger

OnError = Literal["raise", "skip", "repair"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive events, and the times of those that were dropped beside them.

    ``dropped[reason]`` is an (n,) int64 array of times in microseconds, so that a drop can be
    booked on the clip it fell into.
    """

    events: Events
    dropped: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(slots=True)
class Recording:
    """What one recording holds; made by `eventkit.open`.

    Parameters
    ----------
    path : Path
    format : str
        ``aedat4``, ``atis-bin``, ``npz``, ``images``, ``video`` ...
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
    """

    path: Path
    format: str
    sensor_size: tuple[int, int] | None = None
    geometry_source: str = ""
    source: Callable[[Ledger], Iterator[Chunk]] | None = None
    frames: Frames | None = None
    side_data: Callable[[], Mapping[str, NDArray[Any]]] | None = None
    t_offset_us: int = 0
    notes: list[str] = field(default_factory=list)
    _side: Mapping[str, NDArray[Any]] | None = field(default=None, repr=False)
    _events: Events | None = field(default=None, repr=False)
    _ledger: Ledger | None = field(default=None, repr=False)

    @property
    def has_events(self) -> bool:
        """Whether there is an event side at all (it may still hold no event)."""
        return self.source is not None

    def chunks(self, ledger: Ledger | None = None) -> Iterator[Chunk]:
        """Read the events piece by piece in bounded memory; books on ``ledger`` as it goes."""
        if self.source is not None:
            yield from self.source(ledger if ledger is not None else Ledger())

    @property
    def events(self) -> Events:
        """All events; decoded at the first use and kept."""
        if self._events is None:
            ledger = Ledger()
            self._events = Events.concatenate(chunk.events for chunk in self.chunks(ledger))
            self._ledger = ledger
        return self._events

    @property
    def triggers(self) -> NDArray[Any] | None:
        """External signals, structured (N,): ``t`` in microseconds, ``source``; or None."""
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
