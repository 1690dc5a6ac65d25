"""One policy for all readers: raise names the byte, skip drops, repair moves up; all is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers.policy import RawChunk, checked
from eventkit.recording import Chunk, OnError
from eventkit.testing.strategies import raw_chunks

SIZE = (7, 5)
PATH = Path("some.bin")


def raw(x: list[int], t: list[int], *, offset: int | None = 0, **options: object) -> RawChunk:
    n = len(x)
    return RawChunk(
        x=np.array(x, np.uint16),
        y=np.zeros(n, np.uint16),
        t=np.array(t, np.int64),
        p=np.ones(n, np.int8),
        words=n,
        offset=offset,
        stride=5,
        **options,  # type: ignore[arg-type]
    )


def read(
    chunks: list[RawChunk],
    on_error: OnError,
    *,
    size: tuple[int, int] | None = SIZE,
) -> tuple[list[Chunk], Ledger]:
    ledger = Ledger()
    found = list(checked(iter(chunks), ledger, path=PATH, sensor_size=size, on_error=on_error))
    return found, ledger


def slow_policy(
    chunks: list[RawChunk], on_error: OnError
) -> tuple[list[tuple[int, int, int, int]], Counter[str], int]:
    """Return kept events, drops and repairs: one event at a time."""
    kept, dropped, repaired = [], Counter[str](), 0
    latest: int | None = None
    for chunk in chunks:
        columns = (getattr(chunk, name).tolist() for name in "xytp")
        for x, y, t, p in zip(*columns, strict=True):
            if x >= SIZE[0] or y >= SIZE[1]:
                dropped["outside"] += 1
            elif latest is not None and t < latest and on_error == "skip":
                dropped["backwards"] += 1
            else:
                repaired += latest is not None and t < latest
                latest = t if latest is None else max(t, latest)
                kept.append((x, y, latest, p))
    return kept, dropped, repaired


@pytest.mark.parametrize("on_error", ["skip", "repair"])
@given(chunks=raw_chunks(sensor_size=SIZE))
def test_what_is_kept_equals_the_slow_twin(on_error: OnError, chunks: list[RawChunk]) -> None:
    found, ledger = read(chunks, on_error)

    kept, dropped, repaired = slow_policy(chunks, on_error)
    events = Events.concatenate(chunk.events for chunk in found)
    assert events.to_structured().tolist() == kept
    assert ledger.dropped == dropped
    assert ledger.repaired["backwards"] == repaired


@pytest.mark.parametrize("on_error", ["skip", "repair"])
@given(chunks=raw_chunks(sensor_size=SIZE))
def test_decoded_is_kept_plus_dropped(on_error: OnError, chunks: list[RawChunk]) -> None:
    found, ledger = read(chunks, on_error)

    assert ledger.decoded == sum(chunk.t.size for chunk in chunks)
    assert ledger.decoded == ledger.kept + sum(ledger.dropped.values())
    assert ledger.kept == sum(len(chunk.events) for chunk in found)
    booked = Counter[str]()
    for chunk in found:
        booked.update({reason: times.size for reason, times in chunk.dropped.items()})
    assert +booked == ledger.dropped


@given(raw_chunks(sensor_size=SIZE))
def test_raise_gives_the_whole_stream_or_the_offset_of_a_faulty_event(
    chunks: list[RawChunk],
) -> None:
    kept, dropped, repaired = slow_policy(chunks, "repair")
    faults = sum(dropped.values()) + repaired

    if not faults:
        found, _ = read(chunks, "raise")
        assert Events.concatenate(c.events for c in found).to_structured().tolist() == kept
        return
    with pytest.raises(FormatError) as caught:
        read(chunks, "raise")
    assert caught.value.offset is not None
    assert caught.value.offset % 5 == 0
    assert caught.value.reason in ("outside_sensor", "backwards_time")


def test_raise_names_the_byte_the_event_and_the_cure_of_a_backward_step() -> None:
    chunks = [raw([0, 1], [10, 20]), raw([2, 3], [30, 25], offset=10)]

    with pytest.raises(FormatError) as caught:
        read(chunks, "raise")

    assert caught.value.reason == "backwards_time"
    assert caught.value.offset == 15
    for part in ("some.bin", "got 25 us after 30 us", "event 3", "--on-error skip", "(byte 15)"):
        assert part in str(caught.value)


def test_a_backward_step_between_chunks_is_seen() -> None:
    chunks = [raw([0, 1], [10, 20]), raw([2], [19], offset=10)]

    with pytest.raises(FormatError, match=r"got 19 us after 20 us at event 2.*\(byte 10\)"):
        read(chunks, "raise")


def test_raise_names_the_byte_the_event_and_the_cure_of_a_place_outside() -> None:
    chunks = [raw([0, 6], [1, 2]), raw([1, 7, 8], [3, 4, 5], offset=10)]

    with pytest.raises(FormatError) as caught:
        read(chunks, "raise")

    assert caught.value.reason == "outside_sensor"
    assert caught.value.offset == 15
    for part in ("7x5 sensor", "x=7 y=0", "event 3", "--sensor-size", "--on-error skip"):
        assert part in str(caught.value)


def test_records_between_events_are_counted_in_the_byte_offset() -> None:
    chunk = raw([0, 9], [1, 2], offset=100, index=np.array([0, 3]))

    with pytest.raises(FormatError, match=r"\(byte 115\)"):
        read([chunk], "raise")


def test_a_format_without_offsets_names_the_event_only() -> None:
    with pytest.raises(FormatError, match="event 1") as caught:
        read([raw([0, 9], [1, 2], offset=None)], "raise")

    assert caught.value.offset is None


def test_raise_names_the_first_of_two_different_faults() -> None:
    with pytest.raises(FormatError, match="event 1") as caught:
        read([raw([0, 1, 9], [10, 5, 11])], "raise")

    assert caught.value.reason == "backwards_time"


def test_skip_drops_every_event_before_the_latest_time() -> None:
    found, ledger = read([raw([0, 1, 2, 3], [10, 5, 9, 10])], "skip")

    assert found[0].events.t.tolist() == [10, 10]
    assert found[0].events.x.tolist() == [0, 3]
    # Booked at the time at which the stream stood.
    assert found[0].dropped["backwards"].tolist() == [10, 10]
    assert ledger.dropped == {"backwards": 2}


def test_repair_moves_events_up_to_the_latest_time() -> None:
    found, ledger = read([raw([0, 1, 2, 3], [10, 5, 9, 11])], "repair")

    assert found[0].events.t.tolist() == [10, 10, 10, 11]
    assert ledger.repaired == {"backwards": 2}
    assert ledger.dropped == {}
    assert ledger.kept == 4


def test_an_event_outside_cannot_be_repaired() -> None:
    found, ledger = read([raw([0, 7, 1], [1, 2, 3])], "repair")

    assert found[0].events.x.tolist() == [0, 1]
    assert found[0].dropped["outside"].tolist() == [2]
    assert ledger.dropped == {"outside": 1}


def test_the_time_of_a_dropped_event_does_not_count_as_latest() -> None:
    _, ledger = read([raw([0, 9, 1], [1, 1 << 60, 2])], "skip")

    assert ledger.dropped == {"outside": 1}


def test_a_chunk_of_faults_only_is_handed_on_empty() -> None:
    found, ledger = read([raw([9, 9], [1, 2]), raw([], [], offset=10), raw([0], [3])], "skip")

    assert [len(chunk.events) for chunk in found] == [0, 1]
    assert (ledger.decoded, ledger.kept) == (3, 1)


def test_without_a_sensor_size_places_are_not_judged() -> None:
    found, ledger = read([raw([60000], [1])], "raise", size=None)

    assert found[0].events.x.tolist() == [60000]
    assert ledger.kept == 1


@pytest.mark.parametrize("on_error", ["raise", "skip", "repair"])
def test_a_damaged_end_is_raised_or_cut_and_noted(on_error: OnError) -> None:
    def source() -> Iterator[RawChunk]:
        yield raw([0, 1], [1, 2])
        msg = "expected more"
        raise FormatError(msg, path=PATH, offset=10, reason="truncated")

    ledger, found = Ledger(), []
    stream = checked(source(), ledger, path=PATH, sensor_size=SIZE, on_error=on_error)

    if on_error == "raise":
        with pytest.raises(FormatError, match="expected more"):
            found.extend(stream)
        assert ledger.faults == []
        return
    found.extend(stream)
    assert len(found[0].events) == 2
    assert ledger.faults == [{"reason": "truncated", "offset": 10, "message": "expected more"}]


def test_skipped_words_are_added_up() -> None:
    chunks = [raw([0], [1], skipped={"overflow": 2}), raw([0], [1], skipped={"overflow": 1})]

    _, ledger = read(chunks, "raise")

    assert ledger.skipped == {"overflow": 3}
    assert ledger.words == 2


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)))
def test_a_ledger_shows_only_reasons_that_happened(counts: dict[str, int]) -> None:
    ledger = Ledger(words=99, decoded=99)

    ledger.drop(counts)

    shown = ledger.as_dict()
    assert shown["dropped"] == {reason: n for reason, n in sorted(counts.items()) if n}
    assert shown["kept"] == 99 - sum(counts.values())
