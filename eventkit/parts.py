"""Bytes of the files of a store: all that reading a clip asks of the place where they lie."""

from __future__ import annotations

import os
from pathlib import Path

from eventkit.location import Location, RemotePath

SMALL_BYTES = 1 << 16
"""Metadata and columns of a pack, and the shards of sets that are small anyway."""


def near(pack: Location) -> Location:
    """Return the folder of a pack, behind a URL with its small files: they are read one by one."""
    return pack.held(at_most=SMALL_BYTES) if isinstance(pack, RemotePath) else pack


def read_part(path: Location, start: int, length: int) -> bytes:
    """Return ``length`` bytes from byte ``start``, fewer where the file ends before.

    Raises
    ------
    FileNotFoundError
    """
    if not isinstance(path, Path):
        return path.read_part(start, length)
    # 9 us; a file object around the descriptor takes 24 us.
    file = os.open(path, os.O_RDONLY)
    try:
        return os.pread(file, length, start)
    finally:
        os.close(file)


def state_of(path: Location) -> tuple[int, int | str]:
    """Return the size in bytes, and what is another once the file was replaced.

    It is asked for at every read: behind a URL of a path that was listed, which answers by itself.

    Raises
    ------
    FileNotFoundError
    """
    if not isinstance(path, Path):
        found = path.stat()
        return found.st_size, found.version
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
