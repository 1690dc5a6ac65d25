"""Pictures for people: event frames in colour, and a contact sheet of one clip.

Event pictures look as in Event-AHU's data sets (HARDVS, PokerEvent): red = ON, blue = OFF on
white, and where a pixel saw both, OFF is painted over ON.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.differences import frame_difference
from eventkit.errors import SettingsError
from eventkit.frames import to_uint8

_WHITE = (255, 255, 255)
_RED = (255, 0, 0)
_BLUE = (0, 0, 255)
_PAPER = (245, 245, 245)
_INK = (40, 40, 40)
_GAP = 6
_LABEL_WIDTH = 72
_LINE_HEIGHT = 16
_CELL_TARGET = 160
"""Pixels the longer side of a cell should have; small sensors are enlarged by whole factors."""


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


def clip_sheet(
    *,
    rgb: NDArray[Any] | None,
    events: NDArray[Any] | None,
    diff_events: NDArray[Any] | None = None,
    diff_rgb: NDArray[Any] | None = None,
    title: str | None = None,
    scale: int | None = None,
) -> NDArray[np.uint8]:
    """Draw one clip as a contact sheet.

    Columns are bins; rows are RGB, events and the absolute difference of either to the bin
    before, under the later of the two. RGB and events may have sizes of their own.

    Parameters
    ----------
    rgb : (T, H, W, 1 or 3) uint8 or uint16, or None
    events : (T, 1 or 2, H, W) event frames, or None
    diff_events, diff_rgb : (T-1, ...), optional
        As stored; computed from the frames where they are not given.
    title : str, optional
    scale : int, optional
        Enlargement of the larger sense; chosen so that a cell has about 160 pixels.

    Returns
    -------
    (h, w, 3) uint8

    Raises
    ------
    SettingsError
        If both senses are missing, they differ in T, or a shape is not as above.
    """
    rows = _rows(rgb, events, diff_events, diff_rgb)
    num_bins = len(rows[0][1])
    height = max(pictures.shape[1] for _, pictures in rows)
    width = max(pictures.shape[2] for _, pictures in rows)
    factor = scale or max(1, _CELL_TARGET // max(height, width))
    cell_hw = (height * factor, width * factor)
    top = _GAP + (_LINE_HEIGHT if title else 0) + _LINE_HEIGHT
    sheet = np.empty(
        (
            top + len(rows) * (cell_hw[0] + _GAP),
            _LABEL_WIDTH + num_bins * (cell_hw[1] + _GAP),
            3,
        ),
        np.uint8,
    )
    sheet[...] = _PAPER
    labels: list[tuple[tuple[int, int], str]] = [((_GAP, _GAP // 2), title)] if title else []
    for column in range(num_bins):
        x = _LABEL_WIDTH + column * (cell_hw[1] + _GAP)
        labels.append(((x, top - _LINE_HEIGHT), f"bin {column}"))
    for number, (name, pictures) in enumerate(rows):
        y = top + number * (cell_hw[0] + _GAP)
        labels.append(((_GAP, y), name))
        for k, picture in enumerate(pictures):
            column = k + num_bins - len(pictures)
            x = _LABEL_WIDTH + column * (cell_hw[1] + _GAP)
            sheet[y : y + cell_hw[0], x : x + cell_hw[1]] = _fit(picture, cell_hw)
    return _write_labels(sheet, labels)


def save_png(path: str | Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture as PNG; an older file stays whole until the new one is.

    Parameters
    ----------
    path : str or Path
    pixels : (H, W) or (H, W, 3) uint8
    """
    pil = require("PIL.Image", extra="images", purpose="writing PNG files")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        pil.fromarray(np.ascontiguousarray(pixels)).save(partial, format="PNG")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _rows(
    rgb: NDArray[Any] | None,
    events: NDArray[Any] | None,
    diff_events: NDArray[Any] | None,
    diff_rgb: NDArray[Any] | None,
) -> list[tuple[str, NDArray[np.uint8]]]:
    lengths = {len(side) for side in (rgb, events) if side is not None}
    if len(lengths) != 1 or 0 in lengths:
        msg = (
            f"expected RGB or events, or both with the same number of bins, got {lengths or 'none'}"
        )
        raise SettingsError(msg)
    several = lengths != {1}
    rows = []
    if rgb is not None:
        rows.append(("RGB", _colour(rgb)))
    if events is not None:
        rows.append(("events", event_picture(events)))
    if rgb is not None and several:
        difference = frame_difference(_colour(rgb)) if diff_rgb is None else diff_rgb
        rows.append(("|dRGB|", _stretched(_colour(difference))))
    if events is not None and several:
        difference = frame_difference(events) if diff_events is None else diff_events
        rows.append(("|devents|", event_picture(difference)))
    return rows


def _colour(frames: NDArray[Any]) -> NDArray[np.uint8]:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] not in (1, 3):
        msg = f"expected RGB frames of shape (T, H, W, 1 or 3), got {frames.shape}"
        raise SettingsError(msg)
    pixels = to_uint8(frames)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def _stretched(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brighten so that the largest value is white; differences are faint as they are."""
    brightest = max(1, int(frames.max(initial=0)))
    return (frames.astype(np.uint16) * 255 // brightest).astype(np.uint8)


def _fit(picture: NDArray[np.uint8], cell_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Enlarge by repeating pixels: what is seen is what is stored."""
    rows = np.arange(cell_hw[0]) * picture.shape[0] // cell_hw[0]
    columns = np.arange(cell_hw[1]) * picture.shape[1] // cell_hw[1]
    return np.asarray(picture[rows][:, columns])


def _write_labels(
    sheet: NDArray[np.uint8], labels: list[tuple[tuple[int, int], str]]
) -> NDArray[np.uint8]:
    pil = require("PIL.Image", extra="images", purpose="labelling pictures")
    draw = require("PIL.ImageDraw", extra="images", purpose="labelling pictures")
    image = pil.fromarray(sheet)
    pen = draw.Draw(image)
    for place, text in labels:
        pen.text(place, text, fill=_INK)
    return np.array(image)
