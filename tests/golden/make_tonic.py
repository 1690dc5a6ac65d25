"""Remake ``tonic.npz``; needs ``tonic``.

Where tonic 1.7 is right, and so what the inputs avoid:

- ``ToVoxelGrid`` writes -1 into bool polarities, so polarities are int8 here; it fails on one event
  and on none.
- ``ToFrame`` counts in int16, which wraps: no pixel comes near 32,767. Its lost tail is its edge
  rule, and is what ``counts:tonic`` reproduces.
- ``ToTimesurface`` reads windows by number from the first event on, and the last one is left out;
  the window rule here keeps it.
- ``ToAveragedTimesurface`` takes times in float32 (exact below 2^24) and divides by the sensor
  from the left top; times stay small.
"""

from __future__ import annotations

import numpy as np
from golden import Arrays, save, stream
from tonic import transforms

SIZE = (11, 7)


def structured(ev: Arrays) -> np.ndarray:
    layout = [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i1")]
    out = np.empty(ev["t"].size, layout)
    for name in "xytp":
        out[name] = ev[name]
    return out


def main() -> None:
    ev = stream(SIZE, 301, seed=1, span_us=100_003)
    size = (*SIZE, 2)
    make = {
        "frames_time_bins_4": transforms.ToFrame(size, n_time_bins=4),
        "frames_event_bins_4": transforms.ToFrame(size, n_event_bins=4),
        "frames_window_9973": transforms.ToFrame(size, time_window=9973, include_incomplete=True),
        "frames_count_50": transforms.ToFrame(size, event_count=50, include_incomplete=True),
        "voxels_5": transforms.ToVoxelGrid(size, n_time_bins=5),
        "hots_10000_tau_7000": transforms.ToTimesurface(size, dt=10_000, tau=7_000),
        "hats_exp": transforms.ToAveragedTimesurface(
            size, cell_size=5, surface_size=3, time_window=30_000, tau=20_000, decay="exp"
        ),
        "hats_lin": transforms.ToAveragedTimesurface(
            size, cell_size=5, surface_size=3, time_window=30_000, tau=20_000, decay="lin"
        ),
    }
    results = {name: np.asarray(transform(structured(ev))) for name, transform in make.items()}
    bits = transforms.ToFrame(size, n_time_bins=16)(structured(ev))
    results["binarep_2_of_8_bits"] = transforms.ToBinaRep(n_frames=2, n_bits=8)(bits)
    save("tonic", __file__, ev, results, kind="peer", packages=["tonic"])


if __name__ == "__main__":
    main()
