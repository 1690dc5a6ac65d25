"""What the comparisons share: the part that ``--sample N%`` looks at, and equality of arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def share_of(names: Sequence[str], percent: float) -> set[str]:
    """Return about ``percent`` of names, by their hash; at least one.

    Examples
    --------
    >>> sorted(share_of(["a", "b", "c"], 100.0))
    ['a', 'b', 'c']
    >>> len(share_of(["a", "b", "c"], 0.1))
    1
    """
    places = {name: _place(name) for name in names}
    first = min(names, key=places.__getitem__, default="")
    return {name for name in names if name == first or places[name] < percent / 100}


def _place(name: str) -> float:
    """Return a number in [0, 1) that only the name decides."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def same_array(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    """Tell whether arrays hold the same values; one of no elements is stored as none."""
    if one is None or other is None:
        return (one is None or not one.size) and (other is None or not other.size)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
