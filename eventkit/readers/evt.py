"""Prophesee RAW: EVT2, EVT2.1 and EVT3.

Words of 32, 64 and 16 bits behind a text header; formats:
https://docs.prophesee.ai/stable/data/encoding_formats/index.html. Words that are no events
(triggers, OTHERS, CONTINUED, what is not published, padding) are skipped and counted, and so are
those before the first TIME_HIGH, which have no time. Wraps of the clock (24 bits in EVT3, 34 in the
others) are counted at TIME_HIGH, in silence too; the rule is that of `eventkit.readers.clock`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer, Columns
from eventkit.errors import FormatError
from eventkit.kernels import evt2, evt3
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.evt_header import Header, identify, parse, word_order
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import OnError, Recording
from eventkit.sources import Source

PIECE_BYTES = 1 << 20
"""1.2 times as fast as pieces of 256 kB: decoding is so quick that the steps around it count."""

TRIGGER_DTYPE = np.dtype([("t", "<i8"), ("source", "u1"), ("p", "i1")])

_SKIPPED = ("trigger", "others", "continued", "unknown")
_ASSUMED = {
    "evt2": (("Gen 3's 640x480", (640, 480)), ("Gen 4's 1280x720", (1280, 720))),
    "evt21": (("Gen 4.2's 1280x720", (1280, 720)),),
    "evt3": (("Gen 4's 1280x720", (1280, 720)),),
}
_ASSUMED_FROM = 1 << 22
"""Bytes whose places an assumption rests on; what lies outside later is a fault, not a new size."""

_NO_INDEX = np.empty(0, np.int64)
_NO_WRAP = -(1 << 62)


@dataclass(frozen=True, slots=True)
class _Words:
    """How words of one encoding become columns."""

    source: Source
    header: Header
    offset_us: int
    # Room and other words of the piece at an offset: counting costs a fifth of decoding, once.
    counts: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict, kw_only=True)

    size: ClassVar[int]

    @abstractmethod
    def start(self) -> NDArray[np.int64]:
        """Return the state before the first word."""

    @abstractmethod
    def view(self, piece: NDArray[np.uint8]) -> NDArray[Any]:
        """Return whole words of a piece."""

    @abstractmethod
    def count(self, words: NDArray[Any], found: NDArray[np.int64]) -> int:
        """Return the room that events need, and the numbers of other words."""

    @abstractmethod
    def fill(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        room: Columns,
        index: NDArray[np.int64],
        lost: NDArray[np.int64],
    ) -> int:
        """Decode events; return their number."""

    @abstractmethod
    def triggers(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        t: NDArray[np.int64],
        source: NDArray[np.int16],
        p: NDArray[np.int8],
    ) -> int:
        """Decode triggers; return their number."""

    def decode(self, buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        """Yield the events of the file, a piece of it at a time."""
        start, state = mark if isinstance(mark, tuple) else (self.header.size, self.start())
        state = state.copy()
        lost = np.zeros(2, np.int64)
        for offset, piece in self.source.pieces(PIECE_BYTES, start=start):
            words, before = self.view(piece), state.copy()
            needed, others = self._counted(offset, words)
            room = buffer.room(needed)
            lost[:] = 0
            n = self.fill(words, state, room, _NO_INDEX, lost)
            if n < 0:
                msg = "expected the words that were counted before, got others: the file changes"
                raise FormatError(msg, path=self.source.name, offset=offset, reason="corrupt")
            skipped = dict(zip(_SKIPPED, others, strict=True))
            skipped |= {"before_time_high": int(lost[0]), "before_row": int(lost[1])}
            yield RawChunk(
                *room.part(0, n),
                words=len(words),
                skipped={reason: count for reason, count in skipped.items() if count},
                locate=self._finder(words, before, offset, room.t.size),
                mark=(offset, before),
            )
            self._check_end(piece, offset)

    def _finder(
        self, words: NDArray[Any], before: NDArray[np.int64], offset: int, size: int
    ) -> Callable[[int], int]:
        """Return what finds the byte of an event, by decoding the piece once more."""

        def locate(event: int) -> int:
            index = np.empty(size, np.int64)
            lost = np.zeros(2, np.int64)
            self.fill(words, before.copy(), Columns.empty(size), index, lost)
            return offset + int(index[event]) * self.size

        return locate

    def _check_end(self, piece: NDArray[np.uint8], offset: int) -> None:
        rest = piece.size % self.size
        if rest:
            msg = (
                f"expected words of {self.size} bytes, got {rest} at the end: the file is cut; "
                "--on-error skip keeps the whole words"
            )
            at = offset + piece.size - rest
            raise FormatError(msg, path=self.source.name, offset=at, reason="truncated")

    def bound(self) -> int:
        """Count the events without decoding them."""
        pieces = self.source.pieces(PIECE_BYTES, start=self.header.size)
        return sum(self._counted(offset, self.view(piece))[0] for offset, piece in pieces)

    def _counted(self, offset: int, words: NDArray[Any]) -> tuple[int, tuple[int, ...]]:
        known = self.counts.get(offset)
        if known is None:
            found = np.zeros(4, np.int64)
            known = self.count(words, found), tuple(found.tolist())
            self.counts[offset] = known
        return known

    def read_triggers(self, on_error: OnError) -> NDArray[Any]:
        """Return every trigger of the file, `TRIGGER_DTYPE`."""
        parts = [np.empty(0, TRIGGER_DTYPE)]
        state = self.start()
        try:
            for offset, piece in self.source.pieces(PIECE_BYTES, start=self.header.size):
                words = self.view(piece)
                n = self._counted(offset, words)[1][0]
                t, source, p = np.empty(n, np.int64), np.empty(n, np.int16), np.empty(n, np.int8)
                n = self.triggers(words, state, t, source, p)
                part = np.empty(n, TRIGGER_DTYPE)
                part["t"], part["source"], part["p"] = t[:n], source[:n], p[:n]
                parts.append(part)
                self._check_end(piece, offset)
        except FormatError:
            if on_error == "raise":
                raise
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class _Evt2(_Words):
    size = 4

    def start(self) -> NDArray[np.int64]:
        return np.array([-1, 0, _NO_WRAP, self.offset_us, _NO_WRAP], np.int64)

    def view(self, piece: NDArray[np.uint8]) -> NDArray[Any]:
        return piece[: piece.size // 4 * 4].view("<u4")

    def bound(self) -> int:
        # Memory that is not written costs nothing; a count would cost a reading.
        return max(0, (self.source.size or 0) - self.header.size) // 4

    def count(self, words: NDArray[Any], found: NDArray[np.int64]) -> int:
        return evt2.count(words, found)

    def fill(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        room: Columns,
        index: NDArray[np.int64],
        lost: NDArray[np.int64],
    ) -> int:
        if index.size:
            # One event a word: those of the kinds, without what comes before the first TIME_HIGH.
            events = np.flatnonzero(words >> 28 < 2)
            highs = np.flatnonzero(words >> 28 == 8)
            first = (highs[0] if highs.size else len(words)) if state[0] < 0 else 0
            events = events[events >= first]
            index[: events.size] = events
            return int(events.size)
        n = evt2.fill(words, state, *room)
        lost[0] = room.t.size - n
        return n

    def triggers(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        t: NDArray[np.int64],
        source: NDArray[np.int16],
        p: NDArray[np.int8],
    ) -> int:
        return evt2.triggers(words, state, t, source, p)


@dataclass(frozen=True, slots=True)
class _Evt21(_Words):
    masks: NDArray[np.uint8]
    order: int
    size = 8

    def start(self) -> NDArray[np.int64]:
        return np.array([-1, 0, _NO_WRAP, self.offset_us, _NO_WRAP], np.int64)

    def view(self, piece: NDArray[np.uint8]) -> NDArray[Any]:
        return piece[: piece.size // 8 * 8].view("<u4").reshape(-1, 2)

    def count(self, words: NDArray[Any], found: NDArray[np.int64]) -> int:
        return evt2.count_vectors(words, self.order, found, self.masks)

    def fill(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        room: Columns,
        index: NDArray[np.int64],
        lost: NDArray[np.int64],
    ) -> int:
        kinds = words[:, self.order] >> 28
        if state[0] < 0:
            highs = np.flatnonzero(kinds == 8)
            first = int(highs[0]) if highs.size else len(words)
            lost[0] = int(np.count_nonzero(kinds[:first] < 2))
        return evt2.fill_vectors(words, self.order, state, *room, index)

    def triggers(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        t: NDArray[np.int64],
        source: NDArray[np.int16],
        p: NDArray[np.int8],
    ) -> int:
        column = np.ascontiguousarray(words[:, self.order])
        return evt2.triggers(column, state, t, source, p)


@dataclass(frozen=True, slots=True)
class _Evt3(_Words):
    table: NDArray[np.uint64]
    size = 2

    def start(self) -> NDArray[np.int64]:
        return np.array([-1, 0, _NO_WRAP, 0, -1, -1, self.offset_us, _NO_WRAP], np.int64)

    def view(self, piece: NDArray[np.uint8]) -> NDArray[Any]:
        return piece[: piece.size // 2 * 2].view("<u2")

    def count(self, words: NDArray[Any], found: NDArray[np.int64]) -> int:
        return evt3.count(words, found)

    def fill(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        room: Columns,
        index: NDArray[np.int64],
        lost: NDArray[np.int64],
    ) -> int:
        return evt3.fill(words, state, self.table, *room, index, lost)

    def triggers(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        t: NDArray[np.int64],
        source: NDArray[np.int16],
        p: NDArray[np.int8],
    ) -> int:
        return evt3.triggers(words, state, t, source, p)


class _EvtReader:
    """What the three readers share."""

    name: str
    suffixes = (".raw",)
    holds = ("events",)

    def recognise(self, source: Source) -> str | None:
        """Go by the header; without one that names the encoding, by the first words."""
        if source.is_dir or not (source.head[:1] == b"%" or source.suffix in self.suffixes):
            return None
        found = identify(source)
        return found[1] if found is not None and found[0] == self.name else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open a RAW file; without a geometry the places of the first 4 MB are looked at."""
        header = parse(source)
        words, notes = self._words(source, header)
        found = geometry.settle(source, options.sensor_size, *header.geometry)
        if found.size is None:
            found = _assume(words, self.name)
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                words.decode,
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=words.bound if source.is_plain else None,
            ),
            side_data=lambda: {"triggers": words.read_triggers(options.on_error)},
            notes=[*notes, *found.notes],
        )

    def _words(self, source: Source, header: Header) -> tuple[_Words, list[str]]:
        raise NotImplementedError


class Evt2Reader(_EvtReader):
    """Reader of Prophesee RAW, EVT2."""

    name = "evt2"

    def _words(self, source: Source, header: Header) -> tuple[_Words, list[str]]:
        return _Evt2(source, header, header.t_offset_us(source)), []


class Evt21Reader(_EvtReader):
    """Reader of Prophesee RAW, EVT2.1, in both word orders."""

    name = "evt21"

    def _words(self, source: Source, header: Header) -> tuple[_Words, list[str]]:
        order, why = word_order(source, header)
        bits = np.arange(1 << 16, dtype=np.uint16)[:, None].view(np.uint8)
        masks = np.unpackbits(bits, axis=1).sum(axis=1, dtype=np.uint8)
        return _Evt21(source, header, header.t_offset_us(source), masks, order), [why]


class Evt3Reader(_EvtReader):
    """Reader of Prophesee RAW, EVT3."""

    name = "evt3"

    def _words(self, source: Source, header: Header) -> tuple[_Words, list[str]]:
        return _Evt3(source, header, header.t_offset_us(source), evt3.tables()), []


def _assume(words: _Words, name: str) -> geometry.Geometry:
    """Take the first published sensor that holds the places of the first megabytes."""
    right, bottom = -1, -1
    for chunk in words.decode(Buffer(Columns.empty(0)), None):
        if chunk.t.size:
            right, bottom = max(right, int(chunk.x.max())), max(bottom, int(chunk.y.max()))
        mark = chunk.mark
        if isinstance(mark, tuple) and mark[0] > _ASSUMED_FROM:
            break
    return geometry.assume(right, bottom, _ASSUMED[name], path=words.source)
