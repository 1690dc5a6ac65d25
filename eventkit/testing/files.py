"""Recordings whose events are known, for tests of readers and writers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eventkit.columns import Buffer
from eventkit.events import Events
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording


def known_events(
    n: int,
    *,
    sensor_size: tuple[int, int],
    seed: int = 0,
    start_us: int = 0,
    span_us: int | None = None,
    step_us: int = 1,
) -> Events:
    """Return events that look like a camera's: busy pixels, equal times, all four corners.

    Parameters
    ----------
    n : int
        Number of events.
    sensor_size : (W, H)
    seed : int
        Equal seeds give equal events.
    start_us : int, microseconds
        Time of the first event.
    span_us : int, microseconds, optional
        From the first event to the last, rounded down to whole steps; default 20 us an event. Two
        hours (7,200,000,000) wrap clocks of 24 and of 32 bits.
    step_us : int, microseconds
        All times are multiples of it, for formats that hold no others.

    Examples
    --------
    >>> known_events(3, sensor_size=(4, 2), start_us=7, span_us=60).t.tolist()[::2]
    [7, 67]
    """
    rng = np.random.default_rng(seed)
    width, height = sensor_size
    steps = (20 * n if span_us is None else span_us) // step_us
    t = np.sort(rng.integers(0, steps + 1, n))
    t[: n // 3] = t[: n // 3] // 4 * 4  # several events at a time, as one read-out gives them
    t[:1], t[-1:] = 0, steps
    busy = rng.random(n) < 0.3
    x = np.where(busy, width // 2, rng.integers(0, width, n))
    y = np.where(busy, height // 3, rng.integers(0, height, n))
    for i, corner in enumerate(rng.permutation(4).tolist()):
        x[i : i + 1], y[i : i + 1] = (width - 1) * (corner & 1), (height - 1) * (corner >> 1)
    t = start_us + step_us * t
    return Events(x=x, y=y, t=t, p=rng.integers(0, 2, n))


def recording_of(
    events: Events, *, sensor_size: tuple[int, int] | None, piece: int = 1 << 16
) -> Recording:
    """Return a recording of events in memory, as what a writer is given.

    Parameters
    ----------
    events : Events
    sensor_size : (W, H) or None
    piece : int
        Events decoded at once.

    Examples
    --------
    >>> events = known_events(5, sensor_size=(4, 2))
    >>> recording_of(events, sensor_size=(4, 2)).events == events
    True
    """

    def decode(_buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        begin = mark if isinstance(mark, int) else 0
        for start in range(begin, len(events), piece):
            part = events[start : start + piece]
            yield RawChunk(part.x, part.y, part.t, part.p, words=len(part), mark=start)

    return Recording(
        path=Path("memory"),
        format="memory",
        sensor_size=sensor_size,
        geometry_source="given",
        source=EventStream(decode, path="memory", sensor_size=sensor_size, on_error="raise"),
    )
