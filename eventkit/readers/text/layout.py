"""What a text file of events looks like: separator, order of columns, unit of times, first row.

Found from the first 64 kB. In the order of trust: what the caller says, names in a header or in a
comment before the rows, evidence on the rows. What allows two readings is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.events import TimeUnit
from eventkit.readers.base import ReadOptions
from eventkit.readers.column_order import by_places, check_order, possible_orders
from eventkit.readers.geometry import Geometry, settle
from eventkit.readers.table import foreign_sign, lower_polarity
from eventkit.readers.text.head import Head, cell_number, read_head, roles_of
from eventkit.readers.time_unit import guess_unit, settled_unit
from eventkit.sources import Source

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_PLAIN_ROW = re.compile(
    rb"^[0-9]{1,18}([,;\t ])[0-9]{1,18}\1[0-9]{1,18}\1[0-9]{1,18}\r?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read the rows.

    Parameters
    ----------
    separator : str
        ``,`` or ``;``; a space stands for any number of spaces and tabs.
    order : str
        One character a column: x, y, t, p, or ``-`` for a column to leave out.
    start : int, bytes
        Where the first row after a header starts.
    line : int
        Its number, from 1.
    unit : {"us", "s", "ms", "ns"}
    why : str
        Where the order comes from, in words.
    unit_why : str
        What tells the unit; empty where the file or the caller says it, or there is no time.
    geometry : Geometry
    plain : str
        The one byte between columns, if most rows are four plain whole numbers of microseconds.
    row_bytes : float
        Mean length of the first rows.
    low : int
        Which of 0 and -1 more of the first rows have as the lower polarity; 1 for neither.
    """

    separator: str
    order: str
    start: int
    line: int
    unit: TimeUnit
    why: str
    unit_why: str
    geometry: Geometry
    plain: str
    row_bytes: float
    low: int


def recognise(source: Source) -> str | None:
    """Return why this is a text file of events, or None."""
    data = source.head
    if data.startswith(_UTF16):  # known, to be refused with the cure
        data = data.decode("utf-16", "ignore").encode()
    head = read_head(data)
    if head is None:
        return None
    if head.names is not None and roles_of(head.names) is not None:
        return f"columns named {','.join(head.names)} in {head.named_in}"
    table, _ = _table(head)
    orders = possible_orders(table) if table.shape[0] >= 0.9 * head.lines else []
    if not orders:
        return None
    told = " or ".join(orders)
    return f"rows of four numbers that can be {told}: times, places and polarities"


def read_layout(source: Source, options: ReadOptions) -> Layout:
    """Find the layout of a text file.

    Raises
    ------
    FormatError
        If it is no text, or its columns or the unit of its times cannot be told.
    SettingsError
        If ``options.columns`` is no order, or the file states another unit than the caller.
    """
    head = read_head(source.head)
    if head is None or (not head.rows and head.names is None):
        raise _no_rows(source)
    geometry = settle(source, options.sensor_size, (head.size, head.size_why))
    order, why, named_unit = _order(head, options.columns, geometry.size, source)
    where = f"the name of the times in {head.named_in}"
    stated = settled_unit(options.time_unit, named_unit, where=where, name=source.name)
    times, signs = _times(head, order), _polarities(head, order)
    if (odd := foreign_sign(signs)) is not None:
        msg = (
            f"expected p as {{0, 1}} or {{-1, 1}}, got {odd:g} and others in many of the first "
            f"{signs.size} rows, which is no damage: convert them first"
        )
        raise FormatError(msg, path=source.name, offset=head.start, reason="bad_value")
    unit, unit_why = guess_unit(times, given=stated, name=source.name)
    return Layout(
        separator=head.separator,
        order=order,
        start=head.start,
        line=head.line,
        unit=unit,
        why=why,
        unit_why="" if stated or not times.size else unit_why,
        geometry=geometry,
        plain=_plain_separator(head, source) if unit == "us" and len(order) == 4 else "",
        row_bytes=head.bytes / max(head.lines, 1),
        low=lower_polarity(signs),
    )


def _no_rows(source: Source) -> FormatError:
    if source.head.startswith(_UTF16):
        msg = (
            "expected text as UTF-8, got UTF-16; save it as UTF-8, or "
            "iconv -f UTF-16 -t UTF-8 converts it"
        )
        return FormatError(msg, path=source.name, offset=0, reason="bad_header")
    msg = (
        "expected rows of x, y, t and p as text, got "
        f"{source.head[:20]!r}; is the file empty or of another format?"
    )
    return FormatError(msg, path=source.name, offset=0, reason="bad_header")


def _order(
    head: Head, columns: str | None, size: tuple[int, int] | None, source: Source
) -> tuple[str, str, TimeUnit | None]:
    named = None if head.names is None else roles_of(head.names)
    if columns is not None:
        return check_order(columns), "--columns", named[1] if named else None
    if named is not None:
        return named[0], f"names in {head.named_in}", named[1]
    if head.names is not None:
        fields = ", ".join(head.names)[:200]
        msg = (
            f"expected columns named x, y, t and p, got {fields}; "
            "--columns says their order, as in txyp"
        )
        raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
    table, behind = _table(head)
    orders = possible_orders(table)
    if len(orders) == 1:
        order, places = by_places(orders[0], table, size)
        why = f"evidence on the first {table.shape[0]} rows, {places}"
        return order + "-" * len(behind), why, None
    got = " or ".join(orders) if orders else "rows that fit no order of them"
    msg = (
        f"expected columns whose order can be told, got {got} without a header; "
        "--columns says it, as in txyp"
    )
    raise FormatError(msg, path=source.name, offset=head.start, reason="bad_header")


def _table(head: Head) -> tuple[NDArray[np.float64], list[str]]:
    """Return those of the first rows that are four numbers, and the empty cell behind them."""
    behind = [""] if head.rows and head.rows[0][4:] == [""] else []
    rows = []
    for tokens in head.rows:
        values = [cell_number(token) for token in tokens[:4]]
        if len(values) == 4 and None not in values and tokens[4:] == behind:
            rows.append(values)
    return np.array(rows, np.float64).reshape(len(rows), 4), behind


def _times(head: Head, order: str) -> NDArray[np.int64] | NDArray[np.float64]:
    """Return the times of the first rows: integers if they are written as such."""
    at = order.index("t")
    tokens = [row[at] for row in head.rows if len(row) == len(order)]
    values = [value for value in map(cell_number, tokens) if value is not None]
    whole = [token for token in tokens if _WHOLE.fullmatch(token)]
    # Single damaged rows do not decide.
    if len(whole) >= 0.5 * len(values):
        return np.array([int(token) for token in whole], np.int64)
    return np.array(values, np.float64)


def _polarities(head: Head, order: str) -> NDArray[np.float64]:
    """Return the polarities of the first rows."""
    at = order.index("p")
    numbers = (cell_number(row[at]) for row in head.rows if len(row) == len(order))
    return np.array([value for value in numbers if value is not None], np.float64)


def _plain_separator(head: Head, source: Source) -> str:
    """Return the byte between columns if most rows are digits and that byte; else nothing."""
    rows = _PLAIN_ROW.findall(source.head, head.start)
    common = max(set(rows), key=rows.count) if rows else b""
    return common.decode() if rows.count(common) > head.lines // 2 else ""
