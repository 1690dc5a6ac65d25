"""What all representations share: settings, one call, and accumulation chunk by chunk.

A `Representation` is a frozen set of settings with a name. Calling it on events checks, cuts
windows, allocates and runs one `Accumulator` over the whole stream; a long recording feeds the same
accumulator chunk by chunk, so both give the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.slicing import BinRule, WindowRule, is_whole, windows
from eventkit.windows import Windows

Outside = Literal["raise", "drop"]
EventsLike = Events | NDArray[Any] | Mapping[str, Any]
# What a representation keeps: every event counted once, the sum of signs, or neither.
Mass = Literal["counts", "signs", "none"]
# Kernels index the cells of one frame with uint32.
MAX_FRAME_CELLS = (1 << 32) - 1
MAX_BINS = 1 << 24
# Masks of so many events at a time fit the cache.
CHECK_BLOCK = 1 << 16


class CallOptions(TypedDict, total=False):
    """What every call takes beside its windows.

    Keys
    ----
    out : array
        Receives the result and is returned; what it held does not matter.
    sort : bool
        Sort arrays that are no `Events` yet by time, stable, instead of raising.
    outside : {"raise", "drop"}
        Events outside the sensor: raise naming the first, or drop and count them.
    ledger : Ledger
        Receives ``decoded`` and ``dropped``: ``outside``, and ``unpaired`` (in no window).
    """

    out: NDArray[Any] | None
    sort: bool
    outside: Outside
    ledger: Ledger | None


class FrameOptions(BinRule, CallOptions, total=False):
    """Options of representations whose frames are windows: ``bins`` cuts the stream."""


class StackOptions(WindowRule, CallOptions, total=False):
    """Options of representations that have bins of their own within a window."""


def as_events(events: EventsLike, *, sort: bool = False) -> Events:
    """Take `Events`, a structured array or a mapping of columns; see `Events.from_structured`."""
    if isinstance(events, Events):
        return events
    return Events.from_structured(events, sort=sort)


def inside(events: Events, sensor_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return (N,) whether each event lies on the sensor and has a polarity in {0, 1}."""
    width, height = sensor_size
    return (events.x < width) & (events.y < height) & (events.p >= 0) & (events.p <= 1)


def first_outside(events: Events, sensor_size: tuple[int, int]) -> int:
    """Return the index of the first event that is not `inside`, or -1; in bounded memory."""
    for start in range(0, len(events), CHECK_BLOCK):
        good = inside(events[start : start + CHECK_BLOCK], sensor_size)
        if not good.all():
            return start + int(np.argmin(good))
    return -1


def outside_error(
    events: Events, sensor_size: tuple[int, int], *, start: int = 0, before: int = 0
) -> InvalidEventsError:
    """Name the first event from ``start`` on that is outside; ``before`` events came earlier."""
    width, height = sensor_size
    i = start + first_outside(events[start:], sensor_size)
    return InvalidEventsError(
        f"expected events inside the {width}x{height} sensor (W x H), "
        f"got x={events.x[i]} y={events.y[i]} p={events.p[i]} at event {before + i}; "
        "outside='drop' drops and counts them"
    )


def check_sensor(sensor_size: tuple[int, int], *, channels: int = 1) -> tuple[int, int]:
    """Return (W, H) as integers, or say why they cannot be."""
    try:
        width, height = sensor_size
    except (TypeError, ValueError) as err:
        msg = f"expected sensor_size (W, H), got {sensor_size!r}"
        raise SettingsError(msg) from err
    if not (is_whole(width, -(1 << 63)) and is_whole(height, -(1 << 63))):
        msg = f"expected sensor_size (W, H) as integers, got {sensor_size!r}"
        raise SettingsError(msg)
    width, height = int(width), int(height)
    if not (0 < width <= 65536 and 0 < height <= 65536):
        msg = f"expected sensor_size (W, H) within 1x1 and 65536x65536, got {width}x{height}"
        raise SettingsError(msg)
    if channels * height * width > MAX_FRAME_CELLS:
        msg = f"expected at most {MAX_FRAME_CELLS} cells a frame, got {width}x{height}"
        raise SettingsError(msg)
    return width, height


def check_bins(bins: int) -> None:
    """Raise `SettingsError` unless ``bins`` is a number of bins."""
    if not is_whole(bins, 1, MAX_BINS):
        msg = f"expected 1 to {MAX_BINS} bins, got {bins!r}"
        raise SettingsError(msg)


def check_positive(**values: float) -> None:
    """Raise `SettingsError` for the first value that is not a finite number above zero."""
    for name, value in values.items():
        number = isinstance(value, int | float | np.integer | np.floating)
        if not number or isinstance(value, bool) or not 0 < value < float("inf"):
            msg = f"expected {name} above 0, got {value!r}"
            raise SettingsError(msg)


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise `SettingsError` unless ``value`` is one of ``known``."""
    if value not in known:
        msg = f"expected {name} among {', '.join(known)}, got {value!r}"
        raise SettingsError(msg)


class Accumulator(ABC):
    """Fills the frames of given windows from chunks of a stream, in time order.

    Parameters
    ----------
    windows : Windows
        T windows, known beforehand.
    sensor_size : (W, H)
    out : (T, C, H, W)
        Receives the frames; what it held does not matter.
    outside : {"raise", "drop"}

    Attributes
    ----------
    ledger : Ledger
    binned, clipped : (T,) int64
        Events met in each window; those that found a full cell (counts only).

    Notes
    -----
    The bits of the result do not depend on where the stream is cut. Memory is that of ``out`` and
    of a state that does not grow with the stream, but for
    `eventkit.representations.windowed.BufferedAccumulator`.
    """

    def __init__(
        self,
        windows: Windows,
        *,
        sensor_size: tuple[int, int],
        out: NDArray[Any],
        outside: Outside = "raise",
    ) -> None:
        check_choice("outside", outside, ("raise", "drop"))
        self.windows = windows
        self.sensor_size = sensor_size
        self.out = out
        self.ledger = Ledger()
        self.binned = np.zeros(len(windows), np.int64)
        self.clipped = np.zeros(len(windows), np.int64)
        self._outside = outside
        self._seen = 0
        self._in_windows = 0
        self._latest: int | None = None
        self._done = False

    def update(self, events: Events) -> None:
        """Add a chunk that follows the ones before in time.

        Raises
        ------
        InvalidEventsError
            If it steps back in time, or an event is outside the sensor and that is not allowed.
        """
        if self._done:
            msg = "expected no more events after finish()"
            raise SettingsError(msg)
        if not len(events):
            return
        self._follow(events)
        self.ledger.decoded += len(events)
        if self._outside == "drop":
            kept = inside(events, self.sensor_size)
            self.ledger.drop({"outside": len(events) - int(kept.sum())})
            events = events if kept.all() else events[kept]
            if not len(events):
                return
        ranges = self.windows.ranges(events.t, before=self._seen)
        bad = self._add(events, ranges)
        if bad >= 0:
            raise outside_error(events, self.sensor_size, start=bad, before=self._seen)
        self.binned += ranges[:, 1] - ranges[:, 0]
        self._in_windows += _covered(ranges)
        self._seen += len(events)

    def finish(self) -> NDArray[Any]:
        """Return the frames (T, C, H, W)."""
        if not self._done:
            self._flush()
            self.ledger.drop({"unpaired": self._seen - self._in_windows})
            self._done = True
        return self.out

    def _follow(self, events: Events) -> None:
        first = int(events.t[0])
        if self._latest is not None and first < self._latest:
            msg = f"expected a chunk from {self._latest} us on, got {first} us at its first event"
            raise InvalidEventsError(msg)
        self._latest = int(events.t[-1])

    def _ended(self, k: int, events: Events) -> bool:
        """Return whether no event after this chunk can lie in window k."""
        numbers = self.windows.numbers
        if numbers is not None:
            return bool(self._seen + len(events) >= numbers[k, 1])
        return bool(events.t[-1] >= self.windows.spans[k, 1])

    @abstractmethod
    def _add(self, events: Events, ranges: NDArray[np.int64]) -> int:
        """Add a chunk; return -1, or an index at or before the first event outside the sensor."""

    @abstractmethod
    def _flush(self) -> None:
        """Complete ``out`` when the stream has ended; windows may have met no event at all."""


def _covered(ranges: NDArray[np.int64]) -> int:
    """Return how many events lie in at least one window; windows may overlap."""
    if not ranges.shape[0]:
        return 0
    # In order of start and stop, so what is new begins where all windows before have ended.
    before = np.concatenate([ranges[:1, 0], np.maximum.accumulate(ranges[:-1, 1])])
    return int((ranges[:, 1] - np.maximum(ranges[:, 0], before)).clip(0).sum())


@dataclass(frozen=True, kw_only=True)
class Representation(ABC):
    """Settings of one named representation.

    Attributes
    ----------
    name : str
        ``family:convention``.
    mass : {"counts", "signs", "none"}
        What the sum over a frame keeps: the number of events, the sum of their signs, neither.
    stack : bool
        Whether a window has bins of its own (then ``bins`` is a setting, not a window rule).
    """

    name: ClassVar[str]
    mass: ClassVar[Mass] = "none"
    stack: ClassVar[bool] = False

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as plain types, for plans and attributes."""
        return asdict(self)

    @property
    @abstractmethod
    def frame_dtype(self) -> np.dtype[Any]:
        """The type of the frames."""

    @abstractmethod
    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (C, H, W) of one window."""

    @abstractmethod
    def _start(
        self,
        windows: Windows,
        sensor_size: tuple[int, int],
        out: NDArray[Any],
        outside: Outside,
    ) -> Accumulator:
        """Return a new accumulator; everything is checked."""

    def windows(self, events: Events, sensor_size: tuple[int, int], **rule: Any) -> Windows:
        """Cut a stream; conventions with edges of their own override this."""
        return windows(events, sensor_size=sensor_size, **rule)

    def as_stored(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Bring the frames of one clip, (T, C, H, W), to their stored form.

        Frames of windows stay as they are. A stack is one window: its bins become T.
        """
        return frames[0][:, None] if self.stack else frames

    def accumulator(
        self,
        windows: Windows,
        *,
        sensor_size: tuple[int, int],
        out: NDArray[Any] | None = None,
        outside: Outside = "raise",
    ) -> Accumulator:
        """Return an accumulator for windows that are known beforehand.

        Parameters
        ----------
        windows : Windows
        sensor_size : (W, H)
        out : (T, C, H, W), optional
        outside : {"raise", "drop"}
        """
        size = check_sensor(sensor_size)
        channels, height, width = self.frame_shape(size)
        if channels * height * width > MAX_FRAME_CELLS:
            msg = (
                f"expected at most {MAX_FRAME_CELLS} cells a frame, got {channels}x{height}x{width}"
            )
            raise SettingsError(msg)
        shape = (len(windows), channels, height, width)
        frames = (
            np.empty(shape, self.frame_dtype)
            if out is None
            else _checked(out, shape, self.frame_dtype)
        )
        return self._start(windows, size, frames, outside)

    def __call__(
        self,
        events: EventsLike,
        *,
        sensor_size: tuple[int, int],
        **options: Unpack[FrameOptions],
    ) -> NDArray[Any]:
        """Return the frames of a whole stream.

        Parameters
        ----------
        events : Events, structured array or mapping of columns
        sensor_size : (W, H)
        **options
            A window rule (`eventkit.slicing.WindowRule`, ``bins`` unless the representation has
            bins of its own) and `CallOptions`.

        Returns
        -------
        (T, C, H, W), or (C, H, W) without a window rule
            The whole stream is then the one window.
        """
        return run(self, events, sensor_size=sensor_size, **options).result


@dataclass(frozen=True, slots=True)
class Run:
    """A finished whole-array call: the result in the caller's shape, and its accumulator."""

    result: NDArray[Any]
    accumulator: Accumulator


def run(
    representation: Representation,
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    out: NDArray[Any] | None = None,
    sort: bool = False,
    outside: Outside = "raise",
    ledger: Ledger | None = None,
    **rule: Any,
) -> Run:
    """Cut, allocate, accumulate, finish; what `Representation.__call__` does."""
    _check_options(representation, rule)
    size = check_sensor(sensor_size)
    check_choice("outside", outside, ("raise", "drop"))
    stream = as_events(events, sort=sort)
    away = 0
    if outside == "drop" and len(stream):
        kept = inside(stream, size)
        away = len(stream) - int(kept.sum())
        stream = stream[kept] if away else stream
    spans = representation.windows(stream, size, **rule)
    single = not any(rule.get(name) is not None for name in _RULES)
    frames = out[None] if single and isinstance(out, np.ndarray) else out
    accumulator = representation.accumulator(spans, sensor_size=size, out=frames)
    accumulator.update(stream)
    result = accumulator.finish()
    if ledger is not None:
        ledger.decoded += len(stream) + away
        ledger.drop({"outside": away, **accumulator.ledger.dropped})
    if single:
        result = out if out is not None else result[0]
    return Run(result, accumulator)


_RULES = ("bins", "window_us", "count", "edges_us", "adaptive")


def _check_options(representation: Representation, rule: Mapping[str, Any]) -> None:
    known = set(BinRule.__annotations__) | set(WindowRule.__annotations__)
    unknown = sorted(set(rule) - known)
    if unknown:
        msg = f"unknown option {unknown[0]!r}; windows are cut by {', '.join(sorted(known))}"
        raise SettingsError(msg)
    if representation.stack and rule.get("bins") is not None:
        msg = f"bins is a setting of {representation.name}: make({representation.name!r}, bins=...)"
        raise SettingsError(msg)


def _checked(out: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    good = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == dtype
    if not good or not out.flags.c_contiguous or not out.flags.writeable:
        got = f"{out.dtype}{out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        msg = f"expected out as a writeable C-contiguous {dtype}{shape}, got {got}"
        raise SettingsError(msg)
    return out
