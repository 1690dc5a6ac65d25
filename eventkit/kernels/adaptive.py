"""How different two halves of a stream are, on a coarse grid.

``column`` (W,) and ``row`` (H,) uint32 say which cell a place belongs to, ``row`` as the number of
the row's first cell: two loads from small tables are cheaper than two divisions. Every place must
lie on the sensor.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel


@kernel
def _count_cells(
    xs: NDArray[np.uint16],
    ys: NDArray[np.uint16],
    column: NDArray[np.uint32],
    row: NDArray[np.uint32],
    cells: NDArray[np.int64],
) -> None:
    cells[:] = 0
    for i in range(xs.size):
        cells[row[ys[i]] + column[xs[i]]] += 1


@kernel
def halves_apart(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    middle: int,
    column: NDArray[np.uint32],
    row: NDArray[np.uint32],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    chance: NDArray[np.float64],
) -> tuple[int, float]:
    """Return ``sum |l - r|`` over the cells, and what chance alone would make of it.

    ``left`` and ``right`` (cells,) are scratch. ``chance[m]`` is the mean of ``|l - r|`` where each
    of m events falls in either half with equal chance; past the table it is ``sqrt(2 m / pi)``.
    """
    _count_cells(x[:middle], y[:middle], column, row, left)
    _count_cells(x[middle:], y[middle:], column, row, right)
    apart = 0
    expected = 0.0
    for k in range(left.size):
        apart += int(abs(left[k] - right[k]))
        both = left[k] + right[k]
        if both < chance.size:
            expected += chance[both]
        else:
            expected += math.sqrt(2.0 * both / math.pi)
    return apart, expected
