"""Where the size of a sensor comes from: the caller, the file, a file beside it, an assumption.

It never comes from the largest coordinate in silence: a sensor whose last column saw nothing would
get another shape from file to file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from eventkit.errors import FormatError
from eventkit.sources import Source

SIDE_FILES = ("{name}.size.txt", "sensor_size.txt")


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
        path = source.beside(pattern.format(name=source.path.name))
        if path is None:
            continue
        text = path.read_text("utf-8", errors="replace").strip()
        match = re.fullmatch(r"(\d{1,5})\s*[x, ]\s*(\d{1,5})", text)
        if match is None or not (int(match[1]) and int(match[2])):
            msg = f"expected a sensor size like 346x260, got {text[:40]!r}"
            raise FormatError(msg, path=path, offset=0, reason="bad_header")
        return Geometry((int(match[1]), int(match[2])), f"{path.name} beside the file")
    return Geometry()


def assume(
    right: int, bottom: int, known: Iterable[tuple[str, tuple[int, int]]], *, path: Source
) -> Geometry:
    """Return the first published sensor that holds every event, and say so.

    Parameters
    ----------
    right, bottom : int, pixels
        Largest x and y met.
    known : (name, (W, H)) in the order of preference

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
    msg = (
        f"expected events of {' or '.join(names)}, got x up to {right} and y up to {bottom}; the "
        "format has no geometry, give --sensor-size WxH"
    )
    raise FormatError(msg, path=path.name, offset=0, reason="no_geometry")
