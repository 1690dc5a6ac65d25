"""Pictures that are missing between others: by their numbers, or by their times."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from eventkit.frames import Frames
from eventkit.readers.images.reader import list_images
from pipelines.check.findings import Finding

_NUMBER = re.compile(r"[0-9]{1,18}$")
_FEWEST = 4
"""Pictures from which a step can be told."""
_LOST = 1.75
"""A step of so many usual ones has lost a picture; exposures of changing length vary by less."""


def numbered_gaps(folder: Path, name: str) -> tuple[int, Finding | None]:
    """Return the step of the numbers of a folder's pictures (0: none), and what is missing.

    HARDVS has every fifth picture: 0, 5, 10 ...
    """
    names = [image.name for image in list_images(folder)]
    found = [_NUMBER.search(Path(image).stem) for image in names]
    if len(names) < _FEWEST or not all(found):
        return 0, None
    numbers = [int(match[0]) for match in found if match]
    steps = [b - a for a, b in pairwise(numbers)]
    usual, count = Counter(steps).most_common(1)[0]
    if usual < 1 or 2 * count <= len(steps):
        return 0, None
    lost = [(i, step) for i, step in enumerate(steps) if step > usual]
    if not lost:
        return usual, None
    absent = sum(-(-step // usual) - 1 for _, step in lost)
    first = lost[0][0]
    every = "every number" if usual == 1 else f"every number that is {usual} after the last"
    message = (
        f"expected {every}, got {names[first + 1]} after {names[first]}: {absent:,} of "
        f"{len(names) + absent:,} pictures are missing; unpack or copy the folder again"
    )
    return usual, Finding("rgb_gap", f"{name}/{names[first]}", message)


def timed_gaps(frames: Frames, name: str) -> Finding | None:
    """Return the pauses of a camera that told the time of each picture."""
    if len(frames) < _FEWEST or frames.timing != "recorded":
        return None
    steps = np.diff(frames.t_us)
    usual = float(np.median(steps))
    long = np.flatnonzero(steps > _LOST * usual)
    if usual <= 0 or not long.size:
        return None
    absent = int(np.round(steps[long] / usual - 1).sum())
    first, longest = int(long[0]), int(steps[long].max())
    message = (
        f"expected a picture every {usual:,.0f} us, got {_pauses(long)}, the longest "
        f"{longest:,} us: about {absent:,} are missing beside {len(frames):,}; the camera or the "
        "recorder dropped them"
    )
    return Finding("rgb_gap", name, message, t_us=int(frames.t_us[first]))


def _pauses(long: Sequence[int] | np.ndarray) -> str:
    return "1 pause" if len(long) == 1 else f"{len(long):,} pauses"
