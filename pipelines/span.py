"""A part of a recording as a recording of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eventkit.frames import Frames, Picture
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, EventSource, Recording


def part_of(recording: Recording, start_us: int, stop_us: int) -> Recording:
    """Return the part of a recording between two times.

    Parameters
    ----------
    recording : Recording
    start_us, stop_us : int, microseconds
        ``[start_us, stop_us)`` on the clock of the recording.

    Returns
    -------
    Recording
        As a file that holds this part alone: ``decoded`` and ``dropped`` of its ledger are those
        of the part, other words those of the pieces that were read for it. Reading ends behind the
        part. Pictures without times belong to no part.

    Examples
    --------
    >>> from pathlib import Path
    >>> from eventkit import Events
    >>> ev = Events(x=[1, 2, 3], y=[0, 0, 0], t=[5, 10, 20], p=[0, 1, 1])
    >>> whole = Recording(Path("a"), "test", (8, 8), source=lambda _: iter([Chunk(ev)]))
    >>> part_of(whole, 10, 20).events.x.tolist()
    [2]
    """
    source = recording.source
    return replace(
        recording,
        source=None if source is None else _Part(source, start_us, stop_us),
        frames=None if recording.frames is None else _frames(recording.frames, start_us, stop_us),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    source: EventSource
    start_us: int
    stop_us: int

    def __call__(self, ledger: Ledger) -> Iterator[Chunk]:
        whole, before = Ledger(), Ledger()
        try:
            for chunk in self.source(whole):
                events = chunk.events
                first, stop = np.searchsorted(events.t, [self.start_us, self.stop_us]).tolist()
                dropped = {reason: self._inside(times) for reason, times in chunk.dropped.items()}
                lost = {reason: int(times.size) for reason, times in dropped.items()}
                if stop > first or any(lost.values()):
                    self._book(ledger, whole, before)
                    ledger.decoded += stop - first + sum(lost.values())
                    ledger.drop(lost)
                    yield Chunk(events[first:stop], {r: t for r, t in dropped.items() if t.size})
                before = replace(
                    whole, skipped=Counter(whole.skipped), repaired=Counter(whole.repaired)
                )
                if stop < len(events):
                    return
                del chunk, events  # the chunk after the next one is decoded into its memory
        finally:
            ledger.faults.extend(whole.faults)

    def _inside(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        return times[(times >= self.start_us) & (times < self.stop_us)]

    @staticmethod
    def _book(ledger: Ledger, whole: Ledger, before: Ledger) -> None:
        """Book what a piece of the file holds beside events."""
        ledger.words += whole.words - before.words
        ledger.skipped.update(whole.skipped - before.skipped)
        ledger.repaired.update(whole.repaired - before.repaired)


def _frames(frames: Frames, start_us: int, stop_us: int) -> Frames | None:
    if frames.timing != "recorded":
        return None
    first, stop = np.searchsorted(frames.t_us, [start_us, stop_us]).tolist()
    if first == stop:
        return None

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        return frames.reader([first + index for index in indices])

    return replace(
        frames,
        t_us=frames.t_us[first:stop],
        start_us=frames.start_us[first:stop],
        stop_us=frames.stop_us[first:stop],
        reader=reader,
    )
