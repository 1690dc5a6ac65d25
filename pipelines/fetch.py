"""The files of one recording on this machine: fetched, where the raw folder is behind a URL.

Readers seek, and look for side files: a copy of a recording gives what the recording would give on
a disk, byte for byte, whatever its format. It is kept for as long as it is read; a worker needs
room for its largest recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from eventkit.location import Location, RemotePath
from pipelines.datasets.discover import RecordingSpec
from pipelines.datasets.files import SIDE_SUFFIXES, stem_of
from pipelines.scratch import scratch_folder

_FEW = 32
"""Side files of a folder that may be about all that lies in it; of more, those of its name."""


@contextmanager
def at_hand(root: Location, spec: RecordingSpec) -> Iterator[Path]:
    """Give a folder of this machine with the files of a recording under their names in ``root``.

    Parameters
    ----------
    root : Path or RemotePath
    spec : RecordingSpec

    Yields
    ------
    Path
        ``root`` itself, or a folder that is removed after the block.
    """
    if isinstance(root, Path):
        yield root
        return
    with scratch_folder() as folder:
        here = folder / root.name  # which names the recording that is the root itself
        for place in sorted(_needed(root, spec)):
            target = here / place
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / place).fetch(target)
        yield here


def _needed(root: RemotePath, spec: RecordingSpec) -> set[str]:
    """Return what is to be fetched, relative to the root."""
    found: set[str] = set()
    for side in (spec.events, spec.rgb):
        if side is None:
            continue
        path = root / side
        inside = [] if path.is_file() else [p for p in path.iterdir() if p.is_file()]
        found |= {p.relative_to(root).as_posix() for p in inside or [path]}
        for folder in (path.parent, path.parent.parent):
            if folder.is_relative_to(root):
                beside = _beside(folder, stem_of(PurePosixPath(side).name))
                found |= {p.relative_to(root).as_posix() for p in beside}
    return found


def _beside(folder: RemotePath, stem: str) -> list[RemotePath]:
    """Return side files in a folder that may be about a recording."""
    sides = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SIDE_SUFFIXES and path.suffix.lower() != ".zip" and path.is_file()
    ]
    return sides if len(sides) <= _FEW else [path for path in sides if stem in path.name]
