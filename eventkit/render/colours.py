"""From frames of any representation to colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError

_WHITE = (255, 255, 255)
_RED = (255, 0, 0)
_BLUE = (0, 0, 255)
_DARK = (48, 16, 80)
_TILE_GAP = (200, 200, 200)
_BRIGHT = 99.0
"""Percentile of the values that gets full colour; single hot pixels would leave the rest pale."""


def event_picture(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """Paint event frames: red = ON, blue = OFF on white, OFF over ON.

    Parameters
    ----------
    frames : (..., 2, H, W) counts, or (..., 1, H, W) signed values
        Channel 0 is OFF and 1 is ON; of signed values (voxels), above zero is ON.

    Returns
    -------
    (..., H, W, 3) uint8

    Raises
    ------
    SettingsError
        If there is neither one channel nor two.

    Examples
    --------
    >>> counts = np.array([[[0, 0, 3]], [[0, 5, 1]]])
    >>> event_picture(counts)[0].tolist()
    [[255, 255, 255], [255, 0, 0], [0, 0, 255]]
    """
    frames = np.asarray(frames)
    if frames.ndim < 3 or frames.shape[-3] not in (1, 2):
        msg = f"expected event frames of shape (..., 1 or 2, H, W), got {frames.shape}"
        raise SettingsError(msg)
    if frames.shape[-3] == 2:
        off, on = frames[..., 0, :, :] > 0, frames[..., 1, :, :] > 0
    else:
        off, on = frames[..., 0, :, :] < 0, frames[..., 0, :, :] > 0
    out = np.empty((*on.shape, 3), np.uint8)
    out[...] = _WHITE
    out[on] = _RED
    out[off] = _BLUE
    return out


def paint(frames: NDArray[Any], *, shaded: bool = False) -> NDArray[np.uint8]:
    """Paint the frames of any representation; one scale of colour for all of them.

    Parameters
    ----------
    frames : (T, C, H, W)
        - C = 3 of uint8: a picture, as it is;
        - C = 2 of whole numbers: as `event_picture`;
        - C = 2 of floats from 0 on: OFF from white to blue, ON from white to red, the larger of
          the two;
        - C = 1: from white to dark; with values below zero blue, white, red, and zero is white;
        - else small tiles, a channel each, row by row from the top left.

        The 99th percentile of the values that are not zero has full colour. Where most cells hold
        the largest value (ages, with "never" the oldest), that is white and 0 is dark.
    shaded : bool
        Take whole numbers in two channels as floats are: surfaces, not counts.

    Returns
    -------
    (T, h, w, 3) uint8
        (h, w) is (H, W), or that of the tiles.

    Examples
    --------
    >>> paint(np.array([-1.0, 0.0, 0.5]).reshape(1, 1, 1, 3))[0, 0].tolist()
    [[0, 0, 255], [255, 255, 255], [255, 127, 127]]
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or 0 in frames.shape[1:]:
        msg = f"expected frames of shape (T, C, H, W), got {frames.shape}"
        raise SettingsError(msg)
    channels = frames.shape[1]
    if channels == 3 and frames.dtype == np.uint8:
        return np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    signed = _has_negative(frames)
    if channels == 2 and not signed:
        whole = frames.dtype.kind in "uib" and not shaded
        return event_picture(frames) if whole else _two_shades(frames)
    shade = _diverging if signed else _darkening
    if not signed and frames.dtype.kind == "f" and np.median(frames) == frames.max(initial=0) > 0:
        frames = frames.max() - frames
    top = full_scale(frames)
    # A frame at a time: the floats in between are several times the result.
    pictures = [np.stack([shade(channel, top) for channel in frame]) for frame in frames]
    if channels == 1:
        return np.stack([picture[0] for picture in pictures])
    return np.stack([_tiled(picture) for picture in pictures])


def over(pictures: NDArray[np.uint8], below: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay painted events over pictures: white is clear, pale colours let through.

    Parameters
    ----------
    pictures, below : (..., H, W, 3) uint8

    Returns
    -------
    (..., H, W, 3) uint8

    Examples
    --------
    >>> events = np.array([[[255, 255, 255], [255, 0, 0]]], np.uint8)
    >>> over(events, np.full((1, 2, 3), 90, np.uint8))[0].tolist()
    [[90, 90, 90], [255, 0, 0]]
    """
    clear = pictures.min(axis=-1, keepdims=True).astype(np.uint32)
    # A colour is a share of ink on white; the same share on another ground.
    taken = (clear * (255 - below.astype(np.uint32)) + 127) // 255
    return np.asarray(pictures - taken, np.uint8)


def full_scale(frames: NDArray[Any]) -> float:
    """Return the magnitude that gets full colour; 1 where all values are zero."""
    values = np.abs(frames[frames != 0].astype(np.float64))
    values = values[np.isfinite(values)]
    top = float(np.percentile(values, _BRIGHT)) if values.size else 0.0
    return top if top > 0 else 1.0


def _has_negative(frames: NDArray[Any]) -> bool:
    return frames.dtype.kind in "if" and bool((frames < 0).any())


def _share(values: NDArray[Any], top: float) -> NDArray[np.float64]:
    shares = np.nan_to_num(values.astype(np.float64) / top, nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(shares, -1.0, 1.0)


def _diverging(values: NDArray[Any], top: float) -> NDArray[np.uint8]:
    """(H, W) to blue, white and red."""
    share = _share(values, top)
    return _on_white(share.clip(min=0), (-share).clip(min=0))


def _darkening(values: NDArray[Any], top: float) -> NDArray[np.uint8]:
    """(H, W) from white to a dark violet."""
    share = _share(values, top)[..., None]
    return np.asarray(np.rint(255 - share * (255 - np.array(_DARK))), np.uint8)


def _two_shades(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """(T, 2, H, W) of floats from 0 on; the stronger polarity of a pixel, OFF of two equal."""
    top = full_scale(frames)
    pictures = []
    for frame in frames:
        off, on = _share(frame[0], top), _share(frame[1], top)
        pictures.append(_on_white(np.where(on > off, on, 0), np.where(on > off, 0, off)))
    return np.stack(pictures)


def _on_white(red: NDArray[np.float64], blue: NDArray[np.float64]) -> NDArray[np.uint8]:
    out = np.stack([1 - blue, 1 - red - blue, 1 - red], axis=-1)
    return np.asarray(np.rint(255 * out), np.uint8)


def _tiled(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(C, H, W, 3) to one picture, rows of tiles a pixel apart."""
    count, height, width, _ = channels.shape
    columns = _tile_columns(count, height, width)
    rows = -(-count // columns)
    out = np.empty((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), np.uint8)
    out[...] = _TILE_GAP
    for c in range(count):
        y, x = (c // columns) * (height + 1), (c % columns) * (width + 1)
        out[y : y + height, x : x + width] = channels[c]
    return out


def _tile_columns(count: int, height: int, width: int) -> int:
    """Return how many tiles stand side by side: nearly a square, without empty places if can be."""
    square = max(1, int(np.ceil(np.sqrt(count * height / width))))
    whole = (c for c in range(square, 2 * square + 1) if count % c == 0)
    return min(next(whole, square), count)
