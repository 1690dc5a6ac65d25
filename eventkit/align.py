"""RGB frame times against event windows.

``time``: windows of equal time over the clip; each takes the frame nearest to its middle.
``rgb``: B + 1 exposures spread evenly over the clip; a window reaches from the middle of one
exposure to the middle of the next and takes the frame at its end. With ``exposure`` a window is
the exposure itself, as the authors of VELoRA draw their event pictures (most events then lie in
no window, and are counted as such).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.frames import Frames
from eventkit.slicing import equal_edges
from eventkit.windows import windows_of_edges

WindowRule = Literal["time", "rgb"]
EventWindow = Literal["interval", "exposure"]


@dataclass(frozen=True, slots=True)
class Alignment:
    """Windows of one clip and the frame of each.

    Parameters
    ----------
    windows : (T, 2) int64, microseconds
    rgb_index : (T,) int64
        Index into the frames; -1 where there is none.
    rule : {"time", "rgb"}
        The rule that was used; ``time`` where ``rgb`` found too few exposures.
    fell_back : bool
    """

    windows: NDArray[np.int64]
    rgb_index: NDArray[np.int64]
    rule: WindowRule
    fell_back: bool = False


def align(
    frames: Frames | None,
    *,
    start: int,
    stop: int,
    bins: int,
    rule: WindowRule = "time",
    event_window: EventWindow = "interval",
    spans: NDArray[np.int64] | None = None,
) -> Alignment:
    """Lay windows over the clip ``[start, stop)`` and pair each with a frame.

    Parameters
    ----------
    frames : Frames or None
        On the clock of the events (see `on_event_clock`).
    start, stop : int, microseconds
    bins : int
    rule : {"time", "rgb"}
    event_window : {"interval", "exposure"}
        For ``rgb`` only.
    spans : (T, 2) int64, microseconds, optional
        Windows of the rule ``time``; default equal time.
    """
    if rule == "rgb" and frames is not None and len(frames) > 1:
        found = _between_exposures(frames, start, stop, bins, event_window)
        if found is not None:
            return found
    if spans is None:
        spans = windows_of_edges(equal_edges(start, stop, bins))
    if frames is None or not len(frames):
        index = np.full(bins, -1, np.int64)
    else:
        index = nearest(frames.t_us, spans[:, 0] + (spans[:, 1] - spans[:, 0]) // 2)
    return Alignment(spans, index, "time", fell_back=rule == "rgb")


def nearest(times: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the time nearest to each wanted one; the earlier of two equals.

    Examples
    --------
    >>> nearest(np.array([0, 10, 20]), np.array([4, 5, 6, 99])).tolist()
    [0, 0, 1, 2]
    """
    right = np.searchsorted(times, wanted, side="left").clip(0, times.size - 1)
    left = (right - 1).clip(0)
    take_left = np.abs(wanted - times[left]) <= np.abs(times[right] - wanted)
    chosen: NDArray[np.int64] = np.where(take_left, left, right).astype(np.int64)
    return chosen


def _between_exposures(
    frames: Frames, start: int, stop: int, bins: int, event_window: EventWindow
) -> Alignment | None:
    inside = np.flatnonzero((frames.t_us >= start) & (frames.t_us < stop))
    if inside.size < bins + 1:
        return None
    picked = inside[(np.arange(bins + 1) * (inside.size - 1)) // bins]
    middle = frames.t_us[picked]
    ends = picked[1:]
    if event_window == "exposure":
        spans = np.stack([frames.start_us[ends], frames.stop_us[ends]], axis=1)
        if (spans[1:, 0] < spans[:-1, 1]).any() or (spans[:, 1] <= spans[:, 0]).any():
            return None
    else:
        spans = windows_of_edges(middle)
        if (spans[:, 1] <= spans[:, 0]).any():
            return None
    return Alignment(spans.astype(np.int64), ends.astype(np.int64), "rgb")


def on_event_clock(
    frames: Frames, *, first_us: int, last_us: int, offset_us: int = 0
) -> tuple[Frames, str]:
    """Bring frame times to the clock of the events ``first_us .. last_us``.

    Returns
    -------
    Frames
    str
        How: ``recorded`` times are taken as they are, an ``own-clock`` video starts at the first
        event, pictures without times are spread evenly (frame i of n at the middle of the i-th
        n-th of the recording), one still image is ``static``.
    """
    if frames.timing == "recorded":
        return (frames.shifted(offset_us) if offset_us else frames), "recorded"
    if frames.timing == "own-clock":
        return frames.shifted(first_us + offset_us), "first frame at first event"
    count = len(frames)
    span = last_us + 1 - first_us
    middles = [first_us + offset_us + span * (2 * i + 1) // (2 * count) for i in range(count)]
    t = np.array(middles, np.int64)
    return frames.at(t, t, t), "static" if count == 1 else "spread evenly"
