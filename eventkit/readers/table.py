"""From columns of any number type to a raw chunk: for formats that are tables.

A row is no event (``bad_row``) if a place is no whole number, a time no number, or a polarity
neither of the two that the file uses: 1, and of -1 and 0 the one that more of its first rows have.
Where many rows are none, that is no damage but another kind of table (rectified places, polarities
1 and 2): it ends the reading under every policy, as what is left would not be the recording.
Whether a place lies on the sensor and a time is in order is judged later, as for every format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.events import TimeUnit
from eventkit.readers.policy import RawChunk
from eventkit.readers.time_unit import microseconds

_KINDS = {"x": "iufb", "y": "iufb", "t": "iuf", "p": "iufb"}
_WANTED = {
    "x": "whole pixel numbers in 'x'",
    "y": "whole pixel numbers in 'y'",
    "t": "numbers as times in 't'",
    "p": "'p' as bool, {0, 1} or {-1, 1}",
}

_ROWS_THAT_TELL = 32
_MANY_SIGNS = 0.1

Bad = NDArray[np.bool_] | None


def check_types(
    types: Mapping[str, np.dtype[Any]], name: str, *, offset: int | None = None
) -> None:
    """Refuse columns that are no numbers.

    Raises
    ------
    FormatError
    """
    for column, kinds in _KINDS.items():
        if types[column].kind not in kinds:
            msg = f"expected {_WANTED[column]}, got dtype {types[column]}"
            raise FormatError(msg, path=name, offset=offset, reason="bad_value")


def bytes_from(offset: int | None, stride: int = 0) -> Callable[[int], int | None]:
    """Return where rows stand of which the first is at ``offset``; None where none has a byte."""
    return lambda row: None if offset is None else offset + row * stride


@dataclass(slots=True)
class Cleaner:
    """Makes raw chunks; one for each reading.

    Parameters
    ----------
    name : str
        For messages.
    unit : {"us", "s", "ms", "ns"}
    strict : bool
        The first bad row ends the reading.
    low : int
        The lower polarity met so far: 0 or -1, 1 for neither.
    seen : int
        Rows so far.
    offset_us : int, microseconds
        Added to every time.
    origin : int
        Where places count from: 1 in MATLAB.
    """

    name: str
    unit: TimeUnit
    strict: bool
    low: int = 1
    seen: int = 0
    offset_us: int = 0
    origin: int = 0

    @property
    def mark(self) -> tuple[int, int]:
        """What a reading that starts at the next row has to know: ``seen`` and ``low``."""
        return self.seen, self.low

    def starting_at(self, mark: object) -> Cleaner:
        """Go to the row that a `mark` was made at; anything else is the beginning."""
        if isinstance(mark, tuple):
            self.seen, self.low = mark
        return self

    def chunk(
        self,
        columns: Mapping[str, NDArray[Any]],
        *,
        locate: Callable[[int], int | None] | None = None,
        mark: object = None,
    ) -> RawChunk:
        """Return columns x, y, t, p of one length as a raw chunk.

        Parameters
        ----------
        columns : mapping of (N,) arrays
        locate : callable
            ``locate(row)`` is the byte of a row of these.
        mark : object
            See `RawChunk`.

        Raises
        ------
        FormatError
            Whatever the policy, where many rows have no pixels or another kind of polarity.
        """
        t, bad_t = microseconds(columns["t"], self.unit)
        if self.offset_us:
            t = t + self.offset_us
        x, bad_x = _places(columns["x"], self.origin)
        y, bad_y = _places(columns["y"], self.origin)
        p, bad_p = self._polarities(columns["p"])
        byte = locate or bytes_from(None)
        rows, fault, index = t.size, None, None
        every = {"x": bad_x, "y": bad_y, "t": bad_t, "p": bad_p}
        masks = {name: mask for name, mask in every.items() if mask is not None and mask.any()}
        if masks:
            bad = np.logical_or.reduce(list(masks.values()))
            index = np.flatnonzero(~bad)
            first = int(np.argmax(bad))
            column = next(name for name, mask in masks.items() if mask[first])
            cure = "--on-error skip leaves such rows out and counts them"
            foreign = _foreign(columns, masks)
            if foreign:
                column, first = foreign, int(np.argmax(masks[foreign]))
                count = int(np.count_nonzero(masks[foreign]))
                cure = f"so have {count} of {bad.size} rows, which is no damage: convert them first"
            if self.strict or foreign:
                fault = self._fault(columns, column, first, byte(first), cure)
                index = index[:first]
                rows = first
            x, y, t, p = x[index], y[index], t[index], p[index]
        self.seen += rows
        return RawChunk(
            x=x,
            y=y,
            t=t,
            p=p,
            words=rows,
            skipped={"bad_row": rows - t.size} if t.size < rows else {},
            locate=lambda event: byte(event if index is None else int(index[event])),
            mark=mark,
            fault=fault,
        )

    def _polarities(self, values: NDArray[Any]) -> tuple[NDArray[np.int8], Bad]:
        if values.dtype == np.bool_:
            # A bool that comes from a buffer may hold any byte.
            return np.asarray(np.ascontiguousarray(values).view(np.uint8) != 0).astype(
                np.int8
            ), None
        on = values == 1
        if self.low == 1 and not on.all():
            self.low = lower_polarity(values)
        bad = ~(on | (values == self.low)) if self.low < 1 else ~on
        return on.astype(np.int8), bad if bad.any() else None

    def _fault(
        self,
        columns: Mapping[str, NDArray[Any]],
        column: str,
        row: int,
        offset: int | None,
        cure: str,
    ) -> FormatError:
        wanted = _WANTED[column]
        if column == "p" and self.low < 1:
            wanted = f"'p' in {{{self.low}, 1}}"
        msg = f"expected {wanted}, got {columns[column][row]} at event {self.seen + row}; {cure}"
        return FormatError(msg, path=self.name, offset=offset, reason="bad_value")


def lower_polarity(values: NDArray[Any]) -> int:
    """Return which of -1 and 0 more of some polarities are; 1 if none is."""
    signed = 0 if values.dtype.kind == "u" else int(np.count_nonzero(values == -1))
    zeros = int(np.count_nonzero(values == 0))
    if signed == zeros == 0:
        return 1
    return -1 if signed > zeros else 0


def foreign_sign(values: NDArray[Any]) -> float | None:
    """Return the first polarity that is none, if there are so many that it is no damage."""
    odd = ~np.isin(values, (1, lower_polarity(values)))
    if values.size < _ROWS_THAT_TELL or float(odd.mean()) <= _MANY_SIGNS:
        return None
    return float(values[int(np.argmax(odd))])


def _places(values: NDArray[Any], origin: int) -> tuple[NDArray[Any], Bad]:
    """Return integers, uint16 where all fit; the sensor check judges the others one by one."""
    bad: Bad = None
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            bad = ~((values == np.floor(values)) & (np.abs(values) < 2**53))
        bad = bad if bad.any() else None
        values = values if bad is None else np.where(bad, origin, values)
    if values.dtype == np.uint16 and not origin:
        return values, bad
    if values.dtype.kind == "f" or origin:
        values = values.astype(np.int64) - origin
    inside = values.dtype.kind == "b" or not values.size or _fits(values)
    return values.astype(np.uint16 if inside else values.dtype.newbyteorder("=")), bad


def _fits(values: NDArray[Any]) -> bool:
    return bool(values.min() >= 0 and values.max() <= 65535)


def _foreign(columns: Mapping[str, NDArray[Any]], masks: Mapping[str, NDArray[np.bool_]]) -> str:
    """Return the column whose values are of another kind, rather than damaged here and there."""
    for name, mask in masks.items():
        if mask.size < _ROWS_THAT_TELL:
            continue
        # Damaged numbers are rarely finite fractions, and never signs by the tenth.
        odd = mask if name == "p" else mask & np.isfinite(columns[name])
        if name != "t" and float(odd.mean()) > (_MANY_SIGNS if name == "p" else 0.5):
            return name
    return ""
