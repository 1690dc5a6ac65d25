"""What the numbers of MATLAB files count from, told by the first events.

MATLAB counts from 1, and so do many files: places from (1, 1), polarities as 1 (OFF) and 2 (ON),
as the tools for N-MNIST and N-Caltech101 make them (struct ``TD``). Others keep the camera's 0. For
versions 5 and 7.3 alike: polarities count from 1 where the first events have 1 and 2 and nothing
else. Places count from 1 where none is at 0 and polarities do, or one is at the width or height of
the sensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.readers import notes
from eventkit.readers.geometry import Geometry

Columns = dict[str, NDArray[Any]]

_ASL_DVS = {"x": "x", "y": "y", "t": "ts", "p": "pol"}
_ASL_DVS_SIZE = ("ASL-DVS's 240x180", (240, 180))
_NEARLY_ALL = 0.99


@dataclass(frozen=True, slots=True)
class Numbering:
    """What is taken off places and polarities, and why in words."""

    places: int = 0
    polarities: int = 0
    notes: list[str] = field(default_factory=list)

    def polarities_from_0(self, columns: Columns) -> Columns:
        """Return columns whose polarities are 0 and 1; what was neither 1 nor 2 is neither."""
        if not self.polarities:
            return columns
        p = columns["p"]
        return {**columns, "p": p - np.asarray(self.polarities, p.dtype)}


def settle(
    names: Mapping[str, object], first: Columns, found: Geometry
) -> tuple[Geometry, Numbering]:
    """Tell what the numbers count from, and the size of the sensor if it is not known.

    Parameters
    ----------
    names : mapping x, y, t, p -> str
        How the file calls the columns.
    first : mapping of (N,) arrays
        The columns x, y, p of the first events.
    found : Geometry
        The size as given or in the file.
    """
    x, y, p = first["x"], first["y"], first["p"]
    sound = np.isfinite(x) & np.isfinite(y)
    x, y = x[sound], y[sound]
    words = []
    off = int(p.dtype.kind in "iuf" and np.unique(p).tolist() == [1, 2])
    if off:
        words.append("polarities are 1 and 2, taken as OFF and ON as MATLAB's tools write them")
    is_asl = {column: str(name).lower() for column, name in names.items()} == _ASL_DVS
    size = found.size or (_ASL_DVS_SIZE[1] if is_asl else None)
    places = 0
    if x.size and min(x.min(), y.min()) >= 1:
        places = int(bool(off) or (size is not None and _one_too_far(x, y, size)))
        words.append(
            "places count from 1, as MATLAB does: 1 is taken off"
            if places
            else f"no place at 0 in the first {x.size} events: they may count from 1, as MATLAB "
            "does; they are taken as they stand, and --sensor-size tells where one is too large"
        )
    if found.size is None and is_asl:
        found = assumed(x - places, y - places, _ASL_DVS_SIZE)
    return found, Numbering(places, off, words)


def assumed(x: NDArray[Any], y: NDArray[Any], known: tuple[str, tuple[int, int]]) -> Geometry:
    """Return a published size if nearly all of the first events lie inside; else none, and why.

    Parameters
    ----------
    x, y : (N,) arrays
        Of the first events.
    known : name, (W, H)
    """
    name, (width, height) = known
    inside = (x < width) & (y < height)
    if not x.size or inside.mean() >= _NEARLY_ALL:
        return Geometry((width, height), f"assumed {name}, by the names in the file")
    right, bottom = int(x.max()), int(y.max())
    return Geometry(
        None,
        f"not assumed {name}, which the names in the file would say: the first events go up to "
        f"x={right} y={bottom}",
    )


def size_notes(found: Geometry) -> list[str]:
    """Return notes on a size that is assumed, and on one that is not and why."""
    why = found.notes if found.size is None else []
    return [*why, *notes.of_size(found)]


def _one_too_far(x: NDArray[Any], y: NDArray[Any], size: tuple[int, int]) -> bool:
    """Whether places are at the width or the height, and nearly none behind."""
    inside = (x <= size[0]) & (y <= size[1])
    at = inside & ((x == size[0]) | (y == size[1]))
    return bool(inside.mean() >= _NEARLY_ALL and at.any())
