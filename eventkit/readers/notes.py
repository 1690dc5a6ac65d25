"""What a user has to know about how a table was read, in the words that all tables share."""

from __future__ import annotations

from typing import Any

import numpy as np

from eventkit.events import TimeUnit
from eventkit.readers.geometry import Geometry


def of_order(order: str, why: str) -> list[str]:
    """Return a note on an order of columns that evidence told."""
    if not why.startswith("evidence"):
        return []
    return [f"columns read as {','.join(order)}, {why}; --columns overrides"]


def of_unit(unit: TimeUnit, why: str, dtype: np.dtype[Any]) -> list[str]:
    """Return notes on times: a unit that evidence told, and floats that are too short for them.

    Parameters
    ----------
    unit : {"us", "s", "ms", "ns"}
    why : str
        The evidence; empty where the file or the caller says the unit, or no event asks for one.
    dtype : numpy.dtype
        Of the times as they are stored.

    Examples
    --------
    >>> of_unit("us", "", np.dtype("f4"))[0][:51]
    'float32 holds whole microseconds only up to 16.8 s:'
    """
    notes = [f"times read as {unit}: {why}; --time-unit overrides"] if why else []
    # Of seconds the evidence says how coarse they are.
    if unit == "us" and dtype.kind == "f" and dtype.itemsize < 8:
        last = 2 ** (np.finfo(dtype).nmant + 1) / 1e6
        notes.append(f"{dtype} holds whole microseconds only up to {last:.3g} s: later are rounded")
    return notes


def of_size(found: Geometry) -> list[str]:
    """Return notes on an assumed sensor size, or on one that nobody says."""
    if found.size is not None:
        return found.notes
    return ["no sensor size: places are not checked; --sensor-size WxH gives it"]
