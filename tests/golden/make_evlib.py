"""Remake ``evlib.npz``; needs ``evlib``.

``evlib.rvt`` holds the digests of RVT's own ``StackedHistogram``. Windows are ``[T - dt, T]`` with
both ends, so an event on a common edge is in two of them: some are put there. Spans stay far below
one second, where its float64 and RVT's float32 give the same bins.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from evlib.rvt.representation import build_sparse_histogram
from golden import save, stream

SIZE = (11, 7)
BINS = 10


def dense(table: pl.DataFrame, windows: int) -> np.ndarray:
    out = np.zeros((windows, 2 * BINS, SIZE[1], SIZE[0]), np.uint8)
    columns = [table[name].to_numpy() for name in ("window_id", "channel", "y", "x")]
    out[tuple(c.astype(np.int64) for c in columns)] = table["count"].to_numpy()
    return out


def main() -> None:
    ev = stream(SIZE, 900, seed=3, span_us=100_000)
    ev["t"][300:303] = 50_000
    ev["t"].sort()
    frame = pl.DataFrame({name: ev[name].astype(np.int64) for name in "xytp"})
    results = {}
    for cutoff in (10, 255):
        table = build_sparse_histogram(
            frame,
            ev_repr_timestamps_us=np.array([50_000, 100_000]),
            delta_t_us=50_000,
            nbins=BINS,
            count_cutoff=cutoff,
            height=SIZE[1],
            width=SIZE[0],
            downsample_by_2=False,
        )
        results[f"rvt_50000_cutoff_{cutoff}"] = dense(table, 2)
    save("evlib", __file__, ev, results, kind="peer", packages=["evlib", "polars"])


if __name__ == "__main__":
    main()
