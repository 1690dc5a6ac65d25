"""Faults on purpose, for tests of what a crash or a failing disk leaves; off unless asked for.

``EVENTKIT_FAULT=POINT:NTH:ACTION[:TOKEN]`` in the environment: the NTH time that a process comes to
POINT, ACTION happens to it. An action is a signal (``kill``, ``term``, ``int``), sent to the
process itself, or an error of the disk (``enospc``, ``eio``, ``erofs``). With TOKEN, the path of a
file, it happens only to the process that removes that file: once among the workers of a run.

A point bears the name of what comes next: ``write`` (bytes of a shard or a pack), ``fsync``,
``rename``, ``folder`` (the fsync of the folder after a rename), ``receipt``, ``manifest``; ``done``
follows a receipt. While nothing is asked for a point costs 60 ns.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from eventkit.errors import SettingsError

VARIABLE = "EVENTKIT_FAULT"
POINTS = ("write", "fsync", "rename", "folder", "receipt", "manifest", "done")
_SPEC = os.environ.get(VARIABLE)


def at(point: str) -> None:
    """Say that this process is at a point of a commit."""
    if _SPEC:
        _armed(_SPEC).meet(point)


@dataclass(frozen=True, slots=True)
class _Fault:
    point: str
    nth: int
    number: int
    is_signal: bool
    token: str
    passed: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def meet(self, point: str) -> None:
        if point != self.point or next(self.passed) != self.nth or not self._is_ours():
            return
        if self.is_signal:
            os.kill(os.getpid(), self.number)
        else:
            raise OSError(self.number, os.strerror(self.number))

    def _is_ours(self) -> bool:
        if not self.token:
            return True
        try:
            Path(self.token).unlink()
        except FileNotFoundError:
            return False
        return True


@lru_cache(maxsize=1)
def _armed(spec: str) -> _Fault:
    point, nth, action, token = (*spec.split(":", 3), "", "", "")[:4]
    is_signal = f"SIG{action.upper()}" in signal.Signals.__members__
    number = (
        signal.Signals[f"SIG{action.upper()}"] if is_signal else getattr(errno, action.upper(), 0)
    )
    if point not in POINTS or not nth.isdecimal() or not number:
        msg = (
            f"expected {VARIABLE}=POINT:NTH:ACTION[:TOKEN] with a point among "
            f"{', '.join(POINTS)} and an action like kill or enospc, got {spec!r}; unset it"
        )
        raise SettingsError(msg)
    return _Fault(point, int(nth), int(number), is_signal, token)
