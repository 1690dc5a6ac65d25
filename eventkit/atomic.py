"""Files and folders that are there whole, or not at all.

Order of a commit: a temporary name in the same folder, write, fsync, rename, fsync the folder. A
reader, or a run after a crash, finds the old content or the new one and never half of it. Of two
that write to one name at a time the later one stays, whole.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from eventkit.faults import at

TEMPORARY = ".tmp-"
"""How temporary names begin; what is left of a killed run can be told by it.

Then come the machine, the process and a random number; the name of the target does not, so that
every name that a file can have can be written.
"""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half-written; its folder is made."""
    make_folder(path.parent)
    with committed(path) as temporary, named(path):
        temporary.write_bytes(data)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, durably: a file is no safer than the way to it."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


@contextmanager
def named(path: Path | str | None) -> Iterator[None]:
    """Say of what file an error of the disk is: the system names none for a write or an fsync."""
    try:
        yield
    except OSError as err:
        if err.filename is None and path is not None:
            err.filename = str(path)
        raise


@contextmanager
def committed(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; at the end of the block it gets its own name.

    The block writes a file or makes a folder there. After an error nothing of it is left.

    Parameters
    ----------
    path : Path
        An existing file is replaced; a folder must not be there.

    Yields
    ------
    Path
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        sync(temporary)
        commit(temporary, path)
    except BaseException:
        remove(temporary)
        raise


@contextmanager
def replaced(*paths: Path) -> Iterator[list[Path]]:
    """Give a temporary name for each path; at the end of the block all are renamed, or none is.

    Parameters
    ----------
    *paths : Path
        In the order in which they are to be seen, folders first. What is there is replaced.

    Yields
    ------
    list of Path
    """
    temporary = [temporary_beside(path) for path in paths]
    try:
        yield temporary
        for written in temporary:
            sync(written)
        _take_places(list(zip(temporary, paths, strict=True)))
    except BaseException:
        for written in temporary:
            remove(written)
        raise


def _take_places(pairs: Sequence[tuple[Path, Path]]) -> None:
    old = []
    at("rename")
    with ExitStack() as undo:
        for temporary, path in pairs:
            # A folder is not replaced by renaming; nor is a file by a folder.
            if path.is_dir() or (path.exists() and temporary.is_dir()):
                old.append(temporary_beside(path))
                os.replace(path, old[-1])
                undo.callback(os.replace, old[-1], path)
            os.replace(temporary, path)
            undo.callback(remove, path)
        undo.pop_all()
    at("folder")
    for folder in {path.parent for _, path in pairs}:
        sync_folder(folder)
    for aside in old:
        remove(aside)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Make a folder under a temporary name beside ``path``, and remove it after the block."""
    folder = temporary_beside(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        remove(folder)


def temporary_beside(path: Path) -> Path:
    """Return a temporary name in the folder of ``path`` that nobody else uses."""
    return path.with_name(f"{TEMPORARY}{machine()}-{os.getpid()}-{secrets.token_hex(4)}")


def remove_left(folder: Path) -> None:
    """Remove what killed processes of this machine have left in a folder under temporary names."""
    pattern = re.compile(rf"{re.escape(TEMPORARY)}{machine()}-(\d+)-[0-9a-f]{{8}}")
    for path in list(folder.iterdir()):
        found = pattern.fullmatch(path.name)
        if found and not runs(int(found[1])):
            with suppress(OSError):  # that of another user
                remove(path)


def machine() -> str:
    """Return what tells apart machines, and containers, that write to one folder."""
    processes = Path("/proc/self/ns/pid")
    space = processes.readlink() if processes.is_symlink() else ""
    return f"{zlib.crc32(f'{platform.node()} {space}'.encode()):08x}"


def runs(process: int) -> bool:
    """Tell whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def commit(temporary: Path, path: Path) -> None:
    """Rename a written and synced file or folder to its name, durably."""
    with named(path):
        at("rename")
        os.replace(temporary, path)
        at("folder")
        sync_folder(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or everything in a folder, to the disk."""
    with named(path):
        at("fsync")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with named(folder):
            os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
