"""One coordinator a folder behind a URL: numbered locks, of which the highest one holds.

An object store lets go of nothing for a process that dies, and its clock cannot be asked. So the
holder rewrites its object every ten seconds, and whoever comes watches it: what changes is held,
what stays as it is for two minutes was left by a dead process. The next higher number is then put
unless it is there, which one of several succeeds in. A holder that was silent for so long and finds
a higher number stops.
"""

from __future__ import annotations

import _thread
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

from eventkit.atomic import machine, runs
from eventkit.errors import LockedError
from eventkit.location import RemotePath
from pipelines.holder import Holder
from pipelines.receipts import HIDDEN

logger = logging.getLogger(__name__)

LOCKS = f"{HIDDEN}/lock"
BEAT_S = 10.0
STALE_S = 120.0
LOOK_S = 1.0


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
        yield
    except BaseException as err:
        if beat.lost is not None:
            msg = f"{folder}: expected to hold its lock, got that of {beat.lost}; stopped for it"
            raise LockedError(msg) from err
        raise
    finally:
        beat.stop()
        if beat.lost is None:
            _let_go(folder, mine)


def _take(folder: RemotePath) -> _Lock:
    """Put a lock, or raise `LockedError`."""
    there = _highest(folder)
    if there is not None:
        _require_dead(folder, there)
        logger.warning("%s: the run of %s, ended without a word; taken over", folder, there.holder)
    mine = _Lock(1 if there is None else there.number + 1, Holder.here())
    if not mine.path(folder).create(mine.encoded()):
        there = _highest(folder)
        raise _refusal(folder, "another process" if there is None else str(there.holder))
    return mine


def _require_dead(folder: RemotePath, there: _Lock) -> None:
    """Return when a holder is known to be dead: at once where it ran on this machine."""
    if there.holder.machine == machine() and not runs(there.holder.pid):
        return
    logger.warning("%s: watching %.0f s for a sign of %s", folder, STALE_S, there.holder)
    began = time.monotonic()
    while time.monotonic() - began < STALE_S:
        time.sleep(LOOK_S)
        if _highest(folder) != there:
            raise _refusal(folder, str(there.holder))


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
    for path in reversed(_locks(folder)):
        with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            content = json.loads(path.read_bytes())
            return _Lock(int(path.name), Holder(**content["holder"]), int(content["beat"]))
    return None


class _Beat(threading.Thread):
    """Rewrites the lock; ends the block if there is a higher one."""

    def __init__(self, folder: RemotePath, mine: _Lock) -> None:
        super().__init__(name="eventkit-lock", daemon=True)
        self.lost: Holder | None = None
        self._folder, self._mine = folder, mine
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(OSError):  # a store that is away for a moment
                there = _highest(self._folder)
                if there is not None and there.number > self._mine.number:
                    self.lost = there.holder
                    logger.error("%s: taken over by %s", self._folder, there.holder)
                    _thread.interrupt_main(signal.SIGTERM)
                    return
                self._mine = replace(self._mine, beat=self._mine.beat + 1)
                self._mine.path(self._folder).write_bytes(self._mine.encoded())

    def stop(self) -> None:
        """Write no more."""
        self._over.set()
        self.join()
