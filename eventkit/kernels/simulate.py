"""Inner loops of the simulated cameras: threshold crossings, and views of a moved picture.

Shapes: N frames, H rows, W columns, E events of room, (h, w, c) the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels._jit import kernel


@kernel
def cross_thresholds(
    log: NDArray[np.float64],  # (N, H, W), log[0] was seen already
    t: NDArray[np.int64],  # (N,), strictly increasing
    theta_on: NDArray[np.float64],  # (H, W), above zero
    theta_off: NDArray[np.float64],  # (H, W), above zero
    refractory: np.int64,
    reference: NDArray[np.float64],  # (H, W), in and out: the memorised level
    last: NDArray[np.int64],  # (H, W), in and out: time of the last event
    x_out: NDArray[np.uint16],  # (E,)
    y_out: NDArray[np.uint16],  # (E,)
    t_out: NDArray[np.int64],  # (E,)
    p_out: NDArray[np.int8],  # (E,)
    written: NDArray[np.int64],  # (1,): events found; those beyond E are counted, not written
) -> None:
    """Find every crossing, in order of frame, row, column; the caller sorts by time."""
    num_frames, height, width = log.shape
    room = x_out.size
    n = 0
    for k in range(1, num_frames):
        t_before = t[k - 1]
        span = np.float64(t[k] - t_before)
        for i in range(height):
            for j in range(width):
                before = log[k - 1, i, j]
                after = log[k, i, j]
                if before == after:
                    continue
                rising = after > before
                step = theta_on[i, j] if rising else -theta_off[i, j]
                level = reference[i, j] + step
                while (rising and level <= after) or (not rising and level >= after):
                    # A crossing inside the dead time is lost, and the level moves on all the
                    # same (as in ESIM): a pixel never reports old contrast late.
                    reference[i, j] = level
                    share = (level - before) / (after - before)
                    now = t_before + np.int64(np.floor(share * span + 0.5))
                    if now - last[i, j] >= refractory:
                        last[i, j] = now
                        if n < room:
                            x_out[n] = j
                            y_out[n] = i
                            t_out[n] = now
                            p_out[n] = 1 if rising else 0
                        n += 1
                    level = reference[i, j] + step
    written[0] = n


@kernel
def sample_views(
    picture: NDArray[np.float32],  # (h, w, c)
    path: NDArray[np.float64],  # (N, 2): (x, y) of the view's middle from the picture's, in pixels
    scale: float,  # picture pixels per view pixel
    out: NDArray[np.float32],  # (N, H, W, c)
) -> None:
    """Sample the picture bilinearly at every view; outside, its border goes on."""
    rows, columns, channels = picture.shape
    num_views, height, width, _ = out.shape
    for k in range(num_views):
        for i in range(height):
            v = (i - (height - 1) / 2 + path[k, 1]) * scale + (rows - 1) / 2
            v = min(max(v, 0.0), rows - 1.0)
            top = int(v)
            bottom = min(top + 1, rows - 1)
            down = v - top
            for j in range(width):
                u = (j - (width - 1) / 2 + path[k, 0]) * scale + (columns - 1) / 2
                u = min(max(u, 0.0), columns - 1.0)
                left = int(u)
                right = min(left + 1, columns - 1)
                across = u - left
                for c in range(channels):
                    upper = (1 - across) * picture[top, left, c] + across * picture[top, right, c]
                    lower = (1 - across) * picture[bottom, left, c] + across * picture[
                        bottom, right, c
                    ]
                    out[k, i, j, c] = (1 - down) * upper + down * lower
