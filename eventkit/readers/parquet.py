"""Parquet tables of events, through `pyarrow`.

Format: https://parquet.apache.org/docs/file-format/
Columns go by their names (`eventkit.events.field_names`), so tables of Polars, pandas and evlib
are read as they are. Durations and timestamps carry their unit; for numbers evidence tells it.
The keys ``sensor_size`` (``346x260``) and ``t_unit`` of the schema's metadata are believed.

A row with a null is no event (``bad_row``). Row groups do not depend on each other: under ``skip``
the rest of a damaged one is counted (``damaged_chunk``) and the next one is read. What may be
claimed of one, and of a page, stands in `parquet_footer` and `parquet_pages`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import FormatError, InvalidEventsError
from eventkit.events import TimeUnit, field_names
from eventkit.readers import geometry, notes
from eventkit.readers.base import ReadOptions
from eventkit.readers.parquet_footer import ENCRYPTED, MAGIC, Footer
from eventkit.readers.parquet_rows import Part, Plan, Table, opened
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner, bytes_from, check_types
from eventkit.readers.time_unit import guess_unit, settled_unit
from eventkit.recording import Recording
from eventkit.sources import Source

SAMPLE_ROWS = 2048

_UNITS: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")
_MOST_ROWS_AT_ONCE = 1 << 26


class ParquetReader:
    """Reader of Parquet tables."""

    name = "parquet"
    suffixes = (".parquet",)
    holds = ("events",)
    takes = ("time_unit",)

    def recognise(self, source: Source) -> str | None:
        """Go by the magic bytes."""
        magic = source.head[:4]
        return f"magic bytes {magic.decode()} of Parquet" if magic in (MAGIC, ENCRYPTED) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open a table: its schema, and the first times where their unit has to be told."""
        with source.local().open("rb") as file:
            footer = Footer(file, source.name)
        with opened(source) as table:
            schema = table.arrow.schema_arrow
            keys = schema.metadata or {}
            names = _names(schema, source)
            size = _stored_size(keys.get(b"sensor_size"), source)
            plan = Plan(names, footer.groups(names))
            unit, told = _unit(table, plan, keys.get(b"t_unit"), options)
        found = geometry.settle(source, options.sensor_size, (size, "metadata of the schema"))
        rows = sum(group.rows for group in plan.groups if group.flaw is None)
        strict = options.strict
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda _, mark: _decode(source, plan, unit, mark, strict=strict),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=lambda: min(rows, _MOST_ROWS_AT_ONCE),
            ),
            notes=[*told, *notes.of_size(found)],
        )


def _names(schema: Any, source: Source) -> dict[str, str]:
    """Map x, y, t, p to the columns, whatever their case.

    Raises
    ------
    FormatError
        Where that is not clear, or a column has no numbers.
    """
    lower: dict[str, str] = {}
    for name in schema.names:
        lower.setdefault(name.lower(), name)
    try:
        found = field_names(tuple(lower))
    except InvalidEventsError as err:
        raise FormatError(str(err), path=source.name, offset=0, reason="bad_header") from err
    counts = Counter(schema.names)
    for column, name in found.items():
        if counts[lower[name]] > 1:
            got = f"{counts[lower[name]]} of that name; leave all but one out"
            msg = f"expected one column {lower[name]!r}, got {got}"
            raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
        kind = schema.field(lower[name]).type
        # A row of text or of a list may be of any size, and is no event.
        if not _is_number(kind):
            msg = f"expected a number in each row of {column!r}, got type {kind}; convert it first"
            raise FormatError(msg, path=source.name, offset=0, reason="bad_value")
    return {column: lower[name] for column, name in found.items()}


def _is_number(kind: Any) -> bool:
    types = require("pyarrow", extra="parquet", purpose="reading Parquet files").types
    return bool(types.is_primitive(kind.value_type if types.is_dictionary(kind) else kind))


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
    table: Table, plan: Plan, stored: bytes | None, options: ReadOptions
) -> tuple[TimeUnit, list[str]]:
    """Return the unit of the times, and notes on it."""
    given, name = options.time_unit, plan.names["t"]
    kind = table.arrow.schema_arrow.field(name).type
    typed = getattr(kind, "unit", None)
    if typed in _UNITS:
        said = cast("TimeUnit", typed)
        settled_unit(given, said, where=f"column {name!r} of type {kind}", name=table.name)
        return said, []
    text = (stored or b"").decode("ascii", "replace")
    if text in _UNITS:
        given = settled_unit(given, text, where="the metadata key t_unit", name=table.name)
    sample = _first_times(table, plan, strict=options.strict)
    unit, why = guess_unit(sample, given=given, name=table.name)
    return unit, notes.of_unit(unit, why if given is None and sample.size else "", sample.dtype)


def _first_times(table: Table, plan: Plan, *, strict: bool) -> NDArray[Any]:
    """Return times from the first row group that can be read and has some."""
    for number in range(len(plan.groups)):
        for part in table.parts(plan, number, columns="t", rows=SAMPLE_ROWS):
            if isinstance(part, FormatError):
                if strict:
                    raise part
            elif part.columns["t"].size:
                return part.columns["t"]
    return np.empty(0, np.int64)


def _decode(
    source: Source, plan: Plan, unit: TimeUnit, mark: object, *, strict: bool
) -> Iterator[RawChunk]:
    first, seen, low = mark if isinstance(mark, tuple) else (0, 0, 1)
    cleaner = Cleaner(source.name, unit, strict=strict, low=low, seen=seen)
    with opened(source) as table:
        for number in range(first, len(plan.groups)):
            mark, start = (number, cleaner.seen, cleaner.low), cleaner.seen
            for part in table.parts(plan, number):
                done = cleaner.seen - start
                if isinstance(part, Part):
                    yield _chunk(cleaner, part, mark)
                elif strict:
                    raise table.located(plan, number, done, part)
                else:
                    yield _lost(cleaner, max(plan.groups[number].likely_rows - done, 0), mark)
                mark = None


def _chunk(cleaner: Cleaner, part: Part, mark: object) -> RawChunk:
    columns, nulls, seen = part.columns, part.nulls, cleaner.seen
    check_types({k: v.dtype for k, v in columns.items()}, cleaner.name, offset=part.at)
    if nulls.size and cleaner.strict:
        columns = {key: values[: nulls[0]] for key, values in columns.items()}
    # Where a value stands inside a page is not known; the first page of these rows is.
    raw = cleaner.chunk(columns, locate=bytes_from(part.at), mark=mark)
    if not nulls.size:
        return raw
    if cleaner.strict:
        msg = (
            f"expected a value in each column, got a null at event {seen + int(nulls[0])}; "
            "--on-error skip leaves such rows out and counts them"
        )
        fault = FormatError(msg, path=cleaner.name, offset=part.at, reason="bad_value")
        return replace(raw, fault=raw.fault or fault)
    cleaner.seen += nulls.size
    bad = raw.skipped.get("bad_row", 0) + nulls.size
    return replace(raw, words=raw.words + nulls.size, skipped={"bad_row": bad})


def _lost(cleaner: Cleaner, rows: int, mark: object) -> RawChunk:
    """Book the rest of a damaged row group."""
    cleaner.seen += rows
    none = np.empty(0, np.int64)
    skipped = {"damaged_chunk": rows} if rows else {}
    return RawChunk(x=none, y=none, t=none, p=none, words=rows, skipped=skipped, mark=mark)
