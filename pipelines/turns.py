"""One after the other: two that do the same work at a time, on any machine that shares the disk.

A scheduler that lost sight of a worker gives its task to another one while the first still writes.
"""

from __future__ import annotations

import errno
import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventkit.location import Location

logger = logging.getLogger(__name__)

_CANNOT_LOCK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def in_turn(path: Location) -> Iterator[None]:
    """Wait until nobody else is in a block for this file, which must be there.

    The kernel lets go when the holder dies. Where the disk knows no locks, and behind a URL, the
    block is entered at once.
    """
    if not isinstance(path, Path):
        yield
        return
    with path.open("ab") as file:  # NFS locks only what is open for writing
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as err:
            if err.errno not in _CANNOT_LOCK:
                raise
            logger.warning("%s: this disk cannot lock files (%s)", path, err.strerror)
        yield
