"""External signals in the two ways that cameras tell them, and from one to the other.

Prophesee's cameras and ROS have a channel and its level; iniVation's have the kind of an edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNEL_DTYPE = np.dtype([("t", "<i8"), ("source", "<i2"), ("p", "i1")])
"""Time in microseconds, channel, and its level from then on: 1 at a rising edge."""

KIND_DTYPE = np.dtype([("t", "<i8"), ("source", "u1")])
"""Time in microseconds, and what AEDAT4 calls the source: the kind of an edge.

0 is a reset of the clock; 1, 2, 3 a rising and a falling edge and a pulse of the external input;
4, 5 edges of the camera's generator; 6, 7 start and end of a frame; 8, 9 of its exposure.
"""

RISING, FALLING, PULSE = 1, 2, 3

_NONE = -1
_CHANNEL = np.array([_NONE, 0, 0, 0, 1, 1, 2, 2, 3, 3, _NONE], np.int16)
_LEVEL = np.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 0], np.int8)


def as_channels(found: NDArray[Any]) -> NDArray[Any]:
    """Return signals as `CHANNEL_DTYPE`; see `channel_losses` for those that become none.

    Of kinds, the external input is channel 0, the generator 1, frames 2 and exposures 3; what
    starts, and a pulse, is a rising edge. Resets of the clock and unknown kinds are no edges of any
    channel and are left out.

    Parameters
    ----------
    found : (N,) structured array
        `CHANNEL_DTYPE` or `KIND_DTYPE`, or other fields with these names.
    """
    names = found.dtype.names or ()
    rows = np.zeros(found.size, CHANNEL_DTYPE)
    rows["t"] = found["t"]
    if "p" in names:
        rows["p"] = found["p"]
        rows["source"] = found["source"] if "source" in names else 0
        return rows
    kind = _kinds(found)
    rows["source"], rows["p"] = _CHANNEL[kind], _LEVEL[kind]
    edges: NDArray[Any] = rows[rows["source"] != _NONE]
    return edges


def count_kinds(found: NDArray[Any] | None) -> dict[int, int]:
    """Return how many signals there are of each kind, unknown ones as 10; none of channels."""
    if found is None or "p" in (found.dtype.names or ()):
        return {}
    kinds, counts = np.unique(_kinds(found), return_counts=True)
    return dict(zip(kinds.tolist(), counts.tolist(), strict=True))


def channel_losses(kinds: Mapping[int, int]) -> list[str]:
    """Return what `as_channels` makes of signals that are no edges, a sentence each.

    Parameters
    ----------
    kinds : mapping kind -> number of signals
        As `count_kinds` counts them.

    Examples
    --------
    >>> channel_losses({0: 2, 1: 40})
    ['2 resets of the clock are not written: they are no edges of a channel']
    """
    resets, pulses, unknown = (kinds.get(kind, 0) for kind in (0, PULSE, _LEVEL.size - 1))
    lost = []
    if resets:
        lost.append(f"{resets} resets of the clock are not written: they are no edges of a channel")
    if pulses:
        lost.append(f"{pulses} pulses of the external input are written as rising edges")
    if unknown:
        lost.append(f"{unknown} signals of unknown kinds are not written")
    return lost


def _kinds(found: NDArray[Any]) -> NDArray[np.int64]:
    if "source" not in (found.dtype.names or ()):
        return np.full(found.size, PULSE, np.int64)
    return np.minimum(found["source"].astype(np.int64), _LEVEL.size - 1)


def as_kinds(found: NDArray[Any]) -> NDArray[Any]:
    """Return signals as `KIND_DTYPE`: edges of any channel are those of the external input.

    Parameters
    ----------
    found : (N,) structured array
        `CHANNEL_DTYPE` or `KIND_DTYPE`, or other fields with these names.
    """
    rows = np.zeros(found.size, KIND_DTYPE)
    rows["t"] = found["t"]
    names = found.dtype.names or ()
    if "p" in names:
        rows["source"] = np.where(found["p"] > 0, RISING, FALLING)
    else:
        rows["source"] = found["source"] if "source" in names else PULSE
    return rows
