"""Streams: parts of one number or one length, slices, columns used again; all equal the whole."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.columns import EVENT_CHUNK, Buffer, Columns
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers import stream as stream_module
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Chunk, OnError, Recording
from eventkit.testing.strategies import events, raw_chunks

SIZE = (7, 5)
STREAMS = events(sensor_size=SIZE, max_step_us=30)


class Decoder:
    """Yields events in pieces, entered at any of them; counts the pieces it made.

    Parameters
    ----------
    in_room : bool
        Whether events are decoded into the room of the buffer, as kernels do.
    """

    def __init__(self, ev: Events, piece: int, *, in_room: bool = True, marks: bool = True) -> None:
        self.ev, self.piece, self.in_room, self.marks = ev, piece, in_room, marks
        self.pieces = 0

    def __call__(self, buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        start = mark if isinstance(mark, int) else 0
        for first in range(start, len(self.ev), self.piece):
            self.pieces += 1
            part = self.ev[first : first + self.piece]
            columns = Columns(part.x, part.y, part.t, part.p)
            if self.in_room:
                room = buffer.room(len(part) + 3).part(0, len(part))
                for there, here in zip(room, columns, strict=True):
                    there[:] = here
                columns = room
            yield RawChunk(*columns, words=len(part), mark=first if self.marks else None)


def recording(decode: Decoder, on_error: OnError = "raise") -> Recording:
    source = EventStream(decode, path="some.raw", sensor_size=SIZE, on_error=on_error)
    return Recording(path=Path("some.raw"), format="test", sensor_size=SIZE, source=source)


@pytest.mark.parametrize("on_error", ["raise", "skip", "repair"])
@given(ev=STREAMS, piece=st.integers(1, 50), n=st.integers(1, 50), in_room=st.booleans())
def test_parts_of_n_events_are_the_whole_in_parts_of_n(
    on_error: OnError, ev: Events, piece: int, n: int, in_room: bool
) -> None:
    found = list(recording(Decoder(ev, piece, in_room=in_room), on_error).chunks(n=n))

    assert [len(part) for part in found[:-1]] == [n] * (len(found) - 1)
    assert all(0 < len(part) <= n for part in found)
    assert Events.concatenate(found) == ev


@given(ev=STREAMS, piece=st.integers(1, 50), us=st.integers(1, 100))
def test_parts_of_one_length_begin_at_the_first_event_and_leave_no_window_out(
    ev: Events, piece: int, us: int
) -> None:
    found = list(recording(Decoder(ev, piece)).chunks(us=us))

    assert Events.concatenate(found) == ev
    for k, part in enumerate(found):
        start = int(ev.t[0]) + k * us
        assert ((part.t >= start) & (part.t < start + us)).all()
    assert not found or len(found[-1])


@given(ev=STREAMS, piece=st.integers(1, 50))
def test_parts_as_they_come_are_the_whole(ev: Events, piece: int) -> None:
    assert Events.concatenate(recording(Decoder(ev, piece)).chunks()) == ev


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"us": 0}, {"n": -1}, {"n": 1, "us": 1}, {"n": 1.5}, {"us": "3"}]
)
def test_parts_of_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="n or us, a whole number of at least 1"):
        recording(Decoder(Events.empty(), 1)).chunks(**options)


def test_a_time_a_million_windows_away_is_refused_and_does_not_hang() -> None:
    ev = Events(x=[0, 0], y=[0, 0], t=[0, 1 << 60], p=[0, 0])

    with pytest.raises(SettingsError, match="is a time damaged"):
        list(recording(Decoder(ev, 2)).chunks(us=1))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("index_events", [1, 7, 1 << 18])
@given(
    ev=STREAMS,
    piece=st.integers(1, 9),
    spans=st.lists(st.tuples(st.integers(-10, 600), st.integers(-10, 200)), max_size=5),
    marks=st.booleans(),
)
def test_between_is_a_slice_of_the_whole_in_any_order_of_asking(
    on_error: OnError,
    index_events: int,
    ev: Events,
    piece: int,
    spans: list[tuple[int, int]],
    marks: bool,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "INDEX_EVENTS", index_events)
        rec = recording(Decoder(ev, piece, marks=marks), on_error)
        origin = int(ev.t[0]) if len(ev) else 0
        for start, length in spans:
            a, b = origin + start, origin + start + length
            first, last = np.searchsorted(ev.t, [a, max(a, b)])
            assert rec.between(a, b) == ev[int(first) : int(last)]


@pytest.mark.parametrize("on_error", ["skip", "repair"])
@given(chunks=raw_chunks(sensor_size=SIZE, max_back_us=40_000), spans=st.lists(st.integers(0, 400)))
def test_between_of_a_damaged_stream_is_a_slice_of_what_is_kept(
    on_error: OnError, chunks: list[RawChunk], spans: list[int]
) -> None:
    def decode(_buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        for k, chunk in enumerate(chunks):
            if k >= (mark if isinstance(mark, int) else 0):
                columns = {name: getattr(chunk, name) for name in "xytp"}
                yield RawChunk(**columns, words=chunk.words, mark=k)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "INDEX_EVENTS", 1)
        source = EventStream(decode, path="some.raw", sensor_size=SIZE, on_error=on_error)
        whole = source.load(Ledger())
        rec = Recording(path=Path("some.raw"), format="test", source=source)
        origin = int(whole.t[0]) if len(whole) else 0
        for span in spans:
            a, b = origin + 1000 * span, origin + 2000 * span
            first, last = np.searchsorted(whole.t, [a, b])
            assert rec.between(a, b) == whole[int(first) : int(last)]


def test_a_later_slice_begins_near_its_start() -> None:
    n, piece = 3_000, 10
    ev = Events(x=[0] * n, y=[0] * n, t=range(n), p=[0] * n)
    decode = Decoder(ev, piece)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "INDEX_EVENTS", 100)
        rec = recording(decode)
        rec.between(2_900, 2_950)
        decode.pieces = 0

        assert rec.between(2_000, 2_010).t.tolist() == list(range(2_000, 2_010))
    # One way in costs at most the events between two entries, a piece, and where chunks end.
    assert decode.pieces <= (n - 1_800) / piece


@given(ev=STREAMS, piece=st.integers(1, 50), in_room=st.booleans(), room=st.integers(0, 60))
def test_columns_are_used_again_where_there_is_room(
    ev: Events, piece: int, in_room: bool, room: int
) -> None:
    out = Columns.empty(room)

    for _ in range(2):
        found = recording(Decoder(ev, piece, in_room=in_room)).load(out=out)
        assert found == ev
    if room >= len(ev) + 3 and len(ev):
        assert all(np.shares_memory(getattr(found, name), getattr(out, name)) for name in "xytp")
        # The caller may go on writing into its own columns.
        out.t[:] = 0


def test_a_bound_is_where_all_is_decoded_to() -> None:
    ev = Events(x=[0, 1], y=[0, 0], t=[5, 6], p=[0, 1])
    source = EventStream(
        Decoder(ev, 1), path="", sensor_size=SIZE, on_error="raise", bound=lambda: 10
    )

    assert source.load(Ledger()) == ev


def test_two_readings_at_the_same_time_do_not_disturb_each_other() -> None:
    ev = Events(x=[0] * 50, y=[0] * 50, t=range(50), p=[0] * 50)
    rec = recording(Decoder(ev, 7))

    both = list(zip(rec.chunks(n=3), rec.chunks(n=3), strict=True))

    assert all(a == b for a, b in both)
    assert Events.concatenate(a for a, _ in both) == ev


def test_events_are_decoded_once_and_then_sliced() -> None:
    ev = Events(x=[0] * 50, y=[0] * 50, t=range(50), p=[0] * 50)
    decode = Decoder(ev, 5)
    rec = recording(decode)

    assert rec.events is rec.events
    made = decode.pieces
    assert rec.between(10, 20) == ev[10:20]
    assert rec.ledger.decoded == 50
    assert decode.pieces == made == 10


def test_a_fault_ends_with_a_right_prefix_then_the_error() -> None:
    ev = Events(x=[0] * 20, y=[0] * 20, t=range(20), p=[0] * 20)

    def decode(buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        yield from Decoder(ev, 4)(buffer, mark)
        msg = "expected more"
        raise FormatError(msg)

    source = EventStream(decode, path="", sensor_size=SIZE, on_error="raise")
    found = []
    with pytest.raises(FormatError, match="expected more"):
        found.extend(source(Ledger()))

    assert Events.concatenate(chunk.events for chunk in found) == ev


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_memory_does_not_grow_with_the_recording(on_error: OnError) -> None:
    def peak(chunks: int) -> int:
        piece, made = 1 << 16, []

        def decode(buffer: Buffer, _mark: object) -> Iterator[RawChunk]:
            for k in range(chunks):
                room = buffer.room(piece)
                for column in room:
                    column[:] = 0
                room.t[:] += k
                yield RawChunk(*room, words=piece, mark=k)

        source = EventStream(decode, path="", sensor_size=SIZE, on_error=on_error)
        rec = Recording(path=Path("x"), format="test", source=source)
        tracemalloc.start()
        made.append(sum(len(part) for part in rec.chunks(n=100_000)))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert made == [chunks * piece]
        return top

    short, long = peak(40), peak(160)

    assert long < short * 1.1
    assert long < 5 * 13 * EVENT_CHUNK


def test_every_chunk_is_bounded_and_no_event_is_in_two() -> None:
    n = EVENT_CHUNK + EVENT_CHUNK // 2
    zeros = np.zeros(n, np.uint16)
    ev = Events(x=zeros, y=zeros, t=np.arange(n), p=zeros.astype(np.int8))

    sizes = [len(chunk.events) for chunk in recording(Decoder(ev, 70_001)).stream()]

    assert sum(sizes) == n
    assert max(sizes) <= EVENT_CHUNK
    edges = np.cumsum([0, *sizes])
    found = [chunk.events.t for chunk in recording(Decoder(ev, 70_001)).stream()]
    for (a, b), t in zip(pairwise(edges.tolist()), found, strict=True):
        assert (int(t[0]), int(t[-1])) == (a, b - 1)


def test_a_look_at_the_end_does_not_hold_on_to_what_came_before() -> None:
    def source(_: Ledger) -> Iterator[Chunk]:
        for k in range(40):
            t = np.arange(100_000) + 100_000 * k
            zeros = np.zeros(t.size, np.uint16)
            yield Chunk(Events.from_checked(zeros, zeros, t, np.zeros(t.size, np.int8)))

    recording = Recording(Path("made"), "made", (1, 1), source=source)
    tracemalloc.start()
    found = recording.between(3_999_000, 4_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(found) == 1000
    assert peak < 6 << 20  # four chunks; all of them are 52 MB


def test_a_chunk_is_let_go_before_the_one_after_the_next_is_decoded() -> None:
    given: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def decode(buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        for _ in range(4):
            room = buffer.room(EVENT_CHUNK)
            alive.append(sum(ref() is not None for ref in given))
            for column in room:
                column[:] = 0
            yield RawChunk(*room, words=EVENT_CHUNK)

    source = EventStream(decode, path="some.raw", sensor_size=SIZE, on_error="raise")
    for chunk in source(Ledger()):
        given.append(weakref.ref(chunk.events.t.base))
        del chunk

    assert len(given) == 4
    assert alive == [0] * 4
