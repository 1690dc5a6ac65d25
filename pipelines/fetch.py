"""The files of one recording on this machine: fetched, where the raw folder is behind a URL.

Readers seek, and look for side files: a copy of a recording gives what the recording would give on
a disk, byte for byte, whatever its format. It is kept for as long as it is read; a worker needs
room for its largest recording.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from eventkit.errors import SettingsError
from eventkit.location import Location, RemotePath
from eventkit.readers.images.times import INSIDE
from pipelines.datasets.discover import RecordingSpec
from pipelines.datasets.files import SIDE_SUFFIXES, stem_of
from pipelines.scratch import scratch_folder

_FEW = 32
"""Side files of a folder that are all fetched; of more, those that may be about the recording."""
_KEPT_S = 300.0
"""For how long a listing is believed; a worker may live for many runs."""
_TIMES = re.compile(r"_?(?:image|exposure)_timestamps")


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
        try:
            folders, files = _needed(root, spec)
            for place in folders:
                (here / place).mkdir(parents=True, exist_ok=True)
            for place in files:
                (here / place).parent.mkdir(parents=True, exist_ok=True)
                (root / place).fetch(here / place)
        except OSError as err:
            if err.errno != errno.ENAMETOOLONG:
                raise
            msg = (
                f"{root / spec.id}: expected names that a file of this machine can have, got "
                "longer ones; copy its objects to shorter names"
            )
            raise SettingsError(msg) from err
        yield here


def _needed(root: RemotePath, spec: RecordingSpec) -> tuple[list[str], list[str]]:
    """Return folders that are to be there, empty, and files to be fetched, relative to the root."""
    sides = [root / side for side in (spec.events, spec.rgb) if side is not None]
    files: set[RemotePath] = set()
    around: dict[RemotePath, set[str]] = {}
    for path in sides:
        inside = [] if path.is_file() else [p for p in path.iterdir() if p.is_file()]
        files.update(inside or [path])
        for folder in (path.parent, path.parent.parent):
            if folder.is_relative_to(root):
                around.setdefault(folder, set()).add(stem_of(path.name))
    folders: set[RemotePath] = set()
    for folder, stems in around.items():
        beside = _listed(folder, int(time.monotonic() // _KEPT_S))
        files.update(_side_files(beside, stems))
        folders.update(_owners(beside))
    return _places(root, folders), _places(root, files)


@lru_cache(maxsize=4)
def _listed(folder: RemotePath, when: int) -> list[RemotePath]:
    """Return what lies in a folder, as it was at the beginning of ``when``.

    Ten thousand recordings in one folder would else be ten thousand listings of ten requests.
    """
    return list(folder.iterdir())


def _places(root: RemotePath, paths: Iterable[RemotePath]) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in paths)


def _side_files(beside: list[RemotePath], stems: Iterable[str]) -> list[RemotePath]:
    """Return the files of a folder that may be about a recording."""
    sides = [
        path
        for path in beside
        if path.suffix.lower() in SIDE_SUFFIXES and path.suffix.lower() != ".zip" and path.is_file()
    ]
    if len(sides) <= _FEW:
        return sides
    others = {path.name for path in beside}.difference(stems)
    return [path for path in sides if _may_be_about(path.name, stems, others)]


def _may_be_about(name: str, stems: Iterable[str], others: set[str]) -> bool:
    """Tell whether a side file has a name of the recording, or one that is that of no other."""
    if name in INSIDE or any(stem in name for stem in stems):
        return True
    return _TIMES.search(name) is not None and _owner(name) not in others


def _owners(beside: list[RemotePath]) -> list[RemotePath]:
    """Return the folders that files of times beside them are about: readers tell by their being."""
    names = {_owner(path.name) for path in beside if _TIMES.search(path.name)}
    return [path for path in beside if path.name in names and not path.is_file()]


def _owner(name: str) -> str:
    """Return the name of the folder that a file of times begins with, as that of DSEC."""
    return re.split(r"_(?:image|exposure)_", name)[0]
