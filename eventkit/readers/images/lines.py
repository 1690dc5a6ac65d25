"""Lines of a file of times: names, numbers, dates and what a header says, before any meaning.

Columns are separated by blanks, commas or semicolons; ``#`` starts a comment. A first line without
a number is a header, unless it names a picture. Dates (KITTI: ``2011-09-26 13:02:25.964389445``)
become seconds since 1970; one without a zone is UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from eventkit.errors import FormatError
from eventkit.readers.images.units import NUMBER

MAX_TABLE_BYTES = 64 << 20
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

_DATE = re.compile(
    r"(?<![^\s,;])(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d{1,12})?(Z|[+-]\d\d:?\d\d)?(?![^\s,;])"
)
_BETWEEN = str.maketrans(",;", "  ")


@dataclass(frozen=True, slots=True)
class Row:
    """One line.

    Parameters
    ----------
    number : int
        From 1.
    text : str
        As it stands there.
    name : str or None
        Of a picture, without its folders.
    cells : list of str
        The other columns.
    dated : bool
        Whether a date stood there.
    """

    number: int
    text: str
    name: str | None
    cells: list[str]
    dated: bool


@dataclass(frozen=True, slots=True)
class Lines:
    """A file of times.

    Parameters
    ----------
    rows : list of Row
    columns : list of str
        Names in a first line; may be empty.
    header : str
        These and the comments at the beginning.
    """

    rows: list[Row]
    columns: list[str]
    header: str


def read_lines(path: Path) -> Lines:
    """Read a file of times.

    Raises
    ------
    FormatError
        If it is too large to be one.
    """
    text = _text(path)
    lines = list(_data(text))
    columns: list[str] = []
    if lines and _is_header(first := lines[0][1].translate(_BETWEEN).split()):
        columns = first
        del lines[0]
    comments = [line for line in text[:4096].splitlines() if line.lstrip().startswith("#")]
    rows = [_row(number, line) for number, line in lines]
    return Lines(rows, columns, " ".join([*comments, *columns]))


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_TABLE_BYTES:
        msg = f"expected times as text, got {size} bytes, more than {MAX_TABLE_BYTES}"
        raise FormatError(msg, path=path, offset=0, reason="bad_value")
    return path.read_text("utf-8-sig", errors="replace")


def _data(text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines that hold data."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _is_header(cells: list[str]) -> bool:
    return not any(
        NUMBER.fullmatch(cell) or cell.lower().endswith(IMAGE_SUFFIXES) or cell[:1].isdigit()
        for cell in cells
    )


def _row(number: int, line: str) -> Row:
    plain = _DATE.sub(_seconds, line) if ":" in line else line
    cells = plain.translate(_BETWEEN).split()
    name = None
    for position in (0, -1):
        if name is None and cells and not NUMBER.fullmatch(cells[position]):
            name = re.split(r"[/\\]", cells.pop(position))[-1]
    return Row(number, line, name, cells, plain is not line and plain != line)


def _seconds(date: re.Match[str]) -> str:
    try:
        whole = datetime.fromisoformat(f"{date[1]}T{date[2]}{date[4] or 'Z'}")
    except ValueError:  # no such day
        return date[0]
    since = whole - datetime(1970, 1, 1, tzinfo=UTC)
    return str(Decimal(since.days * 86400 + since.seconds) + Decimal(f"0{date[3] or ''}"))
