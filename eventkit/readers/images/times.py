"""Times of the pictures in a folder, from the files that labs write beside them.

One line a picture (`eventkit.readers.images.lines`): an optional name (first, or last as in the
Event-Camera Dataset's ``images.txt``), an optional number of the line, then one time or the start
and stop of the exposure. Looked for, in this order:

- in the folder: ``timestamps.txt``, ``timestamps.csv``, ``timestamp.txt``,
  ``image_timestamps.txt``, ``images.txt``, ``rgb.txt``; else the one ``*timestamps*.txt`` that
  names its pictures or has as many lines, as TUM-VIE's ``image_timestamps_left.txt``;
- beside the folder: ``<folder>_timestamps.txt`` (or ``.csv``);
- beside the folder, if they name its pictures or have as many lines: DSEC's
  ``*exposure_timestamps*.txt`` and ``*image_timestamps.txt``, ``images/timestamps.txt`` above
  ``images/left/rectified`` or ``images/data``; ``images.txt`` and ``rgb.txt`` if they name them;
- the names of the pictures themselves, where they step as times do.

What was found, and the unit it was taken to be in (`eventkit.readers.images.units`), is said in
a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.events import TimeUnit
from eventkit.readers.images.lines import Lines, Row, read_lines
from eventkit.readers.images.units import (
    NUMBER,
    UNIT_NAMES,
    WHOLE,
    exact_us,
    median_step,
    tell_unit,
)

INSIDE = (
    "timestamps.txt",
    "timestamps.csv",
    "timestamp.txt",
    "image_timestamps.txt",
    "images.txt",
    "rgb.txt",
)
_ANY_INSIDE = "*timestamps*.txt"
_OWN = ("{folder}_timestamps.txt", "{folder}_timestamps.csv")
_DSEC = ("*exposure_timestamps*.txt", "*image_timestamps.txt")
_SHARED = ("images.txt", "rgb.txt")

_NUMBERING = re.compile(r"(frame|image|img)?_?(id|idx|index|no|nr|num|number|seq)|frame", re.I)


@dataclass(frozen=True, slots=True)
class Times:
    """Exposures of pictures, and where they come from.

    Parameters
    ----------
    spans : (N, 2) int64, microseconds
        Start and stop; equal where there is one time only.
    note : str
    """

    spans: NDArray[np.int64]
    note: str


def find_times(
    folder: Path, images: Sequence[Path], *, time_unit: TimeUnit | None
) -> tuple[Times | None, list[str]]:
    """Return the times of ``images``, if there are any, and what else is to be said.

    Raises
    ------
    FormatError
        If a file of times does not go with the pictures; both numbers are named.
    """
    notes: list[str] = []
    for name in INSIDE:
        path = folder / name
        if path.is_file() and (name not in _SHARED or _fits(path, images, notes)):
            return _times(path, read_lines(path), images, time_unit), notes
    for pattern in _OWN:
        path = folder.parent / pattern.format(folder=folder.resolve().name)
        if path.is_file():
            return _times(path, read_lines(path), images, time_unit), notes
    inside = [path for path in sorted(folder.glob(_ANY_INSIDE)) if path.name not in INSIDE]
    fitting = [(path, lines) for path in inside if (lines := _fits(path, images, notes))]
    if len(fitting) == 1:
        return _times(*fitting[0], images, time_unit), notes
    if fitting:
        notes.append(_doubt([path for path, _ in fitting]))
    for path in _beside(folder, notes):
        if (lines := _fits(path, images, notes)) is not None:
            return _times(path, lines, images, time_unit), notes
    return _of_names(images, time_unit), notes


def _fits(path: Path, images: Sequence[Path], notes: list[str]) -> Lines | None:
    """Return the lines if they name the first picture or are as many; a doubt makes a note."""
    try:
        lines = read_lines(path)
    except FormatError as fault:
        notes.append(f"{path.name} not used: {fault.message}")
        return None
    if any(row.name == images[0].name for row in lines.rows):
        return lines
    if path.name in _SHARED:
        return None
    if len(lines.rows) != len(images):
        notes.append(f"{path.name} has {len(lines.rows)} times for {len(images)} images: not used")
        return None
    return lines


def _doubt(paths: list[Path]) -> str:
    listed = ", ".join(path.name for path in paths[:4])
    return f"{listed} may all hold the times: not used; copy one to timestamps.txt"


def _beside(folder: Path, notes: list[str]) -> Iterator[Path]:
    """Yield the files beside the folder that may be about it; a doubt makes a note."""
    folder = folder.resolve()
    parent = folder.parent
    for pattern in _DSEC:
        found = _of_this_folder(sorted(parent.glob(pattern)), folder)
        if len(found) == 1:
            yield found[0]
        elif found:
            notes.append(_doubt(found))
    # `images/data/*.png` as in KITTI, `images/left/rectified/*.png` as in DSEC
    above = [parent] if folder.name == "data" else []
    above += [parent.parent] if parent.parent.name == "images" else []
    for path in (*(up / "timestamps.txt" for up in above), *(parent / name for name in _SHARED)):
        if path.is_file():
            yield path


def _of_this_folder(paths: list[Path], folder: Path) -> list[Path]:
    """Leave out files of other folders beside this one, and those of the other camera."""
    sides = [side for side in ("left", "right") if side in folder.name.lower()]
    kept = []
    for path in paths:
        owner = re.split(r"_(?:image|exposure)_", path.name)[0]
        if owner == path.name or owner == folder.name or not (folder.parent / owner).is_dir():
            kept.append(path)
    ours = [path for path in kept if len(sides) == 1 and sides[0] in path.name.lower()]
    return ours or kept


def _times(path: Path, lines: Lines, images: Sequence[Path], time_unit: TimeUnit | None) -> Times:
    rows = lines.rows
    named = bool(rows) and all(row.name is not None for row in rows)
    if named:
        rows = _by_name(path, rows, images)
    elif len(rows) != len(images):
        msg = f"expected {len(images)} lines, one an image, got {len(rows)}"
        raise FormatError(msg, path=path, reason="bad_value")
    cells = _without_numbering([row.cells for row in rows], lines)
    for row, kept in zip(rows, cells, strict=True):
        _check(path, row, kept)
    unit, why = _unit(path, rows, cells, lines.header, time_unit)
    spans = _microseconds(path, cells, unit)
    middle = spans[:, 0] + (spans[:, 1] - spans[:, 0]) // 2
    if (spans[:, 1] < spans[:, 0]).any() or (middle[1:] < middle[:-1]).any():
        msg = "expected exposures in time order with start before stop"
        raise FormatError(msg, path=path, reason="backwards_time")
    kind = "exposures" if len(cells[0]) == 2 else "times"
    return Times(spans, f"{kind} of the pictures from {path.name}, {UNIT_NAMES[unit]}{why}")


def _unit(
    path: Path, rows: list[Row], cells: list[list[str]], header: str, time_unit: TimeUnit | None
) -> tuple[TimeUnit, str]:
    """Return the unit of the numbers, and why; dates were made seconds."""
    other = next((row for row in rows if row.dated != rows[0].dated), None)
    if other is not None:
        msg = f"expected dates or numbers, got both, as {other.text[:80]!r} in line {other.number}"
        raise FormatError(msg, path=path, reason="bad_value")
    if rows[0].dated:
        return "s", " since 1970, from dates"
    return tell_unit(cells, header, time_unit)


def _by_name(path: Path, rows: list[Row], images: Sequence[Path]) -> list[Row]:
    found = {str(row.name): row for row in rows}
    missing = [image.name for image in images if image.name not in found]
    if missing:
        msg = (
            f"expected a line for every image, {missing[0]} has none; "
            f"there are {len(found)} names for {len(images)} images"
        )
        raise FormatError(msg, path=path, reason="bad_value")
    if len(found) < len(rows):
        msg = f"expected one line an image, got {len(rows)} lines with {len(found)} names"
        raise FormatError(msg, path=path, reason="bad_value")
    return [found[image.name] for image in images]


def _without_numbering(rows: list[list[str]], lines: Lines) -> list[list[str]]:
    """Leave out a first column 0, 1, 2 ... (or 1, 2 ...), unless the header says exposures."""
    if {len(row) for row in rows} - {2, 3} or re.search(r"start|expos", lines.header):
        return rows
    columns = lines.columns
    if {len(row) for row in rows} == {len(columns)} and _NUMBERING.fullmatch(columns[0]):
        return [row[1:] for row in rows]
    first = [row[0] for row in rows]
    if len(rows) > 1 and any(first == [str(i + base) for i in range(len(rows))] for base in (0, 1)):
        if all(row[0] == row[1] for row in rows) and len(rows[0]) == 2:
            return rows
        return [row[1:] for row in rows]
    return rows


def _check(path: Path, row: Row, cells: list[str]) -> None:
    sound = len(cells) in (1, 2) and all(NUMBER.fullmatch(cell) for cell in cells)
    if sound and all(abs(Decimal(cell)) < 2**62 for cell in cells):
        return
    msg = (
        f"expected '[name] time' or '[name] start stop', got {row.text[:80]!r} in line {row.number}"
    )
    raise FormatError(msg, path=path, reason="bad_value")


def _microseconds(path: Path, rows: list[list[str]], unit: TimeUnit) -> NDArray[np.int64]:
    """Bring decimals to microseconds without a float on the way: 1.4e9 s has no room there."""
    spans = [(exact_us(row[0], unit), exact_us(row[-1], unit)) for row in rows]
    if any(abs(time) >= 2**62 for span in spans for time in span):
        msg = f"expected times within 2^62 us, got larger ones in {unit}; is --time-unit right?"
        raise FormatError(msg, path=path, reason="bad_value")
    return np.array(spans, np.int64).reshape(-1, 2)


def _of_names(images: Sequence[Path], time_unit: TimeUnit | None) -> Times | None:
    """Times from names like ``1468939993067416.png``: only if they step as times do."""
    stems = [image.stem for image in images]
    if len(stems) < 2 or not all(NUMBER.fullmatch(stem) for stem in stems):
        return None
    if any("e" in stem.lower() or len(stem) > 25 for stem in stems):
        return None
    values = [Decimal(stem) for stem in stems]
    steps = [b - a for a, b in pairwise(values)]
    whole = all(WHOLE.fullmatch(stem) for stem in stems)
    # Numbers of frames step by one or a few; a camera takes a millisecond at least.
    if min(steps) <= 0 or (whole and (median_step(values) < 1000 or len(stems) < 3)):
        return None
    unit, why = tell_unit([[stem] for stem in stems], "", time_unit)
    spans = [(exact_us(stem, unit), exact_us(stem, unit)) for stem in stems]
    if any(abs(time) >= 2**62 for time, _ in spans):
        return None
    note = f"times of the pictures from their names, {UNIT_NAMES[unit]}{why}"
    return Times(np.array(spans, np.int64), note if why else f"{note}; --time-unit overrides")
