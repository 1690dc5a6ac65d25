"""What a recording holds, found in one pass: what a writer has to know before its first byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.align import on_event_clock
from eventkit.errors import SettingsError
from eventkit.frames import Frames
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, EventSource, Recording
from eventkit.triggers import count_kinds
from eventkit.writers.base import Contents

_INVENTED = {
    "spread evenly": "the pictures have no times and get invented ones, spread over the events",
    "static": "the picture has no time and gets an invented one, the middle of the events",
}


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
    count, first, last, right, bottom, gap = 0, 0, 0, -1, -1, 0
    for chunk in recording.stream(ledger if ledger is not None else Ledger()):
        events = chunk.events
        if not len(events):
            continue
        if not count:
            first = last = int(events.t[0])
        gap = max(gap, int(events.t[0]) - last, int(np.diff(events.t).max(initial=0)))
        last = int(events.t[-1])
        right = max(right, int(events.x.max()))
        bottom = max(bottom, int(events.y.max()))
        count += len(events)
    triggers, imu = recording.triggers, recording.imu
    found = Contents(
        events=count,
        first_us=first,
        last_us=last,
        right=right,
        bottom=bottom,
        sensor_size=recording.sensor_size,
        triggers=_size(triggers),
        imu=_size(imu),
        channels=_channels(triggers),
        kinds=count_kinds(triggers),
        longest_gap_us=gap,
        spans=_spans({"triggers": triggers, "IMU samples": imu}),
        imu_columns=() if imu is None else tuple(n for n in imu.dtype.names or () if n != "t"),
    )
    return with_frames(found, recording.frames)


def with_frames(contents: Contents, frames: Frames | None) -> Contents:
    """Return the contents with another frame side."""
    spans = {k: span for k, span in contents.spans.items() if k not in ("frames", "exposures")}
    if frames is not None and len(frames) and frames.timing != "none":
        spans["frames"] = int(frames.t_us.min()), int(frames.t_us.max())
        spans["exposures"] = int(frames.start_us.min()), int(frames.stop_us.max())
    return replace(
        contents,
        frames=0 if frames is None else len(frames),
        frame_size=None if frames is None else frames.size,
        spans=spans,
    )


def _spans(sides: Mapping[str, NDArray[Any] | None]) -> dict[str, tuple[int, int]]:
    there = ((name, rows["t"]) for name, rows in sides.items() if rows is not None and rows.size)
    return {name: (int(t.min()), int(t.max())) for name, t in there}


def _size(array: NDArray[Any] | None) -> int:
    return 0 if array is None else int(array.size)


def _channels(signals: NDArray[Any] | None) -> dict[int, int]:
    if signals is None or not {"source", "p"} <= set(signals.dtype.names or ()):
        return {}
    channels, counts = np.unique(signals["source"], return_counts=True)
    return dict(zip(channels.tolist(), counts.tolist(), strict=True))


def move_frames(recording: Recording, offset_us: int) -> Recording:
    """Return a recording with ``offset_us`` added to the times of its frames, on their own clock.

    Raises
    ------
    SettingsError
        If there are no frames, or only pictures without times.
    """
    frames = recording.frames
    if frames is None or frames.timing == "none":
        wanted, got = (
            ("frames", "none") if frames is None else ("frames with times", "pictures without")
        )
        msg = (
            f"{recording.path}: expected {wanted}, got {got}; --rgb-offset-us has nothing to move, "
            "leave it out"
        )
        raise SettingsError(msg)
    moved = replace(frames.shifted(offset_us), timing=frames.timing)
    note = f"times of the frames are moved by {offset_us} us, as asked for"
    return replace(recording, frames=moved, notes=[*recording.notes, note])


def part(
    recording: Recording, start_us: int | None, stop_us: int | None
) -> tuple[Recording, list[str]]:
    """Return what lies in ``[start_us, stop_us)`` from the first event on: all sides of it.

    Frames come on the clock of the events first, by the whole recording; pictures without times
    cost a pass over the events for that.

    Parameters
    ----------
    recording : Recording
    start_us, stop_us : int, microseconds, or None
        From the first event, or from the first frame without events; None for no limit.

    Returns
    -------
    Recording
    list of str
        What to say of times of frames that were made up for it; see `told_times`.

    Raises
    ------
    SettingsError
        If the range is empty, or there are only pictures without times.
    """
    if start_us is None and stop_us is None:
        return recording, []
    if (start_us or 0) >= (stop_us if stop_us is not None else 2**62):
        msg = f"expected a start before the stop, got {start_us or 0} and {stop_us} us"
        raise SettingsError(msg)
    frames, origin, how = _on_clock(recording)
    notes, invented = told_times(how)
    start = origin + (start_us or 0)
    stop = origin + stop_us if stop_us is not None else 2**62
    side = recording.side_data
    inside = None if frames is None else _frames_between(frames, start, stop)
    left = 0 if inside is None else len(inside)
    if frames is not None and left < len(frames):
        notes.append(f"{left} of {len(frames)} frames lie in the range")
    cut = replace(
        recording,
        source=None if recording.source is None else _PartSource(recording.source, start, stop),
        frames=inside,
        side_data=None if side is None else lambda: _side_between(side(), start, stop),
        notes=[*recording.notes, *notes],
    )
    return cut, invented


def told_times(how: str) -> tuple[list[str], list[str]]:
    """Return notes, and losses, on how frames came to the clock of the events.

    Parameters
    ----------
    how : str
        As `eventkit.align.on_event_clock` says it; empty where there is nothing to say.

    Examples
    --------
    >>> told_times("first frame at first event")
    (['times of the frames: first frame at first event'], [])
    """
    if how not in _INVENTED:
        return ([f"times of the frames: {how}"] if how else []), []
    return [], [f"{_INVENTED[how]}; nothing in what is written tells it from a recorded time"]


def _on_clock(recording: Recording) -> tuple[Frames | None, int, str]:
    """Return frames with times of the events, the time of the first of either, and how."""
    frames = recording.frames
    head = next(recording.chunks(), None)
    if frames is None or not len(frames) or frames.timing == "recorded":
        times = [] if frames is None else frames.start_us[:1].tolist()
        first = int(head.t[0]) if head is not None else next(iter(times), 0)
        return frames, first, ""
    if head is None and frames.timing == "none":
        msg = (
            f"{recording.path}: expected times to cut a range by, got pictures without; "
            "timestamps.txt beside them has them"
        )
        raise SettingsError(msg)
    if head is None:
        return frames, int(frames.start_us[0]), ""
    first = last = int(head.t[0])
    if frames.timing == "none":
        last = max(int(events.t[-1]) for events in recording.chunks())
    frames, how = on_event_clock(frames, first_us=first, last_us=last)
    return frames, first, how


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


def _frames_between(frames: Frames, start: int, stop: int) -> Frames | None:
    wanted = np.flatnonzero((frames.t_us >= start) & (frames.t_us < stop))
    if not wanted.size:
        return None
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
