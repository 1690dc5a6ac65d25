"""Reading the bytes of a ``.npy`` array without trusting its header."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class BadArrayError(ValueError):
    """Bytes that are no whole array of numbers."""


def read_npy(data: bytes) -> NDArray[Any]:
    """Return the array that ``data`` holds.

    Raises
    ------
    BadArrayError
        If the header is damaged, names objects (a pickle, which would run code) or claims another
        size than there is; memory is taken only after that.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    except Exception as err:  # numpy parses the header as Python, which fails in any way it likes
        msg = f"its header cannot be read ({err})"
        raise BadArrayError(msg) from err
    if dtype.hasobject:
        msg = "it holds Python objects, which are never loaded"
        raise BadArrayError(msg)
    expected, got = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if expected != got:
        msg = f"its header claims {expected} bytes, there are {got}"
        raise BadArrayError(msg)
    flat = np.frombuffer(data, dtype, offset=stream.tell()) if expected else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy(order="C")
