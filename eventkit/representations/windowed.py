"""Accumulators that go through the open windows in order: what most conventions build on."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eventkit.events import Events
from eventkit.representations.base import Accumulator, first_outside
from eventkit.windows import Windows


class WindowedAccumulator(Accumulator):
    """Hands the events of each window to `_add_to` in order, and calls `_close` when it has ended.

    With ``memory`` an event that lies in several windows is handed out once, for the first.
    """

    memory: ClassVar[bool] = False

    def __init__(self, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._next = 0

    def _add(self, events: Events, ranges: NDArray[np.int64]) -> int:
        size, done = len(events), 0
        for k in range(self._next, len(self.windows)):
            first, last = (int(v) for v in ranges[k])
            begin = max(first, done) if self.memory else first
            if last > begin:
                bad = self._add_to(k, events[begin:last])
                if bad >= 0:
                    return begin + bad
                done = last
            if k == self._next and self._ended(k, events):
                self._next = k + 1
                self._close(k)
            elif first == last == size or (self.memory and done == size):
                break  # this window and those after it end after the chunk
        return -1

    def _flush(self) -> None:
        for k in range(self._next, len(self.windows)):
            self._close(k)
        self._next = len(self.windows)

    @abstractmethod
    def _add_to(self, k: int, events: Events) -> int:
        """Add events of window k; return as `Accumulator._add` does."""

    @abstractmethod
    def _close(self, k: int) -> None:
        """Complete ``out[k]``; the window may have met no event at all."""


class BufferedAccumulator(WindowedAccumulator):
    """Holds the events of a window until it ends, for formulas that need all of them at once.

    Memory is that of the events of the windows that are open: 13 bytes an event.
    """

    def __init__(self, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._open: dict[int, list[Events]] = {}

    def _add_to(self, k: int, events: Events) -> int:
        bad = first_outside(events, self.sensor_size)
        if bad < 0:
            self._open.setdefault(k, []).append(events)
        return bad

    def _close(self, k: int) -> None:
        self._fill(k, Events.concatenate(self._open.pop(k, [])))

    @abstractmethod
    def _fill(self, k: int, events: Events) -> None:
        """Write ``out[k]`` from all events of window k, which lie on the sensor."""
