"""Progress of long work: a live bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

EVERY_S = 10.0


class Progress:
    """Counts work in ``unit`` towards a total, with rate and time left."""

    def __init__(self, title: str, total: int, unit: str, *, stream: TextIO | None = None) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._stream = stream if stream is not None else sys.stderr
        self._started = time.monotonic()
        self._over = threading.Event()
        self._done = 0
        self._bar: Any = None
        self._task: Any = None

    def advance(self, amount: int) -> None:
        """Book finished work."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=f"{self._rate():,.1f}")

    def line(self) -> str:
        """Return the state in words."""
        rate = self._rate()
        left = (self.total - self._done) / rate if rate > 0 else float("inf")
        return (
            f"{self.title}: {self._done:,} of {self.total:,} {self.unit}, "
            f"{rate:,.1f} {self.unit}/s, {_clock(left)} left"
        )

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._started, 1e-9)

    def _open(self) -> None:
        if not self._stream.isatty():
            # From a thread of its own: one long recording must not be silent until it is done.
            self._speaker = threading.Thread(target=self._speak, daemon=True)
            self._speaker.start()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        rate = TextColumn(f"{self.unit}, {{task.fields[rate]}}/s,")
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), rate)
        left = TimeRemainingColumn(compact=True)
        self._bar = Bar(*columns, left, "left", console=Console(file=self._stream))
        self._bar.start()
        self._task = self._bar.add_task(self.title, total=self.total, rate="-")

    def _speak(self) -> None:
        while not self._over.wait(EVERY_S):
            self._stream.write(f"{self.line()}\n")
            self._stream.flush()

    def _close(self) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Progress]:
    """Show progress for the length of the block."""
    shown = Progress(title, total, unit)
    shown._open()
    try:
        yield shown
    finally:
        shown._close()


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
