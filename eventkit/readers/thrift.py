"""Thrift's compact protocol, as far as Parquet has it, with every step inside the bytes there are.

A caller says which fields it wants; the others are passed over and take no memory. What libraries
make different things of is refused: a wanted field that is there twice or has another type, and a
number that does not fit its type.

Format: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

I32, I64, TEXT, LIST, STRUCT = 5, 6, 8, 9, 12
_TRUE, _FALSE, _BYTE, _I16, _DOUBLE, _SET = 1, 2, 3, 4, 7, 10
_BITS = {_I16: 16, I32: 32, I64: 64}
_BYTES = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8}
_MOST_DEPTH = 32

Fields = Mapping[int, Any]
"""What is wanted of a struct: the number of each field, and what it has to be. `I32`, `I64`,
`TEXT`; a mapping for a struct, ``[mapping]`` for a list of such; ``[I32]`` and the like for a list
of which the length will do: libraries take the type of its items for granted."""


class BrokenThriftError(Exception):
    """Bytes that are none of Thrift's; turned into `FormatError` by callers."""


class CutThriftError(BrokenThriftError):
    """A struct that goes on behind the bytes that there are."""


class Compact:
    """Reads one struct after the other.

    Parameters
    ----------
    data : bytes
    at : int
        Where the first one begins; afterwards, where it ended.
    """

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data, self.at = data, at

    def struct(self, wanted: Fields) -> dict[int, Any]:
        """Return the wanted fields that are there.

        Raises
        ------
        BrokenThriftError
        """
        try:
            return self._struct(wanted, 0)
        except IndexError:
            msg = f"a struct goes on behind its {len(self._data)} bytes"
            raise CutThriftError(msg) from None

    def _struct(self, wanted: Fields, depth: int) -> dict[int, Any]:
        _limit(depth)
        found: dict[int, Any] = {}
        data, field = self._data, 0
        while kind := (start := data[self.at]) & 15:
            self.at += 1
            field = field + (start >> 4) if start > 15 else self._number(_I16)
            form = wanted.get(field)
            if form is None:
                self._pass(kind, depth)
            elif field in found:
                msg = f"field {field} is there twice"
                raise BrokenThriftError(msg)
            else:
                found[field] = self._value(form, kind, depth)
        self.at += 1
        return found

    def _value(self, form: Any, kind: int, depth: int) -> Any:
        if form == kind:
            return self._text() if kind == TEXT else self._number(kind)
        if kind == STRUCT and isinstance(form, Mapping):
            return self._struct(form, depth + 1)
        if kind == LIST and isinstance(form, list):
            return self._list(form[0], depth + 1)
        msg = f"a field of type {kind}, where Parquet has another"
        raise BrokenThriftError(msg)

    def _list(self, form: Any, depth: int) -> int | list[dict[int, Any]]:
        size, kind = self._items(depth)
        if size and kind != (STRUCT if isinstance(form, Mapping) else form):
            msg = f"a list of type {kind}, where Parquet has another"
            raise BrokenThriftError(msg)
        if isinstance(form, Mapping):
            return [self._struct(form, depth) for _ in range(size)]
        self._pass_items(kind, size, depth)
        return size

    def _pass(self, kind: int, depth: int) -> None:
        if kind in _BITS:
            self._varint()
        elif kind in _BYTES:
            self._skip(_BYTES[kind])
        elif kind == TEXT:
            self._skip(self._varint())
        elif kind == STRUCT:
            self._struct({}, depth + 1)
        elif kind in (LIST, _SET):
            size, inner = self._items(depth + 1)
            self._pass_items(inner, size, depth + 1)
        else:
            msg = f"a field of type {kind}, which Parquet does not have"
            raise BrokenThriftError(msg)

    def _items(self, depth: int) -> tuple[int, int]:
        """Return how many items a list has, and their type."""
        _limit(depth)
        start = self._data[self.at]
        self.at += 1
        return (start >> 4 if start < 0xF0 else self._varint()), start & 15

    def _pass_items(self, kind: int, size: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE):
            self._skip(size)  # as a field it has no byte of its own
            return
        for _ in range(size):
            self._pass(kind, depth)

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise IndexError

    def _text(self) -> bytes:
        size = self._varint()
        self._skip(size)
        return self._data[self.at - size : self.at]

    def _number(self, kind: int) -> int:
        number = self._varint()
        if number >> _BITS[kind]:
            msg = f"number {number} in a field of {_BITS[kind]} bits"
            raise BrokenThriftError(msg)
        return number >> 1 ^ -(number & 1)

    def _varint(self) -> int:
        """Read seven bits a byte, the lowest first."""
        byte = self._data[self.at]
        self.at += 1
        if byte < 128:
            return byte
        number, shift = byte & 127, 7
        while shift < 70:
            byte = self._data[self.at]
            self.at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
        msg = "a number of more than ten bytes"
        raise BrokenThriftError(msg)


def _limit(depth: int) -> None:
    if depth > _MOST_DEPTH:
        msg = f"structs and lists more than {_MOST_DEPTH} deep"
        raise BrokenThriftError(msg)
