"""What a reader is: a name, what it recognises, and how it opens a path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eventkit.events import TimeUnit
from eventkit.recording import OnError, Recording

EVENT_CHUNK = 1 << 20
"""Events a reader hands on at once: 13 MB of columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read, for every reader alike.

    Parameters
    ----------
    on_error : {"raise", "skip", "repair"}
        ``raise``: the first fault ends the reading. ``skip``: faulty events are dropped and
        counted, a damaged end is cut. ``repair``: as skip, but an event that steps back in time
        is moved to the latest time before it, and counted.
    sensor_size : (W, H), optional
        Overrides what the file says or does not say.
    time_unit : {"us", "s", "ms", "ns"}, optional
        For formats that do not state it; default microseconds.
    """

    on_error: OnError = "raise"
    sensor_size: tuple[int, int] | None = None
    time_unit: TimeUnit = "us"


class Reader(Protocol):
    """One format family; third parties register theirs under ``eventkit.readers``."""

    @property
    def name(self) -> str:
        """Short name, as in ``--format``."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File suffixes with the dot, lower case."""
        ...

    @property
    def holds(self) -> tuple[str, ...]:
        """Which sides it can have: ``events``, ``frames`` or both."""
        ...

    def matches(self, path: Path, head: bytes) -> bool:
        """Tell from the first bytes (empty for a folder) whether this is the format."""
        ...

    def open(self, path: Path, options: ReadOptions) -> Recording:
        """Open without decoding more than the header needs."""
        ...


def read_head(path: Path, size: int = 64) -> bytes:
    """Return the first bytes of a file, none of a folder."""
    if path.is_dir():
        return b""
    with path.open("rb") as file:
        return file.read(size)


def read_pieces(path: Path, size: int) -> Iterator[bytes]:
    """Yield the file in pieces; the last may be shorter."""
    with path.open("rb") as file:
        while piece := file.read(size):
            yield piece
