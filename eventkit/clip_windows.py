"""The windows of a recording's clips where they depend on its events.

Frames are filled in windows that are known beforehand, so windows that are cut where the scene
changes take a pass of their own over the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.adaptive import Bisection
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.slicing import equal_edges
from eventkit.windows import windows_of_edges

Span = tuple[int, int]


def adaptive_windows(
    recording: Recording, rule: Bisection, *, spans: Sequence[Span], sensor_size: tuple[int, int]
) -> list[NDArray[np.int64]]:
    """Cut every clip where its scene changes; holds the events of one clip at a time.

    Parameters
    ----------
    recording : Recording
    rule : Bisection
        With ``windows``, T.
    spans : sequence of (start, stop), microseconds
        The clips, side by side.
    sensor_size : (W, H)

    Returns
    -------
    list of (T, 2) int64, microseconds
        Without gaps over the whole clip. A clip without events is cut into equal times.

    Raises
    ------
    InvalidEventsError
        If an event lies outside the sensor; names the first.
    """
    assert rule.windows is not None
    found = [windows_of_edges(equal_edges(*span, rule.windows)) for span in spans]
    starts = np.array([start for start, _ in spans], np.int64)
    held: list[Events] = []
    current = 0

    def finish() -> None:
        if held:
            stream = Events.concatenate(held)
            held.clear()
            found[current] = _over(spans[current], rule, stream, sensor_size)

    for chunk in recording.stream(Ledger()):
        for clip, events in by_clip(chunk.events, starts, spans[-1][1]):
            if clip != current:
                finish()
                current = clip
            held.append(events)
    finish()
    return found


def _over(
    span: Span, rule: Bisection, events: Events, sensor_size: tuple[int, int]
) -> NDArray[np.int64]:
    """Cut the events of a clip, and let the outer windows reach to its ends."""
    start, stop = span
    inside = events[slice(*np.searchsorted(events.t, span))]
    if not len(inside):
        return windows_of_edges(equal_edges(start, stop, rule.windows or 1))
    cut = rule.cut(inside, sensor_size=sensor_size).spans
    edges = np.append(cut[:, 0], cut[-1, 1])
    # Windows that there were too few times for stand empty at the end.
    edges[edges == edges[-1]] = stop
    edges[0] = start
    return windows_of_edges(edges)


def by_clip(events: Events, starts: NDArray[np.int64], end: int) -> Iterator[tuple[int, Events]]:
    """Split events at clip starts; before the first is its, from ``end`` on is no clip's."""
    cuts = np.searchsorted(events.t, np.append(starts, end))
    cuts[0] = 0
    for clip in np.flatnonzero(np.diff(cuts)).tolist():
        yield clip, events[int(cuts[clip]) : int(cuts[clip + 1])]


def parse_bisection(spec: str, *, windows: int) -> Bisection:
    """Read ``adaptive,setting=value,...`` for a given number of windows.

    Examples
    --------
    >>> parse_bisection("adaptive,by=time,min_events=50", windows=8).min_events
    50
    """
    _, *parts = [part.strip() for part in spec.split(",")]
    known = _settings(Bisection())
    found: dict[str, Any] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals or key not in known:
            msg = f"expected setting=value with a setting of {', '.join(known)}, got {part!r}"
            raise SettingsError(msg)
        kind = type(known[key])
        try:
            found[key] = kind(text)
        except ValueError as err:
            msg = f"expected {key} of adaptive windows as {kind.__name__}, got {text!r}"
            raise SettingsError(msg) from err
    return Bisection(windows=windows, **found)


def spec_of_bisection(rule: Bisection) -> str:
    """Return the spec that `parse_bisection` turns into this rule.

    Examples
    --------
    >>> spec_of_bisection(Bisection(windows=8, by="time"))
    'adaptive,by=time,threshold=0.2,min_events=1000,cell=8,chance=subtract'
    """
    settings = (f"{name}={value}" for name, value in _settings(rule).items())
    return ",".join(["adaptive", *settings])


def _settings(rule: Bisection) -> dict[str, Any]:
    """Return what decides the cuts of a given number of windows."""
    left_out = ("windows", "max_depth")
    return {f.name: getattr(rule, f.name) for f in fields(rule) if f.name not in left_out}
