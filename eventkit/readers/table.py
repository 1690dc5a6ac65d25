"""From columns of any number type to a raw chunk: for formats that are tables.

A row is no event (``bad_row``) if a place is no whole number, a time no number, or a polarity
neither of the two that the file uses. Whether a place lies on the sensor and a time is in order is
judged later, as for every format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.events import TimeUnit
from eventkit.readers.policy import RawChunk
from eventkit.readers.time_unit import microseconds

_KINDS = {"x": "iuf", "y": "iuf", "t": "iuf", "p": "iufb"}
_WANTED = {
    "x": "whole pixel numbers in 'x'",
    "y": "whole pixel numbers in 'y'",
    "t": "numbers as times in 't'",
    "p": "'p' as bool, {0, 1} or {-1, 1}",
}

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


@dataclass(slots=True)
class Cleaner:
    """Makes raw chunks; one for each reading.

    Parameters
    ----------
    name : str
        For messages.
    unit : {"us", "s", "ms", "ns"}
    strict : bool
        Raise for the first bad row.
    low : int
        The lower polarity met so far: 0 or -1, 1 for neither.
    seen : int
        Rows so far.
    """

    name: str
    unit: TimeUnit
    strict: bool
    low: int = 1
    seen: int = 0

    def chunk(
        self,
        columns: Mapping[str, NDArray[Any]],
        *,
        offset: int | None = None,
        stride: int = 0,
        mark: object = None,
    ) -> RawChunk:
        """Return columns x, y, t, p of one length as a raw chunk.

        Parameters
        ----------
        columns : mapping of (N,) arrays
        offset, stride : int, bytes
            Where row 0 stands, and how far the next one is from it.
        mark : object
            See `RawChunk`.

        Raises
        ------
        FormatError
            With ``strict``, for a row that is no event.
        """
        x, bad_x = _places(columns["x"])
        y, bad_y = _places(columns["y"])
        t, bad_t = microseconds(columns["t"], self.unit)
        p, bad_p = self._polarities(columns["p"])
        rows = t.size
        bad, index = _either(bad_x, bad_y, bad_t, bad_p), None
        if bad is not None and bad.any():
            if self.strict:
                masks = {"x": bad_x, "y": bad_y, "t": bad_t, "p": bad_p}
                self._refuse(columns, masks, int(np.argmax(bad)), offset, stride)
            index = np.flatnonzero(~bad)
            x, y, t, p = x[index], y[index], t[index], p[index]
        self.seen += rows
        return RawChunk(
            x=x,
            y=y,
            t=t,
            p=p,
            words=rows,
            offset=offset,
            stride=stride,
            index=index,
            skipped={"bad_row": rows - t.size} if t.size < rows else {},
            mark=mark,
        )

    def _polarities(self, values: NDArray[Any]) -> tuple[NDArray[np.int8], Bad]:
        if values.dtype == np.bool_:
            # A bool that comes from a buffer may hold any byte.
            return np.asarray(np.ascontiguousarray(values).view(np.uint8) != 0).astype(
                np.int8
            ), None
        on = values == 1
        if self.low == 1 and not on.all():
            signed = values.dtype.kind != "u" and bool((values == -1).any())
            self.low = -1 if signed else 0 if bool((values == 0).any()) else 1
        bad = ~(on | (values == self.low)) if self.low < 1 else ~on
        return on.astype(np.int8), bad if bad.any() else None

    def _refuse(
        self,
        columns: Mapping[str, NDArray[Any]],
        masks: Mapping[str, Bad],
        row: int,
        offset: int | None,
        stride: int,
    ) -> None:
        column = next(name for name, bad in masks.items() if bad is not None and bad[row])
        wanted = _WANTED[column]
        if column == "p" and self.low < 1:
            wanted = f"'p' in {{{self.low}, 1}}"
        msg = (
            f"expected {wanted}, got {columns[column][row]} at event {self.seen + row}; "
            "--on-error skip leaves such rows out and counts them"
        )
        at = None if offset is None else offset + row * stride
        raise FormatError(msg, path=self.name, offset=at, reason="bad_value")


def _places(values: NDArray[Any]) -> tuple[NDArray[Any], Bad]:
    """Return integers, which the sensor check judges one by one."""
    if values.dtype.kind in "iu":
        return values, None
    with np.errstate(invalid="ignore"):
        bad = ~((values == np.floor(values)) & (np.abs(values) < 2**53))
    if bad.any():
        return np.where(bad, 0, values).astype(np.int64), bad
    return values.astype(np.int64), None


def _either(*masks: Bad) -> Bad:
    there = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(there) if there else None
