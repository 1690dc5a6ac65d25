"""Write golden arrays and their digests; NumPy only, for the scripts that remake the goldens."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
DIGESTS = FOLDER / "digests.json"
Arrays = dict[str, NDArray[Any]]


def stream(
    sensor_size: tuple[int, int], n: int, *, seed: int, span_us: int, start_us: int = 0
) -> Arrays:
    """Draw events: a few busy pixels, many equal times, first and last at the ends of the span."""
    rng = np.random.default_rng(seed)
    width, height = sensor_size
    busy = rng.random(n) < 0.4
    t = np.sort(rng.integers(0, span_us, n))
    t[rng.random(n) < 0.3] //= 100
    t = np.sort(t)
    t[0], t[-1] = 0, span_us
    return {
        "x": np.where(busy, width // 2, rng.integers(0, width, n)).astype(np.uint16),
        "y": np.where(busy, height // 3, rng.integers(0, height, n)).astype(np.uint16),
        "t": (t + start_us).astype(np.int64),
        "p": rng.integers(0, 2, n).astype(np.int8),
        "sensor_size": np.array(sensor_size, np.int64),
    }


def digest(array: NDArray[Any]) -> str:
    """Return the sha256 of type, shape and bytes of an array."""
    found = np.ascontiguousarray(array)
    head = f"{found.dtype.str}{found.shape}".encode()
    return hashlib.sha256(head + found.tobytes()).hexdigest()


def save(
    name: str, script: str, inputs: Arrays, results: Arrays, *, kind: str, packages: list[str]
) -> None:
    """Write ``name.npz`` with inputs and results, and their digests.

    Parameters
    ----------
    kind : {"peer", "formula"}
        Who made the results: an installed library, or a second implementation of the formula.
    packages : list of str
        Distributions whose versions are recorded.
    """
    arrays = {**inputs, **results}
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    known[name] = {
        "kind": kind,
        "script": Path(script).name,
        "versions": {package: version(package) for package in ["numpy", *packages]},
        "sha256": {field: digest(array) for field, array in arrays.items()},
    }
    DIGESTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    print(f"{name}.npz: {', '.join(f'{k} {v.shape}' for k, v in results.items())}")
