"""What happens to a recording before its clips are cut: crop, filters, a coarser grid, RGB onto it.

Steps run on the stream as it is read, in the order ``crop``, ``filters``, ``downsample``, ``size``.
Every step moves or drops events and never changes a time, so what it drops can be booked on the
clip it fell into. RGB keeps its own grid unless a homography brings it to that of the events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.filters import Crop, Downsample, Filter, FilterState, Flip, HotPixels, Transpose
from eventkit.filters import parse as parse_filter
from eventkit.homography import warp_frames
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.representations.base import Outside, check_sensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The steps, as plain values.

    Parameters
    ----------
    crop : (x, y, w, h), pixels of the sensor, optional
    filters : tuple of str
        Specs of `eventkit.filters`, in order.
    downsample : int
        ``x // N`` and ``y // N``; a side that is no multiple of N keeps a narrower last pixel.
    size : (W, H), optional
        ``x * W // width`` and ``y * H // height`` of the grid there is then, which must not be
        smaller: events cannot fill pixels between them.
    homography : nine numbers, optional
        RGB pixel (x, y, 1) -> pixel of the sensor as it was recorded, row by row.
    """

    crop: tuple[int, int, int, int] | None = None
    filters: tuple[str, ...] = ()
    downsample: int = 1
    size: tuple[int, int] | None = None
    homography: tuple[float, ...] | None = None

    @property
    def steps(self) -> tuple[Filter, ...]:
        """The steps on events, in order."""
        found: list[Filter] = [] if self.crop is None else [Crop(box=self.crop)]
        found += [parse_filter(spec) for spec in self.filters]
        if self.downsample != 1:
            found.append(Downsample(factor=self.downsample))
        if self.size is not None:
            found.append(Resize(to=self.size))
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Resize(Filter):
    """``resize``: ``x * W // width``, ``y * H // height``; all events are kept.

    Parameters
    ----------
    to : (W, H)
        Not larger than the sensor.

    Examples
    --------
    >>> ev = Events(x=[0, 3, 6], y=[0, 2, 4], t=[0, 1, 2], p=[1, 1, 1])
    >>> Resize(to=(3, 5))(ev, sensor_size=(7, 5)).events.x.tolist()
    [0, 1, 2]
    """

    name: ClassVar[str] = "resize"
    to: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", check_sensor(self.to))

    def size(self, sensor_size: tuple[int, int]) -> tuple[int, int]:
        """Return (W, H)."""
        width, height = check_sensor(sensor_size)
        if self.to[0] > width or self.to[1] > height:
            msg = (
                f"expected a size of at most {width}x{height}, the grid of the events, got "
                f"{self.to[0]}x{self.to[1]}; events are not enlarged"
            )
            raise SettingsError(msg)
        return self.to

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _ResizeState(self, sensor_size, outside)


class _ResizeState(FilterState):
    def __init__(self, flt: Resize, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__(f"filtered.{flt.name}", sensor_size, outside)
        # The new place of every old one: exact, and cheaper than dividing for each event.
        self._tables = [
            (np.arange(old, dtype=np.int64) * new // old).astype(np.uint16)
            for old, new in zip(sensor_size, flt.to, strict=True)
        ]

    def _apply(self, events: Events) -> Events:
        self._check_inside(events)
        x, y = self._tables[0][events.x], self._tables[1][events.y]
        return Events.from_checked(x, y, events.t, events.p)


def preprocess(recording: Recording, settings: Preprocessing) -> Recording:
    """Return the recording that clips are cut from; nothing is read before its chunks are.

    Parameters
    ----------
    recording : Recording
    settings : Preprocessing

    Returns
    -------
    Recording
        Its ``sensor_size`` is that of the events' new grid. Its chunks book what steps drop as
        ``filtered.NAME``.

    Raises
    ------
    SettingsError
        If the steps do not fit the sensor.
    FormatError
        If a homography is given and the sensor is not known.

    Examples
    --------
    >>> from pathlib import Path
    >>> ev = Events(x=[1, 4], y=[1, 4], t=[0, 5], p=[0, 1])
    >>> made = Recording(Path("a"), "test", sensor_size=(8, 6), source=lambda _: iter([Chunk(ev)]))
    >>> done = preprocess(made, Preprocessing(crop=(4, 2, 4, 4), downsample=2))
    >>> done.sensor_size, done.events.x.tolist(), dict(done.ledger.dropped)
    ((2, 2), [0], {'filtered.crop': 1})
    """
    steps = settings.steps
    if not steps and settings.homography is None:
        return recording
    if recording.sensor_size is None:
        return _without_sensor(recording, settings)
    size, placed = recording.sensor_size, np.eye(3)
    for step in steps:
        placed = _placement(step, size) @ placed
        size = step.size(size)
    frames = recording.frames
    if settings.homography is not None and frames is not None:
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        matrix = np.reshape(settings.homography, (3, 3))
        onto = np.linalg.inv(half) @ placed @ half @ matrix
        frames = warp_frames(frames, onto, sensor_size=size)

    def source(ledger: Ledger) -> Iterator[Chunk]:
        return _filtered(recording, _learned(recording, steps), ledger)

    return replace(
        recording,
        sensor_size=size,
        frames=frames,
        source=source if recording.source is not None and steps else recording.source,
    )


def _without_sensor(recording: Recording, settings: Preprocessing) -> Recording:
    """Return a recording of RGB alone, or one that will be refused for its missing geometry."""
    if settings.homography is not None and recording.frames is not None:
        msg = "--homography needs the size of the sensor, and there is no event side that has one"
        raise FormatError(msg, path=recording.path, offset=0, reason="no_geometry")
    known = None if recording.has_events else settings.size
    return replace(recording, sensor_size=known) if known is not None else recording


def _learned(recording: Recording, steps: tuple[Filter, ...]) -> tuple[Filter, ...]:
    """Return the steps with hot pixels found, each in one more reading of the events before it."""
    size = recording.sensor_size
    assert size is not None
    done: list[Filter] = []
    for step in steps:
        if isinstance(step, HotPixels):
            chunks = _filtered(recording, tuple(done), Ledger())
            step = step.learn((chunk.events for chunk in chunks), sensor_size=size)
        done.append(step)
        size = step.size(size)
    return tuple(done)


def _filtered(recording: Recording, steps: tuple[Filter, ...], ledger: Ledger) -> Iterator[Chunk]:
    """Yield the chunks with the steps applied; drops carry their times and are booked."""
    size = recording.sensor_size
    assert size is not None
    states: list[tuple[str, FilterState]] = []
    for step in steps:
        states.append((f"filtered.{step.name}", step.start(size)))
        size = step.size(size)
    for chunk in recording.stream(ledger):
        events = chunk.events
        dropped = {reason: [times] for reason, times in chunk.dropped.items()}
        for reason, state in states:
            kept = state.update(events)
            if len(kept) < len(events):
                times = _missing(events.t, kept.t)
                dropped.setdefault(reason, []).append(times)
                ledger.drop({reason: times.size})
            events = kept
        yield Chunk(events, {reason: np.concatenate(found) for reason, found in dropped.items()})


def _missing(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the times of ``before`` that ``after`` lacks, as often as it lacks them; sorted."""
    values, counts = np.unique(before, return_counts=True)
    left = np.searchsorted(after, values, side="right") - np.searchsorted(after, values)
    return np.repeat(values, counts - left)


def _placement(step: Filter, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return where a step moves positions, (3, 3); positions begin at the corner of a pixel."""
    matrix = np.eye(3)
    if isinstance(step, Crop):
        matrix[:2, 2] = -step.box[0], -step.box[1]
    elif isinstance(step, Flip):
        axis = 0 if step.axis == "x" else 1
        matrix[axis, axis], matrix[axis, 2] = -1, size[axis]
    elif isinstance(step, Transpose):
        matrix[:2, :2] = [[0, 1], [1, 0]]
    elif isinstance(step, Downsample):
        matrix[:2, :2] /= step.factor
    elif isinstance(step, Resize):
        matrix[0, 0], matrix[1, 1] = step.to[0] / size[0], step.to[1] / size[1]
    return matrix
