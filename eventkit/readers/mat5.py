"""Where numbers stand in MATLAB's version 5 files; nothing of them is kept.

Not through SciPy: its reader ends the process on damaged files (one flipped bit in a size; 2 of 400
flips of a 7 kB file, SciPy 1.17). Here an element ends where the one around it does, whatever it
claims. Cells, objects, functions, text and sparse arrays are passed over.

A variable is one deflated element, its checksum at the end. Those that may be events are inflated
once to check that and to find the fields of a struct, a piece at a time; the numbers are read again
when they are wanted. A megabyte that claims a gigabyte so takes time and no memory.

Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from eventkit.errors import FormatError
from eventkit.npy import Header
from eventkit.readers.arrays import Array

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
_MOST_VARIABLES = 10_000
_MOST_DEPTH = 8
_MOST_FIELDS = 1000
_SMALL = 1 << 16
"""Bytes of names and dimensions; 1,000 fields of 64."""
_PIECE = 1 << 16
_FAR = 1 << 62

Order = Literal["little", "big"]
Open = Callable[[], BinaryIO]
Value = Array | Mapping[str, "Value | None"]


@dataclass(frozen=True, slots=True)
class _Tag:
    """Kind of an element, where its body begins and ends, and where the next one begins.

    Of a small one, which has its body in the tag, ``held`` is that body.
    """

    kind: int
    start: int
    end: int
    next: int
    held: bytes | None = None


def variables(
    open_file: Open, wanted: Callable[[str], bool], *, path: object
) -> dict[str, Value | None]:
    """Return the numeric arrays and, as mappings of such, the structs.

    Parameters
    ----------
    open_file : callable
        Returns the file, seekable.
    wanted : callable
        ``wanted(name)`` says which arrays are; what structs hold is all looked at.
    path
        For messages.

    Returns
    -------
    mapping name -> Array, mapping or None
        None for what is passed over. Of a vector the header has shape (N,), and where the end of
        the file cuts it, as many rows as are whole.

    Raises
    ------
    FormatError
        If there is no header, or deflated data are damaged.
    """
    with open_file() as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        order = _order(file.read(HEADER_BYTES), path)
        found: dict[str, Value | None] = {}
        at = HEADER_BYTES
        for _ in range(_MOST_VARIABLES):
            if at + 8 > size:
                break
            file.seek(at)
            tag = _tag(file, order, size)
            if tag.kind == _MATRIX:
                name, value = _Walk(file, order, open_file, wanted).matrix(tag.end, 0)
            elif tag.kind == _COMPRESSED:
                inflated = partial(_Inflated.opened, open_file, tag.start, tag.end - tag.start)
                try:
                    name, value = _compressed(inflated, order, wanted)
                except zlib.error as err:
                    msg = f"expected deflated data, got damaged data ({err}); copy the file again"
                    raise FormatError(msg, path=path, offset=at, reason="corrupt") from err
            else:
                # A hole, or what follows a damaged size, which leads nowhere.
                break
            if name:
                found[name] = value
            at = tag.next
    return found


def _order(data: bytes, path: object) -> Order:
    mark = data[126:128]
    if len(data) < HEADER_BYTES or mark not in (b"IM", b"MI"):
        msg = f"expected the byte order IM or MI in a header of 128 bytes, got {mark!r}"
        raise FormatError(msg, path=path, offset=126, reason="bad_header")
    return "little" if mark == b"IM" else "big"


def _tag(file: BinaryIO, order: Order, end: int) -> _Tag:
    """Read a tag; the body ends where what is around it does, whatever the tag claims."""
    at = file.tell()
    head = file.read(8)
    first, size = int.from_bytes(head[:4], order), int.from_bytes(head[4:], order)
    if first >> 16:  # kind and size in four bytes, the data in the next four
        held = head[4 : 4 + min(first >> 16, 4)]
        return _Tag(first & 0xFFFF, at + 4, at + 4 + len(held), at + 8, held)
    padded = size if first == _COMPRESSED else size + -size % 8
    return _Tag(first, at + 8, min(at + 8 + size, end), at + 8 + padded)


class _Walk:
    """Goes through one variable from front to back.

    Parameters
    ----------
    file : file
        At the body of the matrix.
    order : {"little", "big"}
    open_file : callable
        Opens the same bytes again, for whoever reads the numbers.
    wanted : callable
        Which arrays outside of structs are.
    """

    def __init__(
        self, file: BinaryIO, order: Order, open_file: Open, wanted: Callable[[str], bool]
    ) -> None:
        self._file, self._order, self._open, self._wanted = file, order, open_file, wanted
        self._sign = "<" if order == "little" else ">"

    def matrix(self, end: int, depth: int) -> tuple[str, Value | None]:
        """Return name and value of a matrix; None for what is passed over."""
        flags, sizes, text = (self._small(end) for _ in range(3))
        if len(flags) < 4:
            return "", None
        word = int.from_bytes(flags[:4], self._order)
        kind, is_complex = word & 0xFF, bool(word & 0x800)
        name = text.decode("ascii", "replace")
        if kind in _NUMBERS and not is_complex and (depth or self._wanted(name)):
            sides = np.frombuffer(sizes[: len(sizes) // 4 * 4], f"{self._sign}i4")
            return name, self._numbers(name, tuple(sides.tolist()), end)
        if kind == _STRUCT and depth < _MOST_DEPTH:
            return name, self._struct(end, depth)
        return name, None

    def _next(self, end: int) -> _Tag | None:
        return _tag(self._file, self._order, end) if self._file.tell() + 8 <= end else None

    def _small(self, end: int) -> bytes:
        """Read an element whole and go on behind it."""
        tag = self._next(end)
        if tag is None or tag.end - tag.start > _SMALL:
            return b""
        data = self._file.read(tag.end - tag.start) if tag.held is None else tag.held
        self._file.seek(tag.next)
        return data

    def _numbers(self, name: str, shape: tuple[int, ...], end: int) -> Array | None:
        tag = self._next(end)
        code = None if tag is None else _TYPES.get(tag.kind)
        if tag is None or code is None or not shape or min(shape) < 0:
            return None
        dtype = np.dtype(self._sign + code)
        # Inflated data may end before the body does.
        there = len(tag.held) if tag.held is not None else self._file.seek(tag.end) - tag.start
        rows = min(math.prod(shape), there // dtype.itemsize)
        if sum(side != 1 for side in shape) <= 1 or not math.prod(shape):
            shape = (rows,)
        elif rows < math.prod(shape):
            return None
        return Array(name, self._open, Header(shape, fortran=True, dtype=dtype, start=tag.start))

    def _struct(self, end: int, depth: int) -> Mapping[str, Value | None] | None:
        """Return the fields of a struct; of an array of structs, those of its first one."""
        width, names = self._small(end), self._small(end)
        size = int.from_bytes(width[:4], self._order)
        if not 0 < size <= 64:
            return None
        fields = [names[k : k + size].split(b"\0")[0] for k in range(0, len(names), size)]
        found: dict[str, Value | None] = {}
        for field in fields[:_MOST_FIELDS]:
            tag = self._next(end)
            if tag is None:
                break
            if tag.kind == _MATRIX:
                found[field.decode("ascii", "replace")] = self.matrix(tag.end, depth + 1)[1]
            self._file.seek(tag.next)
        return found


def _compressed(
    inflated: Open, order: Order, wanted: Callable[[str], bool]
) -> tuple[str, Value | None]:
    """Look into a deflated element; to its end, where the checksum stands, if it is wanted."""
    with inflated() as file:
        tag = _tag(file, order, _FAR)
        if tag.kind != _MATRIX:
            return "", None
        name, value = _Walk(file, order, inflated, wanted).matrix(tag.end, 0)
        if value is not None:
            file.seek(_FAR)
    return name, value


class _Inflated(io.RawIOBase):
    """Deflated bytes of a file, inflated a piece at a time; it seeks forwards, to the end at most.

    Parameters
    ----------
    file : file
        It is closed with this.
    at, size : int, bytes
        Where the deflated bytes stand; the file may end before they do.
    """

    def __init__(self, file: BinaryIO, at: int, size: int) -> None:
        self._file, self._left, self._at = file, size, 0
        self._inflate = zlib.decompressobj()
        file.seek(at)

    @classmethod
    def opened(cls, open_file: Open, at: int, size: int) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(cls(open_file(), at, size), _PIECE))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._at:
            msg = "inflated data are read forwards"
            raise io.UnsupportedOperation(msg)
        while self._at < offset and self._some(min(_PIECE, offset - self._at)):
            pass
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _some(self, most: int) -> bytes:
        """Return the next bytes, ``most`` or fewer; none at the end."""
        data = b""
        while not data and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail
            if not packed:
                packed = self._file.read(min(_PIECE, self._left))
                self._left -= len(packed)
            data = self._inflate.decompress(packed, most)
            if not packed and not data:
                break
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
