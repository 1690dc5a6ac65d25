"""The footer of a Parquet file: where the columns of each row group stand, and what they claim.

Read here before pyarrow reads it, which makes room for what a list claims before it looks (one
forged length in a footer of 300 bytes: 713 MB, pyarrow 26) and may end the process where it is
asked for the numbers of a damaged column. A row group whose numbers cannot be costs itself only.

Layout: https://parquet.apache.org/docs/file-format/; numbers of the fields:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from eventkit.errors import FormatError
from eventkit.readers.thrift import I32, I64, STRUCT, TEXT, BrokenThriftError, Compact, Fields

MAGIC, ENCRYPTED = b"PAR1", b"PARE"

FEW_ROWS = 1 << 20
ROWS_PER_BYTE = 4096
"""More rows than `FEW_ROWS`, and than this for each byte of x, y, t and p, are forged. The perfect
ramp over a whole sensor has 400 (zstd); only the same event at the same time for ever has more."""

_MOST_FOOTER_BYTES = 64 << 20
_MOST_BRANCHES = 1000
"""Groups of columns in a schema: pyarrow builds them one inside the other, on the stack."""

_COLUMN: Fields = {
    2: [I32],
    3: [TEXT],
    5: I64,
    7: I64,
    8: [STRUCT],
    9: I64,
    11: I64,
    13: [STRUCT],
    16: {2: [I64], 3: [I64]},
    17: {2: [I32]},
}
_VALUES, _STORED, _DATA, _DICTIONARY = 5, 7, 9, 11
_CHUNK: Fields = {1: TEXT, 3: _COLUMN, 8: {2: {1: [TEXT]}}}
_FILE, _META, _CRYPTO = 1, 3, 8
_GROUP: Fields = {1: [_CHUNK], 3: I64, 4: [STRUCT]}
_COLUMNS, _ROWS = 1, 3
_ELEMENT: Fields = {1: I32, 4: TEXT, 5: I32}
_TYPE, _NAME, _CHILDREN = 1, 4, 5
_FOOTER: Fields = {2: [_ELEMENT], 4: [_GROUP], 5: [STRUCT], 7: [STRUCT]}
_SCHEMA, _GROUPS = 2, 4


class Flaw(NamedTuple):
    """What cannot be, and the byte that it stands at."""

    at: int
    expected: str
    got: str
    cure: str = "copy it again, or --on-error skip leaves out and counts what cannot be read"

    def error(self, path: str) -> FormatError:
        """Return it as an error."""
        msg = f"expected {self.expected}, got {self.got}; {self.cure}"
        return FormatError(msg, path=path, offset=self.at, reason="corrupt")


class Chunk(NamedTuple):
    """A column of a row group: from where to where its pages stand, and how many values it has."""

    start: int
    stop: int
    values: int


@dataclass(frozen=True, slots=True)
class Group:
    """A row group.

    Parameters
    ----------
    rows : int
        What it claims.
    chunks : mapping of column to Chunk
    flaw : Flaw, optional
        Why it cannot be read.
    """

    rows: int
    chunks: Mapping[str, Chunk]
    flaw: Flaw | None

    @property
    def stored(self) -> int:
        """Bytes of the columns in the file."""
        return sum(chunk.stop - chunk.start for chunk in self.chunks.values())

    @property
    def likely_rows(self) -> int:
        """Rows as most of its numbers have it: for counting those of a damaged one."""
        claims = [self.rows, *(chunk.values for chunk in self.chunks.values())]
        return max(0, Counter(claims).most_common(1)[0][0])


class Footer:
    """The footer of a file.

    Parameters
    ----------
    file : binary file
    path : str
        For messages.

    Raises
    ------
    FormatError
        Where it is damaged, encrypted, or longer than 64 MB.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._path = path
        self._at, data = _stored(file, path)
        found = Compact(data)
        try:
            fields = found.struct(_FOOTER)
            self._groups = fields[_GROUPS]
            self._leaves = _leaves(fields[_SCHEMA])
        except (BrokenThriftError, LookupError) as err:
            raise self._damaged(err, found.at) from err

    def groups(self, names: Mapping[str, str]) -> list[Group]:
        """Return the row groups.

        Parameters
        ----------
        names : mapping of column to name
            Which columns are wanted, and how the file calls them.

        Raises
        ------
        FormatError
            If one of them is not there, is encrypted, or stands in another file.
        """
        try:
            leaves = {column: self._leaves[name.encode()] for column, name in names.items()}
            return [self._group(group, leaves) for group in self._groups]
        except LookupError as err:
            raise self._damaged(err) from err

    def _group(self, fields: Mapping[int, Any], leaves: Mapping[str, int]) -> Group:
        rows, columns = fields[_ROWS], fields[_COLUMNS]
        chunks = {column: self._chunk(columns[leaf]) for column, leaf in leaves.items()}
        return Group(rows, chunks, _flaw(rows, chunks, self._at))

    def _chunk(self, fields: Mapping[int, Any]) -> Chunk:
        if _CRYPTO in fields:
            raise _encrypted(self._path, self._at, "an encrypted column")
        if _FILE in fields:
            msg = "expected the columns in this file, got one that stands in another; open that"
            raise FormatError(msg, path=self._path, offset=self._at, reason="bad_header")
        meta = fields[_META]
        start, dictionary = meta[_DATA], meta.get(_DICTIONARY, 0)
        if 0 < dictionary < start:
            start = dictionary
        return Chunk(start, start + meta[_STORED], meta[_VALUES])

    def _damaged(self, err: Exception, at: int = 0) -> FormatError:
        what = str(err) if isinstance(err, BrokenThriftError) else "fields or columns are missing"
        msg = f"expected a whole Parquet table, got a damaged footer ({what}); copy it again"
        return FormatError(msg, path=self._path, offset=self._at + at, reason="corrupt")


def _stored(file: BinaryIO, path: str) -> tuple[int, bytes]:
    """Return where the footer begins, and its bytes."""
    end = max(file.seek(0, 2) - 8, 0)
    file.seek(end)
    tail = file.read(8)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] == ENCRYPTED:
        raise _encrypted(path, end, "an encrypted footer")
    if tail[4:] != MAGIC or not 0 < size <= end - len(MAGIC):
        msg = (
            f"expected the length of the footer and PAR1 at the end, got {tail!r}: the file is cut "
            "or damaged; copy it again"
        )
        raise FormatError(msg, path=path, offset=end, reason="truncated")
    if size > _MOST_FOOTER_BYTES:
        most = f"{_MOST_FOOTER_BYTES >> 20} MB"
        msg = f"expected a footer of at most {most}, got {size} bytes; write larger row groups"
        raise FormatError(msg, path=path, offset=end, reason="bad_header")
    file.seek(end - size)
    return end - size, file.read(size)


def _encrypted(path: str, at: int, what: str) -> FormatError:
    msg = f"expected a Parquet table in the clear, got {what}; decrypt it first"
    return FormatError(msg, path=path, offset=at, reason="bad_header")


def _leaves(schema: list[dict[int, Any]]) -> dict[bytes, int]:
    """Return the columns that stand in no group, and which ones they are of all columns.

    Elements follow each other depth first; the first one is the root.
    """
    found: dict[bytes, int] = {}
    leaf = branches = inside = 0
    for element in schema[1:]:
        children = element.get(_CHILDREN, 0)
        branches += children != 0
        if children < 0 or branches > _MOST_BRANCHES:
            msg = f"a group of {children} columns, the {branches}th in the schema"
            raise BrokenThriftError(msg)
        if not inside and not children:
            found[element[_NAME]] = leaf
        inside += children - (inside > 0)
        leaf += not children and _TYPE in element
    return found


def _flaw(rows: int, chunks: Mapping[str, Chunk], end: int) -> Flaw | None:
    """Return what cannot be of a row group, before its pages are looked at."""
    for column, (start, stop, values) in chunks.items():
        if not len(MAGIC) <= start <= stop <= end:
            place = f"column {column!r} inside bytes {len(MAGIC)} to {end}"
            return Flaw(end, place, f"bytes {start} to {stop}")
        if values != rows or rows < 0:
            return Flaw(start, f"a value of column {column!r} for each of {rows} rows", f"{values}")
    stored = sum(chunk.stop - chunk.start for chunk in chunks.values())
    most = FEW_ROWS + ROWS_PER_BYTE * stored
    if rows <= most:
        return None
    cure = f"if they are real, write row groups of at most {FEW_ROWS} rows"
    at = min(chunk.start for chunk in chunks.values())
    return Flaw(at, f"at most {most} rows in a row group of {stored} bytes", f"{rows}", cure)
