"""Count frames, 8 bins: eventkit beside tonic's ToFrame, one thread, clustered events."""

from __future__ import annotations

import common
import numpy as np

import eventkit

BINS = 8


def clustered_events(n: int, size: tuple[int, int], *, seed: int) -> eventkit.Events:
    """Events around 40 moving edges and 10 % noise, as a scene gives them."""
    rng = np.random.default_rng(seed)
    width, height = size
    t = np.sort(rng.integers(0, 1_000_000, n))
    centre = rng.random((40, 2)) * (width, height)
    speed = rng.normal(0, 60, (40, 2))
    which = rng.integers(0, 40, n)
    place = centre[which] + speed[which] * (t / 1e6)[:, None] + rng.normal(0, 6, (n, 2))
    noise = rng.random(n) < 0.1
    place[noise] = rng.random((int(noise.sum()), 2)) * (width, height)
    x, y = (place % (width, height)).astype(np.uint16).T
    return eventkit.Events(x=x, y=y, t=t, p=rng.integers(0, 2, n))


def main(*, rounds: int = 9) -> None:
    for n, size in ((10**6, (346, 260)), (10**6, (1280, 720)), (10**7, (346, 260))):
        events = clustered_events(n, size, seed=n)
        rows = {
            "eventkit u2": lambda e=events, s=size: eventkit.count_frames(
                e, sensor_size=s, bins=BINS
            ),
            "eventkit u1": lambda e=events, s=size: eventkit.count_frames(
                e, sensor_size=s, bins=BINS, dtype="u1"
            ),
        }
        if common.peer("tonic"):
            from tonic.transforms import ToFrame

            kinds = np.dtype([("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")])
            structured = events.to_structured().astype(kinds)
            frame = ToFrame((*size, 2), n_time_bins=BINS)
            rows["tonic ToFrame"] = lambda s=structured, f=frame: f(s)
        title = f"counts, {n:.0e} events, {size[0]}x{size[1]}"
        common.compare(title, rows, against="eventkit u2", rounds=rounds)


if __name__ == "__main__":
    main()
