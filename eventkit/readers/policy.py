"""One policy for all readers: what happens to an event that cannot be right.

A reader yields `RawChunk` as its format has it; `Judge` keeps, drops, repairs and books. An event
at an earlier time than the latest one kept before it is

- ``jitter``, if it is at most `JITTER_US` early: ``skip`` drops it, ``repair`` moves it up to that
  latest time;
- a reason to drop the events before it as a ``spike``, if those are at most 1,024 in a row, began
  with a jump ahead of more than `JITTER_US`, and at least one more event than they are goes on
  below them: one damaged time must not cost the rest of the file;
- ``backwards`` otherwise: its time is unknown, and both policies drop it.

What follows a jump is held back until that many events have been met, so where the pieces of a file
begin and end changes nothing.

An event ``outside`` the sensor cannot be repaired either. Under ``raise`` the first of any of these
ends the reading. Wraps of a clock are no faults; see `eventkit.readers.clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Columns
from eventkit.errors import FormatError
from eventkit.kernels import check
from eventkit.ledger import Ledger
from eventkit.recording import OnError

JITTER_US = 10_000
"""The longest step back that counts as jitter: packets overlap by less, clocks reset by more."""

Drops = dict[str, NDArray[np.int64]]
"""Times of dropped events, by reason."""


class Extent(NamedTuple):
    """What a decoder saw of its events as it wrote them, so that none need be looked at again.

    Looking once more costs 0.4 ns an event in the cache and 1.2 ns beyond; EVT2 is decoded in 1.7.
    """

    right: int
    bottom: int
    ordered: bool

    @classmethod
    def of(cls, seen: NDArray[np.int64]) -> Extent:
        """Return what `eventkit.kernels.check.note` has noted."""
        return cls(int(seen[0]), int(seen[1]), not seen[2])


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Columns as decoded, before any check.

    Parameters
    ----------
    x, y, t, p : (N,) arrays
        Integers; ``t`` int64 microseconds, clock wraps added; ``p`` in {0, 1}.
    words : int
        Units of the format that were read for them.
    offset, stride : int, bytes
        Event ``i`` stands at ``offset + i * stride`` where records have one length.
    index : (N,) int64, optional
        The record of each event where other records stand between them.
    skipped : mapping reason -> count of words
        Words of this chunk that are no events.
    dropped : mapping reason -> (n,) int64 times
        Events that were decoded and cannot be used, beside the N.
    locate : callable, optional
        ``locate(i)`` is the byte of event ``i`` where it cannot be computed from the above.
    mark : object, optional
        What the decoder needs to start again at this chunk.
    fault : FormatError, optional
        What stands right behind these events and ends the reading.
    extent : Extent, optional
        Where the decoder knows it; places are uint16 then.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    t: NDArray[np.int64]
    p: NDArray[Any]
    words: int
    offset: int | None = None
    stride: int = 0
    index: NDArray[np.int64] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    locate: Callable[[int], int | None] | None = None
    mark: object = None
    fault: FormatError | None = None
    extent: Extent | None = None

    def byte_of(self, event: int) -> int | None:
        """Where event ``event`` of this chunk stands in the file."""
        if self.locate is not None:
            return self.locate(event)
        if self.offset is None:
            return None
        record = int(self.index[event]) if self.index is not None else event
        return self.offset + record * self.stride


@dataclass(slots=True)
class Judge:
    """Applies the policy chunk by chunk.

    Parameters
    ----------
    path : str
        For messages.
    sensor_size : (W, H) or None
        None leaves places unchecked.
    on_error : {"raise", "skip", "repair"}
    ledger : Ledger
        Receives the counts.
    latest : int, microseconds
        Latest time kept so far.
    seen : int
        Events met so far.
    held : Columns, optional
        Events inside the sensor that what follows will judge: they may be a spike.
    """

    path: str
    sensor_size: tuple[int, int] | None
    on_error: OnError
    ledger: Ledger
    latest: int = check.NEVER
    seen: int = 0
    held: Columns | None = None

    def settle(self, raw: RawChunk) -> tuple[Columns, Drops]:
        """Return what is kept of a chunk, and the times of what is dropped, by reason.

        Raises
        ------
        FormatError
            Under ``raise``: at the first fault, with its byte offset.
        """
        self.ledger.words += raw.words
        self.ledger.skipped.update(raw.skipped)
        self.ledger.decoded += raw.t.size + sum(times.size for times in raw.dropped.values())
        columns, dropped = self._sound(raw), dict(raw.dropped)
        if columns is None:
            inside, outside = self._placed(raw)
            columns, found = self._in_order(inside, final=self.on_error == "raise")
            for reason, times in {"outside": outside, **found}.items():
                # The decoder may have met some of that kind itself.
                dropped[reason] = np.concatenate([dropped.get(reason, times[:0]), times])
        self.seen += raw.t.size
        return columns, self._booked(columns, dropped)

    def finish(self) -> tuple[Columns, Drops]:
        """Return what was held back, when nothing follows."""
        if self.held is None:
            return Columns.empty(0), {}
        columns, dropped = self._in_order(Columns.empty(0), final=True)
        return columns, self._booked(columns, dropped)

    def _booked(self, columns: Columns, dropped: Drops) -> Drops:
        self.ledger.drop({reason: times.size for reason, times in dropped.items()})
        if columns.t.size:
            self.latest = int(columns.t[-1])
        return {reason: times for reason, times in dropped.items() if times.size}

    def _sound(self, raw: RawChunk) -> Columns | None:
        """Return the columns as they are if nothing is wrong with them: nearly always."""
        if raw.x.dtype != np.uint16 or raw.y.dtype != np.uint16 or self.held is not None:
            return None
        width, height = self.sensor_size or (65536, 65536)
        if raw.extent is not None:
            right, bottom, ordered = raw.extent
            outside = right >= width or bottom >= height
            back = not ordered or bool(raw.t.size and raw.t[0] < self.latest)
        else:
            outside, back = check.look(raw.x, raw.y, raw.t, self.latest, width, height)
        if outside or back:
            return None
        columns = Columns(raw.x, raw.y, raw.t, raw.p)
        return columns if self.on_error == "raise" else self._hold(columns, self._certain(raw.t))

    def _certain(self, t: NDArray[np.int64]) -> int:
        """Return how many events of a chunk in order cannot turn out to be a spike."""
        start = max(0, t.size - check.LONGEST_SPIKE)
        tail = t[start:]
        before = np.concatenate([t[start - 1 : start] if start else [self.latest], tail[:-1]])
        jumped = np.flatnonzero(tail - before[: tail.size] > JITTER_US)
        if not start and tail.size and self.latest == check.NEVER:
            return 0
        return start + int(jumped[0]) if jumped.size else t.size

    def _hold(self, columns: Columns, settled: int) -> Columns:
        """Keep what is not certain for the next chunk; the decoder reuses its memory."""
        rest = columns.part(settled, columns.t.size)
        self.held = rest.copy() if rest.t.size else None
        return columns.part(0, settled)

    def _placed(self, raw: RawChunk) -> tuple[Columns, NDArray[np.int64]]:
        """Return the events inside the sensor, and the times of the others."""
        width, height = self.sensor_size or (65536, 65536)
        inside = (raw.x >= 0) & (raw.x < width) & (raw.y >= 0) & (raw.y < height)
        if self.on_error == "raise":
            self._refuse(raw, inside)
        columns = Columns(
            raw.x[inside].astype(np.uint16, copy=False),
            raw.y[inside].astype(np.uint16, copy=False),
            raw.t[inside],
            raw.p[inside].astype(np.int8, copy=False),
        )
        return columns, raw.t[~inside]

    def _in_order(self, new: Columns, *, final: bool) -> tuple[Columns, Drops]:
        """Judge the times of what was held and of what is new."""
        columns = new if self.held is None else self.held.then(new)
        verdict = np.zeros(columns.t.size, np.uint8)
        settled = check.judge(
            columns.t, self.latest, JITTER_US, verdict, 0 if final else check.LONGEST_SPIKE
        )
        if not final and self.latest == check.NEVER and check.KEEP not in verdict[:settled]:
            settled = 0  # a drop is booked where the stream stands, which is not known yet
        columns, verdict = self._hold(columns, settled), verdict[:settled]
        t, stood = columns.t, self._stood(columns.t, verdict)
        keep, early = verdict == check.KEEP, verdict == check.JITTER
        # Booked at the latest time before it: that is where the stream stood.
        dropped = {
            "backwards": stood[verdict == check.BACKWARDS],
            "spike": stood[verdict == check.SPIKE],
        }
        if self.on_error == "repair":
            self.ledger.repaired.update({"jitter": int(early.sum())} if early.any() else {})
            t, keep = np.where(early, stood, t), keep | early
        else:
            dropped["jitter"] = stood[early]
        return Columns(columns.x[keep], columns.y[keep], t[keep], columns.p[keep]), dropped

    def _stood(self, t: NDArray[np.int64], verdict: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the latest time kept up to each event."""
        kept = verdict == check.KEEP
        high: NDArray[np.int64] = np.maximum.accumulate(np.where(kept, t, self.latest))
        if self.latest == check.NEVER and t.size:  # where the first events were a spike
            following = t[kept] if kept.any() or self.held is None else self.held.t
            high = np.maximum(high, following[0])
        return high

    def _refuse(self, raw: RawChunk, inside: NDArray[np.bool_]) -> None:
        """Raise for the first faulty event; a chunk of another integer type may have none."""
        high = np.maximum.accumulate(np.maximum(raw.t, self.latest))
        faulty = ~inside | (raw.t < high)
        if not faulty.any():
            return
        i = int(np.argmax(faulty))
        if not inside[i]:
            size = self.sensor_size
            where = f"inside the {size[0]}x{size[1]} sensor" if size else "at places in 0..65535"
            msg = (
                f"expected events {where}, got x={int(raw.x[i])} y={int(raw.y[i])} "
                f"at event {self.seen + i}; give the true --sensor-size, "
                "or --on-error skip to drop and count such events"
            )
            raise self._fault(msg, raw, i, reason="outside_sensor")
        now, latest = int(raw.t[i]), int(high[i])
        msg = (
            f"expected times that do not decrease, got {now} us after {latest} us "
            f"at event {self.seen + i}; --on-error skip drops such events"
            + (", repair moves them up" if latest - now <= JITTER_US else "")
        )
        raise self._fault(msg, raw, i, reason="backwards_time")

    def _fault(self, message: str, raw: RawChunk, i: int, *, reason: str) -> FormatError:
        where = {"offset": raw.byte_of(i), "time_us": int(raw.t[i])}
        return FormatError(message, path=self.path, reason=reason, **where)
