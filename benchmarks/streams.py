"""Event data for the tables: clustered synthetic streams and, where it is there, a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import eventkit

DAVIS, HD = (346, 260), (1280, 720)
TONIC = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "i1")])
RECORDING = (
    Path(__file__).resolve().parents[2] / "shared/data/dat/same_recording_as_evt3_1280x720.dat"
)


@dataclass(frozen=True)
class Stream:
    """One data set of a table."""

    label: str
    events: eventkit.Events
    size: tuple[int, int]

    @property
    def tonic(self) -> NDArray[Any]:
        """The events as tonic takes them; polarity as int8, since with bool it loses the sign."""
        return self.events.to_structured().astype(TONIC)


def clustered(n: int, size: tuple[int, int], *, seed: int = 7) -> eventkit.Events:
    """24 moving blobs (85 %) and uniform noise (15 %), with bursts in time, about 1 Mev/s."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1.0, n)
    gaps *= 1.0 + 4.0 * (np.sin(np.arange(n) * (40.0 / n)) > 0.6)
    t = np.cumsum(gaps / gaps.sum() * n).astype(np.int64)
    blob = rng.integers(0, 24, n)
    start, speed = rng.random((24, 2)), rng.uniform(-0.6, 0.6, (24, 2))
    where = start[blob] + speed[blob] * (t / t[-1])[:, None] + rng.normal(0, 0.012, (n, 2))
    noise = rng.random(n) < 0.15
    where[noise] = rng.random((int(noise.sum()), 2))
    x, y = np.minimum(where % 1.0 * size, np.array(size) - 1).astype(np.uint16).T
    return eventkit.Events(x=x, y=y, t=t, p=(rng.random(n) < 0.48).astype(np.int8))


def streams(*, large: bool = True, seed: int = 7) -> Iterator[Stream]:
    """Yield the data sets: 10^6 (and 10^7) events on two sensors, and the recording."""
    for n in (10**6, 10**7) if large else (10**6,):
        for size in (DAVIS, HD):
            yield Stream(f"{size[0]}x{size[1]}, {n:.0e}", clustered(n, size, seed=seed), size)
    if RECORDING.is_file():
        yield Stream("recording 1280x720", read_dat(RECORDING), HD)


def read_dat(path: Path) -> eventkit.Events:
    """Read a Prophesee DAT v2 file whole: header lines, two bytes, pairs of 32-bit words."""
    raw = np.fromfile(path, np.uint8)
    at = 0
    while raw[at] == ord("%"):
        at += int(np.argmax(raw[at:] == ord("\n"))) + 1
    words = raw[at + 2 :].view("<u4").reshape(-1, 2)
    t, where = words[:, 0].astype(np.int64), words[:, 1]
    return eventkit.Events(
        x=(where & 0x3FFF).astype(np.uint16),
        y=(where >> 14 & 0x3FFF).astype(np.uint16),
        t=t,
        p=(where >> 28 & 1).astype(np.int8),
    )
