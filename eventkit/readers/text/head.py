"""The first lines of a text file: comments, names of columns, a sensor size, and the first rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from eventkit.errors import InvalidEventsError
from eventkit.events import FIELD_NAMES, TimeUnit, field_names
from eventkit.readers.column_order import MOST_COLUMNS
from eventkit.sources import HEAD_BYTES

SAMPLE_ROWS = 2048
LONGEST_LINE = 1 << 16
LARGEST_SIDE = 1 << 16
BOM = b"\xef\xbb\xbf"

_COMMENTS = ("#", "%")
_WORDS = {"true": 1.0, "on": 1.0, "false": 0.0, "off": 0.0}
_UNIT_IN_NAME = re.compile(r"(.+?)[ _]?[\[( _](us|ms|ns|s|sec|seconds|microseconds)[\])]?")
_IN_BRACKETS = re.compile(r"(.*?) ?(?:\[.*\]|\(.*\))")
_LONGEST_NAME, _LONGEST_COMMENT = 64, 4096
"""What is longer says nothing, and takes the patterns above a time that grows with its square."""
_SIDE = re.compile(r"[0-9]{1,5}")
_UNITS: dict[str, TimeUnit] = {
    "us": "us",
    "microseconds": "us",
    "ms": "ms",
    "ns": "ns",
    "s": "s",
    "sec": "s",
    "seconds": "s",
}
# Numbers are everywhere in comments: only these words, and nothing behind the numbers.
_SIZE_IN_COMMENT = re.compile(
    r"\b(?:geometry|sensor[_ ](?:size|resolution)|resolution)"
    r"(?: ?\((?:(?P<wide>w|width)|h|height)(?: x |[x, ]{1,2})(?:w|width|h|height)\))?"
    r"[:= ]+(\d{1,5})(?: x |[x, ]{1,2})(\d{1,5})$",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Head:
    """Header and first rows, before anything is made of them.

    Parameters
    ----------
    start : int, bytes
        Where the first row after a header starts.
    line : int
        Its number, from 1.
    names : list of str, optional
        Names of the columns.
    named_in : str
        Where they stand, in words.
    in_comment : bool
        Whether that is a comment, which may be about something else.
    size : (W, H), optional
    size_why : str
    separator : str
        ``,`` or ``;``; a space stands for any number of spaces and tabs.
    rows : list of lists of str
        The cells of the first rows.
    lines, bytes : int
        Of the first rows, and of those that have too many cells.
    """

    start: int = 0
    line: int = 1
    names: list[str] | None = None
    named_in: str = ""
    in_comment: bool = False
    size: tuple[int, int] | None = None
    size_why: str = ""
    separator: str = ","
    rows: list[list[str]] = field(default_factory=list)
    lines: int = 0
    bytes: int = 0


def read_head(data: bytes) -> Head | None:
    """Walk over header and comments to the first rows; None if this is no text.

    Parameters
    ----------
    data : bytes
        The first bytes of a file; less than `HEAD_BYTES` are all of it.
    """
    if not data or b"\0" in data[:LONGEST_LINE]:
        return None
    head = Head(start=len(BOM) if data.startswith(BOM) else 0)
    whole = len(data) < HEAD_BYTES
    at, number = head.start, 0
    while at < len(data) and head.lines < SAMPLE_ROWS:
        end = data.find(b"\n", at)
        if end < 0 and not (whole or at == head.start):
            break  # a row that the sample cuts
        end = len(data) if end < 0 else end
        raw, number, at = data[at:end], number + 1, end + 1
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            if not head.lines:
                return None
            continue
        if not line:
            continue
        if line.startswith(_COMMENTS):
            if not head.lines:
                _take_comment(head, line[1:], number)
            continue
        if not head.lines and _take_header(head, line, number, data[at : at + 400]):
            head.start, head.line = min(at, len(data)), number + 1
            continue
        _take_row(head, line)
        head.bytes += len(raw) + 1
    return head


def cell_number(token: str) -> float | None:
    """Return the number that a cell holds, 1 or 0 for the words of a polarity, or None."""
    try:
        # Underscores are Python's, not a file's.
        return None if "_" in token or len(token) > 64 else float(token)
    except ValueError:
        return _WORDS.get(token.lower())


def roles_of(names: list[str]) -> tuple[str, TimeUnit | None] | None:
    """Return the order that names give, and the unit where the name of the times has one."""
    if len(names) > MOST_COLUMNS or any(len(name) > _LONGEST_NAME for name in names):
        return None
    unit: TimeUnit | None = None
    plain = []
    for name in names:
        word = name.strip("' ").lower()
        if word not in FIELD_NAMES:
            if found := _UNIT_IN_NAME.fullmatch(word):
                word, unit = found[1].strip(), _UNITS[found[2]]
            elif found := _IN_BRACKETS.fullmatch(word):
                word = found[1]
        plain.append(word)
    try:
        roles = {name: column for column, name in field_names(tuple(plain)).items()}
    except InvalidEventsError:
        return None
    order = "".join(roles.get(name, "-") for name in plain)
    return (order, unit) if len(order.replace("-", "")) == 4 else None


def _take_row(head: Head, line: str) -> None:
    if not head.lines:
        head.separator = _separator(line)
    tokens = _split(line, head.separator)
    if not head.lines and head.in_comment and len(head.names or ()) != len(tokens):
        head.names = None  # a comment about something else
    head.lines += 1
    if len(tokens) <= MOST_COLUMNS:
        head.rows.append(tokens)


def _take_header(head: Head, line: str, number: int, following: bytes) -> bool:
    """Take names, or the sensor size that stands alone in a first line."""
    tokens = _names(line)
    if any(cell_number(token) is None for token in tokens):
        named = head.names is not None and not head.in_comment
        if not named and len(tokens) > 3 and not tokens[0].lstrip("+-")[:1].isdigit():
            head.names, head.named_in, head.in_comment = tokens, f"line {number}", False
            return True
        return False
    sides = [int(token) for token in tokens if _SIDE.fullmatch(token)]
    after = following.partition(b"\n")[0].decode("utf-8", "replace")
    longer = len(_split(after, _separator(after))) >= 4
    if len(tokens) == len(sides) == 2 and longer and all(0 < s <= LARGEST_SIDE for s in sides):
        head.size, head.size_why = (sides[0], sides[1]), f"width and height in line {number}"
        return True
    return False


def _take_comment(head: Head, text: str, number: int) -> None:
    """Take names, or a sensor size; which number is the width is believed if it is said."""
    if len(text) > _LONGEST_COMMENT:
        return
    names = _names(text.strip())
    if roles_of(names) is not None:
        head.names, head.named_in = names, f"the comment of line {number}"
        head.in_comment = True
    found = _SIZE_IN_COMMENT.search(text)
    if found is None:
        return
    first, second = int(found[2]), int(found[3])
    said_turned = "(" in found[0] and found["wide"] is None
    size = (second, first) if said_turned else (first, second)
    if all(0 < side <= LARGEST_SIDE for side in size):
        head.size, head.size_why = size, f"comment of line {number}"


def _names(line: str) -> list[str]:
    """Split a line of names; a unit in brackets belongs to the name before it."""
    names: list[str] = []
    for token in _split(line, _separator(line)):
        if names and token[:1] in ("[", "(") and token[-1:] in ("]", ")"):
            names[-1] += f" {token}"
        else:
            names.append(token)
    return names


def _separator(line: str) -> str:
    return next((mark for mark in (",", ";") if mark in line), " ")


def _split(line: str, separator: str) -> list[str]:
    cells = line.split() if separator == " " else line.split(separator)
    return [cell.strip(' \t"') for cell in cells]
