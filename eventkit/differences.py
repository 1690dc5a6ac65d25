"""Frame differences of RGB and of event frames: one definition for the whole project."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError


def frame_difference(frames: NDArray[Any]) -> NDArray[Any]:
    """Return ``|frames[i + 1] - frames[i]|`` in the input's dtype; it never wraps.

    Parameters
    ----------
    frames : (T, ...) unsigned integers or floats
        Count frames, voxel grids, RGB or gray pictures. Signed integers are refused: their
        difference may not fit.

    Returns
    -------
    (T - 1, ...) of the same dtype
        Empty along the first axis for one frame.

    Raises
    ------
    SettingsError
        For another dtype or no frame at all.

    Examples
    --------
    >>> frame_difference(np.array([[250], [3]], np.uint8)).tolist()
    [[247]]
    """
    if frames.ndim < 1 or frames.shape[0] < 1:
        msg = f"expected at least one frame along the first axis, got shape {frames.shape}"
        raise SettingsError(msg)
    if frames.dtype.kind not in "uf" or frames.dtype.itemsize < 1 or frames.dtype == np.float16:
        msg = f"expected unsigned integers, float32 or float64, got {frames.dtype}"
        raise SettingsError(msg)
    if frames.dtype.kind == "f":
        # In float the subtraction itself is right, NaN included.
        difference: NDArray[Any] = np.abs(frames[1:] - frames[:-1])
        return difference
    from eventkit.kernels.differences import absolute_difference

    native = np.ascontiguousarray(frames, frames.dtype.newbyteorder("="))
    flat = native.reshape(frames.shape[0], -1)
    out = np.empty((frames.shape[0] - 1, flat.shape[1]), native.dtype)
    absolute_difference(flat, out)
    return out.reshape(frames.shape[0] - 1, *frames.shape[1:])
