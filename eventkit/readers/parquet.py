"""Parquet tables of events, through `pyarrow`.

Format: https://parquet.apache.org/docs/file-format/
Columns go by their names (`eventkit.events.field_names`), so tables of Polars, pandas and evlib
are read as they are. Durations and timestamps carry their unit; for numbers evidence tells it.
The keys ``sensor_size`` (``346x260``) and ``t_unit`` of the schema's metadata are believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import EventKitError, FormatError, InvalidEventsError
from eventkit.events import TimeUnit, field_names
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner, bytes_from, check_types
from eventkit.readers.time_unit import guess_unit
from eventkit.recording import Recording
from eventkit.sources import Source

MAGIC = b"PAR1"
PART_ROWS = 1 << 16
SAMPLE_ROWS = 2048

_UNITS: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")
_MOST_ROWS_AT_ONCE = 1 << 26


class ParquetReader:
    """Reader of Parquet tables."""

    name = "parquet"
    suffixes = (".parquet",)
    holds = ("events",)

    def recognise(self, source: Source) -> str | None:
        """Go by the magic bytes."""
        return "magic bytes PAR1 of Parquet" if source.head.startswith(MAGIC) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open a table: its schema, and the first times where their unit has to be told."""
        with _faults(source), _table(source) as table:
            names = _names(table.schema_arrow, source)
            keys = table.schema_arrow.metadata or {}
            size = _stored_size(keys.get(b"sensor_size"), source)
            unit, notes = _unit(table, names, keys.get(b"t_unit"), options.time_unit, source)
            rows = int(table.metadata.num_rows)
        found = geometry.settle(source, options.sensor_size, (size, "metadata of the schema"))
        strict = options.strict
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda _, mark: _decode(source, names, unit, mark, strict=strict),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=lambda: min(rows, _MOST_ROWS_AT_ONCE),
            ),
            notes=notes,
        )


@contextmanager
def _table(source: Source) -> Iterator[Any]:
    parquet = require("pyarrow.parquet", extra="parquet", purpose="reading Parquet files")
    # Pages of our own files have checksums; limits keep a forged footer from taking memory.
    with parquet.ParquetFile(
        str(source.local()),
        pre_buffer=False,
        memory_map=False,
        buffer_size=1 << 20,
        page_checksum_verification=True,
        thrift_string_size_limit=16 << 20,
        thrift_container_size_limit=1 << 20,
    ) as table:
        yield table


@contextmanager
def _faults(source: Source) -> Iterator[None]:
    try:
        yield
    except EventKitError:
        raise
    except Exception as err:  # pyarrow raises whatever its C++ does
        if isinstance(err, OSError) and err.errno is not None:
            raise
        msg = f"expected a whole Parquet table, got a damaged one ({_short(err)}); copy it again"
        raise FormatError(msg, path=source.name, offset=0, reason="corrupt") from err


def _short(err: BaseException) -> str:
    return str(err).partition("\n")[0][:200]


def _names(schema: Any, source: Source) -> dict[str, str]:
    """Map x, y, t, p to the columns, whatever their case."""
    lower: dict[str, str] = {}
    for name in schema.names:
        lower.setdefault(name.lower(), name)
    try:
        found = field_names(tuple(lower))
    except InvalidEventsError as err:
        raise FormatError(str(err), path=source.name, offset=0, reason="bad_header") from err
    return {column: lower[name] for column, name in found.items()}


def _stored_size(text: bytes | None, source: Source) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(rb"\[?\(?\s*(\d{1,5})\s*[x, ]\s*(\d{1,5})\s*\)?\]?", text)
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(0 < side <= 65536 for side in sides):
        msg = f"expected a sensor size like 346x260 in the metadata, got {text[:40]!r}"
        raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
    return sides


def _unit(
    table: Any,
    names: dict[str, str],
    stored: bytes | None,
    given: TimeUnit | None,
    source: Source,
) -> tuple[TimeUnit, list[str]]:
    kind = table.schema_arrow.field(names["t"]).type
    typed = getattr(kind, "unit", None)
    if typed in _UNITS:
        return cast("TimeUnit", typed), []
    text = (stored or b"").decode("ascii", "replace")
    if given is None and text in _UNITS:
        return text, []
    sample = np.empty(0, np.int64)
    if given is None:
        for batch in table.iter_batches(SAMPLE_ROWS, columns=[names["t"]]):
            sample = _values(batch, names["t"], source)
            break
    unit, why = guess_unit(sample, given=given, name=source.name)
    noted = unit != "us" and given is None
    return unit, [f"times read as {unit}: {why}; --time-unit overrides"] if noted else []


def _values(batch: Any, name: str, source: Source) -> NDArray[Any]:
    """Return a column as numbers; times with a unit as integers in it."""
    column = batch.column(batch.schema.get_field_index(name))
    if column.null_count:
        msg = f"expected a value in each row of {name!r}, got {column.null_count} nulls"
        raise FormatError(msg, path=source.name, offset=0, reason="bad_value")
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.view(np.int64) if values.dtype.kind in "mM" else values


def _decode(
    source: Source, names: dict[str, str], unit: TimeUnit, mark: object, *, strict: bool
) -> Iterator[RawChunk]:
    first, seen, low = mark if isinstance(mark, tuple) else (0, 0, 1)
    cleaner = Cleaner(source.name, unit, strict=strict, low=low, seen=seen)
    with _faults(source), _table(source) as table:
        for group in range(first, table.num_row_groups):
            mark = (group, cleaner.seen, cleaner.low)
            batches = table.iter_batches(
                PART_ROWS, row_groups=[group], columns=list(names.values()), use_threads=False
            )
            for batch in batches:
                columns = {column: _values(batch, name, source) for column, name in names.items()}
                offset = _offset(table, group, names["t"])
                check_types({k: v.dtype for k, v in columns.items()}, source.name, offset=offset)
                # Where a value stands inside a page is not known; the row group is.
                yield cleaner.chunk(columns, locate=bytes_from(offset), mark=mark)
                mark = None


def _offset(table: Any, group: int, column: str) -> int | None:
    """Return where a column of a row group starts: one that was read.

    pyarrow ends the process where it is asked for a damaged column's metadata; reading that
    column raises.
    """
    names = table.schema_arrow.names
    if len(names) != table.metadata.num_columns:
        return None  # nested columns are counted by their leaves
    return int(table.metadata.row_group(group).column(names.index(column)).data_page_offset)
