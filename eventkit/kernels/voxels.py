"""Voxel grids.

N events, B bins, H rows, W columns. Times are relative to the start of the window, so float64
holds them exactly up to 2^53 us (285 years).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel


@kernel
def voxel_zhu(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.int8],
    t_first: int,
    t_last: int,
    out: NDArray[np.float32],
) -> int:
    """Add signed events to ``out`` (B, H, W), bilinear in time (Zhu et al. 2019, eq. 1-3).

    Returns -1, or the first event outside the sensor.
    """
    bins, height, width = out.shape
    span = t_last - t_first
    scale = (bins - 1) / span if span > 0 else 0.0
    for i in range(t.size):
        px, py = np.int64(x[i]), np.int64(y[i])
        if px >= width or py >= height:
            return i
        tau = (t[i] - t_first) * scale
        low = min(np.int64(tau), bins - 1)
        sign = np.float32(2 * np.int32(p[i]) - 1)
        right = np.float32(tau - low) * sign
        out[low, py, px] += sign - right
        if low + 1 < bins:
            out[low + 1, py, px] += right
    return -1
