"""One clip as a contact sheet: columns are bins, rows are senses, with a time axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.render.canvas import FAINT, GAP, LINE_HEIGHT, Pen, blank, cell_size, fitted, wrapped
from eventkit.render.scene import Row, Scene, rows_of, sizes_of
from eventkit.render.times import captions

_LABEL_WIDTH = 72
_CELL_TARGET, _CELL_LIMIT = 160, 400
"""Pixels the longer side of a cell should have, and may have; see `cell_size`."""
_MAX_WIDTH = 6000
"""Wider sheets are broken into bands."""


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
    events : (T, C, H, W) frames of any representation, or None
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
    scene = Scene(
        rgb=rgb, events=events, diff_events=diff_events, diff_rgb=diff_rgb, title=title or ""
    )
    return draw_sheet(scene, scale=scale)


def draw_sheet(
    scene: Scene, *, overlay: bool = False, scale: int | None = None
) -> NDArray[np.uint8]:
    """Draw a scene as a contact sheet; see `clip_sheet`.

    Parameters
    ----------
    scene : Scene
        With ``windows_us`` every bin has its start and stop in milliseconds over it.
    overlay : bool
        Events over RGB in one row, and their differences likewise.
    scale : int, optional

    Returns
    -------
    (h, w, 3) uint8
    """
    rows, bins = rows_of(scene, overlay=overlay), scene.bins
    cell = cell_size(sizes_of(rows), scale=scale, target=_CELL_TARGET, limit=_CELL_LIMIT)
    columns = max(1, min(bins, (_MAX_WIDTH - _LABEL_WIDTH) // (cell[1] + GAP)))
    width = _LABEL_WIDTH + columns * (cell[1] + GAP)
    title = wrapped(scene.title, width - 2 * GAP)
    blocks = _blocks(scene, rows)
    heights = {row.name: _height(row, cell) for row in rows}
    band = sum(heights.values()) + len(rows) * GAP + len(blocks) * LINE_HEIGHT
    top = GAP + len(title) * LINE_HEIGHT
    sheet = blank(top + -(-bins // columns) * band, width)
    pen = Pen()
    for k, line in enumerate(title):
        pen.write((GAP, GAP // 2 + k * LINE_HEIGHT), line)
    for number, start in enumerate(range(0, bins, columns)):
        y = top + number * band
        for windows, group in blocks:
            stop = min(start + columns, bins)
            _axis(pen, captions(windows, bins, cell[1])[start:stop], y, cell[1])
            y += LINE_HEIGHT
            for row in group:
                high = heights[row.name]
                _fill(sheet, row, bins, (start, stop), y, (high, cell[1]))
                _label(pen, row.name, y)
                y += high + GAP
    return pen.draw(sheet)


def _height(row: Row, cell: tuple[int, int]) -> int:
    """Return the height of the row's cells; that of tiles follows from their width."""
    return -(-row.size[0] * cell[1] // row.size[1]) if row.tiled else cell[0]


def _blocks(scene: Scene, rows: list[Row]) -> list[tuple[NDArray[np.int64] | None, list[Row]]]:
    """Return rows that share a time axis; the bins of a stack are not the windows of the RGB."""
    timed = [row for row in rows if not row.stacked]
    stacked = [row for row in rows if row.stacked]
    blocks: list[tuple[NDArray[np.int64] | None, list[Row]]] = []
    if timed:
        blocks.append((scene.windows_us, timed))
    if stacked:
        blocks.append((None, stacked))
    return blocks


def _axis(pen: Pen, texts: list[str], y: int, cell_width: int) -> None:
    """Draw the line of the time axis: a stroke as long as each bin, closed at its start."""
    for column, text in enumerate(texts):
        x = _LABEL_WIDTH + column * (cell_width + GAP)
        below = y + LINE_HEIGHT - 3
        pen.line(x, below, x + cell_width - 1, below, FAINT)
        pen.line(x, below - 3, x, below, FAINT)
        pen.line(x + cell_width - 1, below - 3, x + cell_width - 1, below, FAINT)
        pen.write((x + 3, y), text)


def _label(pen: Pen, name: str, y: int) -> None:
    for k, line in enumerate(wrapped(name, _LABEL_WIDTH - GAP)):
        pen.write((GAP, y + k * LINE_HEIGHT), line)


def _fill(
    sheet: NDArray[np.uint8],
    row: Row,
    bins: int,
    span: tuple[int, int],
    y: int,
    cell: tuple[int, int],
) -> None:
    """Draw the cells of bins ``span[0] .. span[1]`` from ``y`` down."""
    missing = bins - len(row.pictures)
    for column, k in enumerate(range(*span)):
        if k >= missing:
            x = _LABEL_WIDTH + column * (cell[1] + GAP)
            sheet[y : y + cell[0], x : x + cell[1]] = fitted(
                row.pictures[k - missing], cell, ink=row.ink
            )
