"""Numbers and structs of MATLAB's version 5 files.

Not through SciPy: its reader ends the process on damaged files (one flipped bit in a size; 2 of 400
flips of a 7 kB file, SciPy 1.17). Here an element is a slice of the bytes there are, whatever it
claims. Cells, objects, functions, text and sparse arrays are passed over.

Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError

HEADER_BYTES = 128

_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_MATRIX, _COMPRESSED = 14, 15
_STRUCT = 2
_NUMBERS = range(6, 16)
_MOST_DEPTH = 8
_MOST_FIELDS = 1000
MOST_RATIO = 1032
"""Deflate makes at most 1 byte of this many."""

Order = Literal["little", "big"]


@dataclass(frozen=True, slots=True)
class _Element:
    """A tag and the bytes that follow it, as many as there are."""

    kind: int
    body: memoryview
    claimed: int
    next: int


def variables(data: bytes, *, path: object) -> dict[str, Any]:
    """Return the numeric arrays, flattened column by column, and structs as mappings.

    Parameters
    ----------
    data : bytes
        The whole file.
    path
        For messages.

    Returns
    -------
    mapping name -> (N,) array or mapping
        An array that the end of the file cuts is as long as its whole numbers.

    Raises
    ------
    FormatError
        If there is no header, or deflated data are damaged before any number of a variable.
    """
    order = _order(data, path)
    found: dict[str, Any] = {}
    for element, at in _elements(memoryview(data), HEADER_BYTES, order):
        if element.kind not in (_MATRIX, _COMPRESSED):
            # Nothing else stands here: a hole, or what follows a damaged size, which leads nowhere.
            break
        part = element if element.kind == _MATRIX else _inflated(element, order, at, path)
        if part.kind == _MATRIX:
            name, value = _matrix(part.body, order, 0)
            if value is not None and name:
                found[name] = value
    return found


def _order(data: bytes, path: object) -> Order:
    mark = data[126:128]
    if len(data) < HEADER_BYTES or mark not in (b"IM", b"MI"):
        msg = f"expected the byte order IM or MI in a header of 128 bytes, got {mark!r}"
        raise FormatError(msg, path=path, offset=126, reason="bad_header")
    return "little" if mark == b"IM" else "big"


def _elements(data: memoryview, at: int, order: Order) -> Iterator[tuple[_Element, int]]:
    while at + 8 <= len(data):
        element = _element(data, at, order)
        yield element, at
        at = element.next


def _element(data: memoryview, at: int, order: Order) -> _Element:
    """Return the element at a byte; one that claims more than there is has what there is."""
    first = int.from_bytes(data[at : at + 4], order)
    if first >> 16:  # a small one: kind and size in four bytes, the data in the next four
        size = min(first >> 16, 4)
        return _Element(first & 0xFFFF, data[at + 4 : at + 4 + size], size, at + 8)
    size = int.from_bytes(data[at + 4 : at + 8], order)
    padded = size if first == _COMPRESSED else size + -size % 8
    return _Element(first, data[at + 8 : at + 8 + size], size, at + 8 + padded)


def _inflated(element: _Element, order: Order, at: int, path: object) -> _Element:
    """Return the element inside a compressed one, bounded by what it claims and by deflate."""
    inflate = zlib.decompressobj()
    try:
        tag = inflate.decompress(element.body, 8)
        size = int.from_bytes(tag[4:8], order)
        limit = min(size, MOST_RATIO * len(element.body))
        body = inflate.decompress(inflate.unconsumed_tail, limit) if limit else b""
        # On to the end, where the checksum stands.
        while inflate.unconsumed_tail and not inflate.eof:
            inflate.decompress(inflate.unconsumed_tail, 1 << 16)
    except zlib.error as err:
        msg = f"expected deflated data, got damaged data ({err}); copy the file again"
        raise FormatError(msg, path=path, offset=at, reason="corrupt") from err
    kind = int.from_bytes(tag[:4], order)
    return _Element(kind, memoryview(body), size, 0)


def _matrix(data: memoryview, order: Order, depth: int) -> tuple[str, Any]:
    """Return name and value of a matrix; None for what is passed over."""
    parts = _elements(data, 0, order)
    flags, dimensions, name = (next(parts, (None, 0))[0] for _ in range(3))
    if flags is None or dimensions is None or name is None or len(flags.body) < 4:
        return "", None
    word = int.from_bytes(flags.body[:4], order)
    kind, is_complex = word & 0xFF, bool(word & 0x800)
    text = bytes(name.body).decode("ascii", "replace")
    if kind in _NUMBERS and not is_complex:
        real = next(parts, (None, 0))[0]
        return text, None if real is None else _numbers(real, order)
    if kind == _STRUCT and depth < _MOST_DEPTH:
        return text, _struct(parts, order, depth)
    return text, None


def _numbers(element: _Element, order: Order) -> NDArray[Any] | None:
    code = _TYPES.get(element.kind)
    if code is None:
        return None
    dtype = np.dtype(code).newbyteorder("<" if order == "little" else ">")
    whole = len(element.body) // dtype.itemsize
    values = np.frombuffer(element.body, dtype, whole)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _struct(
    parts: Iterator[tuple[_Element, int]], order: Order, depth: int
) -> dict[str, Any] | None:
    """Return the fields of a struct; of an array of structs, those of its first one."""
    width, names = (next(parts, (None, 0))[0] for _ in range(2))
    if width is None or names is None:
        return None
    size = int.from_bytes(width.body[:4], order)
    if not 0 < size <= 64:
        return None
    text = bytes(names.body)
    fields = [text[k : k + size].split(b"\0")[0] for k in range(0, len(text), size)]
    found: dict[str, Any] = {}
    for field in fields[:_MOST_FIELDS]:
        element = next(parts, (None, 0))[0]
        if element is None:
            break
        if element.kind == _MATRIX:
            value = _matrix(element.body, order, depth + 1)[1]
            if value is not None:
                found[field.decode("ascii", "replace")] = value
    return found
