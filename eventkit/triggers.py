"""External signals in the two ways that cameras tell them, and from one to the other.

Prophesee's cameras and ROS have a channel and its level; iniVation's have the kind of an edge.
"""

from __future__ import annotations

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

_CHANNEL = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 3], np.int16)
_LEVEL = np.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 0], np.int8)


def as_channels(found: NDArray[Any]) -> NDArray[Any]:
    """Return signals as `CHANNEL_DTYPE`.

    Of kinds, the external input is channel 0, the generator 1, frames 2 and exposures 3; what
    starts is a rising edge.

    Parameters
    ----------
    found : (N,) structured array
        `CHANNEL_DTYPE` or `KIND_DTYPE`, or other fields with these names.
    """
    rows = np.zeros(found.size, CHANNEL_DTYPE)
    rows["t"] = found["t"]
    names = found.dtype.names or ()
    if "p" in names:
        rows["p"] = found["p"]
        rows["source"] = found["source"] if "source" in names else 0
    elif "source" in names:
        kind = np.minimum(found["source"].astype(np.int64), _LEVEL.size - 1)
        rows["source"], rows["p"] = _CHANNEL[kind], _LEVEL[kind]
    return rows


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
