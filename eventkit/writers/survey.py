"""What a recording holds, found in one pass: what a writer has to know before its first byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.frames import Frames
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, EventSource, Recording
from eventkit.writers.base import Contents


def survey(recording: Recording, *, ledger: Ledger | None = None) -> Contents:
    """Read the events of a recording once, in pieces, and count its other sides.

    Parameters
    ----------
    recording : Recording
    ledger : Ledger, optional
        Receives the counts of the reading, as it goes.

    Examples
    --------
    >>> from eventkit.recording import Recording
    >>> survey(Recording(path="nothing", format="none")).events
    0
    """
    count, first, last, right, bottom = 0, 0, 0, -1, -1
    for chunk in recording.stream(ledger if ledger is not None else Ledger()):
        events = chunk.events
        if not len(events):
            continue
        first = first if count else int(events.t[0])
        last = int(events.t[-1])
        right = max(right, int(events.x.max()))
        bottom = max(bottom, int(events.y.max()))
        count += len(events)
    return Contents(
        events=count,
        first_us=first,
        last_us=last,
        right=right,
        bottom=bottom,
        sensor_size=recording.sensor_size,
        frames=len(recording.frames) if recording.frames is not None else 0,
        triggers=_size(recording.triggers),
        imu=_size(recording.imu),
        channels=_channels(recording.triggers),
    )


def _size(array: NDArray[Any] | None) -> int:
    return 0 if array is None else int(array.size)


def _channels(signals: NDArray[Any] | None) -> int:
    if signals is None or not {"source", "p"} <= set(signals.dtype.names or ()):
        return 0
    return len(np.unique(signals["source"]))


def part(recording: Recording, start_us: int | None, stop_us: int | None) -> Recording:
    """Return what lies in ``[start_us, stop_us)`` from the first event on: all sides of it.

    Parameters
    ----------
    recording : Recording
    start_us, stop_us : int, microseconds, or None
        From the first event, or from the first frame without events; None for no limit.

    Raises
    ------
    SettingsError
        If the range is empty.
    """
    if start_us is None and stop_us is None:
        return recording
    if (start_us or 0) >= (stop_us if stop_us is not None else 2**62):
        msg = f"expected a start before the stop, got {start_us or 0} and {stop_us} us"
        raise SettingsError(msg)
    origin = _origin(recording)
    start = origin + (start_us or 0)
    stop = origin + stop_us if stop_us is not None else 2**62
    frames, side = recording.frames, recording.side_data
    return replace(
        recording,
        source=None if recording.source is None else _PartSource(recording.source, start, stop),
        frames=None if frames is None else _frames_between(frames, start, stop),
        side_data=None if side is None else lambda: _side_between(side(), start, stop),
    )


@dataclass(frozen=True, slots=True)
class _PartSource:
    """The events of a time range; what was decoded outside it is booked as ``outside_range``."""

    source: EventSource
    start: int
    stop: int

    def __call__(self, ledger: Ledger) -> Iterator[Chunk]:
        for chunk in self.source(ledger):
            first, last = (int(i) for i in np.searchsorted(chunk.events.t, [self.start, self.stop]))
            ledger.drop({"outside_range": len(chunk.events) - (last - first)})
            yield Chunk(chunk.events[first:last], chunk.dropped)
            if last < len(chunk.events):
                return


def _origin(recording: Recording) -> int:
    first = next(recording.chunks(), None)
    if first is not None:
        return int(first.t[0])
    frames = recording.frames
    return int(frames.start_us[0]) if frames is not None and len(frames) else 0


def _frames_between(frames: Frames, start: int, stop: int) -> Frames:
    if frames.timing == "none":  # an order has no times to cut by
        return frames
    wanted = np.flatnonzero((frames.t_us >= start) & (frames.t_us < stop))
    reader = frames.reader
    return replace(
        frames,
        t_us=frames.t_us[wanted],
        start_us=frames.start_us[wanted],
        stop_us=frames.stop_us[wanted],
        reader=lambda indices: reader([int(wanted[i]) for i in indices]),
    )


def _side_between(
    side: Mapping[str, NDArray[Any]], start: int, stop: int
) -> dict[str, NDArray[Any]]:
    return {
        name: array[(array["t"] >= start) & (array["t"] < stop)] for name, array in side.items()
    }
