"""Which of four columns without names is x, y, t and p: told by evidence, or refused.

Times hardly ever step back, polarities have two values, places are whole numbers below 65,536; a
few damaged rows change nothing. Where more than one order fits, one that publications use is taken
if it is the only such one.
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


def possible_orders(table: NDArray[np.float64]) -> list[str]:
    """Return the orders that four columns can have, best first.

    Parameters
    ----------
    table : (N, 4) float64
        The first rows.

    Returns
    -------
    list of str
        More than one means that it cannot be told.

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
            # No library writes y before x.
            order[t], order[p], order[rest[0]], order[rest[1]] = "t", "p", "x", "y"
            found.append("".join(order))
    published = [order for order in found if order in PUBLISHED]
    return published if len(published) == 1 else found


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
