"""Frames of another number of bins without decoding a recording again.

`rebin_counts` adds up stored counts; `represent_clip` makes any representation from the events of a
clip that a store has kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.base import Outside, Representation
from eventkit.representations.clip import clip_windows
from eventkit.representations.counts import short_dtype
from eventkit.representations.registry import parse

# Whole numbers above 2^24 are not all float32.
_FLOAT_TOP = 1 << 24


def rebin_counts(
    counts: NDArray[Any],
    bins: int,
    *,
    clipped: ArrayLike = 0,
    windows_us: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Add neighbouring count frames: 8 bins from 16, exactly what counting in 8 bins gives.

    ``out[i]`` is the sum of ``counts[k * i : k * (i + 1)]`` with ``k = T / bins``. The edges of
    equal bins, ``start + (stop - start) * i // T``, nest: every edge of T / k bins is one of T.

    Parameters
    ----------
    counts : (T, 2, H, W) uint8, uint16, uint32 or float32
    bins : int
        Must divide T.
    clipped : int or (T,) integers
        Events that found a full cell when the counts were made. Any at all is refused: in which of
        the cells they belong is not known.
    windows_us : (T, 2) integers, microseconds, optional
        The windows of the counts; refused where one does not start as the one before stops.
    dtype : uint8, uint16, uint32 or float32, optional
        Of the result; that of the counts unless given.

    Returns
    -------
    (bins, 2, H, W) of ``dtype``
        The sum over everything is that of the counts.

    Raises
    ------
    SettingsError
        Also where a sum does not fit: it is not cut off, ask for a wider ``dtype``.

    Examples
    --------
    >>> counts = np.arange(8, dtype=np.uint8).reshape(4, 2, 1, 1)
    >>> rebin_counts(counts, 2).ravel().tolist()
    [2, 4, 10, 12]
    """
    _check_counts(counts)
    total = counts.shape[0]
    if isinstance(bins, bool) or int(bins) != bins or bins < 1 or total % bins:
        msg = f"expected a number of bins that divides the {total} there are, got {bins}"
        raise SettingsError(msg)
    _check_clipped(clipped, total)
    if windows_us is not None:
        _check_adjacent(np.asarray(windows_us), total)
    kind = np.dtype(short_dtype(counts.dtype if dtype is None else dtype))
    top = _FLOAT_TOP if kind.kind == "f" else int(np.iinfo(kind).max)
    out = np.empty((bins, *counts.shape[1:]), kind)
    group = total // bins
    wide = np.float64 if counts.dtype.kind == "f" else np.uint64
    for i in range(bins):
        added = counts[i * group : (i + 1) * group].sum(axis=0, dtype=wide)
        if added.size and added.max() > top:
            msg = (
                f"expected sums of at most {top} for {kind}, got {int(added.max())} in bin {i}; "
                "a wider dtype, such as dtype='u4', holds it"
            )
            raise SettingsError(msg)
        out[i] = added
    return out


def rebin_windows(windows_us: ArrayLike, bins: int) -> NDArray[np.int64]:
    """Return the windows of `rebin_counts`, (bins, 2) int64 microseconds.

    Parameters
    ----------
    windows_us : (T, 2) integers, microseconds
    bins : int
        Must divide T.

    Examples
    --------
    >>> rebin_windows([[0, 2], [2, 5], [5, 7], [7, 10]], 2).tolist()
    [[0, 5], [5, 10]]
    """
    windows = np.asarray(windows_us)
    total = windows.shape[0] if windows.ndim else 0
    if bins < 1 or not total or total % bins:
        msg = f"expected a number of bins that divides the {total} there are, got {bins}"
        raise SettingsError(msg)
    _check_adjacent(windows, total)
    group = total // bins
    return np.stack([windows[::group, 0], windows[group - 1 :: group, 1]], axis=1).astype(np.int64)


def represent_clip(
    events: Events,
    span: tuple[int, int],
    representation: Representation | str,
    *,
    sensor_size: tuple[int, int],
    bins: int | None = None,
    outside: Outside = "raise",
) -> NDArray[Any]:
    """Make the stored frames of one clip from its events.

    Parameters
    ----------
    events : Events
        Of the clip; those outside the span are in no frame.
    span : (start, stop), microseconds
        The clip is ``[start, stop)``.
    representation : Representation or str
        A spec, such as ``"voxel:zhu,bins=5"``, is parsed.
    sensor_size : (W, H)
    bins : int, optional
        T, of representations whose frames are windows, see
        `eventkit.representations.clip.clip_windows`. One that has bins of its own sees the span as
        one window and takes none.
    outside : {"raise", "drop"}

    Returns
    -------
    (T, C, H, W)
        As `Representation.as_stored` gives it.

    Examples
    --------
    >>> ev = Events(x=[0, 1, 1], y=[0, 0, 0], t=[0, 5, 9], p=[0, 1, 1])
    >>> represent_clip(ev, (0, 10), "counts:eventkit", sensor_size=(2, 1), bins=2).tolist()
    [[[[1, 0]], [[0, 0]]], [[[0, 0]], [[0, 2]]]]
    """
    if isinstance(representation, str):
        representation = parse(representation)
    name, (start, stop) = representation.name, span
    if representation.stack:
        if bins is not None:
            msg = f"bins is a setting of {name}: make({name!r}, bins=...)"
            raise SettingsError(msg)
    elif bins is None:
        msg = f"expected bins, the number of frames of {name}"
        raise SettingsError(msg)
    windows = clip_windows(representation, start=start, stop=stop, bins=bins or 1)
    accumulator = representation.accumulator(windows, sensor_size=sensor_size, outside=outside)
    accumulator.update(events)
    return representation.as_stored(accumulator.finish())


def _check_counts(counts: NDArray[Any]) -> None:
    if counts.ndim != 4 or counts.shape[1] != 2 or not counts.shape[0]:
        msg = f"expected counts (T, 2, H, W), got shape {counts.shape}"
        raise SettingsError(msg)
    short_dtype(counts.dtype)
    if counts.dtype.kind == "f" and not all(_whole(frame) for frame in counts):
        msg = "expected counts, got numbers that are negative or not whole"
        raise SettingsError(msg)


def _whole(frame: NDArray[Any]) -> bool:
    return bool(((frame >= 0) & (frame == np.floor(frame)) & (frame <= _FLOAT_TOP)).all())


def _check_clipped(clipped: ArrayLike, total: int) -> None:
    array = np.asarray(clipped)
    if array.dtype.kind not in "iu" or array.shape not in ((), (total,)) or (array < 0).any():
        msg = f"expected clipped as a number of events or one for each of {total} bins"
        raise SettingsError(msg)
    if array.any():
        msg = (
            f"expected counts of which nothing was clipped, got {int(array.sum())} events that "
            "found a full cell; make them from the events again, with a wider dtype"
        )
        raise SettingsError(msg)


def _check_adjacent(windows: NDArray[Any], total: int) -> None:
    if windows.shape != (total, 2) or windows.dtype.kind not in "iu":
        msg = f"expected integer windows ({total}, 2), got {windows.dtype}{windows.shape}"
        raise SettingsError(msg)
    apart = windows[1:, 0] != windows[:-1, 1]
    if apart.any():
        i = int(np.argmax(apart))
        msg = (
            f"expected windows that nest, without gaps: window {i} stops at {windows[i, 1]} us, "
            f"the next starts at {windows[i + 1, 0]} us; make the frames from the events again"
        )
        raise SettingsError(msg)
