"""What a text file of events looks like: separator, order of columns, unit of times, first row.

Found from the first 64 kB. In the order of trust: what the caller says, names in a header or in a
comment before the rows, evidence on the rows. What allows two readings is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError, InvalidEventsError
from eventkit.events import FIELD_NAMES, TimeUnit, field_names
from eventkit.readers.column_order import MOST_COLUMNS, check_order, possible_orders
from eventkit.readers.table import lower_polarity
from eventkit.readers.time_unit import guess_unit
from eventkit.sources import HEAD_BYTES, Source

SAMPLE_ROWS = 2048
LONGEST_LINE = 1 << 16

_COMMENTS = ("#", "%")
_BOM = b"\xef\xbb\xbf"
_WORDS = {"true": 1.0, "on": 1.0, "false": 0.0, "off": 0.0}
_UNIT_IN_NAME = re.compile(r"(.+?)[ _]?[\[( _](us|ms|ns|s|sec|seconds|microseconds)[\])]?")
_SIDE = re.compile(r"[0-9]{1,5}")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_PLAIN_ROW = re.compile(
    rb"^[0-9]{1,18}([,;\t ])[0-9]{1,18}\1[0-9]{1,18}\1[0-9]{1,18}\r?$", re.MULTILINE
)
_UNITS: dict[str, TimeUnit] = {
    "us": "us",
    "microseconds": "us",
    "ms": "ms",
    "ns": "ns",
    "s": "s",
    "sec": "s",
    "seconds": "s",
}
_SIZE_IN_COMMENT = re.compile(
    r"(?:sensor|geometry|resolution|size)\D{0,20}?(\d{1,5})\s*[x, ]\s*(\d{1,5})\b", re.IGNORECASE
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
    why, unit_why : str
        Where order and unit come from, in words.
    sensor_size : (W, H) or None
    size_why : str
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
    sensor_size: tuple[int, int] | None
    size_why: str
    plain: str
    row_bytes: float
    low: int


@dataclass(slots=True)
class _Draft:
    """Header and first rows, before anything is made of them."""

    start: int = 0
    line: int = 1
    names: list[str] | None = None
    named_in: str = ""
    size: tuple[int, int] | None = None
    size_why: str = ""
    separator: str = ","
    rows: list[list[str]] = field(default_factory=list)
    lines: int = 0
    bytes: int = 0


def recognise(source: Source) -> str | None:
    """Return why this is a text file of events, or None."""
    draft = _draft(source)
    if draft is None:
        return None
    if _named(draft) is not None:
        return f"columns named {','.join(draft.names or ())} in {draft.named_in}"
    table = _table(draft)
    orders = possible_orders(table) if table.shape[0] >= 0.9 * draft.lines else []
    if not orders:
        return None
    told = " or ".join(orders)
    return f"rows of four numbers that can be {told}: times, places and polarities"


def read_layout(source: Source, *, columns: str | None, time_unit: TimeUnit | None) -> Layout:
    """Find the layout of a text file.

    Parameters
    ----------
    source : Source
    columns : str, optional
        Order of the columns as the caller says; see `eventkit.readers.column_order.check_order`.
    time_unit : {"us", "s", "ms", "ns"}, optional
        Unit of the times as the caller says.

    Raises
    ------
    FormatError
        If it is no text, or its columns or the unit of its times cannot be told.
    SettingsError
        If ``columns`` is no order.
    """
    draft = _draft(source)
    if draft is None or (not draft.rows and draft.names is None):
        msg = (
            "expected rows of x, y, t and p as text, got "
            f"{source.head[:20]!r}; is the file empty or of another format?"
        )
        raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
    order, why, named_unit = _order(draft, columns, source)
    unit, unit_why = guess_unit(
        _times(draft, order), given=time_unit or named_unit, name=source.name
    )
    if time_unit is None and named_unit is not None:
        unit_why = "name of the time column"
    return Layout(
        separator=draft.separator,
        order=order,
        start=draft.start,
        line=draft.line,
        unit=unit,
        why=why,
        unit_why=unit_why,
        sensor_size=draft.size,
        size_why=draft.size_why,
        plain=_plain_separator(draft, source) if unit == "us" and len(order) == 4 else "",
        row_bytes=draft.bytes / max(draft.lines, 1),
        low=lower_polarity(_polarities(draft, order)),
    )


def _draft(source: Source) -> _Draft | None:
    """Walk over header and comments to the first rows; None if this is no text."""
    head = source.head
    if not head or b"\0" in head[:LONGEST_LINE]:
        return None
    draft = _Draft(start=len(_BOM) if head.startswith(_BOM) else 0)
    whole = len(head) < HEAD_BYTES
    at, number = draft.start, 0
    while at < len(head) and draft.lines < SAMPLE_ROWS:
        end = head.find(b"\n", at)
        if end < 0 and not (whole or at == draft.start):
            break  # a row that the sample cuts
        end = len(head) if end < 0 else end
        raw, number, at = head[at:end], number + 1, end + 1
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            if not draft.lines:
                return None
            continue
        if not line:
            continue
        if line.startswith(_COMMENTS):
            if not draft.lines:
                _comment(draft, line[1:], number)
            continue
        if not draft.lines and _is_header(draft, line, number, head[at : at + 400]):
            draft.start, draft.line = min(at, len(head)), number + 1
            continue
        if not draft.lines:
            draft.separator = _separator(line)
        draft.lines += 1
        draft.bytes += len(raw) + 1
        tokens = _split(line, draft.separator)
        if len(tokens) <= MOST_COLUMNS:
            draft.rows.append(tokens)
    return draft


def _is_header(draft: _Draft, line: str, number: int, following: bytes) -> bool:
    """Take names, or the sensor size that stands alone in a first line."""
    tokens = _split(line, _separator(line))
    if draft.names is None and any(_number(token) is None for token in tokens):
        if len(tokens) > 3 and not tokens[0].lstrip("+-")[:1].isdigit():
            draft.names, draft.named_in = tokens, f"line {number}"
            return True
        return False
    sides = [int(token) for token in tokens if _SIDE.fullmatch(token)]
    after = following.partition(b"\n")[0].decode("utf-8", "replace")
    longer = len(_split(after, _separator(after))) >= 4
    if len(tokens) == len(sides) == 2 and longer and all(0 < side <= 65536 for side in sides):
        draft.size, draft.size_why = (sides[0], sides[1]), f"width and height in line {number}"
        return True
    return False


def _comment(draft: _Draft, text: str, number: int) -> None:
    names = _split(text.strip(), _separator(text.strip()))
    if _roles(names) is not None:
        draft.names, draft.named_in = names, f"the comment of line {number}"
    size = _SIZE_IN_COMMENT.search(text)
    if size is not None and int(size[1]) and int(size[2]):
        draft.size, draft.size_why = (int(size[1]), int(size[2])), f"comment of line {number}"


def _order(draft: _Draft, columns: str | None, source: Source) -> tuple[str, str, TimeUnit | None]:
    named = _named(draft)
    if columns is not None:
        return check_order(columns), "--columns", named[1] if named else None
    if named is not None:
        return named[0], f"names in {draft.named_in}", named[1]
    if draft.names is not None:
        fields = ", ".join(draft.names)[:200]
        msg = (
            f"expected columns named x, y, t and p, got {fields}; "
            "--columns says their order, as in txyp"
        )
        raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
    table = _table(draft)
    orders = possible_orders(table)
    if len(orders) == 1:
        return orders[0], f"evidence on the first {table.shape[0]} rows", None
    got = " or ".join(orders) if orders else "rows that fit no order of them"
    msg = (
        f"expected columns whose order can be told, got {got} without a header; "
        "--columns says it, as in txyp"
    )
    raise FormatError(msg, path=source.name, offset=draft.start, reason="bad_header")


def _named(draft: _Draft) -> tuple[str, TimeUnit | None] | None:
    return None if draft.names is None else _roles(draft.names)


def _roles(names: list[str]) -> tuple[str, TimeUnit | None] | None:
    """Return the order that names give, and the unit where the name of the times has one."""
    unit: TimeUnit | None = None
    plain = []
    for name in names:
        word = name.strip("\"' ").lower()
        found = _UNIT_IN_NAME.fullmatch(word)
        if word not in FIELD_NAMES and found is not None:
            word, unit = found[1].strip(), _UNITS[found[2]]
        plain.append(word)
    if len(plain) > MOST_COLUMNS:
        return None
    try:
        roles = {name: column for column, name in field_names(tuple(plain)).items()}
    except InvalidEventsError:
        return None
    order = "".join(roles.get(name, "-") for name in plain)
    return (order, unit) if len(order.replace("-", "")) == 4 else None


def _table(draft: _Draft) -> NDArray[np.float64]:
    """Return those of the first rows that are four numbers."""
    rows = []
    for tokens in draft.rows:
        values = [_number(token) for token in tokens]
        if len(values) == 4 and None not in values:
            rows.append(values)
    return np.array(rows, np.float64).reshape(len(rows), 4)


def _times(draft: _Draft, order: str) -> NDArray[np.int64] | NDArray[np.float64]:
    """Return the times of the first rows: integers if they are written as such."""
    at = order.index("t")
    tokens = [row[at] for row in draft.rows if len(row) == len(order)]
    values = [value for value in map(_number, tokens) if value is not None]
    whole = [token for token in tokens if _WHOLE.fullmatch(token)]
    # Single damaged rows do not decide.
    if len(whole) >= 0.5 * max(len(values), 1):
        return np.array([int(token) for token in whole], np.int64)
    return np.array(values, np.float64)


def _polarities(draft: _Draft, order: str) -> NDArray[np.float64]:
    """Return the polarities of the first rows."""
    at = order.index("p")
    numbers = (_number(row[at]) for row in draft.rows if len(row) == len(order))
    return np.array([value for value in numbers if value is not None], np.float64)


def _number(token: str) -> float | None:
    try:
        # Underscores are Python's, not a file's.
        return None if "_" in token or len(token) > 64 else float(token)
    except ValueError:
        return _WORDS.get(token.lower())


def _separator(line: str) -> str:
    return next((mark for mark in (",", ";") if mark in line), " ")


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    return [token.strip() for token in line.split(separator)]


def _plain_separator(draft: _Draft, source: Source) -> str:
    """Return the byte between columns if most rows are digits and that byte; else nothing."""
    rows = _PLAIN_ROW.findall(source.head, draft.start)
    common = max(set(rows), key=rows.count) if rows else b""
    return common.decode() if rows.count(common) > draft.lines // 2 else ""
