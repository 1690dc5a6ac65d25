"""Pictures of events, uint8 RGB: what the Event-AHU group draws, and Tencode.

Both are streamed: while events arrive a window keeps one plane of its picture (and Tencode the
latest times), and the picture is completed as soon as its window has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.representations.base import (
    Accumulator,
    EventsLike,
    FrameOptions,
    Mass,
    Outside,
    Representation,
    as_events,
    check_choice,
    run,
)
from eventkit.representations.windowed import WindowedAccumulator
from eventkit.windows import Windows

# The colours of the VisEvent script, with which PokerEvent and HARDVS were drawn.
ON_RGB = (220, 30, 30)
OFF_RGB = (30, 30, 200)
LONGEST_US = (1 << 63) - 1  # a time and a polarity share 64 bits
PAINTINGS = ("off-over-on", "last-wins")


@dataclass(frozen=True, kw_only=True)
class _Picture(Representation):
    """What pictures share: (3, H, W) uint8."""

    mass: ClassVar[Mass] = "none"

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Uint8."""
        return np.dtype(np.uint8)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (3, H, W): red, green, blue."""
        return 3, sensor_size[1], sensor_size[0]


@dataclass(frozen=True, kw_only=True)
class EventImage(_Picture):
    """``image:event-ahu``: red and blue on white; see `event_image`.

    Parameters
    ----------
    painting : {"off-over-on", "last-wins"}
    """

    name: ClassVar[str] = "image:event-ahu"
    painting: Literal["off-over-on", "last-wins"] = "off-over-on"

    def __post_init__(self) -> None:
        check_choice("painting", self.painting, PAINTINGS)

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return PaintAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


class PaintAccumulator(WindowedAccumulator):
    """Paints the red planes; the reds of white, ON and OFF differ, so there is no other state.

    They fall in this order too, so OFF painted over ON over white is the smallest of them.
    """

    def __init__(self, settings: EventImage, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._last_wins = int(settings.painting == "last-wins")
        self._fresh = np.ones(len(windows), np.bool_)
        self._on, self._off = np.array(ON_RGB, np.uint8), np.array(OFF_RGB, np.uint8)

    def _red(self, k: int) -> NDArray[np.uint8]:
        red: NDArray[np.uint8] = self.out[k, 0].reshape(-1)
        if self._fresh[k]:
            red[:] = 255
            self._fresh[k] = False
        return red

    def _add_to(self, k: int, events: Events) -> int:
        from eventkit.kernels.pictures import paint

        width, height = self.sensor_size
        return int(
            paint(
                events.x,
                events.y,
                events.p,
                width,
                height,
                OFF_RGB[0],
                ON_RGB[0],
                self._last_wins,
                self._red(k),
            )
        )

    def _close(self, k: int) -> None:
        from eventkit.kernels.pictures import colour

        if self._fresh[k]:
            self.out[k] = 255
            return
        red, green, blue = self.out[k].reshape(3, -1)
        colour(red, self._off, self._on, green, blue)


@dataclass(frozen=True, kw_only=True)
class Tencode(_Picture):
    """``image:tencode``: each pixel shows its latest event and how old it is.

    Red is 255 for ON, blue 255 for OFF, and ``green = 255 (t1 - t) / (t1 - t0)`` with t0, t1 the
    first and the last event of the window, rounded to the nearest, halves up, in integers. Pixels
    without an event are black. Of events at one time the last in the stream counts. The last event
    has green 0, the first, where nothing came later, 255; events of one time have green 0.

    Frames are (3, H, W) uint8, red, green, blue. Source: Huang et al. 2023 ("EventPoint:
    Self-supervised interest point detection and description for event-based camera", WACV), with
    the interval between the first and the last event. eventcv's ``tencode`` divides by its
    ``window_us`` (30 ms unless given) instead, in float32, which may round a half down.

    Examples
    --------
    >>> ev = Events(x=[0, 1, 1], y=[0, 0, 0], t=[0, 5, 10], p=[1, 1, 0])
    >>> Tencode()(ev, sensor_size=(3, 1))[:, 0].tolist()
    [[255, 0, 0], [255, 0, 0], [0, 255, 0]]
    """

    name: ClassVar[str] = "image:tencode"

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return TencodeAccumulator(windows, sensor_size=sensor_size, out=out, outside=outside)


class _Latest:
    """An open window: the latest event of each pixel (H*W,), and the first and last time."""

    def __init__(self, cells: NDArray[Any], first: int) -> None:
        self.cells, self.first, self.last = cells, first, first


class TencodeAccumulator(WindowedAccumulator):
    """Keeps the latest event of each pixel: 4 bytes for windows up to half an hour, else 8."""

    def __init__(self, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._open: dict[int, _Latest] = {}
        self._spare: list[NDArray[Any]] = []
        lengths = windows.spans[:, 1] - windows.spans[:, 0]  # past 2^63 they turn negative
        short = bool(((lengths >= 0) & (lengths < 1 << 31)).all())
        narrow = short and windows.numbers is None
        self._cell = np.dtype(np.uint32 if narrow else np.uint64)

    def _add_to(self, k: int, events: Events) -> int:
        from eventkit.kernels.pictures import remember

        width, height = self.sensor_size
        if k not in self._open:
            cells = self._spare.pop() if self._spare else np.zeros(width * height, self._cell)
            self._open[k] = _Latest(cells, int(events.t[0]))
        state = self._open[k]
        state.last = int(events.t[-1])
        if state.last - state.first >= LONGEST_US:
            msg = (
                f"expected windows below 2^63 us, got {state.first} to {state.last} us in one; "
                "is a time damaged?"
            )
            raise InvalidEventsError(msg)
        return int(
            remember(
                events.x, events.y, events.t, events.p, width, height, state.first, state.cells
            )
        )

    def _close(self, k: int) -> None:
        from eventkit.kernels.pictures import shade

        state = self._open.pop(k, None)
        if state is None:
            self.out[k] = 0
            return
        span = state.last - state.first
        scale = 255 / span if span else 0.0
        shade(state.cells, span, scale, _first_ages(span), *self.out[k].reshape(3, -1))
        self._spare.append(state.cells)


def _first_ages(span: int) -> NDArray[np.int64]:
    """Return the smallest age of each green, (257,): ``510 age + span >= 2 g span``."""
    never = (1 << 63) - 1
    if not span:
        return np.array([0] + [never] * 256, np.int64)
    ages = [0] + [-((1 - 2 * g) * span // 510) for g in range(1, 256)]
    return np.array([*ages, never], np.int64)


def event_image(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    exposures_us: ArrayLike | None = None,
    painting: Literal["off-over-on", "last-wins"] = "off-over-on",
    **options: Unpack[FrameOptions],
) -> NDArray[np.uint8]:
    """Draw events as the Event-AHU group does: ON red (220, 30, 30), OFF blue (30, 30, 200).

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    exposures_us : (T, 2) integers, microseconds, optional
        Start and stop of each picture, half-open, for example the exposures of the RGB frames, in
        order of start and of stop. Takes the place of a window rule.
    painting : {"off-over-on", "last-wins"}
        What a pixel with both shows: blue, as the group's script paints all ON and then all OFF
        events, or its latest event.
    **options
        A window rule, see `eventkit.slicing.WindowRule`, and ``out``, ``sort``, ``outside``,
        ``ledger``, see `eventkit.representations.base.CallOptions`.

    Returns
    -------
    (T, 3, H, W) uint8, red, green, blue
        White where there was no event. With neither exposures nor a window rule (3, H, W).

    Notes
    -----
    Source: ``scripts/read_aedat4.py`` of VisEvent, behind PokerEvent and HARDVS; its pictures are
    (H, W, 3) BGR files. By default it draws the events in ``[start, stop)`` of each exposure, in
    its own example 4.0 of 22.3 ms, so most events are in no picture; intervals from frame to frame
    (``edges_us`` of their starts) leave out none in between. It draws no picture of the last frame
    and fails where no event follows an exposure; this draws all, white if need be.

    The same windows serve an accumulator that is fed in chunks:
    ``EventImage().accumulator(Windows(spans), sensor_size=(W, H))`` with spans (T, 2) int64.

    Examples
    --------
    >>> ev = Events(x=[0, 0, 1], y=[0, 0, 0], t=[0, 5, 10], p=[0, 1, 1])
    >>> event_image(ev, sensor_size=(3, 1))[:, 0].tolist()
    [[30, 220, 255], [30, 30, 255], [200, 30, 255]]
    >>> pictures = event_image(ev, sensor_size=(3, 1), exposures_us=[[4, 6], [10, 30]])
    >>> pictures.shape, pictures[:, 2, 0].tolist()
    ((2, 3, 1, 3), [[30, 255, 255], [255, 30, 255]])
    """
    settings = EventImage(painting=painting)
    if exposures_us is None:
        return run(settings, events, sensor_size=sensor_size, **options).result
    rest: dict[str, Any] = dict(options)
    out, sort = rest.pop("out", None), bool(rest.pop("sort", False))
    outside: Outside = rest.pop("outside", "raise")
    ledger: Ledger | None = rest.pop("ledger", None)
    for name, value in rest.items():
        if value is not None:
            msg = f"exposures_us takes the place of a window rule, got {name} too"
            raise SettingsError(msg)
    accumulator = settings.accumulator(
        Windows(_spans(exposures_us)), sensor_size=sensor_size, out=out, outside=outside
    )
    accumulator.update(as_events(events, sort=sort))
    pictures = accumulator.finish()
    if ledger is not None:
        ledger.decoded += accumulator.ledger.decoded
        ledger.drop(accumulator.ledger.dropped)
    return pictures


def _spans(exposures: ArrayLike) -> NDArray[np.int64]:
    """Check (T, 2) starts and stops."""
    found = np.asarray(exposures)
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype.kind not in "iu":
        msg = f"expected exposures_us as (T, 2) integers, got {found.dtype}{found.shape}"
        raise SettingsError(msg)
    spans = found.astype(np.int64)
    if (spans[:, 1] < spans[:, 0]).any():
        i = int(np.argmax(spans[:, 1] < spans[:, 0]))
        msg = f"expected exposures that stop after they start, got {spans[i].tolist()} at {i}"
        raise SettingsError(msg)
    back = (spans[1:] < spans[:-1]).any(axis=1)
    if back.any():
        i = int(np.argmax(back)) + 1
        msg = (
            f"expected exposures in order of start and stop, got {spans[i].tolist()} "
            f"after {spans[i - 1].tolist()} at {i}; sort them, or draw them one by one"
        )
        raise SettingsError(msg)
    return spans
