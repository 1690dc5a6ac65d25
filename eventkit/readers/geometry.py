"""Where the size of a sensor comes from: the caller, the file, a file beside it, an assumption.

It never comes from the largest coordinate in silence: a sensor whose last column saw nothing would
get another shape from file to file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.sources import Source

SIDE_FILES = ("{name}.size.txt", "sensor_size.txt")
LONGEST_SIDE = 65536
"""Pixels: places are 16 bits."""
_LONGEST_SIZE = 1 << 10
"""Characters that are read of a file that holds a size."""
_NEARLY_ALL = 0.99


@dataclass(frozen=True, slots=True)
class Geometry:
    """A sensor size and where it comes from, in words."""

    size: tuple[int, int] | None = None
    why: str = "not in the file"

    @property
    def notes(self) -> list[str]:
        """What a user has to know about an assumption."""
        if "assumed" not in self.why:
            return []
        return [f"no geometry in the file: {self.why}; --sensor-size overrides"]


def settle(
    source: Source,
    given: tuple[int, int] | None,
    *found: tuple[tuple[int, int] | None, str],
) -> Geometry:
    """Return the first size there is.

    Parameters
    ----------
    source : Source
    given : (W, H) or None
        What the caller says: it overrides the file.
    *found : ((W, H) or None, why)
        What the file says, in order of trust; a file beside it comes after these.

    Raises
    ------
    FormatError
        If the file beside it holds no size.
    """
    if given is not None:
        return Geometry(given, "given")
    for size, why in found:
        if size is not None:
            return Geometry(size, why)
    for pattern in SIDE_FILES:
        path = source.beside(pattern.format(name=os.path.split(source.name)[1]))
        if path is None:
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_LONGEST_SIZE).strip()
        match = re.fullmatch(r"(\d{1,5})\s*[x, ]\s*(\d{1,5})", text)
        size = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(0 < side <= LONGEST_SIDE for side in size):
            msg = f"expected a sensor size like 346x260, got {text[:40]!r}"
            raise FormatError(msg, path=path, offset=0, reason="bad_header")
        return Geometry(size, f"{path.name} beside the file")
    return Geometry()


def assume(
    right: int,
    bottom: int,
    known: Sequence[tuple[str, tuple[int, int]]],
    *,
    path: Source,
    places: Iterable[tuple[NDArray[Any], NDArray[Any]]] = (),
) -> Geometry:
    """Return the first published sensor that holds every event, and say so.

    Parameters
    ----------
    right, bottom : int, pixels
        Largest x and y met.
    known : (name, (W, H)) in the order of preference
    places : iterable of (x, y)
        Given where damaged events are to be dropped: one that holds nearly all will do.

    Raises
    ------
    FormatError
        If none of them does.
    """
    names = []
    for name, (width, height) in known:
        if right < width and bottom < height:
            return Geometry((width, height), f"assumed {name}, which holds every event")
        names.append(f"{name} ({width}x{height})")
    sizes = dict(known)
    inside = dict.fromkeys(sizes, 0)
    events = 0
    for x, y in places:
        events += x.size
        for name, (width, height) in sizes.items():
            inside[name] += int(np.count_nonzero((x < width) & (y < height)))
    for name, count in inside.items():
        if events and count >= _NEARLY_ALL * events:
            why = f"assumed {name}, which holds {count} of {events} events"
            return Geometry(sizes[name], why)
    msg = (
        f"expected events of {' or '.join(names)}, got x up to {right} and y up to {bottom}; the "
        "format has no geometry, give --sensor-size WxH"
    )
    raise FormatError(msg, path=path.name, offset=0, reason="no_geometry")
