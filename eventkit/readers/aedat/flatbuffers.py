"""FlatBuffers, as far as AEDAT4 has them: https://flatbuffers.dev/internals/.

The few tables that there are (header, events, frame, IMU, triggers, packet table) are walked here
with every position checked against the bytes there are.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 1 << 19
"""Of one vector. Tables may overlap, so 8 kB of ZSTD made 16 million; cameras send ten samples at
once, and the table of all packets has 300,000."""


class BrokenTableError(Exception):
    """A position in a FlatBuffer that points out of it; turned into `FormatError` by callers."""


class Table:
    """One table of a FlatBuffer; every access is checked."""

    __slots__ = ("_at", "_data", "_fields")

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        back = self._unpack("<i", at)
        slots = at - back
        size = self._unpack("<H", slots)
        if size < 4 or size % 2:
            msg = "a FlatBuffer table without fields"
            raise BrokenTableError(msg)
        if slots + size > len(data):
            msg = "a FlatBuffer table runs out of its packet"
            raise BrokenTableError(msg)
        self._fields = struct.unpack_from(f"<{size // 2 - 2}H", data, slots + 4)

    def _unpack(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self._data) - struct.calcsize(form):
            msg = "a FlatBuffer position points out of its packet"
            raise BrokenTableError(msg)
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value

    def number(self, field: int, form: str, default: int) -> int:
        """Return an integer field."""
        place = self._fields[field] if field < len(self._fields) else 0
        return self._unpack(form, self._at + place) if place else default

    def vector(self, field: int, item: int) -> tuple[int, int]:
        """Return where a vector's items start and how many there are, of ``item`` bytes each."""
        place = self._fields[field] if field < len(self._fields) else 0
        if not place:
            return 0, 0
        at = self._at + place
        at += self._unpack("<I", at)
        count = self._unpack("<I", at)
        if at + 4 + count * item > len(self._data):
            msg = "a FlatBuffer vector runs out of its packet"
            raise BrokenTableError(msg)
        return at + 4, count


def root(data: bytes, kind: bytes) -> Table:
    """Return the root table of a FlatBuffer with its size in front."""
    if len(data) < 12 or int.from_bytes(data[:4], "little") > len(data) - 4:
        msg = "a FlatBuffer is shorter than it says"
        raise BrokenTableError(msg)
    if data[8:12] != kind:
        msg = f"expected a FlatBuffer {kind.decode()}, got {data[8:12]!r}"
        raise BrokenTableError(msg)
    return Table(data, 4 + int.from_bytes(data[4:8], "little"))


def rows(data: bytes, kind: bytes, fields: np.dtype[Any]) -> NDArray[Any]:
    """Return a vector of tables as a structured array: IMU samples, triggers.

    Parameters
    ----------
    data : bytes
        A packet.
    kind : bytes
        Its FlatBuffer identifier.
    fields : dtype
        Names and types of the tables' fields, in the order of the schema; absent ones are zero.
    """
    at, count = root(data, kind).vector(0, 4)
    if count > MAX_ROWS:
        msg = f"expected at most {MAX_ROWS} rows, got {count}"
        raise BrokenTableError(msg)
    content = np.frombuffer(data, np.uint8)
    places = at + 4 * np.arange(count, dtype=np.int64)
    tables = places + _gather(content, places, "<u4")
    slots = tables - _gather(content, tables, "<i4")
    sizes = _gather(content, slots, "<u2")
    found = np.zeros(count, fields)
    for number, name in enumerate(fields.names or ()):
        has = sizes >= 6 + 2 * number
        place = np.zeros(count, np.int64)
        place[has] = _gather(content, slots[has] + 4 + 2 * number, "<u2")
        has = place != 0
        found[name][has] = _gather(content, (tables + place)[has], fields[name].str, raw=True)
    return found


def _gather(
    content: NDArray[np.uint8], places: NDArray[np.int64], form: str, *, raw: bool = False
) -> NDArray[Any]:
    """Return the numbers at these bytes; int64 unless ``raw``."""
    form_of = np.dtype(form)
    if places.size and not (places.min() >= 0 and places.max() <= content.size - form_of.itemsize):
        msg = "a FlatBuffer position points out of its packet"
        raise BrokenTableError(msg)
    taken = content[places[:, None] + np.arange(form_of.itemsize)]
    values = np.ascontiguousarray(taken).view(form_of)[:, 0]
    return values if raw else values.astype(np.int64)
