"""One clip as a film: a frame a bin, RGB, events and differences side by side, and the time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eventkit.render.canvas import (
    FAINT,
    GAP,
    INK,
    LINE_HEIGHT,
    Pen,
    blank,
    cell_size,
    fitted,
    text_width,
    wrapped,
)
from eventkit.render.scene import Row, Scene, rows_of, sizes_of
from eventkit.render.times import decimals, milliseconds, span_text

_CELL_TARGET, _CELL_LIMIT = 320, 640
_BAR_HEIGHT = 6


def draw_film(
    scene: Scene, *, overlay: bool = False, scale: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the T frames of a film of a scene.

    Parameters
    ----------
    scene : Scene
        With ``windows_us`` the bar at the bottom shows the time of the frame, from the first
        window's start to the last one's stop; without them the number of the bin.
    overlay : bool
        Events over RGB, and their differences likewise.
    scale : int, optional
        Enlargement; chosen so that a picture has about 320 pixels.

    Yields
    ------
    (h, w, 3) uint8
        All of one size. The first frame has no differences.
    """
    rows, bins = rows_of(scene, overlay=overlay), scene.bins
    cell = cell_size(sizes_of(rows), scale=scale, target=_CELL_TARGET, limit=_CELL_LIMIT)
    width = GAP + len(rows) * (cell[1] + GAP)
    title = wrapped(scene.title, width - 2 * GAP)
    top = GAP + (len(title) + 1) * LINE_HEIGHT
    height = top + cell[0] + 2 * GAP + LINE_HEIGHT + _BAR_HEIGHT
    empty = blank(height, width)
    for k in range(bins):
        frame, pen = empty.copy(), Pen()
        for number, line in enumerate(title):
            pen.write((GAP, GAP // 2 + number * LINE_HEIGHT), line)
        for column, row in enumerate(rows):
            x = GAP + column * (cell[1] + GAP)
            pen.write((x, top - LINE_HEIGHT), row.name)
            frame[top : top + cell[0], x : x + cell[1]] = _cell(row, k, bins, cell)
        _bar(frame, pen, scene, k, top + cell[0] + GAP)
        yield pen.draw(frame)


def _cell(row: Row, k: int, bins: int, cell: tuple[int, int]) -> NDArray[np.uint8]:
    number = k - (bins - len(row.pictures))
    if number < 0:
        return blank(*cell)
    return fitted(row.pictures[number], cell, ink=row.ink)


def _bar(frame: NDArray[np.uint8], pen: Pen, scene: Scene, k: int, y: int) -> None:
    """Draw the whole span in gray, what has passed darker, and this bin in black; words below."""
    left, right = GAP, frame.shape[1] - GAP
    edges, text, end = _span(scene, k)
    first, last = (left + (right - left) * part // edges[2] for part in edges[:2])
    frame[y : y + _BAR_HEIGHT, left:right] = (220, 220, 220)
    frame[y : y + _BAR_HEIGHT, left:first] = FAINT
    frame[y : y + _BAR_HEIGHT, first : max(last, first + 1)] = INK
    pen.write((left, y + _BAR_HEIGHT), text)
    if left + text_width(text) + GAP + text_width(end) <= right:
        pen.write((right - text_width(end), y + _BAR_HEIGHT), end)


def _span(scene: Scene, k: int) -> tuple[tuple[int, int, int], str, str]:
    """Return start, stop and length of the whole, and the words for the first and the last."""
    if scene.windows_us is None:
        return (k, k + 1, scene.bins), f"bin {k}", f"of {scene.bins}"
    windows = np.asarray(scene.windows_us)
    digits = decimals(windows)
    zero, end = int(windows[0, 0]), int(windows[-1, 1])
    start, stop = (int(v) for v in windows[k])
    edges = (start - zero, stop - zero, max(end - zero, 1))
    text = span_text(start, stop, digits)
    text = f"bin {k}, RGB {text}" if scene.stacked else text
    return edges, text, f"{milliseconds(zero, digits)} - {milliseconds(end, digits)} ms"
