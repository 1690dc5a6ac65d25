"""Adaptive windows: where the scene changes, and nowhere else."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eventkit import slicing
from eventkit.adaptive import Bisection, _mean_difference
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations.registry import make, names
from eventkit.testing.strategies import events, sensor_sizes

SIZE = (40, 24)


def noise(n: int, *, seed: int = 0, size: tuple[int, int] = SIZE) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        x=rng.integers(0, size[0], n),
        y=rng.integers(0, size[1], n),
        t=np.sort(rng.integers(0, 100_000, n)),
        p=rng.integers(0, 2, n),
    )


def dot_that_stops(n: int = 8000) -> Events:
    """Return a dot that crosses the sensor in the first half of the events, then flickers."""
    step = np.arange(n)
    x = np.minimum(step * SIZE[0] * 2 // n, SIZE[0] - 1)
    return Events(x=x, y=np.full(n, 3), t=step * 10, p=step % 2)


def slow_mean_difference(m: int) -> float:
    """Return the mean of |heads - tails| of m fair coins, over all outcomes."""
    from math import comb

    return sum(comb(m, k) * abs(m - 2 * k) for k in range(m + 1)) / 2**m


def slow_difference(ev: Events, middle: int, rule: Bisection) -> float:
    """Return the difference of two halves by its formula, cell by cell in Python."""
    cells: dict[tuple[int, int], list[int]] = {}
    for i, (x, y) in enumerate(zip(ev.x.tolist(), ev.y.tolist(), strict=True)):
        cells.setdefault((y // rule.cell, x // rule.cell), [0, 0])[i >= middle] += 1
    apart: float = sum(abs(left - right) for left, right in cells.values())
    if rule.chance == "subtract":
        apart -= sum(slow_mean_difference(left + right) for left, right in cells.values())
    return max(0.0, apart) / len(ev)


def slow_place(ev: Events, start: int, stop: int, by: str) -> int | None:
    """Return the time to cut at, or none, from the sentences of the documentation."""
    times = ev.t.tolist()
    if by == "time":
        return start + (stop - start) // 2 if stop - start > 1 else None
    if len(set(times)) < 2:
        return None
    middle = times[len(times) // 2]
    if times[len(times) // 2 - 1] < middle:
        return middle
    later = [t for t in times if t > middle]
    return min(later) if later else middle


def slow_edges(ev: Events, rule: Bisection) -> list[int]:
    """Return the edges of bisection by a threshold, recursively."""

    def cut(start: int, stop: int, depth: int) -> list[int]:
        part = ev[(ev.t >= start) & (ev.t < stop)]
        edge = slow_place(part, start, stop, rule.by)
        if edge is None or depth == rule.max_depth:
            return [start]
        middle = int((part.t < edge).sum())
        if min(middle, len(part) - middle) < rule.min_events:
            return [start]
        if slow_difference(part, middle, rule) <= rule.threshold:
            return [start]
        return cut(start, edge, depth + 1) + cut(edge, stop, depth + 1)

    start, stop = (int(ev.t[0]), int(ev.t[-1]) + 1) if len(ev) else (0, 1)
    return [*cut(start, stop, 0), stop]


def edges_of(windows: slicing.Windows) -> list[int]:
    assert all(a[1] == b[0] for a, b in pairwise(windows.spans))
    return [int(windows.spans[0, 0]), *windows.spans[:, 1].tolist()]


@given(
    st.data(),
    sensor_sizes(),
    st.sampled_from(["count", "time"]),
    st.sampled_from(["subtract", "keep"]),
    st.integers(1, 3),
    st.integers(0, 4),
)
def test_edges_equal_those_of_the_slow_twin(
    data: st.DataObject, size: tuple[int, int], by: Any, chance: Any, cell: int, depth: int
) -> None:
    ev = data.draw(events(sensor_size=size))
    least = data.draw(st.integers(1, 4))
    rule = Bisection(
        by=by, chance=chance, cell=cell, max_depth=depth, min_events=least, threshold=0.31
    )

    assert edges_of(rule.cut(ev, sensor_size=size)) == slow_edges(ev, rule)


@given(events(), st.integers(1, 12), st.sampled_from(["count", "time"]), st.integers(1, 5))
def test_there_are_exactly_as_many_windows_as_asked_and_no_event_is_lost(
    ev: Events, wanted: int, by: Any, least: int
) -> None:
    rule = Bisection(windows=wanted, by=by, min_events=least)

    windows = rule.cut(ev, sensor_size=(7, 5))

    ranges = windows.ranges(ev.t)
    assert len(windows) == wanted
    assert (ranges[:, 1] - ranges[:, 0]).sum() == len(ev)
    edges = edges_of(windows)
    assert edges == sorted(edges)
    if by == "count":
        filled = int((ranges[:, 1] > ranges[:, 0]).sum())
        assert filled == (min(wanted, len(set(ev.t.tolist()))) if len(ev) else 0)


@given(events(min_size=1), st.integers(1, 6), st.integers(-(1 << 40), 1 << 40))
def test_another_start_of_the_clock_moves_the_edges_with_it(
    ev: Events, wanted: int, shift: int
) -> None:
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)
    rule = Bisection(windows=wanted, min_events=2)

    found = rule.cut(moved, sensor_size=(7, 5)).spans

    assert np.array_equal(found - shift, rule.cut(ev, sensor_size=(7, 5)).spans)


@pytest.mark.parametrize("n", [2_000, 20_000, 200_000])
@pytest.mark.parametrize("by", ["count", "time"])
def test_constant_noise_is_not_split(n: int, by: Any) -> None:
    rule = Bisection(by=by, min_events=10, threshold=0.05)

    assert len(rule.cut(noise(n), sensor_size=SIZE)) == 1


def test_a_moving_dot_is_cut_while_it_moves() -> None:
    ev = dot_that_stops()

    spans = Bisection(min_events=100, cell=8).cut(ev, sensor_size=SIZE).spans

    moving = spans[spans[:, 1] <= 40_000]
    assert len(moving) >= 4
    # Once it stands still, one window is enough.
    assert spans[-1].tolist() == [40_000, int(ev.t[-1]) + 1]


def test_a_fixed_number_of_windows_goes_where_the_dot_moves() -> None:
    ev = dot_that_stops()

    spans = Bisection(windows=5, min_events=100, cell=8).cut(ev, sensor_size=SIZE).spans

    assert (spans[:, 0] < 40_000).sum() == 4


def test_equal_differences_are_halved_from_the_earliest_on() -> None:
    # Four places one after the other: either half differs wholly from the other, at every level.
    ev = Events(x=np.repeat([0, 8, 16, 24], 10), y=[0] * 40, t=range(40), p=[1] * 40)

    spans = Bisection(windows=3, min_events=1).cut(ev, sensor_size=SIZE).spans

    assert spans.tolist() == [[0, 10], [10, 20], [20, 40]]


def test_a_scene_that_does_not_change_is_cut_evenly() -> None:
    ev = noise(8000)

    windows = Bisection(windows=8, min_events=10).cut(ev, sensor_size=SIZE)

    counts = np.diff(windows.ranges(ev.t), axis=1)
    assert counts.min() > 990
    assert counts.max() < 1010


def test_events_at_one_time_are_not_torn_apart() -> None:
    ev = Events(x=[0, 9, 9, 9, 9, 9], y=[0] * 6, t=[0, 1, 1, 1, 1, 2], p=[1] * 6)
    late = Events(x=[0, 9, 9, 9, 9, 9], y=[0] * 6, t=[0, 1, 1, 1, 1, 1], p=[1] * 6)
    rule = Bisection(windows=2, min_events=1)

    assert rule.cut(ev, sensor_size=SIZE).spans.tolist() == [[0, 2], [2, 3]]
    # No later time to move on to, so back.
    assert rule.cut(late, sensor_size=SIZE).spans.tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("t", [0, -5, (1 << 53) + 1])
def test_too_few_times_are_made_up_for_by_empty_windows(t: int) -> None:
    ev = Events(x=[1] * 3, y=[2] * 3, t=[t] * 3, p=[1] * 3)

    spans = Bisection(windows=3).cut(ev, sensor_size=SIZE).spans

    assert spans.tolist() == [[t, t + 1], [t + 1, t + 1], [t + 1, t + 1]]


def test_no_events_are_one_window() -> None:
    assert Bisection().cut(Events.empty(), sensor_size=SIZE).spans.tolist() == [[0, 1]]


def test_the_last_time_of_all_is_refused() -> None:
    ev = Events(x=[0], y=[0], t=[2**63 - 1], p=[1])

    with pytest.raises(SettingsError, match="within 2\\^63 us"):
        Bisection().cut(ev, sensor_size=SIZE)


def test_times_further_apart_than_float64_holds_are_halved_exactly() -> None:
    ev = Events(x=[0, 9], y=[0, 0], t=[-(2**62), 2**62], p=[1, 1])

    spans = Bisection(windows=2, by="time").cut(ev, sensor_size=SIZE).spans

    assert spans[:, 1].tolist() == [0, 2**62 + 1]


@pytest.mark.parametrize(("x", "y"), [(40, 0), (0, 24)])
def test_an_event_outside_the_sensor_is_named(x: int, y: int) -> None:
    ev = Events(x=[0, x], y=[0, y], t=[0, 1], p=[1, 1])

    with pytest.raises(InvalidEventsError, match=rf"40x24 sensor.* x={x} y={y} p=1 at event 1"):
        Bisection().cut(ev, sensor_size=SIZE)


@pytest.mark.parametrize(
    "settings",
    [
        {"windows": 0},
        {"windows": 2.5},
        {"min_events": 0},
        {"max_depth": -1},
        {"max_depth": 65},
        {"cell": 0},
        {"threshold": -0.1},
        {"threshold": 1.1},
        {"threshold": float("nan")},
        {"by": "events"},
        {"chance": "drop"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        Bisection(**settings)


def test_the_mean_difference_of_fair_coins_is_exact() -> None:
    expected: NDArray[np.float64] = np.array([slow_mean_difference(m) for m in range(60)])

    np.testing.assert_allclose(_mean_difference(60), expected, rtol=1e-12)
    # The limit that stands in past the table.
    assert _mean_difference(1024)[-1] == pytest.approx(np.sqrt(2 * 1023 / np.pi), rel=1e-3)


@pytest.mark.parametrize("name", names())
def test_every_representation_takes_adaptive_windows(name: str) -> None:
    ev, representation = dot_that_stops(2000), make(name)
    rule = Bisection(windows=4, min_events=10)

    frames = representation(ev, sensor_size=SIZE, adaptive=rule)

    accumulator = representation.accumulator(rule.cut(ev, sensor_size=SIZE), sensor_size=SIZE)
    accumulator.update(ev)
    assert frames.shape[0] == 4
    assert np.array_equal(frames, accumulator.finish())


def test_windows_follow_the_rule() -> None:
    rule = Bisection(windows=4, min_events=10)

    found = slicing.windows(dot_that_stops(), sensor_size=SIZE, adaptive=rule)

    assert len(found) == 4
    with pytest.raises(SettingsError, match="need sensor_size"):
        slicing.windows(dot_that_stops(), adaptive=rule)
