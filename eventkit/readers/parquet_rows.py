"""Rows of a Parquet table through `pyarrow`, a part of a row group at a time.

pyarrow makes room for whatever a file claims, so `parquet_pages` looks at the pages of each part
before it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import EventKitError, FormatError
from eventkit.readers.parquet_footer import Group
from eventkit.readers.parquet_pages import Pages
from eventkit.sources import Source

PART_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the rows stand.

    Parameters
    ----------
    names : mapping of column to name
        How the file calls x, y, t and p.
    groups : list of Group
    """

    names: Mapping[str, str]
    groups: list[Group]


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows.

    Parameters
    ----------
    columns : dict of (N,) arrays
        Of the rows without a null.
    nulls : (M,) int64
        Which rows have one.
    at : int
        Byte of the first page that the rows stand in.
    """

    columns: dict[str, NDArray[Any]]
    nulls: NDArray[np.int64]
    at: int


@dataclass(frozen=True, slots=True)
class Table:
    """An open table.

    Parameters
    ----------
    name : str
        For messages.
    file : binary file
    arrow : pyarrow.parquet.ParquetFile
        The same file.
    """

    name: str
    file: BinaryIO
    arrow: Any

    def parts(
        self,
        plan: Plan,
        number: int,
        *,
        columns: Iterable[str] = "xytp",
        rows: int = PART_ROWS,
    ) -> Iterator[Part | FormatError]:
        """Yield the rows of a row group, or what is wrong with it instead of the rest.

        Parameters
        ----------
        plan : Plan
        number : int
            Which row group.
        columns : iterable of str
        rows : int
            So many at a time.
        """
        names = {column: plan.names[column] for column in columns}
        group, done = plan.groups[number], 0
        pages = Pages(self.file, group, names, self.name)
        batches = self._batches(number, list(names.values()), rows)
        try:
            while done < group.rows:
                # pyarrow unpacks so many at a time, also where it hands out fewer.
                pages.ahead(done - done % rows + rows)
                with faults(self.name, pages.at):
                    batch = _next(batches)
                    part = _part(batch, names, pages.at)
                done += batch.num_rows
                yield part
        except FormatError as fault:
            yield fault

    def located(self, plan: Plan, number: int, done: int, fault: FormatError) -> FormatError:
        """Return the fault that ends a row group behind ``done`` rows as its column has it."""
        for column in plan.names:
            parts = self.parts(plan, number, columns=[column])
            for part in islice(parts, done // PART_ROWS + 1):
                if isinstance(part, FormatError):
                    return part
        return fault

    def _batches(self, number: int, names: list[str], rows: int) -> Iterator[Any]:
        yield from self.arrow.iter_batches(
            rows, row_groups=[number], columns=names, use_threads=False
        )


@contextmanager
def opened(source: Source) -> Iterator[Table]:
    """Open a table whose footer has been looked at.

    Raises
    ------
    FormatError
    """
    parquet = require("pyarrow.parquet", extra="parquet", purpose="reading Parquet files")
    path = source.local()
    # Pages of our own files have checksums.
    with (
        path.open("rb", buffering=0) as file,
        faults(source.name),
        parquet.ParquetFile(
            str(path),
            pre_buffer=False,
            memory_map=False,
            buffer_size=1 << 20,
            page_checksum_verification=True,
            thrift_string_size_limit=16 << 20,
            thrift_container_size_limit=1 << 20,
        ) as arrow,
    ):
        yield Table(source.name, file, arrow)


@contextmanager
def faults(name: str, at: int = 0) -> Iterator[None]:
    """Turn whatever pyarrow raises into `FormatError`."""
    try:
        yield
    except EventKitError:
        raise
    except Exception as err:  # pyarrow raises whatever its C++ does
        if isinstance(err, OSError) and err.errno is not None:
            raise
        short = str(err).partition("\n")[0][:200]
        msg = f"expected a whole Parquet table, got a damaged one ({short}); copy it again"
        raise FormatError(msg, path=name, offset=at, reason="corrupt") from err


def _next(batches: Iterator[Any]) -> Any:
    for batch in batches:
        if batch.num_rows:
            return batch
    msg = "fewer rows than it says"
    raise ValueError(msg)


def _part(batch: Any, names: Mapping[str, str], at: int) -> Part:
    nulls = _nulls(batch)
    whole = batch.drop_null() if nulls.size else batch
    return Part({key: _values(whole, name) for key, name in names.items()}, nulls, at)


def _nulls(batch: Any) -> NDArray[np.int64]:
    """Return which rows have a null."""
    found = [c.is_null().to_numpy(zero_copy_only=False) for c in batch.columns if c.null_count]
    return np.flatnonzero(np.logical_or.reduce(found)) if found else np.empty(0, np.int64)


def _values(batch: Any, name: str) -> NDArray[Any]:
    """Return a column as numbers; times with a unit as integers in it."""
    column = batch.column(batch.schema.get_field_index(name))
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.view(np.int64) if values.dtype.kind in "mM" else values
