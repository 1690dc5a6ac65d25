"""One policy for all readers: raise names the byte, skip drops, repair moves up; all is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.columns import Buffer
from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers.clock import Clock
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Chunk, OnError
from eventkit.testing.strategies import raw_chunks

SIZE = (7, 5)
JITTER, LONGEST = 10_000, 1024
Row = tuple[int, int, int, int]


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


def at(*t: int) -> RawChunk:
    """Events inside the sensor at these times."""
    return raw([0] * len(t), list(t))


def stream(
    chunks: list[RawChunk], on_error: OnError, *, size: tuple[int, int] | None = SIZE
) -> EventStream:
    def decode(_buffer: Buffer, _mark: object) -> Iterator[RawChunk]:
        yield from chunks

    return EventStream(decode, path="some.bin", sensor_size=size, on_error=on_error)


def read(
    chunks: list[RawChunk], on_error: OnError, *, size: tuple[int, int] | None = SIZE
) -> tuple[list[Chunk], Ledger]:
    ledger = Ledger()
    return list(stream(chunks, on_error, size=size)(ledger)), ledger


def times(chunks: list[RawChunk], on_error: OnError = "skip") -> list[int]:
    found, _ = read(chunks, on_error)
    return [t for chunk in found for t in chunk.events.t.tolist()]


def drops(chunks: list[Chunk]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for chunk in chunks:
        for reason, booked in chunk.dropped.items():
            found.setdefault(reason, []).extend(booked.tolist())
    return found


def rows(chunks: list[RawChunk]) -> list[Row]:
    columns = ((getattr(chunk, name).tolist() for name in "xytp") for chunk in chunks)
    return [row for chunk in columns for row in zip(*chunk, strict=True)]


def inside(row: Row) -> bool:
    return row[0] < SIZE[0] and row[1] < SIZE[1]


def slow_verdicts(t: list[int]) -> list[str]:
    """Judge a whole stream, one event at a time, with everything before and after it at hand."""
    verdict: list[str] = []
    for j, now in enumerate(t):
        kept = [i for i in range(j) if verdict[i] == "keep"]
        if not kept or now >= t[kept[-1]]:
            verdict.append("keep")
            continue
        if t[kept[-1]] - now <= JITTER:
            verdict.append("jitter")
            continue
        verdict.append("backwards")
        first = next(i for i in kept if t[i] > now)
        before = [i for i in kept if i < first]
        jumped = not before or t[first] - t[before[-1]] > JITTER
        many = j - first
        below = t[j : j + many + 1]
        goes_on = len(below) == many + 1 and all(now - JITTER <= v < t[first] for v in below)
        if jumped and many <= LONGEST and goes_on:
            verdict[first:j] = [
                "backwards" if v == "backwards" else "spike" for v in verdict[first:j]
            ]
            verdict[j] = "keep"
    return verdict


def slow_policy(
    chunks: list[RawChunk], on_error: OnError
) -> tuple[list[Row], dict[str, list[int]], int]:
    """Return kept events, times of drops by reason, and the number of repairs."""
    judged = [row for row in rows(chunks) if inside(row)]
    verdict = slow_verdicts([row[2] for row in judged])
    kept: list[Row] = []
    dropped: dict[str, list[int]] = {}
    repaired = 0
    first = next((row[2] for row, v in zip(judged, verdict, strict=True) if v == "keep"), 0)
    for (x, y, t, p), v in zip(judged, verdict, strict=True):
        stood = kept[-1][2] if kept else first
        if v == "keep":
            kept.append((x, y, t, p))
        elif v == "jitter" and on_error == "repair":
            kept.append((x, y, stood, p))
            repaired += 1
        else:
            dropped.setdefault(v, []).append(stood)
    outside = [row[2] for row in rows(chunks) if not inside(row)]
    return kept, {**dropped, **({"outside": outside} if outside else {})}, repaired


CLOSE = raw_chunks(sensor_size=SIZE)
# Steps of several times the jitter, so that spikes and clocks that were set back are drawn too.
FAR = raw_chunks(sensor_size=SIZE, max_back_us=5 * JITTER)


@pytest.mark.parametrize("on_error", ["skip", "repair"])
@given(chunks=st.one_of(CLOSE, FAR))
def test_what_is_kept_dropped_and_repaired_equals_the_slow_twin(
    on_error: OnError, chunks: list[RawChunk]
) -> None:
    found, ledger = read(chunks, on_error)

    kept, dropped, repaired = slow_policy(chunks, on_error)
    events = Events.concatenate(chunk.events for chunk in found)
    assert events.to_structured().tolist() == kept
    assert drops(found) == dropped
    assert ledger.dropped == {reason: len(t) for reason, t in dropped.items()}
    assert ledger.repaired["jitter"] == repaired


@pytest.mark.parametrize("seed", range(40))
def test_long_streams_with_spikes_equal_the_slow_twin_however_they_are_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(0, 40, 1500))
    for _ in range(4):
        start, many = int(rng.integers(0, 1500)), int(rng.choice([1, 2, 30, 300]))
        t[start : start + many] += int(rng.choice([-1, 1])) * int(rng.choice([5_000, 1 << 20]))
    cuts = np.sort(rng.integers(0, 1500, int(rng.choice([1, 5, 200]))))
    chunks = [at(*part.tolist()) for part in np.split(t, cuts)]

    for on_error in ("skip", "repair"):
        found, ledger = read(chunks, on_error)
        kept, dropped, repaired = slow_policy(chunks, on_error)
        events = Events.concatenate(chunk.events for chunk in found)
        assert events.to_structured().tolist() == kept
        assert drops(found) == dropped
        assert ledger.repaired["jitter"] == repaired


@pytest.mark.parametrize("on_error", ["skip", "repair"])
@given(chunks=st.one_of(CLOSE, FAR))
def test_decoded_is_kept_plus_dropped(on_error: OnError, chunks: list[RawChunk]) -> None:
    found, ledger = read(chunks, on_error)

    assert ledger.decoded == sum(chunk.t.size for chunk in chunks)
    assert ledger.decoded == ledger.kept + sum(ledger.dropped.values())
    assert ledger.kept == sum(len(chunk.events) for chunk in found)
    booked = Counter[str]()
    for chunk in found:
        booked.update({reason: times.size for reason, times in chunk.dropped.items()})
    assert +booked == ledger.dropped


@given(st.one_of(CLOSE, FAR))
def test_raise_gives_the_whole_stream_or_the_byte_of_the_first_faulty_event(
    chunks: list[RawChunk],
) -> None:
    latest, faulty = -(1 << 63), None
    for i, row in enumerate(rows(chunks)):
        if not inside(row) or row[2] < latest:
            faulty = i
            break
        latest = row[2]

    if faulty is None:
        found, _ = read(chunks, "raise")
        assert Events.concatenate(c.events for c in found).to_structured().tolist() == rows(chunks)
        return
    with pytest.raises(FormatError) as caught:
        read(chunks, "raise")
    assert caught.value.offset == 5 * faulty
    assert caught.value.reason == (
        "backwards_time" if inside(rows(chunks)[faulty]) else "outside_sensor"
    )


def test_raise_names_the_byte_the_event_and_the_cure_of_a_backward_step() -> None:
    chunks = [raw([0, 1], [10, 20]), raw([2, 3], [30, 25], offset=10)]

    with pytest.raises(FormatError) as caught:
        read(chunks, "raise")

    assert caught.value.reason == "backwards_time"
    assert caught.value.offset == 15
    for part in ("some.bin", "got 25 us after 30 us", "event 3", "--on-error skip", "(byte 15)"):
        assert part in str(caught.value)


def test_what_was_right_before_the_faulty_chunk_goes_out_first() -> None:
    events = stream([raw([0, 1], [10, 20]), raw([2], [19], offset=10)], "raise")(Ledger())

    assert next(events).events.t.tolist() == [10, 20]
    with pytest.raises(FormatError, match=r"got 19 us after 20 us at event 2.*\(byte 10\)"):
        next(events)


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


def test_skip_drops_jitter_and_books_it_where_the_stream_stood() -> None:
    found, ledger = read([raw([0, 1, 2, 3], [10, 5, 9, 10])], "skip")

    assert found[0].events.t.tolist() == [10, 10]
    assert found[0].events.x.tolist() == [0, 3]
    assert drops(found) == {"jitter": [10, 10]}
    assert ledger.dropped == {"jitter": 2}


def test_repair_moves_jitter_up_to_the_latest_time() -> None:
    found, ledger = read([raw([0, 1, 2, 3], [10, 5, 9, 11])], "repair")

    assert found[0].events.t.tolist() == [10, 10, 10, 11]
    assert ledger.repaired == {"jitter": 2}
    assert ledger.dropped == {}
    assert ledger.kept == 4


def test_jitter_ends_at_ten_milliseconds() -> None:
    assert times([at(20_000, 10_000)], "repair") == [20_000, 20_000]
    assert times([at(20_000, 9_999)], "repair") == [20_000]


@pytest.mark.parametrize("on_error", ["skip", "repair"])
def test_one_damaged_time_costs_one_event_and_not_the_rest(on_error: OnError) -> None:
    found, ledger = read([at(0, 1, 1 << 40, 2, 3, 4)], on_error)

    assert [t for chunk in found for t in chunk.events.t.tolist()] == [0, 1, 2, 3, 4]
    assert drops(found) == {"spike": [1]}
    assert ledger.dropped == {"spike": 1}


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_spike_at_the_end_of_a_piece_is_found_too(cut: int) -> None:
    t = [0, 1, 1 << 40, 2, 3, 4]

    assert times([at(*t[:cut]), at(*t[cut:])]) == [0, 1, 2, 3, 4]


def test_a_file_that_begins_with_a_spike_keeps_the_rest() -> None:
    found, _ = read([at(1 << 40), at(2), at(3, 4)], "skip")

    assert [t for chunk in found for t in chunk.events.t.tolist()] == [2, 3, 4]
    assert drops(found) == {"spike": [2]}


def test_a_spike_of_more_than_1024_events_is_where_the_clock_went() -> None:
    t = [0, *range(1 << 40, (1 << 40) + 1025), *range(1, 3000)]

    assert times([at(*t)]) == t[:1026]
    assert times([at(*t[:1025], *t[1026:])]) == [0, *range(1, 3000)]


def test_a_clock_that_was_set_back_is_backwards_to_both_policies() -> None:
    t = [*range(1 << 30, (1 << 30) + 5000), *range(5000)]

    for on_error in ("skip", "repair"):
        found, ledger = read([at(*t)], on_error)
        assert ledger.kept == 5000
        assert ledger.dropped == {"backwards": 5000}
        assert set(drops(found)["backwards"]) == {(1 << 30) + 4999}


def test_a_long_stream_of_backward_events_takes_linear_time() -> None:
    import time

    t = np.concatenate([[0], np.full(2000, 1 << 40), np.tile([100_000, 0, 50_000], 200_000)])
    chunk = raw([0] * t.size, t.tolist())

    begun = time.process_time()
    _, ledger = read([chunk], "skip")

    assert ledger.dropped == {"backwards": 600_000}
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("on_error", ["skip", "repair"])
def test_times_at_the_ends_of_int64_are_judged_like_others(on_error: OnError) -> None:
    low, high = -(1 << 63), (1 << 63) - 1

    found, ledger = read([at(low, high, low + 5, low + 6, 0, high, high - 5, low)], on_error)

    assert ledger.decoded == 8
    kept = [t for chunk in found for t in chunk.events.t.tolist()]
    assert kept == sorted(kept)
    assert kept[:4] == [low, low + 5, low + 6, 0]


def test_an_event_outside_cannot_be_repaired() -> None:
    found, ledger = read([raw([0, 7, 1], [1, 2, 3])], "repair")

    assert found[0].events.x.tolist() == [0, 1]
    assert drops(found) == {"outside": [2]}
    assert ledger.dropped == {"outside": 1}


def test_places_of_other_integer_types_are_judged_before_they_are_narrowed() -> None:
    chunk = raw([0, 1, 2], [1, 2, 3])
    wide = RawChunk(
        x=np.array([0, 65_537, -1]), y=chunk.y, t=chunk.t, p=chunk.p, words=3, offset=0, stride=5
    )

    for size in (SIZE, None):
        found, ledger = read([wide], "skip", size=size)
        assert found[0].events.x.tolist() == [0]
        assert ledger.dropped == {"outside": 2}


def test_the_time_of_an_event_outside_does_not_count_as_latest() -> None:
    _, ledger = read([raw([0, 9, 1], [1, 1 << 60, 2])], "skip")

    assert ledger.dropped == {"outside": 1}


def test_chunks_of_faults_only_leave_their_drops() -> None:
    found, ledger = read([raw([9, 9], [1, 2]), raw([], [], offset=10), raw([0], [3])], "skip")

    assert sum(len(chunk.events) for chunk in found) == 1
    assert drops(found) == {"outside": [1, 2]}
    assert (ledger.decoded, ledger.kept) == (3, 1)


def test_what_a_decoder_dropped_is_booked_beside_the_rest() -> None:
    chunk = raw([0], [1], dropped={"bad_value": np.array([5, 6])})

    for on_error in ("raise", "skip", "repair"):
        found, ledger = read([chunk], on_error)
        assert drops(found) == {"bad_value": [5, 6]}
        assert (ledger.decoded, ledger.kept) == (3, 1)


def test_without_a_sensor_size_places_are_not_judged() -> None:
    found, ledger = read([raw([60_000, 65_535], [1, 2])], "raise", size=None)

    assert found[0].events.x.tolist() == [60_000, 65_535]
    assert ledger.kept == 2


@pytest.mark.parametrize("on_error", ["raise", "skip", "repair"])
def test_a_damaged_end_is_raised_or_cut_and_noted(on_error: OnError) -> None:
    def decode(_buffer: Buffer, _mark: object) -> Iterator[RawChunk]:
        yield raw([0, 1], [1, 2])
        msg = "expected more"
        raise FormatError(msg, path="some.bin", offset=10, reason="truncated")

    ledger, found = Ledger(), []
    events = EventStream(decode, path="some.bin", sensor_size=SIZE, on_error=on_error)(ledger)

    if on_error == "raise":
        with pytest.raises(FormatError, match="expected more"):
            found.extend(events)
        assert ledger.faults == []
    else:
        found.extend(events)
        fault = {"reason": "truncated", "offset": 10, "message": "expected more"}
        assert ledger.faults == [fault]
    assert [t for chunk in found for t in chunk.events.t.tolist()] == [1, 2]


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


def slow_clock(raw_times: list[int], bits: int) -> list[int]:
    """The rule in words, for one time after the other; what was undone cannot be again."""
    span, wraps, found = 1 << bits, 0, []
    last: int | None = None
    left: int | None = None
    ahead: int | None = None

    def close(a: int, b: int | None) -> bool:
        return b is not None and abs(a - b) <= span / 16

    for now in raw_times:
        step = 0 if last is None else now - last
        if step < -span / 2 and step + span > span / 16 and close(now, ahead):
            ahead = None
        elif step < -span / 2:
            wraps, left = wraps + 1, last
        elif step > span / 2 and wraps and close(now, left):
            wraps, left = wraps - 1, None
        elif step > span / 2:
            ahead = last
        last = now
        found.append(now + wraps * span)
    return found


@given(
    st.sampled_from([8, 24, 32]).flatmap(
        lambda bits: st.tuples(
            st.just(bits),
            st.lists(
                st.one_of(
                    st.integers(0, (1 << bits) - 1),
                    st.integers(0, 1 << bits - 5),
                    st.integers((1 << bits) - (1 << bits - 5), (1 << bits) - 1),
                ),
                max_size=20,
            ),
        )
    ),
    st.integers(0, 20),
)
def test_the_clock_equals_its_rule_in_words_whole_and_in_parts(
    drawn: tuple[int, list[int]], cut: int
) -> None:
    bits, raw_times = drawn
    truth = slow_clock(raw_times, bits)

    whole = Clock(bits).unwrap(np.array(raw_times, np.int64)).tolist()
    first = Clock(bits)
    early = first.unwrap(np.array(raw_times[:cut], np.int64)).tolist()
    late = Clock(bits, state=first.state).unwrap(np.array(raw_times[cut:], np.int64)).tolist()

    assert whole == truth
    assert early + late == truth


@pytest.mark.parametrize("bits", [24, 32])
def test_a_clock_of_two_hours_wraps_and_a_swapped_pair_at_the_wrap_moves_nothing(bits: int) -> None:
    truth = np.arange(0, 7_200_000_000, 1_000_003)
    raw_times = truth & ((1 << bits) - 1)
    wrap = int(np.argmax(np.diff(raw_times) < 0))
    swapped = raw_times.copy()
    swapped[[wrap, wrap + 1]] = swapped[[wrap + 1, wrap]]

    assert np.array_equal(Clock(bits).unwrap(raw_times.copy()), truth)
    found = Clock(bits).unwrap(swapped)
    assert np.array_equal(np.sort(found), truth)
    assert np.array_equal(found[wrap + 2 :], truth[wrap + 2 :])


def test_what_a_decoder_dropped_itself_is_counted_with_what_lies_outside() -> None:
    chunk = raw([1, 99, 2], [5, 6, 7], dropped={"outside": np.array([4])})

    found, ledger = read([chunk], "skip")

    assert drops(found) == {"outside": [4, 6]}
    assert (ledger.decoded, ledger.kept, times([chunk])) == (4, 2, [5, 7])


def test_what_stands_before_a_fault_is_judged_first() -> None:
    """The first fault of a file is named, in whatever order the checks run."""
    fault = FormatError("expected sense, got none", path="a", offset=9)

    with pytest.raises(FormatError, match="got 5 us after 100000 us"):
        read([raw([1, 2], [100_000, 5], fault=fault)], "raise")
