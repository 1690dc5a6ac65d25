"""Which of four columns without names is x, y, t and p: told by evidence, or refused.

Times hardly ever step back, polarities have two values, places are whole numbers below 65,536; a
few damaged rows change nothing. Where more than one order fits, one that publications use is taken
if it is the only such one. Which of two places is x only a sensor that is no square can tell; where
it does not, x is taken to come before y, as in every library but event-vision-library.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError

PUBLISHED = ("txyp", "xytp", "xypt")
"""Event Camera Dataset and E2VID; tonic and Metavision; N-Cars and N-Caltech101 in other tools."""

_DAMAGED = 0.02
_ROWS_THAT_TELL = 32
MOST_COLUMNS = 16


def check_order(columns: str) -> str:
    """Return a given order, as in ``txyp``; ``-`` or ``_`` stands for a column to leave out.

    Raises
    ------
    SettingsError

    Examples
    --------
    >>> check_order("T,x,y,p")
    'txyp'
    """
    order = columns.lower().replace(",", "").replace(" ", "").replace("_", "-")
    if sorted(order.replace("-", "")) != ["p", "t", "x", "y"] or len(order) > MOST_COLUMNS:
        msg = (
            "expected --columns with each of t, x, y, p once, as in txyp (and - for a column to "
            f"leave out), got {columns!r}"
        )
        raise SettingsError(msg)
    return order


class NamedColumnsError(SettingsError):
    """An order for columns that have names: of a set, other recordings may have a use for it."""


def refuse_order(given: str | None, named: str, path: object) -> None:
    """Refuse an order of columns that have names, which are what is gone by.

    Parameters
    ----------
    given : str, optional
        What the caller says.
    named : str
        How the file names its columns, in words.
    path
        Of the file, for the error.

    Raises
    ------
    NamedColumnsError
    """
    if given is not None:
        why = f"{named}, whose names say it"
        msg = f"{path}: expected no --columns for {why}, got {given}; leave it out"
        raise NamedColumnsError(msg)


def possible_orders(table: NDArray[np.float64]) -> list[str]:
    """Return the orders that four columns can have, best first.

    Parameters
    ----------
    table : (N, 4) float64
        The first rows.

    Returns
    -------
    list of str
        More than one means that it cannot be told. Always with x before y: see `by_places`.

    Examples
    --------
    >>> possible_orders(np.array([[70_000.0, 5, 1, 1], [70_001, 3, 2, 0], [70_009, 4, 0, 1]]))
    ['txyp']
    """
    if table.ndim != 2 or table.shape[1] != 4 or not table.size:
        return []
    time = [_may_be_time(column) for column in table.T]
    place = [_may_be_place(column) for column in table.T]
    polarity = [_may_be_polarity(column) for column in table.T]
    found = []
    for t, p in permutations(range(4), 2):
        rest = [k for k in range(4) if k not in (t, p)]
        if time[t] and polarity[p] and all(place[k] for k in rest):
            order = [""] * 4
            order[t], order[p], order[rest[0]], order[rest[1]] = "t", "p", "x", "y"
            found.append("".join(order))
    published = [order for order in found if order in PUBLISHED]
    return published if len(published) == 1 else found


def by_places(
    order: str, table: NDArray[np.float64], sensor_size: tuple[int, int] | None
) -> tuple[str, str]:
    """Return an order with x and y as the sensor has room for them, and why, in words.

    Parameters
    ----------
    order : str
        With x before y.
    table : (N, 4) float64
        The first rows.
    sensor_size : (W, H), optional

    Examples
    --------
    >>> by_places("xytp", np.array([[2.0, 9, 70_000, 1], [3, 8, 70_001, 0]]), (10, 4))
    ('yxtp', 'y before x, as only that fits the 10x4 sensor')
    """
    if sensor_size is None:
        return order, "x before y assumed"
    width, height = sensor_size
    first, second = table[:, order.index("x")], table[:, order.index("y")]
    as_it_is = _hold((first < width) & (second < height))
    turned = _hold((first < height) & (second < width))
    if as_it_is == turned:
        return order, "x before y assumed"
    fits = f"as only that fits the {width}x{height} sensor"
    if as_it_is:
        return order, f"x before y, {fits}"
    return order.translate(str.maketrans("xy", "yx")), f"y before x, {fits}"


def _may_be_time(column: NDArray[np.float64]) -> bool:
    if not _hold(np.isfinite(column)) or _hold(np.isin(column, (0, 1))):
        return False  # labels of one class in four look like the latter
    with np.errstate(invalid="ignore"):  # infinite times, one after the other
        return _hold(~(np.diff(column) < 0))


def _may_be_place(column: NDArray[np.float64]) -> bool:
    return _hold((column >= 0) & (column <= 65535) & (column == np.floor(column)))


def _may_be_polarity(column: NDArray[np.float64]) -> bool:
    return _hold(np.isin(column, (0, 1))) or _hold(np.isin(column, (-1, 1)))


def _hold(values: NDArray[np.bool_]) -> bool:
    """Whether all are true; of many, nearly all."""
    bad = values.size - int(np.count_nonzero(values))
    return bad <= (_DAMAGED * values.size if values.size >= _ROWS_THAT_TELL else 0)
