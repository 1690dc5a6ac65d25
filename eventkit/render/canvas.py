"""Paper, sizes and letters for sheets and films."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import SettingsError

PAPER = (245, 245, 245)
INK = (40, 40, 40)
FAINT = (170, 170, 170)
GAP = 6
LINE_HEIGHT = 16
MAX_PIXELS = 150_000_000


def blank(height: int, width: int) -> NDArray[np.uint8]:
    """Return an empty picture.

    Raises
    ------
    SettingsError
        If it would have more than 150 million pixels.
    """
    if height * width > MAX_PIXELS:
        msg = (
            f"expected a picture of at most {MAX_PIXELS:,} pixels, got {width}x{height}; "
            "take fewer --bins, a smaller --scale, or a film (.mp4)"
        )
        raise SettingsError(msg)
    sheet = np.empty((height, width, 3), np.uint8)
    sheet[...] = PAPER
    return sheet


def cell_size(
    sizes: list[tuple[int, int]], *, scale: int | None, target: int, limit: int
) -> tuple[int, int]:
    """Return (height, width) of the cells that hold pictures of these sizes.

    Without ``scale`` small pictures are enlarged by a whole factor until the longer side is nearly
    ``target``, and those with a side above ``limit`` are shrunk by one.
    """
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    longer = max(height, width)
    if scale is None and longer > limit:
        parts = -(-longer // limit)
        return -(-height // parts), -(-width // parts)
    factor = scale or max(1, target // longer)
    return height * factor, width * factor


def resized(
    picture: NDArray[np.uint8], size_hw: tuple[int, int], *, ink: bool
) -> NDArray[np.uint8]:
    """Bring (H, W, 3) to another size.

    Enlarging repeats pixels: what is seen is what is stored. Shrinking takes means; of ``ink``
    on white those of the ink alone, so that single events stay visible.
    """
    if picture.shape[:2] == size_hw:
        return picture
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(size_hw, picture.shape[:2], strict=True)
    )
    if picture.shape[0] <= size_hw[0] and picture.shape[1] <= size_hw[1]:
        return np.asarray(picture[rows][:, columns])
    return _mean(picture, rows, columns, ink=ink)


def fitted(picture: NDArray[np.uint8], cell: tuple[int, int], *, ink: bool) -> NDArray[np.uint8]:
    """Bring (H, W, 3) to the size of a cell, with its own proportions and paper beside it."""
    height, width = picture.shape[:2]
    if height * cell[1] >= width * cell[0]:
        size = cell[0], max(1, round(width * cell[0] / height))
    else:
        size = max(1, round(height * cell[1] / width)), cell[1]
    out = blank(*cell)
    out[: size[0], : size[1]] = resized(picture, size, ink=ink)
    return out


def _mean(
    picture: NDArray[np.uint8], rows: NDArray[np.intp], columns: NDArray[np.intp], *, ink: bool
) -> NDArray[np.uint8]:
    """Average blocks; of ``ink`` weighted by how far a colour is from white, which has no say."""
    values = picture.astype(np.int64)
    weights = (255 - values).sum(axis=-1, keepdims=True) if ink else np.ones_like(values[..., :1])
    totals = _block_sums(values * weights, rows, columns)
    weight = _block_sums(weights, rows, columns)
    means = (totals + weight // 2) // np.maximum(weight, 1)
    return np.where(weight > 0, means, 255).astype(np.uint8)


def _block_sums(
    values: NDArray[np.int64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.int64]:
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)


@dataclass(slots=True)
class Pen:
    """Collects words and lines, then draws them in one go.

    Positions are (x, y) in pixels from the top left.
    """

    words: list[tuple[tuple[int, int], str]] = field(default_factory=list)
    lines: list[tuple[tuple[int, int, int, int], tuple[int, int, int]]] = field(
        default_factory=list
    )

    def write(self, place: tuple[int, int], text: str) -> None:
        """Write from this place on."""
        self.words.append((place, text))

    def line(self, x0: int, y0: int, x1: int, y1: int, colour: tuple[int, int, int] = INK) -> None:
        """Draw a straight line."""
        self.lines.append(((x0, y0, x1, y1), colour))

    def draw(self, sheet: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the sheet with everything on it."""
        image = require("PIL.Image", extra="images", purpose="labelling pictures").fromarray(sheet)
        draw = require("PIL.ImageDraw", extra="images", purpose="labelling pictures").Draw(image)
        for ends, colour in self.lines:
            draw.line(ends, fill=colour)
        for place, text in self.words:
            draw.text(place, text, fill=INK, font=_font())
        return np.array(image)


def text_width(text: str) -> int:
    """Return how many pixels a line of text is wide."""
    return int(np.ceil(_font().getlength(text)))


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels, at blanks where there are some."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def first_that_fits(texts: list[str], width: int) -> str:
    """Return the first text that is not wider than ``width``, or nothing."""
    return next((text for text in texts if text_width(text) <= width), "")


def _font() -> Any:
    return require("PIL.ImageFont", extra="images", purpose="labelling pictures").load_default()
