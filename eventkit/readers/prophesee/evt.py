"""Prophesee RAW: EVT2, EVT2.1 and EVT3.

Words of 32, 64 and 16 bits behind a text header; formats:
https://docs.prophesee.ai/stable/data/encoding_formats/index.html. Words that are no events
(triggers, OTHERS, CONTINUED, what is not published, padding) are skipped and counted, and so are
those before the first TIME_HIGH, which have no time. Wraps of the clock (24 bits in EVT3, 34 in the
others) are counted at TIME_HIGH, in silence too; the rule is that of `eventkit.readers.clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer, Columns
from eventkit.errors import FormatError
from eventkit.kernels import check
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import Extent, RawChunk
from eventkit.readers.prophesee.encodings import (
    Encoding,
    evt2_encoding,
    evt3_encoding,
    evt21_encoding,
)
from eventkit.readers.prophesee.header import Header, identify, parse, word_order
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source
from eventkit.triggers import CHANNEL_DTYPE

PIECE_BYTES = 1 << 20
"""1.2 times as fast as pieces of 256 kB: decoding is so quick that the steps around it count."""

_ASSUMED = {
    "evt2": (("Gen 3's 640x480", (640, 480)), ("Gen 4's 1280x720", (1280, 720))),
    "evt21": (("Gen 4.2's 1280x720", (1280, 720)),),
    "evt3": (("Gen 4's 1280x720", (1280, 720)),),
}
_ASSUMED_FROM = 1 << 22
"""Bytes whose places an assumption rests on; what lies outside later is a fault, not a new size."""

_Counted = tuple[int, dict[str, int]]


@dataclass(frozen=True, slots=True)
class _File:
    """The words of one file."""

    source: Source
    header: Header
    encoding: Encoding
    offset_us: int
    # Room and other words of the piece at an offset: counting costs a fifth of decoding, once.
    counts: dict[tuple[int, int], _Counted] = field(default_factory=dict, kw_only=True)

    def decode(self, buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        """Yield the events of the file, a piece of it at a time."""
        first = (self.header.size, self.encoding.start(self.offset_us))
        start, state = mark if isinstance(mark, tuple) else first
        state = state.copy()
        for offset, piece in self._pieces(start):
            words, before = self.encoding.words(piece), state.copy()
            room = self._room(buffer, offset, words)
            seen = check.unseen()
            n, lost, all_told = self.encoding.decode(words, state, room, seen=seen)
            if n < 0:
                msg = "expected the words that were counted before, got others: the file changes"
                raise FormatError(msg, path=self.source.name, offset=offset, reason="corrupt")
            skipped = lost if all_told else self._counted(offset, words)[1] | lost
            yield RawChunk(
                *room.part(0, n),
                words=piece.size // self.encoding.size,
                skipped={reason: count for reason, count in skipped.items() if count},
                extent=Extent.of(seen),
                locate=self._finder(words, before, offset, room.t.size),
                mark=(offset, before),
            )

    def _pieces(self, start: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        # A word of zeros is an event in EVT2 only.
        zeros = not self.encoding.one_each
        return self.source.records(self.encoding.size, PIECE_BYTES, start=start, zeros=zeros)

    def _room(self, buffer: Buffer, offset: int, words: NDArray[Any]) -> Columns:
        """Return room for the events of some words: counted where it matters."""
        if self.encoding.one_each and words.size <= buffer.free:
            return buffer.room(words.size)
        return buffer.room(self._counted(offset, words)[0])

    def _finder(
        self, words: NDArray[Any], before: NDArray[np.int64], offset: int, size: int
    ) -> Callable[[int], int]:
        """Return what finds the byte of an event, by decoding the piece once more."""

        def locate(event: int) -> int:
            index = np.empty(size, np.int64)
            self.encoding.decode(words, before.copy(), Columns.empty(size), index=index)
            return offset + int(index[event]) * self.encoding.size

        return locate

    def bound(self) -> int:
        """Return the most events there can be, without decoding them."""
        if self.encoding.one_each:
            # Memory that is not written costs nothing; a count would cost a reading.
            return max(0, (self.source.size or 0) - self.header.size) // self.encoding.size
        pieces = self.source.pieces(PIECE_BYTES, start=self.header.size)
        return sum(self._counted(at, self.encoding.words(piece))[0] for at, piece in pieces)

    def _counted(self, offset: int, words: NDArray[Any]) -> _Counted:
        known = self.counts.get((offset, words.size))
        if known is None:
            known = self.counts[offset, words.size] = self.encoding.counted(words)
        return known

    def triggers(self, options: ReadOptions) -> NDArray[Any]:
        """Return every trigger of the file, `eventkit.triggers.CHANNEL_DTYPE`."""
        return np.concatenate([np.empty(0, CHANNEL_DTYPE), *options.whole(self._triggers())])

    def _triggers(self) -> Iterator[NDArray[Any]]:
        state = self.encoding.start(self.offset_us)
        for _, piece in self._pieces(self.header.size):
            yield self.encoding.read_triggers(self.encoding.words(piece), state)


class _EvtReader:
    """What the three readers share."""

    name: str
    suffixes = (".raw",)
    holds = ("events",)
    takes = ()
    unit = "us"

    def recognise(self, source: Source) -> str | None:
        """Go by the header; without one that names the encoding, by the first words."""
        if source.is_dir or not (source.head[:1] == b"%" or source.suffix in self.suffixes):
            return None
        found = identify(source)
        return found[1] if found is not None and found[0] == self.name else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open a RAW file; without a geometry the places of the first 4 MB are looked at.

        Raises
        ------
        FormatError
            If the header names another encoding, or no published sensor holds the places.
        """
        header = parse(source)
        _check_named(source, header, self.name)
        encoding, notes = self._encoding(source, header)
        file = _File(source, header, encoding, header.t_offset_us(source))
        found = geometry.settle(source, options.sensor_size, *header.geometry)
        if found.size is None:
            found = _assume(file, self.name, strict=options.strict)
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                file.decode,
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=file.bound if source.is_plain else None,
            ),
            side_data=lambda: {"triggers": file.triggers(options)},
            notes=[*notes, *found.notes],
        )

    def _encoding(self, source: Source, header: Header) -> tuple[Encoding, list[str]]:
        """Return the encoding, and what is to be said about it."""
        raise NotImplementedError


class Evt2Reader(_EvtReader):
    """Reader of Prophesee RAW, EVT2."""

    name = "evt2"

    def _encoding(self, source: Source, header: Header) -> tuple[Encoding, list[str]]:
        return evt2_encoding(), []


class Evt21Reader(_EvtReader):
    """Reader of Prophesee RAW, EVT2.1, in both word orders."""

    name = "evt21"

    def _encoding(self, source: Source, header: Header) -> tuple[Encoding, list[str]]:
        head, why = word_order(source, header)
        return evt21_encoding(head=head), [why]


class Evt3Reader(_EvtReader):
    """Reader of Prophesee RAW, EVT3."""

    name = "evt3"

    def _encoding(self, source: Source, header: Header) -> tuple[Encoding, list[str]]:
        return evt3_encoding(), []


def _check_named(source: Source, header: Header, name: str) -> None:
    """Refuse a header that names another encoding: its words would be read as nonsense."""
    told = header.encoding
    if told is None or told[0] == name:
        return
    msg = f"expected {name}, as --format says, got {told[0]} by the {told[1]}; leave --format out"
    raise FormatError(msg, path=source.name, offset=0, reason="bad_header")


def _assume(file: _File, name: str, *, strict: bool) -> geometry.Geometry:
    """Take the first published sensor that holds the places of the first megabytes."""
    right, bottom = -1, -1
    for x, y in _first_places(file):
        right, bottom = max(right, int(x.max())), max(bottom, int(y.max()))
    places = () if strict else _first_places(file)
    return geometry.assume(right, bottom, _ASSUMED[name], path=file.source, places=places)


def _first_places(file: _File) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    try:
        for chunk in file.decode(Buffer(Columns.empty(0)), None):
            if chunk.t.size:
                yield chunk.x, chunk.y
            mark = chunk.mark
            if isinstance(mark, tuple) and mark[0] > _ASSUMED_FROM:
                break
    except FormatError:
        pass  # met again, with its offset, by whoever reads the events
