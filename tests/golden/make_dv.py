"""Remake ``dv.npz``; needs ``dv_processing``.

dv-processing's speed-invariant surface has one plane for both polarities and a patch of 9x9, and
leaves out the last row and column of a patch that does not touch the border. On a sensor of 5x4
every patch does, so that does not show.
"""

from __future__ import annotations

import dv_processing as dv
import numpy as np
from golden import save, stream

SIZE = (5, 4)


def main() -> None:
    ev = stream(SIZE, 400, seed=6, span_us=50_000)
    store = dv.EventStore()
    for x, y, t, p in zip(*(ev[name].tolist() for name in "xytp"), strict=True):
        store.push_back(t, x, y, bool(p))
    surface = dv.SpeedInvariantTimeSurface(SIZE)
    surface.accept(store)
    rows = [[surface.at(y, x) for x in range(SIZE[0])] for y in range(SIZE[1])]
    results = {"speed_invariant": np.array(rows, np.int64)}
    save("dv", __file__, ev, results, kind="peer", packages=["dv_processing"])


if __name__ == "__main__":
    main()
