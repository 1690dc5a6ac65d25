"""Windows: edges by integer arithmetic, half-open, nothing in two and nothing lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import EventKitError, SettingsError
from eventkit.events import Events
from eventkit.slicing import equal_edges, windows
from eventkit.testing.strategies import events
from eventkit.windows import Windows, index_ranges, windows_of_edges

STARTS = st.integers(-(1 << 60), 1 << 60)
LENGTHS = st.integers(1, 1 << 61)
STRIDES = st.none() | st.integers(1, 40)


def at(*times: int) -> Events:
    """Return one ON event at pixel (0, 0) at each time."""
    n = len(times)
    return Events(x=[0] * n, y=[0] * n, t=np.array(times, np.int64), p=[1] * n)


def ranges_of(ev: Events, spans: Windows) -> list[list[int]]:
    found: list[list[int]] = spans.ranges(ev.t).tolist()
    return found


# Edges


@given(STARTS, LENGTHS, st.integers(1, 40))
def test_edges_are_those_of_exact_integer_arithmetic(start: int, length: int, bins: int) -> None:
    edges = equal_edges(start, start + length, bins)

    assert edges.tolist() == [start + length * i // bins for i in range(bins + 1)]
    assert edges.dtype == np.int64


@given(STARTS, LENGTHS, st.integers(1, 20))
def test_twice_as_many_bins_nest(start: int, length: int, bins: int) -> None:
    coarse, fine = (equal_edges(start, start + length, n) for n in (bins, 2 * bins))

    assert np.array_equal(fine[::2], coarse)


def test_more_bins_than_microseconds_leave_some_empty() -> None:
    spans = windows_of_edges(equal_edges(0, 2, 4))

    assert spans.tolist() == [[0, 0], [0, 1], [1, 1], [1, 2]]


@pytest.mark.parametrize(("start", "stop", "bins"), [(0, 10, 0), (5, 5, 2), (5, 4, 2)])
def test_no_bins_and_no_time_are_refused(start: int, stop: int, bins: int) -> None:
    with pytest.raises(SettingsError, match="expected"):
        equal_edges(start, stop, bins)


# Bins


@given(events(min_size=1), st.integers(1, 9))
def test_bins_reach_from_the_first_event_to_one_past_the_last(ev: Events, bins: int) -> None:
    spans = windows(ev, bins=bins).spans

    assert spans[0, 0] == ev.t[0]
    assert spans[-1, 1] == ev.t[-1] + 1
    assert np.array_equal(spans[1:, 0], spans[:-1, 1])


@given(events(min_size=1), st.integers(1, 9))
def test_bins_that_exclude_the_last_event_end_at_it(ev: Events, bins: int) -> None:
    spans = windows(ev, bins=bins, last="exclude").spans

    first, end = int(ev.t[0]), int(ev.t[-1])
    assert spans.shape == (bins, 2)
    assert (spans[0, 0], spans[-1, 1]) == (first, end)
    assert spans[:, 1].tolist() == [first + (end - first) * (i + 1) // bins for i in range(bins)]


def test_without_a_rule_the_stream_is_one_window() -> None:
    assert windows(at(3, 9)).spans.tolist() == [[3, 10]]
    assert windows(at(3, 9), last="exclude").spans.tolist() == [[3, 9]]


# Lengths


@given(events(min_size=1), st.integers(1, 3000))
def test_windows_of_one_length_cover_every_event(ev: Events, window_us: int) -> None:
    spans = windows(ev, window_us=window_us).spans

    assert (spans[:, 1] - spans[:, 0] == window_us).all()
    assert spans[0, 0] == ev.t[0]
    assert spans[-1, 0] <= ev.t[-1] < spans[-1, 1]


@given(events(min_size=1), st.integers(1, 900), st.integers(1, 900))
def test_windows_go_on_by_the_stride_until_one_holds_the_last_event(
    ev: Events, window_us: int, stride_us: int
) -> None:
    spans = windows(ev, window_us=window_us, stride_us=stride_us).spans.tolist()

    expected, end = [], int(ev.t[-1])
    start = int(ev.t[0])
    while start <= end:
        expected.append([start, start + window_us])
        if end < start + window_us:
            break
        start += stride_us
    assert spans == expected


@given(events(min_size=1), st.integers(1, 900), st.integers(1, 900))
def test_windows_that_exclude_the_last_event_are_all_full(
    ev: Events, window_us: int, stride_us: int
) -> None:
    spans = windows(ev, window_us=window_us, stride_us=stride_us, last="exclude").spans.tolist()

    first, end = int(ev.t[0]), int(ev.t[-1])
    full = range(first, end - window_us + 1, stride_us)
    assert spans == [[start, start + window_us] for start in full]


# Counts


@given(events(), st.integers(1, 40), STRIDES)
def test_windows_by_count_hold_that_many_events(ev: Events, count: int, stride: int | None) -> None:
    spans = windows(ev, count=count, stride=stride)

    expected, start = [], 0
    while start < len(ev):
        expected.append([start, min(start + count, len(ev))])
        if start + count >= len(ev):
            break
        start += stride or count
    assert ranges_of(ev, spans) == expected
    for (a, b), (first, stop) in zip(expected, spans.spans.tolist(), strict=True):
        assert (first, stop) == (ev.t[a], ev.t[b - 1] + 1)


@given(events(), st.integers(1, 40), STRIDES)
def test_windows_by_count_without_the_rest_are_all_full(
    ev: Events, count: int, stride: int | None
) -> None:
    found = ranges_of(ev, windows(ev, count=count, stride=stride, last="exclude"))

    full = range(0, len(ev) - count + 1, stride or count)
    assert found == [[start, start + count] for start in full]


@given(events(), st.integers(1, 9), st.integers(0, 40))
def test_windows_by_count_go_on_over_a_cut_of_the_stream(ev: Events, count: int, cut: int) -> None:
    spans = windows(ev, count=count)

    head, tail = ev[:cut], ev[cut:]
    there = spans.ranges(head.t), spans.ranges(tail.t, before=len(head))

    lengths = sum((r[:, 1] - r[:, 0] for r in there), np.zeros(len(spans), np.int64))
    whole = spans.ranges(ev.t)
    assert np.array_equal(lengths, whole[:, 1] - whole[:, 0])


def test_equal_times_are_cut_by_count_all_the_same() -> None:
    assert ranges_of(at(7, 7, 7), windows(at(7, 7, 7), count=2)) == [[0, 2], [2, 3]]


# Index ranges


@given(events(), st.lists(st.integers(-500, 3000), min_size=2, max_size=8))
def test_index_ranges_are_those_of_a_search_by_hand(ev: Events, offsets: list[int]) -> None:
    first = int(ev.t[0]) if len(ev) else 0
    spans = windows(ev, edges_us=[first + offset for offset in sorted(offsets)])

    for (start, stop), (a, b) in zip(spans.spans.tolist(), ranges_of(ev, spans), strict=True):
        assert [i for i, t in enumerate(ev.t.tolist()) if start <= t < stop] == list(range(a, b))


def test_an_event_at_an_edge_belongs_to_the_next_window() -> None:
    t = np.array([0, 10, 10, 20])

    assert index_ranges(t, windows_of_edges([0, 10, 20])).tolist() == [[0, 1], [1, 3]]


# The ends of the road


def test_a_stream_without_events_has_the_windows_of_an_event_at_zero() -> None:
    nothing = Events.empty()

    assert windows(nothing, bins=2).spans.tolist() == [[0, 0], [0, 1]]
    assert windows(nothing, window_us=5).spans.tolist() == [[0, 5]]
    assert windows(nothing, edges_us=[3, 9]).spans.tolist() == [[3, 9]]
    assert windows(nothing).spans.tolist() == [[0, 1]]
    assert len(windows(nothing, count=3)) == 0


@pytest.mark.parametrize("t", [0, -5, (1 << 53) + 1, 2**62])
def test_one_event_is_in_one_window(t: int) -> None:
    for rule in ({}, {"bins": 1}, {"window_us": 4}, {"count": 3}, {"window_us": 4, "stride_us": 1}):
        assert ranges_of(at(t), windows(at(t), **rule)) == [[0, 1]]


@pytest.mark.parametrize("t", [0, -5, (1 << 53) + 1, 2**62])
def test_one_event_excluded_leaves_windows_without_events(t: int) -> None:
    assert windows(at(t), bins=3, last="exclude").spans.tolist() == [[t, t]] * 3
    assert windows(at(t, t), last="exclude").spans.tolist() == [[t, t]]
    assert len(windows(at(t), window_us=4, last="exclude")) == 0


def test_times_that_float64_cannot_hold_are_cut_exactly() -> None:
    base = (1 << 53) + 1
    ev = at(base, base + 1, base + 2, base + 3)

    assert ranges_of(ev, windows(ev, bins=4)) == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert ranges_of(ev, windows(ev, window_us=3)) == [[0, 3], [3, 4]]


def test_a_span_of_half_of_int64_and_more_is_cut_exactly() -> None:
    ev = at(-(1 << 62), 0, (1 << 62) + 5)

    edges = windows(ev, bins=3).spans[:, 0].tolist()

    assert edges == [-(1 << 62) + ((1 << 63) + 6) * i // 3 for i in range(3)]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"bins": 2, "window_us": 5}, "got bins and window_us"),
        ({"bins": 1, "edges_us": [0, 1]}, "got bins and edges_us"),
        ({"count": 1, "bins": 2}, "got bins and count"),
        ({"bins": 0}, "bins of at least 1"),
        ({"bins": True}, "bins of at least 1"),
        ({"bins": 1.5}, "bins of at least 1"),
        ({"bins": 1 << 25}, "at most 16777216 bins"),
        ({"window_us": 0}, "window_us of at least 1"),
        ({"window_us": -4}, "window_us of at least 1"),
        ({"count": 0}, "count of at least 1"),
        ({"window_us": 5, "stride_us": 0}, "stride_us of at least 1"),
        ({"count": 5, "stride": -1}, "stride of at least 1"),
        ({"stride_us": 5}, "stride_us goes with window_us"),
        ({"stride": 5, "window_us": 5}, "stride goes with count"),
        ({"edges_us": [5]}, "at least two integer edges"),
        ({"edges_us": [0.0, 1.0]}, "at least two integer edges"),
        ({"edges_us": [[0, 1]]}, "at least two integer edges"),
        ({"edges_us": [0, 5, 4]}, "do not decrease"),
        ({"last": "both"}, "'include' or 'exclude', got 'both'"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        windows(at(0, 7), **rule)


@pytest.mark.parametrize("last", ["include", "exclude"])
@pytest.mark.parametrize("stride", [None, 1])
def test_windows_so_short_that_memory_would_run_out_are_refused(
    last: Any, stride: int | None
) -> None:
    with pytest.raises(SettingsError, match="at most 16777216 windows, 1 us every 1 makes"):
        windows(at(0, 1 << 40), window_us=1, stride_us=stride, last=last)


@pytest.mark.parametrize("rule", [{}, {"bins": 2}, {"window_us": 10}])
def test_a_time_at_the_end_of_int64_is_refused_with_a_sentence(rule: dict[str, int]) -> None:
    with pytest.raises(EventKitError, match=r"2\^6[23]"):
        windows(at(2**63 - 1), **rule)
