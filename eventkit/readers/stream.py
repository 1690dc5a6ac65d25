"""From a decoder to the events of a recording: chunks, whole columns, and a way back in.

A decoder is a function ``decode(buffer, mark)`` that yields `RawChunk`. It may write into
``buffer.room(n)`` and yield views of it, which saves a copy; it may put a ``mark`` on a chunk, with
which it is called again to start there. Everything else stands here, once for all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import EVENT_CHUNK, Buffer, Columns
from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers.policy import Judge, RawChunk
from eventkit.recording import Chunk, OnError

Decode = Callable[[Buffer, object], Iterator[RawChunk]]

INDEX_EVENTS = 1 << 18
"""Events between two entries of the index: a way back in costs at most decoding these."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A place to start again: everything before it is at ``latest`` or earlier, or held back."""

    latest: int
    seen: int
    held: Columns | None
    mark: object


@dataclass(slots=True)
class EventStream:
    """The events of one recording, decoded anew at every call.

    Parameters
    ----------
    decode : callable
        ``decode(buffer, mark)``; see above. ``mark`` is None for the beginning.
    path : str
        For messages.
    sensor_size : (W, H) or None
        None leaves places unchecked.
    on_error : {"raise", "skip", "repair"}
    bound : callable, optional
        ``bound()`` is at least the number of events, for columns of the whole; memory that is not
        written costs nothing.
    """

    decode: Decode
    path: str
    sensor_size: tuple[int, int] | None
    on_error: OnError
    bound: Callable[[], int] | None = None
    _index: list[_Entry] = field(default_factory=list)

    def __call__(self, ledger: Ledger, *, since_us: int | None = None) -> Iterator[Chunk]:
        """Yield the events in chunks of bounded size.

        Parameters
        ----------
        ledger : Ledger
            Receives the counts.
        since_us : int, microseconds, optional
            Start at the last known place with nothing but earlier events before it.
        """
        buffer = Buffer(Columns.empty(EVENT_CHUNK))
        dropped: dict[str, list[NDArray[np.int64]]] = {}
        try:
            for found in self._judged(ledger, buffer, self._entry(since_us)):
                for reason, times in found.items():
                    dropped.setdefault(reason, []).append(times)
                # Nothing here holds on to a chunk while the next one is decoded.
                yield from (_chunk(columns, dropped) for columns in buffer.take_full())
        except FormatError:
            # What was right before the fault goes out first: a right prefix, then the error.
            for columns in buffer.finish():
                yield _chunk(columns, dropped)
            raise
        for columns in buffer.finish():
            yield _chunk(columns, dropped)
        if dropped:
            yield _chunk(Columns.empty(0), dropped)

    def load(self, ledger: Ledger, *, out: Columns | None = None) -> Events:
        """Return all events at once.

        Parameters
        ----------
        ledger : Ledger
        out : Columns, optional
            Where they are decoded to, if there is room; the result are views of it.
        """
        if out is None:
            out = Columns.empty(EVENT_CHUNK if self.bound is None else self.bound())
        buffer = Buffer(out)
        for _ in self._judged(ledger, buffer, None):
            pass
        parts = [Events.from_checked(*columns) for columns in buffer.finish()]
        return Events.concatenate(parts)

    def _judged(
        self, ledger: Ledger, buffer: Buffer, start: _Entry | None
    ) -> Iterator[dict[str, NDArray[np.int64]]]:
        """Decode, judge and keep in ``buffer``; yields what was dropped of each raw chunk."""
        judge = Judge(self.path, self.sensor_size, self.on_error, ledger)
        if start is not None:
            judge.latest, judge.seen, judge.held = start.latest, start.seen, start.held
        for raw in self._decoded(buffer, None if start is None else start.mark, ledger):
            self._remember(judge, raw)
            columns, dropped = judge.settle(raw)
            if columns.t.size:
                buffer.keep(columns)
            yield dropped
        columns, dropped = judge.finish()
        if columns.t.size:
            buffer.keep(columns)
        yield dropped

    def _decoded(self, buffer: Buffer, mark: object, ledger: Ledger) -> Iterator[RawChunk]:
        """Decode until the end; the policies that go on take damage for the end, and note it."""
        try:
            for raw in self.decode(buffer, mark):
                yield raw
                if raw.fault is not None:
                    raise raw.fault.anew()
        except FormatError as fault:
            if self.on_error == "raise":
                raise
            ledger.faults.append(fault.as_dict())

    def _remember(self, judge: Judge, raw: RawChunk) -> None:
        """Note a place to start again, if it is new and far enough from the last one."""
        last = self._index[-1].seen if self._index else -INDEX_EVENTS
        if raw.mark is not None and judge.seen >= last + INDEX_EVENTS:
            self._index.append(_Entry(judge.latest, judge.seen, judge.held, raw.mark))

    def _entry(self, since_us: int | None) -> _Entry | None:
        if since_us is None:
            return None
        found = None
        for entry in self._index:
            if entry.latest >= since_us:
                break
            found = entry
        return found


def _chunk(columns: Columns, dropped: dict[str, list[NDArray[np.int64]]]) -> Chunk:
    """Make a chunk and take the drops along."""
    times = {reason: np.concatenate(parts) for reason, parts in dropped.items()}
    dropped.clear()
    return Chunk(Events.from_checked(*columns), times)
