"""Windows: edges by integer arithmetic, half-open, nothing in two and nothing lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import EventKitError, SettingsError
from eventkit.events import Events
from eventkit.slicing import equal_edges, index_ranges, windows, windows_of_edges
from eventkit.testing.strategies import events

STARTS = st.integers(-(1 << 60), 1 << 60)
LENGTHS = st.integers(1, 1 << 61)


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


@given(events(min_size=1), st.integers(1, 9))
def test_bins_reach_from_the_first_event_to_one_past_the_last(ev: Events, bins: int) -> None:
    spans = windows(ev.t, bins=bins)

    assert spans[0, 0] == ev.t[0]
    assert spans[-1, 1] == ev.t[-1] + 1
    assert np.array_equal(spans[1:, 0], spans[:-1, 1])


@given(events(min_size=1), st.integers(1, 3000))
def test_windows_of_one_length_cover_every_event(ev: Events, window_us: int) -> None:
    spans = windows(ev.t, window_us=window_us)

    assert (spans[:, 1] - spans[:, 0] == window_us).all()
    assert spans[0, 0] == ev.t[0]
    assert spans[-1, 0] <= ev.t[-1] < spans[-1, 1]


@given(events(), st.lists(st.integers(-500, 3000), min_size=2, max_size=8))
def test_index_ranges_are_those_of_a_search_by_hand(ev: Events, offsets: list[int]) -> None:
    first = int(ev.t[0]) if len(ev) else 0
    spans = windows_of_edges([first + offset for offset in sorted(offsets)])

    ranges = index_ranges(ev.t, spans)

    for (start, stop), (a, b) in zip(spans.tolist(), ranges.tolist(), strict=True):
        assert [i for i, t in enumerate(ev.t.tolist()) if start <= t < stop] == list(range(a, b))


def test_an_event_at_an_edge_belongs_to_the_next_window() -> None:
    t = np.array([0, 10, 10, 20])

    assert index_ranges(t, windows_of_edges([0, 10, 20])).tolist() == [[0, 1], [1, 3]]


def test_a_stream_without_events_has_the_windows_of_an_event_at_zero() -> None:
    nothing = np.empty(0, np.int64)

    assert windows(nothing, bins=2).tolist() == [[0, 0], [0, 1]]
    assert windows(nothing, window_us=5).tolist() == [[0, 5]]
    assert windows(nothing, edges_us=[3, 9]).tolist() == [[3, 9]]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "got none"),
        ({"bins": 2, "window_us": 5}, "got bins and window_us"),
        ({"bins": 1, "edges_us": [0, 1]}, "got bins and edges_us"),
        ({"bins": 0}, "at least one bin"),
        ({"window_us": 0}, "at least 1 us"),
        ({"window_us": -4}, "at least 1 us"),
        ({"edges_us": [5]}, "at least two integer edges"),
        ({"edges_us": [0.0, 1.0]}, "at least two integer edges"),
        ({"edges_us": [[0, 1]]}, "at least two integer edges"),
        ({"edges_us": [0, 5, 4]}, "do not decrease"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        windows(np.array([0, 7]), **rule)


def test_a_window_so_short_that_memory_would_run_out_is_refused() -> None:
    with pytest.raises(SettingsError, match="at most 16777216 windows, 1 us makes"):
        windows(np.array([0, 1 << 40]), window_us=1)


@pytest.mark.parametrize("rule", [{"bins": 2}, {"window_us": 10}])
def test_a_time_at_the_end_of_int64_is_refused_with_a_sentence(rule: dict[str, int]) -> None:
    with pytest.raises(EventKitError, match=r"2\^6[23]"):
        windows(np.array([2**63 - 1]), **rule)
