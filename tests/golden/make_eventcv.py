"""Remake ``eventcv.npz``; needs ``eventcv``.

Its voxel grid and Tencode take a window of 30 ms by default, which is not the stream's: the window
is given. ``count`` has both polarities in one channel, so each is counted alone.
"""

from __future__ import annotations

import eventcv
import numpy as np
from golden import save, stream

SIZE = (11, 7)
SPAN_US = 60_000


def main() -> None:
    ev = stream(SIZE, 500, seed=5, span_us=SPAN_US)
    table = np.stack([ev[name].astype(np.int64) for name in "xytp"], axis=1)

    def read(rows: np.ndarray) -> eventcv.EventStream:
        return eventcv.from_numpy(rows, sensor_size=SIZE, time_unit="us")

    off, on = (read(table[table[:, 3] == p]).count().numpy() for p in (0, 1))
    results = {
        "counts": np.stack([off, on]).reshape(2, SIZE[1], SIZE[0]).astype(np.uint32),
        "voxels_5": read(table).voxel(bins=5, window_us=SPAN_US).numpy(),
        "tencode": read(table).tencode(window_us=SPAN_US).numpy(),
    }
    save("eventcv", __file__, ev, results, kind="peer", packages=["eventcv"])


if __name__ == "__main__":
    main()
