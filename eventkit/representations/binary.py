"""Binary representations: whether there was an event, as planes of ones or as bits of a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.base import (
    Accumulator,
    CallOptions,
    EventsLike,
    Mass,
    Outside,
    Representation,
    as_events,
    check_bins,
    check_choice,
    check_sensor,
    inside,
    run,
)
from eventkit.representations.windowed import BufferedAccumulator, WindowedAccumulator
from eventkit.slicing import equal_edges, is_whole
from eventkit.windows import Windows

SST_EDGES = ("whole", "sstformer")
BINAREP_EDGES = ("eventkit", "tonic")
MAX_BITS = 24  # codes beyond are not all float32


@dataclass(frozen=True, kw_only=True)
class SstTensor(Representation):
    """``binary:sstformer``: one clip of SSTFormer's event tensor; see `sst_tensor`.

    Parameters
    ----------
    bins : int
        B, within each window; each window is one clip.
    edges : {"whole", "sstformer"}

    Notes
    -----
    Frames are (B, H, W) uint8 of 0 and 1, without polarity. With ``whole`` bin i is
    ``[start + i n // B, start + (i + 1) n // B)`` of a window of n microseconds, so every event is
    in a bin. ``sstformer`` is the released script: of the events with ``start < t < stop`` the
    last one is left out too, and ``bin = floor((B - 1)(t - t0) / (t1 - t0))`` with t0, t1 the first
    and the last of the rest, so bin B - 1 holds only what is at t1.

    Examples
    --------
    >>> ev = Events(x=[0] * 4, y=[0] * 4, t=[0, 1, 8, 9], p=[1, 0, 1, 1])
    >>> SstTensor(bins=5)(ev, sensor_size=(1, 1)).ravel().tolist()
    [1, 0, 0, 0, 1]
    """

    name: ClassVar[str] = "binary:sstformer"
    mass: ClassVar[Mass] = "none"
    stack: ClassVar[bool] = True
    bins: int = 12
    edges: Literal["whole", "sstformer"] = "whole"

    def __post_init__(self) -> None:
        check_bins(self.bins)
        check_choice("edges", self.edges, SST_EDGES)

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Uint8."""
        return np.dtype(np.uint8)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (B, H, W)."""
        return self.bins, sensor_size[1], sensor_size[0]

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        kind = MarkAccumulator if self.edges == "whole" else SstAccumulator
        return kind(self, windows, sensor_size=sensor_size, out=out, outside=outside)


def _mark(
    events: Events, ranges: NDArray[np.int64], fresh: NDArray[np.bool_], out: NDArray[np.uint8]
) -> int:
    """Mark one window (B, H, W); see the kernel."""
    from eventkit.kernels.binary import mark

    bins, height, width = out.shape
    planes = out.reshape(bins, -1)
    return int(mark(events.x, events.y, events.p, ranges, width, height, fresh, planes))


def _ranges(t: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (B, 2) index ranges between (B + 1,) edges."""
    found = np.searchsorted(t, edges).astype(np.int64)
    return np.stack([found[:-1], found[1:]], axis=1)


class MarkAccumulator(WindowedAccumulator):
    """Marks chunk by chunk; a plane is cleared when its first event comes, while it is in use."""

    def __init__(self, settings: SstTensor, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._bins = settings.bins
        self._open: dict[int, tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}

    def _add_to(self, k: int, events: Events) -> int:
        if k not in self._open:
            start, stop = self.windows.spans[k].tolist()
            self._open[k] = equal_edges(start, stop, self._bins), np.ones(self._bins, np.bool_)
        edges, fresh = self._open[k]
        return _mark(events, _ranges(events.t, edges), fresh, self.out[k])

    def _close(self, k: int) -> None:
        _, fresh = self._open.pop(k, (None, np.ones(self._bins, np.bool_)))
        self.out[k][fresh] = 0


class SstAccumulator(BufferedAccumulator):
    """Marks each window by the rules of the released script, once its last event is known."""

    def __init__(self, settings: SstTensor, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._bins = settings.bins

    def _fill(self, k: int, events: Events) -> None:
        fresh = np.ones(self._bins, np.bool_)
        first = int(np.searchsorted(events.t, self.windows.spans[k, 0], side="right"))
        kept = events[first : max(first, len(events) - 1)]
        if len(kept):
            t0, last = int(kept.t[0]), self._bins - 1
            span = int(kept.t[-1]) - t0
            # Bin i begins at the first microsecond with last (t - t0) >= i span; with all events
            # at one time the script divides by zero, here they are in bin 0.
            starts = [t0 - (-i * span // last) for i in range(1, self._bins)] if span else []
            found = np.searchsorted(kept.t, np.array(starts, np.int64)).tolist()
            inner = [0, *found, *[len(kept)] * (self._bins - len(starts))]
            _mark(kept, np.array([inner[:-1], inner[1:]], np.int64).T, fresh, self.out[k])
        self.out[k][fresh] = 0


def sst_tensor(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    clips: int = 16,
    bins: int = 12,
    edges: Literal["whole", "sstformer"] = "whole",
    **options: Unpack[CallOptions],
) -> NDArray[np.uint8]:
    """Cut a stream into clips of equal time, and mark in each bin of each clip where events were.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    clips, bins : int
        SSTFormer (Wang et al. 2023) has 16 clips of 12 bins for PokerEvent.
    edges : {"whole", "sstformer"}
        ``whole``: clips cut ``[t_first, t_last + 1)``, bins cut the clips, all in integers and
        half-open; every event is in a bin.
        ``sstformer``: as ``EventtoTensor.py`` of the release, with what it loses: clips are
        ``(t_last - t_first) // clips`` long, so up to ``clips - 1`` microseconds at the end are in
        none; both edges of a clip are strict, and the last event of a clip is left out, so each
        clip misses at least one event and a clip of two may be empty; bins reach from the first to
        the last event left, and the last bin holds only that event's time.
    **options
        ``out``, ``sort``, ``outside``, ``ledger``; see
        `eventkit.representations.base.CallOptions`.

    Returns
    -------
    (clips, bins, H, W) uint8
        1 where there was an event of either polarity. The release saves (W, H, bins) float32, one
        file a clip, and fails for an empty clip, which is zero here.

    Notes
    -----
    The script works its bins out in float64; they are integers here. In 12 bins both agree on the
    edges themselves.

    Examples
    --------
    >>> ev = Events(x=[0] * 4, y=[0] * 4, t=[0, 1, 8, 9], p=[1, 0, 1, 1])
    >>> sst_tensor(ev, sensor_size=(1, 1), clips=2, bins=5)[..., 0, 0].tolist()
    [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]
    """
    settings = SstTensor(bins=bins, edges=edges)
    check_bins(clips)
    stream = as_events(events, sort=bool(options.get("sort", False)))
    cut = _clip_edges(_met(stream, sensor_size, options), clips, edges)
    return run(settings, stream, sensor_size=sensor_size, edges_us=cut, **options).result


def _met(events: Events, sensor_size: tuple[int, int], options: CallOptions) -> Events:
    """Leave out the events that the call will drop: clips reach from the first kept to the last."""
    if options.get("outside") != "drop" or not len(events):
        return events
    return events[inside(events, check_sensor(sensor_size))]


def _clip_edges(events: Events, clips: int, edges: str) -> NDArray[np.int64]:
    first, last = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
    if edges == "whole":
        return equal_edges(first, last + 1, clips)
    return first + (last - first) // clips * np.arange(clips + 1, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class BinaRep(Representation):
    """``binary:binarep``: the bins in which a pixel had events, as the bits of a number.

    A window falls into N = ``bits`` bins of equal time; the first is the most significant bit:
    ``value = sum over bins b of 2^(N - 1 - b) [event in b] / (2^N - 1)``, for each polarity.

    Parameters
    ----------
    bits : int
        N, 1 to 24.
    edges : {"eventkit", "tonic"}
        ``eventkit``: bin b is ``[start + b n // N, start + (b + 1) n // N)`` of a window of n
        microseconds; every event is in a bin, the last one in the last.
        ``tonic``: bins are ``n // N`` long from the start of the window, and ``bins`` windows or
        the whole stream are cut as ``ToFrame(n_time_bins=frames * N)`` cuts them, in
        ``(t_last - t_first) // (frames N)``: the last instant and what is left over are lost.

    Notes
    -----
    Frames are (2, H, W) float32 in [0, 1], channel 0 is OFF, channel 1 is ON. Source: Barchid et
    al. 2022 ("Bina-Rep event frames: a simple and effective representation for event-based
    cameras") as tonic's ``ToBinaRep``: with ``edges="tonic"`` equal to it bit by bit.

    Examples
    --------
    >>> ev = Events(x=[0, 0, 1], y=[0, 0, 0], t=[0, 6, 7], p=[1, 1, 0])
    >>> (BinaRep(bits=4)(ev, sensor_size=(2, 1)) * 15).astype(int).tolist()
    [[[0, 1]], [[9, 0]]]
    """

    name: ClassVar[str] = "binary:binarep"
    mass: ClassVar[Mass] = "none"
    bits: int = 8
    edges: Literal["eventkit", "tonic"] = "eventkit"

    def __post_init__(self) -> None:
        if not is_whole(self.bits, 1, MAX_BITS):
            msg = f"expected 1 to {MAX_BITS} bits, which float32 holds, got {self.bits}"
            raise SettingsError(msg)
        check_choice("edges", self.edges, BINAREP_EDGES)

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Float32."""
        return np.dtype(np.float32)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (2, H, W): OFF, ON."""
        return 2, sensor_size[1], sensor_size[0]

    def windows(self, events: Events, sensor_size: tuple[int, int], **rule: Any) -> Windows:
        """Cut ``bins`` or the whole stream as tonic does, if so set."""
        found = super().windows(events, sensor_size, **rule)
        others = (rule.get(name) for name in ("window_us", "count", "edges_us", "adaptive"))
        if self.edges != "tonic" or any(value is not None for value in others):
            return found
        frames = int(rule.get("bins") or 1)
        first, last = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
        length = (last - first) // (frames * self.bits) * self.bits
        # Python integers: a span may pass 2^63.
        return Windows.of_edges(np.array([first + length * i for i in range(frames + 1)], np.int64))

    def bin_edges(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the (N + 1,) edges of the bins of a window, microseconds."""
        if self.edges == "eventkit":
            return equal_edges(start, stop, self.bits)
        length = (stop - start) // self.bits
        return np.array([start + length * i for i in range(self.bits + 1)], np.int64)

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return BitAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


class BitAccumulator(WindowedAccumulator):
    """Sets bits chunk by chunk, in one code a cell and open window: 1 byte up to 8 bits, else 4."""

    def __init__(self, settings: BinaRep, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._settings = settings
        self._code = np.dtype(np.uint8 if settings.bits <= 8 else np.uint32)
        self._open: dict[int, tuple[NDArray[np.int64], NDArray[Any]]] = {}
        self._spare: list[NDArray[Any]] = []

    def _add_to(self, k: int, events: Events) -> int:
        from eventkit.kernels.binary import set_bits

        width, height = self.sensor_size
        if k not in self._open:
            start, stop = self.windows.spans[k].tolist()
            codes = self._spare.pop() if self._spare else np.zeros(2 * width * height, self._code)
            self._open[k] = self._settings.bin_edges(start, stop), codes
        edges, codes = self._open[k]
        ranges = _ranges(events.t, edges)
        bad = int(set_bits(events.x, events.y, events.p, ranges, width, height, codes))
        if bad >= 0:
            return bad
        # What tonic's edges give to no bin must lie on the sensor all the same.
        end = int(ranges[-1, 1])
        good = inside(events[end:], self.sensor_size)
        return -1 if good.all() else end + int(np.argmin(good))

    def _close(self, k: int) -> None:
        from eventkit.kernels.binary import take_codes

        if k not in self._open:
            self.out[k] = 0
            return
        _, codes = self._open.pop(k)
        take_codes(codes, (1 << self._settings.bits) - 1, self.out[k].reshape(-1))
        self._spare.append(codes)
