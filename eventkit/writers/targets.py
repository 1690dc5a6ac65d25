"""Where an export may go: what is there already, and whether anything can be written there."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from eventkit.atomic import remove, temporary_beside
from eventkit.errors import SettingsError
from eventkit.frames import Frames
from eventkit.writers.images import HEADER, TIMES, is_written

_BAG = {"metadata.yaml", "recording.db3"}
_PICTURE = re.compile(r"\d{6,}\.(png|jpg)")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def check_target(target: Path, sources: Iterable[str | Path], *, overwrite: bool) -> None:
    """Refuse a place that cannot be written to, or where something is that must stay.

    Parameters
    ----------
    target : Path
    sources : iterable of str or Path
        Files that must not be written over.
    overwrite : bool
        Whether a file, or a folder of an export, may be replaced.

    Raises
    ------
    SettingsError
        Says what is in the way, and what to do.
    OSError
        If the disk is full or broken.
    """
    if re.match(r"\w+:/", str(target)):
        msg = f"{target}: expected a path to write to, got a URL; write to a file and copy it"
        raise SettingsError(msg)
    _check_sources(target, sources)
    try:
        found = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except OSError as err:
        _refuse(err, target)
    if found is not None:
        _check_old(target, found.st_mode, overwrite=overwrite)
    _check_folder(target.parent)


def check_pictures(folder: Path, count: int, sources: Iterable[str | Path]) -> None:
    """As `check_target` without ``overwrite``, for a folder that may hold the pictures already.

    Whether it does is known when they are read: `check_kept`. A folder of another number of
    pictures is refused here, before a long recording is gone through for it.

    Raises
    ------
    SettingsError
    OSError
    """
    known = folder.is_dir() and not folder.is_symlink()
    known = known and sum(path.name != TIMES for path in folder.iterdir()) == count
    check_target(folder, sources, overwrite=known)


def check_kept(folder: Path, frames: Frames) -> bool:
    """Return whether a folder holds these pictures and times; False where there is none.

    Raises
    ------
    SettingsError
        If it holds others.
    """
    if not folder.exists():
        return False
    if not is_written(frames, folder):
        raise _exists(folder)
    return True


def _check_sources(target: Path, sources: Iterable[str | Path]) -> None:
    for source in sources:
        # The archive of zip://member::archive is the last of them.
        held = Path(str(source).split("::")[-1])
        if not held.exists():
            continue
        here, there = target.resolve(), held.resolve()
        if here == there or there in here.parents or here in there.parents:
            msg = f"{target}: expected another place than the recording {held}"
            raise SettingsError(msg)


def _check_old(target: Path, mode: int, *, overwrite: bool) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "a device, pipe or socket"
        msg = f"{target}: expected a file, a folder or nothing, got {kind}; name another DST"
        raise SettingsError(msg)
    if not overwrite:
        raise _exists(target)
    foreign = _foreign(target) if stat.S_ISDIR(mode) else None
    if foreign is not None:
        msg = f"{target}: {foreign}, so no export wrote it; move it away, or name another DST"
        raise SettingsError(msg)


def _exists(target: Path) -> SettingsError:
    msg = f"{target}: exists; --overwrite replaces it"
    return SettingsError(msg)


def _foreign(folder: Path) -> str | None:
    """Return what shows that a folder is not one that an export has written."""
    names = sorted(path.name for path in folder.iterdir())
    if not names or set(names) == _BAG:
        return None
    strange = [name for name in names if not _PICTURE.fullmatch(name) and name != TIMES]
    if strange:
        return f"holds {strange[0]}"
    if TIMES in names and _begins(folder / TIMES, HEADER.encode()):
        return None
    return f"has no {TIMES} that begins with '{HEADER}'"


def _begins(file: Path, expected: bytes) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(expected)) == expected


def _check_folder(folder: Path) -> None:
    """Refuse a folder, there or to be made, in which no file can be made."""
    there = folder
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        msg = f"{there}: expected a folder to write to, got none; name another DST"
        raise SettingsError(msg)
    trial = temporary_beside(there / "trial")
    try:
        trial.touch(exist_ok=False)
        remove(trial)
    except OSError as err:
        _refuse(err, there)


def _refuse(err: OSError, place: Path) -> NoReturn:
    if err.errno in _DISK:
        raise err
    if err.errno == errno.ENAMETOOLONG:
        msg = f"{place}: the name is too long for the file system; name a shorter DST"
    else:
        msg = f"{place}: cannot be written to ({err.strerror}); name another DST"
    raise SettingsError(msg) from err
