"""Parquet tables of events, through `pyarrow`.

Format: https://parquet.apache.org/docs/file-format/
Columns go by their names (`eventkit.events.field_names`), so tables of Polars, pandas and evlib
are read as they are. Durations and timestamps carry their unit; for numbers evidence tells it.
The keys ``sensor_size`` (``346x260``) and ``t_unit`` of the schema's metadata are believed.

A row with a null is no event (``bad_row``). Row groups do not depend on each other: under ``skip``
the rest of a damaged one is counted (``damaged_chunk``) and the next one is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import EventKitError, FormatError, InvalidEventsError
from eventkit.events import TimeUnit, field_names
from eventkit.readers import geometry, notes
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner, bytes_from, check_types
from eventkit.readers.time_unit import guess_unit, settled_unit
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
            unit, told = _unit(table, names["t"], keys.get(b"t_unit"), options, source)
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
            notes=[*told, *notes.of_size(found)],
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
    table: Any, name: str, stored: bytes | None, options: ReadOptions, source: Source
) -> tuple[TimeUnit, list[str]]:
    """Return the unit of the times, and notes on it."""
    given = options.time_unit
    kind = table.schema_arrow.field(name).type
    typed = getattr(kind, "unit", None)
    if typed in _UNITS:
        said = cast("TimeUnit", typed)
        settled_unit(given, said, where=f"column {name!r} of type {kind}", name=source.name)
        return said, []
    text = (stored or b"").decode("ascii", "replace")
    if text in _UNITS:
        given = settled_unit(given, text, where="the metadata key t_unit", name=source.name)
    sample = _first_times(table, name, source, strict=options.strict)
    unit, why = guess_unit(sample, given=given, name=source.name)
    return unit, notes.of_unit(unit, why if given is None and sample.size else "", sample.dtype)


def _first_times(table: Any, name: str, source: Source, *, strict: bool) -> NDArray[Any]:
    """Return times from the first row group that can be read and has some."""
    for group in range(table.num_row_groups):
        for part in _parts(table, group, {"t": name}, source, rows=SAMPLE_ROWS):
            if isinstance(part, FormatError):
                if strict:
                    raise part
            elif part.columns["t"].size:
                return part.columns["t"]
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows: the columns of those without a null, and which are those with one."""

    columns: dict[str, NDArray[Any]]
    nulls: NDArray[np.int64]


def _parts(
    table: Any, group: int, names: dict[str, str], source: Source, *, rows: int = PART_ROWS
) -> Iterator[_Part | FormatError]:
    """Yield the rows of a group, or what is wrong with it instead of the rest."""
    wanted = list(names.values())
    try:
        with _faults(source):
            for batch in table.iter_batches(
                rows, row_groups=[group], columns=wanted, use_threads=False
            ):
                nulls = _nulls(batch)
                whole = batch.drop_null() if nulls.size else batch
                yield _Part({key: _values(whole, name) for key, name in names.items()}, nulls)
    except FormatError as fault:
        yield fault


def _nulls(batch: Any) -> NDArray[np.int64]:
    """Return which rows have a null."""
    found = [c.is_null().to_numpy(zero_copy_only=False) for c in batch.columns if c.null_count]
    return np.flatnonzero(np.logical_or.reduce(found)) if found else np.empty(0, np.int64)


def _values(batch: Any, name: str) -> NDArray[Any]:
    """Return a column as numbers; times with a unit as integers in it."""
    column = batch.column(batch.schema.get_field_index(name))
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.view(np.int64) if values.dtype.kind in "mM" else values


def _decode(
    source: Source, names: dict[str, str], unit: TimeUnit, mark: object, *, strict: bool
) -> Iterator[RawChunk]:
    first, seen, low = mark if isinstance(mark, tuple) else (0, 0, 1)
    cleaner = Cleaner(source.name, unit, strict=strict, low=low, seen=seen)
    with _faults(source), _table(source) as table:
        for group in range(first, table.num_row_groups):
            mark, start = (group, cleaner.seen, cleaner.low), cleaner.seen
            for part in _parts(table, group, names, source):
                if isinstance(part, _Part):
                    yield _chunk(cleaner, part, _offset(table, group, names["t"]), mark)
                elif strict:
                    raise part
                else:
                    lost = _rows(table, group) - (cleaner.seen - start)
                    yield _lost(cleaner, max(lost, 0), mark)
                mark = None


def _chunk(cleaner: Cleaner, part: _Part, offset: int | None, mark: object) -> RawChunk:
    columns, nulls, seen = part.columns, part.nulls, cleaner.seen
    check_types({k: v.dtype for k, v in columns.items()}, cleaner.name, offset=offset)
    if nulls.size and cleaner.strict:
        columns = {key: values[: nulls[0]] for key, values in columns.items()}
    # Where a value stands inside a page is not known; the row group is.
    raw = cleaner.chunk(columns, locate=bytes_from(offset), mark=mark)
    if not nulls.size:
        return raw
    if cleaner.strict:
        msg = (
            f"expected a value in each column, got a null at event {seen + int(nulls[0])}; "
            "--on-error skip leaves such rows out and counts them"
        )
        fault = FormatError(msg, path=cleaner.name, offset=offset, reason="bad_value")
        return replace(raw, fault=raw.fault or fault)
    cleaner.seen += nulls.size
    bad = raw.skipped.get("bad_row", 0) + nulls.size
    return replace(raw, words=raw.words + nulls.size, skipped={"bad_row": bad})


def _rows(table: Any, group: int) -> int:
    """Return the rows of a group, whether or not its pages can be read."""
    return int(table.metadata.row_group(group).num_rows)


def _lost(cleaner: Cleaner, rows: int, mark: object) -> RawChunk:
    """Book the rest of a damaged row group."""
    cleaner.seen += rows
    none = np.empty(0, np.int64)
    skipped = {"damaged_chunk": rows} if rows else {}
    return RawChunk(x=none, y=none, t=none, p=none, words=rows, skipped=skipped, mark=mark)


def _offset(table: Any, group: int, column: str) -> int | None:
    """Return where a column of a row group starts: one that was read.

    pyarrow ends the process where it is asked for a damaged column's metadata; reading that
    column raises.
    """
    names = table.schema_arrow.names
    if len(names) != table.metadata.num_columns:
        return None  # nested columns are counted by their leaves
    return int(table.metadata.row_group(group).column(names.index(column)).data_page_offset)
