"""One coordinator a folder behind a URL: numbered locks, of which the highest one holds.

An object store lets go of nothing for a process that dies, and its clock cannot be asked. So the
holder rewrites its object every ten seconds, and whoever comes watches it: what changes is held,
what stays as it is for two minutes was left by a dead process. The next higher number is then put
unless it is there, which one of several succeeds in. A holder that was silent for so long, and does
not find its own lock as the highest when it comes back, stops.
"""

from __future__ import annotations

import _thread
import hashlib
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial

from eventkit.atomic import TEMPORARY, machine, runs
from eventkit.errors import EventKitError, LockedError
from eventkit.location import RemotePath
from pipelines.briefly import briefly
from pipelines.holder import Holder
from pipelines.receipts import HIDDEN

logger = logging.getLogger(__name__)

LOCKS = f"{HIDDEN}/lock"
BEAT_S = 10.0
STALE_S = 120.0
LOOK_S = 1.0
END_S = 1.0
"""How long a run that was interrupted tries to let go; its lock is free anyway, as it is dead."""


@dataclass(frozen=True, slots=True)
class _Lock:
    """A lock as it stands; ``beat`` counts how often it was rewritten."""

    number: int
    holder: Holder
    beat: int = 0

    def encoded(self) -> bytes:
        return json.dumps({"holder": asdict(self.holder), "beat": self.beat}).encode()

    def path(self, folder: RemotePath) -> RemotePath:
        return folder / LOCKS / f"{self.number:08d}"


@contextmanager
def locked_behind_url(folder: RemotePath) -> Iterator[None]:
    """Hold the lock of a folder for the length of the block; see `pipelines.lock.locked`.

    Raises
    ------
    LockedError
        If another process holds it, or took it over.
    """
    mine = _take(folder)
    beat = _Beat(folder, mine)
    beat.start()
    try:
        _remove_probes(folder)
        yield
    except BaseException as err:
        interrupted = not isinstance(err, Exception)
        briefly(partial(_end, folder, mine, beat), seconds=END_S if interrupted else BEAT_S)
        if beat.lost is not None:
            msg = f"{folder}: expected to hold its lock, got that of {beat.lost}; stopped for it"
            raise LockedError(msg) from err
        raise
    _end(folder, mine, beat)


def _end(folder: RemotePath, mine: _Lock, beat: _Beat) -> None:
    beat.stop()
    if beat.lost is None:
        _let_go(folder, mine)


def _remove_probes(folder: RemotePath) -> None:
    """Remove what a killed run has left under a temporary name: probes that workers look for."""
    for path in (folder / HIDDEN).iterdir():
        if path.name.startswith(TEMPORARY):
            path.unlink(missing_ok=True)


def _take(folder: RemotePath) -> _Lock:
    """Put a lock, or raise `LockedError`."""
    there = _highest(folder)
    if there is not None and not _is_dead(folder, there):
        return _take(folder)
    mine = _Lock(1 if there is None else there.number + 1, Holder.here())
    if not mine.path(folder).create(mine.encoded()):
        other = _highest(folder)
        raise _refusal(folder, "another process" if other is None else str(other.holder))
    if there is None:
        return mine
    if _read(there.path(folder)) != there:
        # It was taken over and let go of meanwhile: the number after it says nothing.
        mine.path(folder).unlink(missing_ok=True)
        return _take(folder)
    logger.warning("%s: the run of %s, ended without a word; taken over", folder, there.holder)
    return mine


def _is_dead(folder: RemotePath, there: _Lock) -> bool:
    """Watch a holder: whether it is dead, told at once where it ran here, or has let go.

    Raises
    ------
    LockedError
        If it is alive.
    """
    if there.holder.machine == machine() and not runs(there.holder.pid):
        return True
    logger.warning("%s: watching %.0f s for a sign of %s", folder, STALE_S, there.holder)
    began = time.monotonic()
    while time.monotonic() - began < STALE_S:
        time.sleep(LOOK_S)
        seen = _highest(folder)
        if seen is None:
            return False
        if seen != there:
            raise _refusal(folder, str(seen.holder))
    return True


def _refusal(folder: RemotePath, holder: str) -> LockedError:
    return LockedError(
        f"{folder}: expected a folder that nobody works on, got the lock of {holder}, which is "
        "alive; wait for it, or choose another --out"
    )


def _let_go(folder: RemotePath, mine: _Lock) -> None:
    """Remove our lock, and first those that it was taken over from."""
    for path in _locks(folder):
        if int(path.name) <= mine.number:
            path.unlink(missing_ok=True)


def _locks(folder: RemotePath) -> list[RemotePath]:
    with suppress(FileNotFoundError):
        return sorted(path for path in (folder / LOCKS).iterdir() if path.name.isdecimal())
    return []


def _highest(folder: RemotePath) -> _Lock | None:
    """Return the lock that holds, None where there is none."""
    found = (_read(path) for path in reversed(_locks(folder)))
    return next((lock for lock in found if lock is not None), None)


def _read(path: RemotePath) -> _Lock | None:
    """Return a lock, None where there is none; one that cannot be read is somebody's too."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        content = json.loads(data)
        return _Lock(int(path.name), Holder(**content["holder"]), int(content["beat"]))
    except (ValueError, TypeError, KeyError):
        token = hashlib.sha256(data).hexdigest()
        nobody = Holder(host="a machine", machine="", pid=0, since="a time", token=token)
        return _Lock(int(path.name), nobody)


class _Beat(threading.Thread):
    """Rewrites the lock; ends the block if it is no longer the highest."""

    def __init__(self, folder: RemotePath, mine: _Lock) -> None:
        super().__init__(name="eventkit-lock", daemon=True)
        self.lost: str | None = None
        self._folder, self._mine = folder, mine
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                there = _highest(self._folder)
                if there is None or there.holder.token != self._mine.holder.token:
                    self._stop_for("another process" if there is None else str(there.holder))
                    return
                self._mine = replace(self._mine, beat=self._mine.beat + 1)
                self._mine.path(self._folder).write_bytes(self._mine.encoded())
            except (EventKitError, OSError) as err:  # a store that is away for a moment
                logger.info("%s: the lock was not renewed: %s", self._folder, err)

    def _stop_for(self, other: str) -> None:
        self.lost = other
        logger.error("%s: taken over by %s", self._folder, other)
        _thread.interrupt_main(signal.SIGTERM)

    def stop(self) -> None:
        """Write no more."""
        self._over.set()
        self.join()
