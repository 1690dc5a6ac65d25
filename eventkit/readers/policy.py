"""One policy for all readers: what happens to an event that cannot be right.

A reader yields `RawChunk` as its format has it; `checked` turns them into `Chunk`, books every
drop and repair on the ledger and raises where the policy is ``raise``. An event at an earlier time
than the latest one before it is ``backwards``; ``skip`` drops it, ``repair`` moves it to that
latest time. An event outside the sensor cannot be repaired and is dropped by both.
"""

from __future__ import annotations

from collections.abc import Iterator
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

    def byte_of(self, event: int) -> int | None:
        """Where event ``event`` of this chunk stands in the file."""
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
        outside = _outside(raw, sensor_size)
        if outside is not None and on_error == "raise":
            raise _outside_error(raw, outside, seen, path, sensor_size)
        chunk, latest = _settle(raw, outside, latest, seen, ledger, path=path, on_error=on_error)
        ledger.drop({reason: times.size for reason, times in chunk.dropped.items()})
        seen += raw.t.size
        yield chunk


def _outside(raw: RawChunk, size: tuple[int, int] | None) -> NDArray[np.bool_] | None:
    if size is None:
        return None
    width, height = size
    # Two maxima are cheaper than a mask, and nearly always enough.
    if int(raw.x.max()) < width and int(raw.y.max()) < height:
        return None
    bad: NDArray[np.bool_] = (raw.x >= width) | (raw.y >= height)
    return bad


def _outside_error(
    raw: RawChunk,
    outside: NDArray[np.bool_],
    seen: int,
    path: Path,
    size: tuple[int, int] | None,
) -> FormatError:
    i = int(np.argmax(outside))
    width, height = size or (0, 0)
    msg = (
        f"expected events inside the {width}x{height} sensor, got x={int(raw.x[i])} "
        f"y={int(raw.y[i])} at event {seen + i}; give the true --sensor-size, "
        "or --on-error skip to drop and count such events"
    )
    return FormatError(msg, path=path, offset=raw.byte_of(i), reason="outside_sensor")


def _settle(
    raw: RawChunk,
    outside: NDArray[np.bool_] | None,
    latest: int,
    seen: int,
    ledger: Ledger,
    *,
    path: Path,
    on_error: OnError,
) -> tuple[Chunk, int]:
    x, y, t, p = raw.x, raw.y, raw.t, raw.p
    dropped: dict[str, NDArray[np.int64]] = {}
    if outside is not None:
        dropped["outside"] = t[outside]
        keep = ~outside
        x, y, t, p = x[keep], y[keep], t[keep], p[keep]
    if t.size:
        # The running maximum only matters where time steps back, which is rare: test first.
        back_somewhere = int(t[0]) < latest or bool((t[1:] < t[:-1]).any())
        if back_somewhere:
            high = np.maximum.accumulate(np.maximum(t, latest))
            back = t < high
            if on_error == "raise":
                raise _backwards_error(
                    raw, int(np.argmax(back)), int(high[np.argmax(back)]), seen, path
                )
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
    events = Events.from_checked(
        x.astype(np.uint16, copy=False),
        y.astype(np.uint16, copy=False),
        t,
        p.astype(np.int8, copy=False),
    )
    return Chunk(events, dropped), latest


def _backwards_error(raw: RawChunk, i: int, high: int, seen: int, path: Path) -> FormatError:
    msg = (
        f"expected times that do not decrease, got {int(raw.t[i])} us after {high} us "
        f"at event {seen + i}; --on-error skip drops such events, repair moves them up"
    )
    return FormatError(msg, path=path, offset=raw.byte_of(i), reason="backwards_time")
