"""Event streams as dense arrays: count frames and voxel grids.

Public functions check and allocate, the kernels only loop. The `accumulate_*` pair adds one chunk
of a stream to an array that is kept, so that a long recording needs memory for one clip only; the
whole-array functions are one such call.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.slicing import index_ranges, windows

COUNT_DTYPES = ("u1", "u2", "u4")
VOXEL_CONVENTIONS = ("zhu",)
# Kernels index the cells of one frame with uint32.
MAX_FRAME_CELLS = (1 << 32) - 1
MAX_BINS = 1 << 24


@overload
def count_frames(
    events: Events,
    *,
    sensor_size: tuple[int, int],
    bins: int | None = ...,
    window_us: int | None = ...,
    edges_us: ArrayLike | None = ...,
    dtype: DTypeLike = ...,
    return_clipped: Literal[False] = ...,
) -> NDArray[Any]: ...
@overload
def count_frames(
    events: Events,
    *,
    sensor_size: tuple[int, int],
    bins: int | None = ...,
    window_us: int | None = ...,
    edges_us: ArrayLike | None = ...,
    dtype: DTypeLike = ...,
    return_clipped: Literal[True],
) -> tuple[NDArray[Any], int]: ...
def count_frames(
    events: Events,
    *,
    sensor_size: tuple[int, int],
    bins: int | None = None,
    window_us: int | None = None,
    edges_us: ArrayLike | None = None,
    dtype: DTypeLike = np.uint16,
    return_clipped: bool = False,
) -> NDArray[Any] | tuple[NDArray[Any], int]:
    """Count events by window, polarity and pixel.

    Parameters
    ----------
    events : Events
        May be empty: the counts are then zero.
    sensor_size : (W, H)
    bins, window_us, edges_us
        One of three window rules, see `eventkit.slicing.windows`.
    dtype : uint8, uint16 or uint32
        Cells stop at its largest value instead of wrapping.
    return_clipped : bool
        Also return how many events found a full cell.

    Returns
    -------
    (T, 2, H, W) of ``dtype``
        Channel 0 is OFF, channel 1 is ON.
    int, if ``return_clipped``
        ``frames.sum() + clipped`` equals the number of events in the windows.

    Raises
    ------
    InvalidEventsError
        If an event lies outside the sensor; names the first one.

    Examples
    --------
    >>> ev = Events(x=[0, 2, 2], y=[0, 1, 1], t=[0, 5, 10], p=[0, 1, 1])
    >>> frames = count_frames(ev, sensor_size=(3, 2), bins=2)
    >>> frames.shape, frames[:, 1, 1, 2].tolist()
    ((2, 2, 2, 3), [0, 2])
    """
    spans = windows(events.t, bins=bins, window_us=window_us, edges_us=edges_us)
    out = empty_counts(spans.shape[0], sensor_size, dtype)
    _, clipped = accumulate_counts(events, spans, out)
    return (out, int(clipped.sum())) if return_clipped else out


def voxel_grid(
    events: Events,
    *,
    sensor_size: tuple[int, int],
    bins: int,
    convention: str = "zhu",
) -> NDArray[np.float32]:
    """Spread signed events over time bins.

    Parameters
    ----------
    events : Events
    sensor_size : (W, H)
    bins : int
    convention : {"zhu"}
        ``zhu``: Zhu et al. 2019 ("Unsupervised event-based learning of optical flow, depth, and
        egomotion", section 3.1), also E2VID and E-RAFT. ``tau = (B - 1)(t - t0) / (t1 - t0)``
        with t0, t1 the first and last event; each event gives ``1 - |b - tau|`` of its sign to
        the two nearest bins. The sum equals the sum of signs. With ``t1 == t0`` all is in bin 0.

    Returns
    -------
    (B, H, W) float32

    Examples
    --------
    >>> ev = Events(x=[0, 0, 0], y=[0, 0, 0], t=[0, 5, 10], p=[1, 1, 0])
    >>> voxel_grid(ev, sensor_size=(1, 1), bins=2).ravel().tolist()
    [1.5, -0.5]
    """
    if convention not in VOXEL_CONVENTIONS:
        msg = f"expected convention among {', '.join(VOXEL_CONVENTIONS)}, got {convention!r}"
        raise SettingsError(msg)
    out = empty_voxels(bins, sensor_size)
    if len(events):
        accumulate_voxels(events, int(events.t[0]), int(events.t[-1]), out)
    return out


def empty_counts(bins: int, sensor_size: tuple[int, int], dtype: DTypeLike) -> NDArray[Any]:
    """Return zero counts (T, 2, H, W)."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype("O")
    if kind.str[1:] not in COUNT_DTYPES or not kind.isnative:
        msg = f"expected a dtype among {', '.join(COUNT_DTYPES)} for counts, got {dtype}"
        raise SettingsError(msg)
    return np.zeros(_shape(bins, sensor_size, channels=2), kind)


def empty_voxels(bins: int, sensor_size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a zero voxel grid (B, H, W)."""
    bins, _, height, width = _shape(bins, sensor_size, channels=1)
    return np.zeros((bins, height, width), np.float32)


def _shape(bins: int, sensor_size: tuple[int, int], *, channels: int) -> tuple[int, int, int, int]:
    width, height = (int(v) for v in sensor_size)
    if not (0 < width <= 65536 and 0 < height <= 65536):
        msg = f"expected sensor_size (W, H) within 1x1 and 65536x65536, got {width}x{height}"
        raise SettingsError(msg)
    if channels * height * width > MAX_FRAME_CELLS:
        msg = f"expected at most {MAX_FRAME_CELLS} cells a frame, got {width}x{height}"
        raise SettingsError(msg)
    if not 1 <= bins <= MAX_BINS:
        msg = f"expected 1 to {MAX_BINS} bins, got {bins}"
        raise SettingsError(msg)
    return bins, channels, height, width


def accumulate_counts(
    events: Events, spans: NDArray[np.int64], out: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add the events of each window to ``out``.

    Parameters
    ----------
    events : Events
    spans : (T, 2) int64, microseconds
        Half-open windows.
    out : (T, 2, H, W) unsigned, C-contiguous
        Changed in place.

    Returns
    -------
    binned, clipped : (T,) int64
        Events that fell into each window, and those of them that found a full cell.
    """
    from eventkit.kernels.counts import count

    bins, _, height, width = out.shape
    binned, clipped = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    ranges = index_ranges(events.t, spans)
    top = int(np.iinfo(out.dtype).max)
    flat = out.reshape(bins, -1)
    bad = count(events.x, events.y, events.p, ranges, width, height, top, binned, clipped, flat)
    if bad >= 0:
        raise _outside(events, int(bad), (width, height))
    return binned, clipped


def accumulate_voxels(events: Events, t_first: int, t_last: int, out: NDArray[np.float32]) -> None:
    """Add signed events to ``out`` (B, H, W), bilinear between ``t_first`` and ``t_last``."""
    from eventkit.kernels.voxels import voxel_zhu

    if len(events) and not (t_first <= int(events.t[0]) and int(events.t[-1]) <= t_last):
        msg = f"expected events within {t_first}..{t_last} us, got {events!r}"
        raise InvalidEventsError(msg)
    if t_last - t_first >= 2**53:  # beyond, float64 holds no single microseconds
        msg = f"expected a window shorter than 2^53 us, got {t_first}..{t_last}"
        raise InvalidEventsError(msg)
    bad = voxel_zhu(events.x, events.y, events.t, events.p, t_first, t_last, out)
    if bad >= 0:
        raise _outside(events, int(bad), (out.shape[2], out.shape[1]))


def _outside(events: Events, start: int, size: tuple[int, int]) -> InvalidEventsError:
    width, height = size
    part = slice(start, None)
    bad = (events.x[part] >= width) | (events.y[part] >= height) | (events.p[part] > 1)
    i = start + int(np.argmax(bad))
    return InvalidEventsError(
        f"expected events inside the {width}x{height} sensor (W x H), "
        f"got x={events.x[i]} y={events.y[i]} at event {i}"
    )
