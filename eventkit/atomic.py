"""Files and folders that are there whole, or not at all.

Order of a commit: a temporary name in the same folder, write, fsync, rename, fsync the folder. A
reader, or a run after a crash, finds the old content or the new one and never half of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp-"
"""How temporary names begin; what is left of a killed run can be told by it."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half-written; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with committed(path) as temporary:
        temporary.write_bytes(data)


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
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        yield temporary
        sync(temporary)
        commit(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def commit(temporary: Path, path: Path) -> None:
    """Rename a written and synced file or folder to its name, durably."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or everything in a folder, to the disk."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
