"""Reading the bytes of a ``.npy`` array without trusting its header.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from eventkit.npy_header import MAGIC as MAGIC
from eventkit.npy_header import parse_header


class BadArrayError(ValueError):
    """Bytes that are no whole array of numbers."""


class CutArrayError(BadArrayError):
    """An array that ends before its header says."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a header claims.

    Parameters
    ----------
    shape : tuple of int
    fortran : bool
        Whether the first axis is the fastest.
    dtype : numpy.dtype
        Never with Python objects.
    start : int, bytes
        Where the numbers start.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def bytes(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: BinaryIO) -> Header:
    """Return what the header of an array says; the stream is left at the numbers.

    Raises
    ------
    BadArrayError
        If it is damaged or names objects (a pickle, which would run code).
    """
    try:
        shape, fortran, dtype = parse_header(stream)
    except ValueError as err:
        msg = f"its header cannot be read ({err})"
        raise BadArrayError(msg) from err
    if dtype.hasobject:
        msg = "it holds Python objects, which are never loaded"
        raise BadArrayError(msg)
    if any(side < 0 for side in shape):
        msg = f"its header claims a shape of {shape}"
        raise BadArrayError(msg)
    return Header(shape, fortran, dtype, stream.tell())


def check_size(header: Header, size: int) -> None:
    """Compare what a header claims with the bytes there are, header included.

    Raises
    ------
    BadArrayError
    """
    if header.bytes != size - header.start:
        msg = f"its header claims {header.bytes} bytes, there are {size - header.start}"
        raise BadArrayError(msg)


def read_npy(data: bytes) -> NDArray[Any]:
    """Return the array that ``data`` holds.

    Raises
    ------
    BadArrayError
        If the header is damaged, names objects or claims another size than there is; memory is
        taken only after that.
    """
    header = read_header(io.BytesIO(data))
    check_size(header, len(data))
    dtype = header.dtype
    flat = np.frombuffer(data, dtype, offset=header.start) if header.bytes else np.empty(0, dtype)
    return flat.reshape(header.shape, order="F" if header.fortran else "C").copy(order="C")


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` archive of our own by name; its checksums are compared.

    Raises
    ------
    BadArrayError
        If a member is no whole array of numbers.
    OSError, zipfile.BadZipFile
    """
    with zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".npy"): read_npy(archive.read(name)) for name in archive.namelist()
        }
