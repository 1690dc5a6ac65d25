"""Where events stand in an HDF5 file, and what can be read of them.

Chunks do not depend on each other, so a damaged one costs the rows in it and no others: what cannot
be read at once is read in halves, down to rows that share every chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.readers.hdf5.file import File, faults
from eventkit.readers.hdf5.guard import refuse_bad_sizes

LOOK_ROWS = 1 << 16
"""Rows that are looked at to tell an order or a unit."""

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the four columns of one camera stand.

    Parameters
    ----------
    place : str
        The group, or the dataset, without the leading slash.
    form : {"columns", "fields", "rows"}
        Datasets of a group; fields of one dataset; columns of one (N, 4) or (4, N) dataset.
    columns : mapping x, y, t, p -> name or number
    """

    place: str
    form: Literal["columns", "fields", "rows"]
    columns: Mapping[str, str | int]

    @property
    def words(self) -> str:
        """The layout in words, for messages."""
        names = ", ".join(str(self.columns[name]) for name in "xytp")
        if self.form == "columns":
            return f"columns {names} in /{self.place}"
        if self.form == "fields":
            return f"fields {names} of /{self.place}"
        order = "".join(sorted("xytp", key=lambda name: int(self.columns[name])))
        return f"rows {', '.join(order)} in /{self.place}"

    def datasets(self, file: File) -> dict[str, Any]:
        """Return the dataset of each column."""
        if self.form == "columns":
            group = file.root[self.place or "/"]
            return {name: group[str(self.columns[name])] for name in "xytp"}
        return dict.fromkeys("xytp", file.root[self.place])

    def type_of(self, file: File, name: str) -> np.dtype[Any]:
        """Return the type of a column as it is stored."""
        dtype: np.dtype[Any] = self.datasets(file)[name].dtype
        return dtype[str(self.columns[name])] if self.form == "fields" else dtype

    def axis(self, dset: Any) -> int:
        """Along which axis the events stand; MATLAB writes columns as (1, N)."""
        if self.form == "rows":
            return int(dset.shape[1] != 4)
        return 1 if self.form == "columns" and dset.ndim == 2 and dset.shape[0] == 1 else 0

    def claimed(self, file: File) -> dict[str, int]:
        """Return how many events each column says it has."""
        return {n: int(d.shape[self.axis(d)]) for n, d in self.datasets(file).items()}

    def rows(self, file: File) -> int:
        """Return how many events are stored in full."""
        found = self.datasets(file)
        return min(file.rows(dset, self.axis(dset)) for dset in found.values())

    def read(self, file: File, start: int, stop: int, names: str = "xytp") -> Columns:
        """Read rows ``start`` to ``stop`` of some columns, as they are stored.

        Raises
        ------
        FormatError
            If anything of them cannot be read.
        """
        found = self.datasets(file)
        if self.form == "columns":
            return {name: self._part(file, found[name], start, stop).reshape(-1) for name in names}
        if self.form == "fields":
            # Other fields may be text, which the library follows to wherever it points.
            fields = [str(self.columns[name]) for name in names]
            rows = self._part(file, found["t"], start, stop, fields)
            return {name: rows[str(self.columns[name])] for name in names}
        rows = self._part(file, found["t"], start, stop)
        rows = rows.T if self.axis(found["t"]) else rows
        return {name: rows[:, int(self.columns[name])] for name in names}

    def _part(
        self, file: File, dset: Any, start: int, stop: int, fields: list[str] | None = None
    ) -> NDArray[Any]:
        axis = self.axis(dset)
        with faults(file.source, offset=lambda: file.byte_of(dset, start, axis)):
            refuse_bad_sizes(dset, axis, start, stop)
            rows = dset if fields is None else dset.fields(fields)
            return np.asarray(rows[:, start:stop] if axis else rows[start:stop])

    def split(self, file: File, start: int, stop: int) -> int | None:
        """Return where a chunk of any column begins between two rows, near the middle."""
        middle = (start + stop) // 2
        places = []
        for dset in self.datasets(file).values():
            if dset.chunks is not None:
                step = dset.chunks[self.axis(dset)]
                places += [middle - middle % step, middle - middle % step + step]
        inside = [place for place in places if start < place < stop]
        return min(inside, key=lambda place: abs(place - middle), default=None)

    def sound(
        self, file: File, start: int, stop: int, names: str = "xytp", *, strict: bool
    ) -> Iterator[tuple[int, int, Columns | None]]:
        """Yield the parts of rows ``start`` to ``stop``: from, to, columns; None for damage.

        Raises
        ------
        FormatError
            Under ``strict``, at the first damaged part, behind those before it.
        """
        try:
            columns = self.read(file, start, stop, names)
        except FormatError:
            middle = self.split(file, start, stop)
            if middle is None and strict:
                raise
            columns = None
        else:
            middle = None
        if middle is None:
            yield start, stop, columns
        else:
            yield from self.sound(file, start, middle, names, strict=strict)
            yield from self.sound(file, middle, stop, names, strict=strict)

    def sample(self, file: File, names: str, *, strict: bool) -> Columns:
        """Return the first `LOOK_ROWS` rows of some columns that can be read.

        Raises
        ------
        FormatError
            If nothing can be read; under ``strict`` at the first damaged part.
        """
        rows = self.rows(file)
        if not rows:
            return self.read(file, 0, 0, names)
        found: list[Columns] = []
        for start in range(0, rows, LOOK_ROWS):
            parts = self.sound(file, start, min(start + LOOK_ROWS, rows), names, strict=strict)
            found += [columns for _, _, columns in parts if columns is not None]
            if sum(columns[names[0]].size for columns in found) >= LOOK_ROWS:
                break
        if not found:
            msg = f"expected rows that can be read, got damage in every chunk of {self.words}"
            raise FormatError(msg, path=file.source.name, reason="corrupt")
        return {name: np.concatenate([part[name] for part in found])[:LOOK_ROWS] for name in names}
