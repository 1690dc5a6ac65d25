"""One coordinator a folder.

The lock is an `flock` on a file that also names its holder. The kernel lets it go when the
process dies, so a killed run leaves no lock behind.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventkit.errors import LockedError, SettingsError
from pipelines.receipts import HIDDEN


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder`` (which is made) for the length of the block.

    Raises
    ------
    LockedError
        If another process holds it; says which.
    """
    if folder.exists() and not folder.is_dir():
        msg = f"{folder}: expected a folder for --out, it is a file; choose another name"
        raise SettingsError(msg)
    path = folder / HIDDEN / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip() or "another process"
            msg = f"{folder}: {holder} works on this folder; wait for it or choose another --out"
            raise LockedError(msg) from err
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
