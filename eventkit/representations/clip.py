"""A clip is a given span of time: the windows that a representation has in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.base import Representation
from eventkit.representations.registry import spec_of
from eventkit.slicing import equal_edges
from eventkit.windows import Windows


def clip_windows(representation: Representation, *, start: int, stop: int, bins: int) -> Windows:
    """Return the windows of a clip ``[start, stop)``: equal time, unless a convention has its own.

    A stack sees the clip as one window.

    Examples
    --------
    >>> from eventkit.representations.registry import parse
    >>> clip_windows(parse("counts:eventkit"), start=0, stop=11, bins=2).spans.tolist()
    [[0, 5], [5, 11]]
    """
    if representation.stack:
        return Windows.of_edges(equal_edges(start, stop, 1))
    own = own_windows(representation, start=start, stop=stop, bins=bins)
    return Windows.of_edges(equal_edges(start, stop, bins)) if own is None else Windows(own)


def own_windows(
    representation: Representation, *, start: int, stop: int, bins: int
) -> NDArray[np.int64] | None:
    """Return the (T, 2) windows of a convention with edges of its own, for the clip [start, stop).

    None for those that take the windows they are given.

    Raises
    ------
    SettingsError
        If it cuts by number of events, which is not known before a clip is read.

    Examples
    --------
    >>> from eventkit.representations.registry import parse
    >>> own_windows(parse("counts:tonic"), start=0, stop=11, bins=3).tolist()
    [[0, 3], [3, 6], [6, 9]]
    """
    if representation.stack or type(representation).windows is Representation.windows:
        return None
    ends = Events(x=[0, 0], y=[0, 0], t=[start, stop - 1], p=[0, 0])
    found = representation.windows(ends, (1, 1), bins=bins)
    if found.numbers is not None:
        msg = (
            f"clips are cut by time, {spec_of(representation)} cuts by number of events; "
            "choose split_by=time"
        )
        raise SettingsError(msg)
    return found.spans
