"""Count frames: events by window, polarity and pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.base import (
    Accumulator,
    EventsLike,
    FrameOptions,
    Mass,
    Outside,
    Representation,
    check_choice,
    run,
)
from eventkit.windows import Windows

COUNT_DTYPES = ("u1", "u2", "u4", "f4")
COUNT_CONVENTIONS = ("eventkit", "tonic", "spikingjelly")
SPLITS = ("time", "number")


@dataclass(frozen=True, kw_only=True)
class Counts(Representation):
    """``counts:eventkit``: every event once; see `count_frames`.

    Parameters
    ----------
    dtype : {"u2", "u1", "u4", "f4"}
    """

    name: ClassVar[str] = "counts:eventkit"
    mass: ClassVar[Mass] = "counts"
    dtype: str = "u2"

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, COUNT_DTYPES)

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """The type of the frames."""
        return np.dtype(self.dtype)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (2, H, W): OFF, ON."""
        return 2, sensor_size[1], sensor_size[0]

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return CountAccumulator(windows, sensor_size=sensor_size, out=out, outside=outside)


@dataclass(frozen=True, kw_only=True)
class _PeerCounts(Counts):
    """Counts in the windows of another library; ``split_by`` time or number of events."""

    split_by: Literal["time", "number"] = "time"

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, COUNT_DTYPES)
        check_choice("split_by", self.split_by, SPLITS)

    def windows(self, events: Events, sensor_size: tuple[int, int], **rule: Any) -> Windows:
        """Cut ``bins`` as the peer does; other rules are as everywhere."""
        bins = rule.get("bins")
        if bins is None:
            return super().windows(events, sensor_size, **rule)
        super().windows(events, sensor_size, **rule)  # for its checks
        return self._bins(events, int(bins))

    def _bins(self, events: Events, bins: int) -> Windows:
        t, steps = events.t, np.arange(bins + 1, dtype=np.int64)
        if self.split_by == "number":
            edges = len(events) // bins * steps
            numbers = self._closed(np.stack([edges[:-1], edges[1:]], axis=1), len(events))
            return Windows(np.zeros((bins, 2), np.int64), numbers)
        first, last = (int(t[0]), int(t[-1])) if t.size else (0, 0)
        if last - first >= 1 << 63 or last == (1 << 63) - 1:
            msg = f"expected times within 2^63 us, got {first} .. {last}; is a time damaged?"
            raise SettingsError(msg)
        edges = first + (last - first) // bins * steps
        return Windows(self._closed(np.stack([edges[:-1], edges[1:]], axis=1), last + 1))

    def _closed(self, spans: NDArray[np.int64], end: int) -> NDArray[np.int64]:
        """Return the windows with the last one as the peer ends it."""
        return spans


@dataclass(frozen=True, kw_only=True)
class TonicCounts(_PeerCounts):
    """``counts:tonic``: the edges of tonic's ``ToFrame``, which lose the tail.

    With ``bins``, windows are ``(t_last - t_first) // bins`` long from the first event, so the last
    instant and up to ``bins - 1`` microseconds before it are in none; by number, windows have
    ``N // bins`` events.
    """

    name: ClassVar[str] = "counts:tonic"


@dataclass(frozen=True, kw_only=True)
class SpikingJellyCounts(_PeerCounts):
    """``counts:spikingjelly``: tonic's edges, but the last window takes the tail."""

    name: ClassVar[str] = "counts:spikingjelly"

    def _closed(self, spans: NDArray[np.int64], end: int) -> NDArray[np.int64]:
        spans[-1, 1] = end
        return spans


class CountAccumulator(Accumulator):
    """Counts chunk by chunk; the state is a byte a cell of one frame."""

    def __init__(self, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        width, height = self.sensor_size
        self._table = np.zeros(2 * width * height, np.uint8)
        self._fresh = np.ones(len(windows), np.bool_)
        kind = self.out.dtype
        # Whole numbers above 2^24 are not all float32.
        self._top = 1 << 24 if kind.kind == "f" else int(np.iinfo(kind).max)

    def _add(self, events: Events, ranges: NDArray[np.int64]) -> int:
        from eventkit.kernels.counts import count

        width, height = self.sensor_size
        flat = self.out.reshape(len(self.windows), 2 * height * width)
        return int(
            count(
                events.x,
                events.y,
                events.p,
                ranges,
                width,
                height,
                self._top,
                self._fresh,
                self._table,
                self.clipped,
                flat,
            )
        )

    def _flush(self) -> None:
        if self._fresh.any():
            self.out[self._fresh] = 0
            self._fresh[:] = False


_CONVENTIONS: dict[str, type[Counts]] = {
    "eventkit": Counts,
    "tonic": TonicCounts,
    "spikingjelly": SpikingJellyCounts,
}


@overload
def count_frames(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    dtype: DTypeLike = ...,
    convention: str = ...,
    return_clipped: Literal[False] = ...,
    **options: Unpack[FrameOptions],
) -> NDArray[Any]: ...
@overload
def count_frames(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    dtype: DTypeLike = ...,
    convention: str = ...,
    return_clipped: Literal[True],
    **options: Unpack[FrameOptions],
) -> tuple[NDArray[Any], int]: ...
def count_frames(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    dtype: DTypeLike = np.uint16,
    convention: str = "eventkit",
    return_clipped: bool = False,
    **options: Unpack[FrameOptions],
) -> NDArray[Any] | tuple[NDArray[Any], int]:
    """Count events by window, polarity and pixel.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
        May be empty: the counts are then zero.
    sensor_size : (W, H)
    dtype : uint8, uint16, uint32 or float32
        Cells stop at its largest value (float32: 2^24) instead of wrapping.
    convention : {"eventkit", "tonic", "spikingjelly"}
        Edge rule of ``bins``: every event counts; tonic's ``ToFrame`` loses the last instant;
        SpikingJelly's last frame takes what is left over.
    return_clipped : bool
        Also return how many events found a full cell.
    **options
        A window rule, see `eventkit.slicing.WindowRule`, and ``out``, ``sort``, ``outside``,
        ``ledger``, see `eventkit.representations.base.CallOptions`.

    Returns
    -------
    (T, 2, H, W) of ``dtype``
        Channel 0 is OFF, channel 1 is ON. Without a window rule (2, H, W).
    int, if ``return_clipped``
        ``frames.sum() + clipped`` equals the number of events in the windows.

    Raises
    ------
    InvalidEventsError
        If times step back or an event lies outside the sensor; names the first one.

    Examples
    --------
    >>> ev = Events(x=[0, 2, 2], y=[0, 1, 1], t=[0, 5, 10], p=[0, 1, 1])
    >>> frames = count_frames(ev, sensor_size=(3, 2), bins=2)
    >>> frames.shape, frames[:, 1, 1, 2].tolist()
    ((2, 2, 2, 3), [0, 2])
    """
    check_choice("convention", convention, COUNT_CONVENTIONS)
    representation = _CONVENTIONS[convention](dtype=short_dtype(dtype))
    done = run(representation, events, sensor_size=sensor_size, **options)
    return (done.result, int(done.accumulator.clipped.sum())) if return_clipped else done.result


def short_dtype(dtype: DTypeLike) -> str:
    """Return the short name of a dtype for counts."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype("O")
    if kind.str[1:] not in COUNT_DTYPES or not kind.isnative:
        msg = f"expected a dtype among {', '.join(COUNT_DTYPES)} for counts, got {dtype}"
        raise SettingsError(msg)
    return kind.str[1:]
