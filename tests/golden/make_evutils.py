"""Remake ``evutils.npz``; needs ``evutils``.

``histogram`` is (H, W, 3): ON first, OFF last, nothing between. ``tore`` has the newest of the K
events last and decays with exp, not with the logarithm of the paper. No known fault touches them.
"""

from __future__ import annotations

import numpy as np
from evutils.dense import histogram, timesurface, tore
from golden import save, stream

SIZE = (11, 7)


def main() -> None:
    ev = stream(SIZE, 700, seed=4, span_us=80_000)
    layout = [("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "i1")]
    events = np.empty(ev["t"].size, layout)
    for name in "xytp":
        events[name] = ev[name]
    size = {"width": SIZE[0], "height": SIZE[1]}
    results = {
        "histogram_u1": histogram(events, **size),
        "tore_4_tau_10000": tore(events, **size, n_events=4, tau=10_000),
        "timesurface_tau_10000": timesurface(events, **size, tau=10_000),
    }
    save("evutils", __file__, ev, results, kind="peer", packages=["evutils"])


if __name__ == "__main__":
    main()
