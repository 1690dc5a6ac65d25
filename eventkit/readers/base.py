"""What a reader is: a name, what it recognises, and how it opens a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from typing import NoReturn, Protocol, TypeVar, get_args

from eventkit.columns import EVENT_CHUNK as EVENT_CHUNK
from eventkit.errors import FormatError, SettingsError
from eventkit.events import TimeUnit
from eventkit.readers.column_order import check_order
from eventkit.readers.geometry import LONGEST_SIDE
from eventkit.recording import OnError, Recording
from eventkit.sources import Source

Item = TypeVar("Item")

MAX_SIDE_FAULTS = 100
"""Of one recording; 20,000 damaged packets in 160 kB, each looked up among all, took 15 s."""
_MORE: Mapping[str, object] = {
    "reason": "corrupt",
    "offset": None,
    "message": f"expected whole data, got more faults than the {MAX_SIDE_FAULTS} that are noted",
}


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
    side_faults : list of dict
        Receives the faults of frames, triggers and IMU samples; see `book`.
    """

    on_error: OnError = "raise"
    sensor_size: tuple[int, int] | None = None
    time_unit: TimeUnit | None = None
    columns: str | None = None
    topic: str | None = None
    side_faults: list[dict[str, object]] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        """Refuse what no reader could use.

        Raises
        ------
        SettingsError
        """
        if self.on_error not in get_args(OnError):
            _refuse("on_error", f"one of {', '.join(get_args(OnError))}", self.on_error)
        if self.time_unit is not None and self.time_unit not in get_args(TimeUnit):
            _refuse("time_unit", f"one of {', '.join(get_args(TimeUnit))}", self.time_unit)
        if self.sensor_size is not None and not _is_size(self.sensor_size):
            _refuse("sensor_size", "(width, height), each in 1..65536", self.sensor_size)
        if self.topic is not None and not isinstance(self.topic, str):
            _refuse("topic", "a name or number as text", self.topic)
        if self.columns is not None:
            check_order(self.columns)

    @property
    def strict(self) -> bool:
        """Whether the first fault ends the reading."""
        return self.on_error == "raise"

    def book(self, fault: FormatError) -> None:
        """Raise a fault of what stands beside the events, or note it, up to a number, and go on.

        Raises
        ------
        FormatError
            Under ``raise``.
        """
        if self.strict:
            raise fault.anew()
        # Frames, triggers and IMU samples are passes of their own that may meet the same fault.
        entry, noted = fault.as_dict(), len(self.side_faults)
        if noted <= MAX_SIDE_FAULTS and entry not in self.side_faults:
            self.side_faults.append(entry if noted < MAX_SIDE_FAULTS else dict(_MORE))

    @contextmanager
    def booking(self) -> Iterator[None]:
        """Book the fault that ends this block."""
        try:
            yield
        except FormatError as fault:
            self.book(fault)

    def whole(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield what stands beside the events up to the first fault, which is booked."""
        with self.booking():
            yield from items


def _refuse(name: str, wanted: str, got: object) -> NoReturn:
    msg = f"expected {name} as {wanted}, got {got!r}"
    raise SettingsError(msg)


def _is_size(size: object) -> bool:
    return (
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(isinstance(side, Integral) and 0 < int(side) <= LONGEST_SIDE for side in size)
    )


class Reader(Protocol):
    """One format family; third parties register theirs under ``eventkit.readers``.

    Two attributes more may be there, so that `eventkit.open` refuses what the format cannot use:
    ``takes``, a tuple of those of ``time_unit``, ``columns`` and ``topic`` that it looks at, and
    ``unit``, the one in which all its times are. See `eventkit.readers.fit`.
    """

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
