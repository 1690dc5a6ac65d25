"""What a reader is: a name, what it recognises, and how it opens a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from eventkit.columns import EVENT_CHUNK as EVENT_CHUNK
from eventkit.events import TimeUnit
from eventkit.recording import OnError, Recording
from eventkit.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read, for every reader alike.

    Parameters
    ----------
    on_error : {"raise", "skip", "repair"}
        ``raise``: the first fault ends the reading. ``skip``: faulty events are dropped and
        counted, a damaged end is cut. ``repair``: as skip, but events that are out of order by a
        little are moved to the latest time before them, and counted; see `eventkit.readers.policy`.
    sensor_size : (W, H), optional
        Overrides what the file says or does not say.
    time_unit : {"us", "s", "ms", "ns"}, optional
        For formats that do not state it; told by evidence where it is not given.
    columns : str, optional
        Order of the columns of formats that do not name them, as in ``txyp``.
    topic : str, optional
        Which topic or stream of a file that holds several.
    """

    on_error: OnError = "raise"
    sensor_size: tuple[int, int] | None = None
    time_unit: TimeUnit | None = None
    columns: str | None = None
    topic: str | None = None


class Reader(Protocol):
    """One format family; third parties register theirs under ``eventkit.readers``."""

    @property
    def name(self) -> str:
        """Short name, as in ``--format``."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Usual file suffixes with the dot, lower case; empty for a reader of folders.

        They tell which files of a folder are recordings; the content then tells the format.
        """
        ...

    @property
    def holds(self) -> tuple[str, ...]:
        """Which sides it can have: ``events``, ``frames`` or both."""
        ...

    def recognise(self, source: Source) -> str | None:
        """Return why this is the format, in words, or None; looks at ``source.head`` mostly.

        Called for every file of unknown format, so it is quick and never raises.
        """
        ...

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open without decoding more than the header needs."""
        ...
