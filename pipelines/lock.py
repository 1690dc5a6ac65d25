"""One coordinator a folder, on one machine or on several that share the disk.

The lock is an `flock` on a file that names its holder. On one machine the kernel lets go of it when
the holder dies, and that decides. Not every shared disk takes a lock to other machines, so the
holder also touches the file every ten seconds: while another machine does so the folder is taken,
after two minutes of silence it is free. Ages are told by the clock of the disk alone, whatever the
clocks of the machines say. A holder that was silent for so long, and finds another name in the
file when it comes back, stops.
"""

from __future__ import annotations

import _thread
import errno
import fcntl
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from eventkit.atomic import machine, make_folder, runs, temporary_beside
from eventkit.errors import LockedError, SettingsError
from eventkit.location import Location, RemotePath
from pipelines.holder import Holder
from pipelines.receipts import HIDDEN, remove_temporaries
from pipelines.remote_lock import locked_behind_url

logger = logging.getLogger(__name__)

LOCK = f"{HIDDEN}/lock"
BEAT_S = 10.0
STALE_S = 120.0
_CANNOT_LOCK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def locked(folder: Location) -> Iterator[None]:
    """Hold the lock of ``folder`` (which is made) for the length of the block.

    A lock that a dead process has left is taken over, which is logged. Temporary files of processes
    that were killed are removed before the block and after it.

    Raises
    ------
    LockedError
        If another process holds it, or took it over: says which, since when, and when it was last
        heard of.
    """
    if isinstance(folder, RemotePath):
        with locked_behind_url(folder):
            yield
        return
    if folder.exists() and not folder.is_dir():
        msg = f"{folder}: expected a folder for --out, it is a file; choose another name"
        raise SettingsError(msg)
    path = folder / LOCK
    make_folder(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(handle, folder, path)
        beat = _Beat(path, _sign(handle))
        beat.start()
        try:
            remove_temporaries(folder)
            yield
        except BaseException as err:
            if beat.lost:
                holder = _holder_in(path)
                msg = f"{folder}: expected to hold its lock, got that of {holder}; stopped for it"
                raise LockedError(msg) from err
            raise
        finally:
            beat.stop()
            if not beat.lost:
                remove_temporaries(folder)
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _take(handle: int, folder: Path, path: Path) -> None:
    """Lock the file, or raise `LockedError`."""
    decisive = True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(folder, path, "wait for it") from None
    except OSError as err:
        if err.errno not in _CANNOT_LOCK:
            raise
        decisive = False
    holder = _holder_in(path)
    if holder is None:
        return
    if holder.machine == machine():
        if not decisive and runs(holder.pid):
            raise _refusal(folder, path, "wait for it")
    elif _silence_s(path) < STALE_S:
        cure = f"wait for it; if it is dead, its lock is free {STALE_S:.0f} s after its last sign"
        raise _refusal(folder, path, cure)
    logger.warning("%s: the run of %s, ended without a word; taken over", folder, holder)


def _sign(handle: int) -> str:
    """Write who holds the lock; returns the token."""
    holder = Holder.here()
    data = json.dumps(asdict(holder)).encode()
    os.pwrite(handle, data, 0)  # before the cut: an empty file is a free one
    os.ftruncate(handle, len(data))
    return holder.token


def _holder_in(path: Path) -> Holder | None:
    """Return who stands in a lock file; None where it was let go of."""
    with suppress(OSError, ValueError, TypeError):
        return Holder(**json.loads(path.read_bytes()))
    return None


def _refusal(folder: Path, path: Path, cure: str) -> LockedError:
    holder = _holder_in(path) or "another process"
    return LockedError(
        f"{folder}: expected a folder that nobody works on, got the lock of {holder}, last heard "
        f"of {_silence_s(path):.0f} s ago; {cure}, or choose another --out"
    )


def _silence_s(path: Path) -> float:
    """Return how long ago the holder touched its file, by the clock of the disk."""
    probe = temporary_beside(path)
    probe.touch()
    try:
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    finally:
        probe.unlink(missing_ok=True)


class _Beat(threading.Thread):
    """Touches the lock file; ends the block if the file names another holder."""

    def __init__(self, path: Path, token: str) -> None:
        super().__init__(name="eventkit-lock", daemon=True)
        self.lost = False
        self._path, self._token = path, token
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(BEAT_S):
            holder = _holder_in(self._path)
            if holder is not None and holder.token != self._token:
                self.lost = True
                logger.error("%s: taken over by %s", self._path, holder)
                _thread.interrupt_main(signal.SIGTERM)
                return
            with suppress(OSError):  # a disk that is away for a moment
                os.utime(self._path)

    def stop(self) -> None:
        """Touch no more."""
        self._over.set()
        self.join()
