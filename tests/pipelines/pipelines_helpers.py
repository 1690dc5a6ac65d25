"""A small raw folder, made on the spot: ATIS files with a picture each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def atis_bytes(x, y, t, p) -> bytes:
    """Encode events as ATIS records, byte by byte, independent of the reader."""
    out = bytearray()
    for xi, yi, ti, pi in zip(x, y, t, p, strict=True):
        word = (int(pi) << 23) | int(ti)
        out += bytes([int(xi), int(yi), word >> 16 & 255, word >> 8 & 255, word & 255])
    return bytes(out)


def write_recording(stem: Path, *, seed: int, events: int = 200, picture: bool = True) -> int:
    """Write ``stem.bin`` and ``stem.png``; returns the number of events."""
    rng = np.random.default_rng(seed)
    stem.parent.mkdir(parents=True, exist_ok=True)
    t = np.sort(rng.integers(0, 300_000, events))
    x, y = rng.integers(0, 34, events), rng.integers(0, 34, events)
    stem.with_suffix(".bin").write_bytes(atis_bytes(x, y, t, rng.integers(0, 2, events)))
    if picture:
        pixels = rng.integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(stem.with_suffix(".png"))
    return events


def tree_bytes(folder: Path, *, hidden: bool = False) -> dict[str, bytes]:
    """Return relative path -> content; logs and locks under hidden folders are left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (hidden or ".eventkit" not in path.parts)
    }
