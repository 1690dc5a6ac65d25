"""One policy for all readers: what happens to an event that cannot be right.

A reader yields `RawChunk` as its format has it; `checked` turns them into `Chunk`, books every
drop and repair on the ledger and raises where the policy is ``raise``. An event at an earlier time
than the latest one before it is ``backwards``; ``skip`` drops it, ``repair`` moves it to that
latest time. An event outside the sensor cannot be repaired and is dropped by both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, OnError


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Columns as decoded, before any check.

    ``offset`` and ``stride`` give the byte of event ``i`` as ``offset + i * stride`` where records
    have one length; for packets ``stride`` is 0 and the packet is named. ``index`` gives the
    record of each event where other records stand between them.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    t: NDArray[np.int64]
    p: NDArray[np.int8]
    words: int
    offset: int | None = None
    stride: int = 0
    index: NDArray[np.int64] | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    locate: Callable[[int], int | None] | None = None

    def byte_of(self, event: int) -> int | None:
        """Where event ``event`` of this chunk stands in the file."""
        if self.locate is not None:
            return self.locate(event)
        if self.offset is None:
            return None
        record = int(self.index[event]) if self.index is not None else event
        return self.offset + record * self.stride


def checked(
    source: Iterator[RawChunk],
    ledger: Ledger,
    *,
    path: Path,
    sensor_size: tuple[int, int] | None,
    on_error: OnError,
) -> Iterator[Chunk]:
    """Apply the policy to a decoded stream.

    Parameters
    ----------
    source : iterator of RawChunk
        May raise `FormatError` where the stream is damaged; what came before is whole.
    ledger : Ledger
        Receives the counts.
    sensor_size : (W, H) or None
        None leaves places unchecked.

    Raises
    ------
    FormatError
        Under ``raise``: at the first fault, with its byte offset.
    """
    latest = np.iinfo(np.int64).min
    seen = 0
    while True:
        try:
            raw = next(source, None)
        except FormatError as fault:
            if on_error == "raise":
                raise
            ledger.faults.append(
                {"reason": fault.reason, "offset": fault.offset, "message": fault.message}
            )
            return
        if raw is None:
            return
        ledger.words += raw.words
        ledger.skipped.update(raw.skipped)
        ledger.decoded += raw.t.size
        if not raw.t.size:
            continue
        outside, back = _outside(raw, sensor_size), _backwards(raw.t, latest)
        if outside is None and back is None:
            chunk, latest = Chunk(_events(raw.x, raw.y, raw.t, raw.p)), int(raw.t[-1])
        elif on_error == "raise":
            raise _first_fault(raw, outside, back, latest, seen, path=path, size=sensor_size)
        else:
            chunk, latest = _settle(raw, outside, latest, ledger, on_error=on_error)
        ledger.drop({reason: times.size for reason, times in chunk.dropped.items()})
        seen += raw.t.size
        yield chunk


def _outside(raw: RawChunk, size: tuple[int, int] | None) -> NDArray[np.bool_] | None:
    """Return which events lie outside; None if none does. Without a size, what uint16 holds."""
    width, height = size or (65536, 65536)
    # Extremes are cheaper than a mask, and nearly always enough.
    inside = int(raw.x.max()) < width and int(raw.y.max()) < height
    if inside and all(column.dtype.kind == "u" or column.min() >= 0 for column in (raw.x, raw.y)):
        return None
    bad: NDArray[np.bool_] = (raw.x < 0) | (raw.x >= width) | (raw.y < 0) | (raw.y >= height)
    return bad


def _first_fault(
    raw: RawChunk,
    outside: NDArray[np.bool_] | None,
    back: NDArray[np.bool_] | None,
    latest: int,
    seen: int,
    *,
    path: Path,
    size: tuple[int, int] | None,
) -> FormatError:
    first_back = int(np.argmax(back)) if back is not None else raw.t.size
    first_outside = int(np.argmax(outside)) if outside is not None else raw.t.size
    i = min(first_back, first_outside)
    if first_outside <= first_back:
        where = f"inside the {size[0]}x{size[1]} sensor" if size else "at places within 0..65535"
        msg = (
            f"expected events {where}, got x={int(raw.x[i])} y={int(raw.y[i])} "
            f"at event {seen + i}; give the true --sensor-size, "
            "or --on-error skip to drop and count such events"
        )
        return FormatError(msg, path=path, offset=raw.byte_of(i), reason="outside_sensor")
    before = max(latest, int(raw.t[:i].max(initial=np.iinfo(np.int64).min)))
    msg = (
        f"expected times that do not decrease, got {int(raw.t[i])} us after {before} us "
        f"at event {seen + i}; --on-error skip drops such events, repair moves them up"
    )
    return FormatError(msg, path=path, offset=raw.byte_of(i), reason="backwards_time")


def _backwards(t: NDArray[np.int64], latest: int) -> NDArray[np.bool_] | None:
    """Return which events come before the latest time seen; None if none does."""
    # The running maximum only matters where time steps back, which is rare: test first.
    if int(t[0]) >= latest and not bool((t[1:] < t[:-1]).any()):
        return None
    back: NDArray[np.bool_] = t < np.maximum.accumulate(np.maximum(t, latest))
    return back


def _settle(
    raw: RawChunk,
    outside: NDArray[np.bool_] | None,
    latest: int,
    ledger: Ledger,
    *,
    on_error: OnError,
) -> tuple[Chunk, int]:
    """Drop or repair what is faulty; returns the chunk and the latest time after it."""
    x, y, t, p = raw.x, raw.y, raw.t, raw.p
    dropped: dict[str, NDArray[np.int64]] = {}
    if outside is not None:
        dropped["outside"] = t[outside]
        keep = ~outside
        x, y, t, p = x[keep], y[keep], t[keep], p[keep]
    back = _backwards(t, latest) if t.size else None
    if back is not None:
        high = np.maximum.accumulate(np.maximum(t, latest))
        if on_error == "repair":
            ledger.repaired["backwards"] += int(back.sum())
            t = high
        else:
            # Booked at the latest time before it: that is where the stream stood.
            dropped["backwards"] = high[back]
            keep = ~back
            x, y, t, p = x[keep], y[keep], t[keep], p[keep]
    if t.size:
        latest = max(latest, int(t[-1]))
    return Chunk(_events(x, y, t, p), dropped), latest


def _events(x: NDArray[Any], y: NDArray[Any], t: NDArray[np.int64], p: NDArray[np.int8]) -> Events:
    return Events.from_checked(
        x.astype(np.uint16, copy=False),
        y.astype(np.uint16, copy=False),
        t,
        p.astype(np.int8, copy=False),
    )
