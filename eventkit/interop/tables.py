"""Arrow and Polars tables, without a copy of the columns.

Arrow lays out a column of numbers as NumPy does, so the table points into the memory of the
events. Everything that takes the Arrow PyCapsule interface (``__arrow_c_stream__``: Polars,
DuckDB, pandas, evlib's own functions) takes what `to_arrow` returns.
https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events, TimeUnit, field_names

_PURPOSE = "Arrow tables of events"
_UNITS: dict[str, TimeUnit] = {"s": "s", "ms": "ms", "us": "us", "ns": "ns"}


def to_arrow(events: Events) -> Any:
    """Return a ``pyarrow.Table`` of x, y uint16; t duration[us]; p int8; it shares the memory.

    Raises
    ------
    MissingDependencyError
        Without pyarrow.

    Examples
    --------
    >>> to_arrow(Events(x=[3], y=[1], t=[10], p=[1])).schema.names  # doctest: +SKIP
    ['x', 'y', 't', 'p']
    """
    pa = require("pyarrow", extra="parquet", purpose=_PURPOSE)
    return pa.table(
        {
            "x": _arrow(pa, pa.uint16(), events.x),
            "y": _arrow(pa, pa.uint16(), events.y),
            "t": _arrow(pa, pa.duration("us"), events.t),
            "p": _arrow(pa, pa.int8(), events.p),
        }
    )


def from_arrow(table: Any, *, time_unit: TimeUnit | None = None, sort: bool = False) -> Events:
    """Take a table of anything that speaks Arrow; columns of one chunk and our types are shared.

    Parameters
    ----------
    table : object with ``__arrow_c_stream__``
        pyarrow and Polars tables, record batches ... Columns by name, as in
        `Events.from_structured`; times as durations or timestamps have a unit of their own.
    time_unit : {"us", "s", "ms", "ns"}, optional
        Of times that are plain numbers; default microseconds.
    sort : bool

    Raises
    ------
    InvalidEventsError
        If a column is missing or holds nulls.
    SettingsError
        If ``table`` does not speak Arrow.
    MissingDependencyError
        Without pyarrow.
    """
    pa = require("pyarrow", extra="parquet", purpose=_PURPOSE)
    if not hasattr(table, "__arrow_c_stream__") and not hasattr(table, "__arrow_c_array__"):
        msg = f"expected a table that speaks Arrow, got {type(table).__name__}"
        raise SettingsError(msg)
    found = table if isinstance(table, pa.Table) else pa.table(table)
    names = field_names(tuple(found.column_names))
    columns = {name: _numpy(pa, found[field], field) for name, field in names.items()}
    unit = getattr(found.schema.field(names["t"]).type, "unit", None)
    return Events.from_structured(
        columns, time_unit=_UNITS[unit] if unit is not None else time_unit or "us", sort=sort
    )


def to_polars(events: Events) -> Any:
    """Return a ``polars.DataFrame`` of x, y u16; t Duration(us); p i8; it shares the memory.

    Raises
    ------
    MissingDependencyError
        Without Polars or pyarrow.
    """
    pl = require("polars", extra="parquet", purpose="Polars tables of events")
    return pl.from_arrow(to_arrow(events), rechunk=False)


def to_evlib(events: Events) -> Any:
    """Return evlib's ``polars.LazyFrame``: x, y i16; t Duration(us); polarity i8 in {-1, 1}.

    Places and times share the memory of the events; the polarity is a copy.

    Raises
    ------
    SettingsError
        If a place is beyond 32,767.
    MissingDependencyError
        Without Polars or pyarrow.
    """
    pa = require("pyarrow", extra="parquet", purpose=_PURPOSE)
    pl = require("polars", extra="parquet", purpose="Polars tables of events")
    for name, column in (("x", events.x), ("y", events.y)):
        if column.size and int(column.max()) > 32767:
            msg = f"expected {name} up to 32767, evlib has 16 bits and a sign, got"
            msg = f"{msg} {int(column.max())}"
            raise SettingsError(msg)
    table = pa.table(
        {
            # The same bits: no place has the sign bit.
            "x": _arrow(pa, pa.int16(), events.x),
            "y": _arrow(pa, pa.int16(), events.y),
            "t": _arrow(pa, pa.duration("us"), events.t),
            "polarity": _arrow(pa, pa.int8(), (2 * events.p - 1).astype(np.int8)),
        }
    )
    return pl.from_arrow(table, rechunk=False).lazy()


def from_polars(frame: Any, *, time_unit: TimeUnit | None = None, sort: bool = False) -> Events:
    """Take a Polars DataFrame or LazyFrame, as evlib returns; see `from_arrow`."""
    return from_arrow(
        frame.collect() if hasattr(frame, "collect") else frame, time_unit=time_unit, sort=sort
    )


from_evlib = from_polars


def _arrow(pa: Any, kind: Any, column: NDArray[Any]) -> Any:
    """Wrap a column: the buffer holds on to the array, so the memory lives as long as the table."""
    return pa.Array.from_buffers(kind, column.size, [None, pa.py_buffer(column)])


def _numpy(pa: Any, column: Any, name: str) -> NDArray[Any]:
    """Return a column as NumPy; a view of it where it is one chunk."""
    if column.null_count:
        msg = f"expected no nulls in {name!r}, got {column.null_count}"
        raise InvalidEventsError(msg)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_duration(column.type) or pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    parts = [chunk for chunk in column.chunks if len(chunk)]
    found = column.to_numpy() if len(parts) != 1 else parts[0].to_numpy(zero_copy_only=False)
    if found.dtype == object:
        msg = f"expected numbers in {name!r}, got {column.type}"
        raise InvalidEventsError(msg)
    return np.asarray(found)
