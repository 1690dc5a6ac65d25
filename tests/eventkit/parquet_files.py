"""Parquet files written byte by byte, so that any number in them can be forged.

Layout: ``PAR1``, pages (each a header and its data), the footer, its length, ``PAR1``. Headers and
footer are Thrift's compact protocol; the fields are those of
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

I32, I64, TEXT, LIST, STRUCT = 5, 6, 8, 9, 12
Struct = Mapping[int, tuple[int, Any]]
"""Field number to type and value; of lists the value is the type of the items and the items."""

PAGE, DICTIONARY_PAGE, PAGE_V2 = 0, 2, 3
PLAIN, RLE, RLE_DICTIONARY = 0, 3, 8
UNCOMPRESSED, ZSTD = 0, 6
INT64 = 2


def varint(number: int) -> bytes:
    """Write seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def thrift(fields: Struct) -> bytes:
    """Write a struct."""
    out, last = b"", 0
    for field, (kind, value) in sorted(fields.items()):
        step = field - last
        start = bytes([step << 4 | kind]) if step < 16 else bytes([kind]) + varint(2 * field)
        out, last = out + start + _value(kind, value), field
    return out + b"\0"


def _value(kind: int, value: Any) -> bytes:
    if kind in (I32, I64):
        return varint(value << 1 ^ value >> 63 if value < 0 else value << 1)
    if kind == TEXT:
        return varint(len(value)) + value
    if kind == LIST:
        inner, items = value
        size = bytes([len(items) << 4 | inner]) if len(items) < 15 else (
            bytes([0xF0 | inner]) + varint(len(items))
        )  # fmt: skip
        return size + b"".join(_value(inner, item) for item in items)
    return thrift(value)


@dataclass(frozen=True)
class Page:
    """A page: ``data`` as it is stored, and what its header claims."""

    data: bytes
    values: int
    kind: int = PAGE
    encoding: int = PLAIN
    unpacked: int | None = None
    stored: int | None = None
    more: Struct | None = None

    def written(self) -> bytes:
        """Return the header and the data."""
        kept: dict[int, tuple[int, Any]] = {1: (I32, self.values), 2: (I32, self.encoding)}
        field = {PAGE: 5, DICTIONARY_PAGE: 7, PAGE_V2: 8}[self.kind]
        if self.kind == PAGE:
            kept |= {3: (I32, RLE), 4: (I32, RLE)}
        if self.kind == PAGE_V2:
            kept |= {2: (I32, 0), 3: (I32, self.values), 4: (I32, self.encoding)}
            kept |= {5: (I32, 0), 6: (I32, 0)}
        sizes = [len(self.data) if n is None else n for n in (self.unpacked, self.stored)]
        header = {1: (I32, self.kind), 2: (I32, sizes[0]), 3: (I32, sizes[1])}
        return thrift(header | {field: (STRUCT, kept | dict(self.more or {}))}) + self.data


@dataclass(frozen=True)
class Column:
    """A chunk of a column; what is None is told by the pages."""

    name: str
    pages: Sequence[Page]
    type: int = INT64
    codec: int = UNCOMPRESSED
    values: int | None = None
    stored: int | None = None
    start: int | None = None
    more: Struct | None = None


def whole_table(
    groups: Sequence[tuple[int, Sequence[Column]]], *, schema: Sequence[Struct] | None = None
) -> bytes:
    """Return a file of row groups, each the rows that it claims and its columns."""
    out = bytearray(b"PAR1")
    written = []
    for rows, columns in groups:
        chunks = []
        for column in columns:
            at = len(out)
            out += b"".join(page.written() for page in column.pages)
            chunks.append((column, _chunk(column, at, len(out) - at)))
        written.append({
            1: (LIST, (STRUCT, [chunk for _, chunk in chunks])),
            2: (I64, len(out)),
            3: (I64, rows),
        })  # fmt: skip
    if schema is None:
        leaves = groups[0][1]
        schema = [
            {4: (TEXT, b"root"), 5: (I32, len(leaves))},
            *({1: (I32, c.type), 3: (I32, 0), 4: (TEXT, c.name.encode())} for c in leaves),
        ]
    footer = thrift({
        1: (I32, 2),
        2: (LIST, (STRUCT, schema)),
        3: (I64, sum(rows for rows, _ in groups)),
        4: (LIST, (STRUCT, written)),
    })  # fmt: skip
    return bytes(out + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def _chunk(column: Column, at: int, size: int) -> Struct:
    data_pages = [page for page in column.pages if page.kind != DICTIONARY_PAGE]
    has_dictionary = len(data_pages) < len(column.pages)
    start = at if column.start is None else column.start
    first = start + (len(column.pages[0].written()) if has_dictionary else 0)
    values = sum(page.values for page in data_pages) if column.values is None else column.values
    meta: dict[int, tuple[int, Any]] = {
        1: (I32, column.type),
        2: (LIST, (I32, [PLAIN, RLE, RLE_DICTIONARY])),
        3: (LIST, (TEXT, [column.name.encode()])),
        4: (I32, column.codec),
        5: (I64, values),
        6: (I64, size),
        7: (I64, size if column.stored is None else column.stored),
        9: (I64, first),
    }
    if has_dictionary:
        meta[11] = (I64, start)
    return {2: (I64, 0), 3: (STRUCT, meta), **(column.more or {})}


def plain(values: NDArray[Any]) -> Page:
    """Return a page of numbers, eight bytes each."""
    return Page(values.astype("<i8").tobytes(), values.size)


def constant(value: int, rows: int) -> tuple[Page, Page]:
    """Return a dictionary of one number, and a page that repeats it ``rows`` times."""
    run = b"\1" + varint(rows << 1) + b"\0"
    dictionary = Page(np.int64(value).tobytes(), 1, kind=DICTIONARY_PAGE)
    return dictionary, Page(run, rows, encoding=RLE_DICTIONARY)
