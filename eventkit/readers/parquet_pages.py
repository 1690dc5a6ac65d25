"""The headers of Parquet's pages, looked at before pyarrow unpacks what they claim.

A page is unpacked whole, into as much room as its header says: 2.1 GB for a forged one in a file of
3 kB. So each header is read ahead of the rows of its page. A number takes 12 bytes at most, in
whatever encoding, so N values may have 16 N bytes and a megabyte to spare; the largest pages of all
columns, which are held at once, 256 MB, or 32 times what the row group takes in the file. A run of
one value may be long: rows are unpacked in parts of one size, whatever a page holds.

A header takes 7 us: 9% of reading the rows where a page has 20,000 (pyarrow), 2% where it has
120,000 (Polars).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, NamedTuple, NoReturn

from eventkit.readers.parquet_footer import Chunk, Flaw, Group
from eventkit.readers.thrift import I32, BrokenThriftError, Compact, CutThriftError, Fields

BYTES_PER_VALUE = 16
SPARE_BYTES = 1 << 20
HELD_BYTES = 256 << 20
HELD_TIMES = 32

_HEADER_BYTES = 256
"""Nearly all have 20 to 80; longer ones have statistics of text."""
_MOST_HEADER_BYTES = 1 << 16
_HEADER: Fields = {1: I32, 2: I32, 3: I32, 5: {1: I32}, 7: {1: I32}, 8: {1: I32}}
_KIND, _UNPACKED, _STORED, _VALUES = 1, 2, 3, 1
_DICTIONARY = 2
_DETAILS = {0: 5, _DICTIONARY: 7, 3: 8}
"""Where the number of values stands, by kind of page; pages of other kinds have none."""


class Pages:
    """The pages of a row group.

    Parameters
    ----------
    file : binary file
    group : Group
    columns : iterable of str
        Whose pages.
    path : str
        For messages.
    """

    def __init__(self, file: BinaryIO, group: Group, columns: Iterable[str], path: str) -> None:
        self._path, self._flaw = path, group.flaw
        self._rows, self._done = group.rows, 0
        self._walks = [_Walk(file, column, group.chunks[column], path) for column in columns]
        self._most = max(HELD_BYTES, HELD_TIMES * group.stored)

    @property
    def at(self) -> int:
        """Byte of the first page that the rows looked at last stand in."""
        return min(walk.first for walk in self._walks)

    def ahead(self, rows: int) -> None:
        """Look at the headers of all pages up to a row.

        Raises
        ------
        FormatError
            For a page, or a row group, that cannot be; with its byte.
        """
        if self._flaw is not None:
            raise self._flaw.error(self._path)
        for walk in self._walks:
            walk.begin(self._done)
            while walk.seen < min(rows, self._rows):
                if walk.step():
                    self._limit(walk)
        self._done = rows

    def _limit(self, walk: _Walk) -> None:
        held = sum(each.held for each in self._walks)
        if held > self._most:
            expected = f"pages of at most {self._most} bytes, one of each column"
            cure = "if they are real, write pages of a megabyte"
            raise Flaw(walk.at, expected, f"{held}", cure).error(self._path)


class _Page(NamedTuple):
    """What the header of a page says; between which bytes its data should stand."""

    kind: int
    values: int
    unpacked: int
    start: int
    stop: int


class _Walk:
    """Goes from page to page of a column.

    Attributes
    ----------
    at : int
        Where the latest page begins.
    first : int
        Where the first page of the rows begins that are looked at.
    seen : int
        Values in the pages so far.
    """

    def __init__(self, file: BinaryIO, column: str, chunk: Chunk, path: str) -> None:
        self._file, self._column, self._path = file, column, path
        self._next, self._stop, self._values = chunk
        self._page = self._dictionary = self.seen = 0
        self.at = self.first = self._next

    @property
    def held(self) -> int:
        """Bytes that the largest page so far and the dictionary take, packed and unpacked."""
        return self._page + self._dictionary

    def begin(self, row: int) -> None:
        """Note the page of a row: the latest one, or the next."""
        self.first = self.at if row < self.seen else self._next

    def step(self) -> bool:
        """Go over the next page; return whether more has to be held for it than before.

        Raises
        ------
        FormatError
        """
        self.at = self._next
        if self.at >= self._stop:
            self._refuse(f"{self._values} values", f"{self.seen} in all pages")
        page = self._header()
        self._check(page)
        self._next = page.stop
        size, held = page.unpacked + page.stop - page.start, self.held
        if page.kind == _DICTIONARY:
            self._dictionary = max(self._dictionary, size)
        else:
            self._page = max(self._page, size)
            self.seen += page.values
        return self.held > held

    def _header(self) -> _Page:
        """Read the header of the next page."""
        try:
            try:
                return self._parsed(_HEADER_BYTES)
            except CutThriftError:
                return self._parsed(_MOST_HEADER_BYTES)
        except BrokenThriftError as err:
            return self._refuse("the header of a page", f"a damaged one ({err})")
        except KeyError as err:
            return self._refuse("the header of a page", f"one without field {err}")

    def _parsed(self, size: int) -> _Page:
        self._file.seek(self.at)
        found = Compact(self._file.read(min(size, self._stop - self.at)))
        fields = found.struct(_HEADER)
        kind, start = fields[_KIND], self.at + found.at
        values = fields[_DETAILS[kind]][_VALUES] if kind in _DETAILS else 0
        return _Page(kind, values, fields[_UNPACKED], start, start + fields[_STORED])

    def _check(self, page: _Page) -> None:
        """Refuse a page that cannot be."""
        stored, left = page.stop - page.start, self._stop - page.start
        if not 0 <= stored <= left:
            self._refuse(f"a page of at most {left} bytes", f"{stored}")
        is_dictionary = page.kind == _DICTIONARY
        # A dictionary may have numbers that the row group does without; each takes a byte or more.
        most = page.unpacked if is_dictionary else self._values - self.seen
        if not 0 <= page.values <= most:
            self._refuse(f"a page of at most {most} values", f"{page.values}")
        values = self._values if is_dictionary else page.values
        most = BYTES_PER_VALUE * values + SPARE_BYTES
        for size in (page.unpacked, stored):
            if not 0 <= size <= most:
                self._refuse(f"a page of at most {most} bytes for {values} values", f"{size}")

    def _refuse(self, expected: str, got: str) -> NoReturn:
        raise Flaw(self.at, f"{expected} in column {self._column!r}", got).error(self._path)
