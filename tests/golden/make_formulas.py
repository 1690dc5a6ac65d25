"""Remake ``formulas.npz``; needs NumPy only: these sources are no packages.

Each function is a second implementation of a published formula, event by event in float64, written
from the formula and not from this project. What the inputs avoid, so that only the formula shows:

- E-RAFT and DSEC (``VoxelGrid``) cut positions towards zero, so left of column 0 and above row 0
  they give a negative weight to the second pixel: positions are at least 0 here, but reach beyond
  the other two borders.
- Metavision's cube limits each cell (``clip_value_after_normalization``) and scales it; neither is
  done here. Windows have a given start and length.
- SSTFormer's script fails for a clip without events and divides by zero with equal times: every
  clip has many events.
- RVT's ``MixedDensityEventStack`` sums in int8, which wraps, and takes a float32 logarithm: no cell
  comes near 128, and no event lies on a half, a quarter ... of the window.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from golden import Arrays, save, stream

SIZE = (11, 7)
SPAN_US = 96_005
BINS = 6


def rows(ev: Arrays) -> list[tuple[int, int, int, int]]:
    return list(zip(*(ev[name].tolist() for name in "xytp"), strict=True))


def trilinear(ev: Arrays, xy: np.ndarray, bins: int) -> np.ndarray:
    """E-RAFT, DSEC: eight neighbours in x, y and t; those that do not exist are left out."""
    grid = np.zeros((bins, SIZE[1], SIZE[0]))
    first, last = int(ev["t"][0]), int(ev["t"][-1])
    for (fx, fy), (_, _, t, p) in zip(xy.astype(np.float64).tolist(), rows(ev), strict=True):
        tau = (bins - 1) * (t - first) / (last - first)
        corner = int(fx), int(fy), int(tau)
        for dx, dy, dt in product((0, 1), repeat=3):
            x, y, b = corner[0] + dx, corner[1] + dy, corner[2] + dt
            if 0 <= x < SIZE[0] and 0 <= y < SIZE[1] and 0 <= b < bins:
                weight = (1 - abs(x - fx)) * (1 - abs(y - fy)) * (1 - abs(b - tau))
                grid[b, y, x] += (2 * p - 1) * weight
    return grid


def nonzero(grid: np.ndarray) -> np.ndarray:
    """E-RAFT: cells that are not zero to mean 0 and deviation 1; torch's std divides by n - 1."""
    mask = grid != 0
    cells = grid[mask]
    out = grid.copy()
    out[mask] = (cells - cells.mean()) / cells.std(ddof=1)
    return out


def cube_cpp(ev: Arrays, bins: int, *, split: bool) -> np.ndarray:
    """Metavision ``EventCubeProcessor``: between bin centres, what has no bin is dropped."""
    cube = np.zeros((bins, 2 if split else 1, SIZE[1], SIZE[0]))
    for x, y, t, p in rows(ev):
        tau = t * bins / SPAN_US - 0.5
        left = math.floor(tau)
        share = max(0.0, 1 - abs(left - tau))
        sign, plane = (1, p) if split else (2 * p - 1, 0)
        if 0 <= left < bins:
            cube[left, plane, y, x] += sign * share
        if left + 1 < bins:
            cube[left + 1, plane, y, x] += sign * (1 - share)
    return cube.reshape(-1, SIZE[1], SIZE[0])


def cube_torch(ev: Arrays, bins: int) -> np.ndarray:
    """Metavision ``event_volume``: bins are limited first, then shares are those of the distance.

    So before the first centre an event gives ``1 - |tau|`` to bin 0 and the rest to bin 1.
    """
    cube = np.zeros((bins, SIZE[1], SIZE[0]))
    for x, y, t, p in rows(ev):
        tau = t * bins / SPAN_US - 0.5
        left = min(max(math.floor(tau), 0), bins - 1)
        right = min(left + 1, bins - 1)
        share = max(0.0, 1 - abs(left - tau))
        cube[left, y, x] += (2 * p - 1) * share
        cube[right, y, x] += (2 * p - 1) * (1 - share)
    return cube


def sstformer(ev: Arrays, clips: int, bins: int) -> np.ndarray:
    """``EventtoTensor.py``: (clips, W, H, bins); both edges strict, the last event left out."""
    t = ev["t"]
    length = int((t[-1] - t[0]) / clips)
    out = np.zeros((clips, *SIZE, bins), np.float32)
    for i in range(clips):
        start = np.flatnonzero(t > t[0] + i * length)[0]
        end = np.flatnonzero(t < t[0] + (i + 1) * length)[-1]
        part = {name: ev[name][start:end] for name in "xytp"}
        first, last = part["t"][0], part["t"][-1]
        for x, y, when, _ in rows(part):
            out[i, x, y, int((when - first) / (last - first) * (bins - 1.0))] = 1
    return out


def mixed_density(ev: Arrays, bins: int) -> np.ndarray:
    """RVT: ``bin = B - log(tn) / log(1/2)``, summed over the bins up to each."""
    grid = np.zeros((bins, SIZE[1], SIZE[0]), np.int64)
    first, last = int(ev["t"][0]), int(ev["t"][-1])
    for x, y, t, p in rows(ev):
        norm = min(max((t - first) / max(last - first, 1), 1e-6), 1 - 1e-6)
        grid[math.floor(max(bins - math.log(norm) / math.log(1 / 2), 0)), y, x] += 2 * p - 1
    return grid.cumsum(axis=0)


def event_image(ev: Arrays) -> np.ndarray:
    """``read_aedat4.py`` of Event-AHU: white, then ON in red, then OFF in blue over it."""
    picture = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    for polarity, colour in ((1, (220, 30, 30)), (0, (30, 30, 200))):
        for x, y, _, p in rows(ev):
            if p == polarity:
                picture[y, x] = colour
    return picture.transpose(2, 0, 1)


def tore(ev: Arrays, depth: int, *, low_us: float = 150.0, high_us: float = 5e6) -> np.ndarray:
    """Baldwin et al.: ``log(age + 1) - log(low + 1)``, at least 0, age at most ``high``.

    Channel ``p * depth + k``: the k-th newest event of polarity p; none yet is as old as can be.
    """
    stop = int(ev["t"][-1]) + 1
    volume = np.full((2 * depth, SIZE[1], SIZE[0]), high_us)
    for x, y, t, p in rows(ev):
        queue = volume[p * depth : (p + 1) * depth, y, x]
        queue[1:] = queue[:-1].copy()
        queue[0] = min(float(stop - t), high_us)
    return np.maximum(np.log(volume + 1) - np.log(low_us + 1), 0)


def main() -> None:
    ev = stream(SIZE, 800, seed=7, span_us=SPAN_US)
    rng = np.random.default_rng(8)
    moved = np.stack([ev["x"], ev["y"]], axis=1) + rng.uniform(-0.9, 0.9, (800, 2))
    xy = moved.clip(0, None).astype(np.float32)
    spatial = trilinear(ev, xy, BINS)
    # The last event lies at the stop of the cube's window, which is half-open.
    inside = {name: ev[name][ev["t"] < SPAN_US] for name in "xytp"}
    results = {
        "zhu_spatial": spatial,
        "zhu_spatial_nonzero": nonzero(spatial),
        "cube_drop": cube_cpp(inside, BINS, split=False),
        "cube_drop_split": cube_cpp(inside, BINS, split=True),
        "cube_clamp": cube_torch(inside, BINS),
        "sstformer_16_clips": sstformer(ev, 16, 12),
        "mdes_10": mixed_density(ev, 10),
        "event_ahu": event_image(ev),
        "tore_baldwin_3": tore(ev, 3),
    }
    save("formulas", __file__, {**ev, "xy": xy}, results, kind="formula", packages=[])


if __name__ == "__main__":
    main()
