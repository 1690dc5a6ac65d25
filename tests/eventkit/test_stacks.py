"""Detection stacks: RVT's histogram and mixed density against slow twins of their formulas."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from representation_twins import SIZE, drawn_on, pile, rows

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations import make, parse, spec_of
from eventkit.testing.strategies import events, parts, sensor_sizes
from eventkit.windows import Windows

NAMES = ["stack:rvt", "stack:mdes"]
BINS = st.integers(1, 12)


def progress(ev: Events) -> list[Fraction]:
    """Return ``(t - t0) / max(t1 - t0, 1)`` of each event."""
    if not len(ev):
        return []
    t0, t1 = int(ev.t[0]), int(ev.t[-1])
    return [Fraction(t - t0, max(t1 - t0, 1)) for t in ev.t.tolist()]


def slow_rvt(ev: Events, bins: int, size: tuple[int, int], cutoff: int) -> tuple[NDArray[Any], int]:
    counts = np.zeros((2, bins, size[1], size[0]), np.int64)
    for (x, y, _, p), share in zip(rows(ev), progress(ev), strict=True):
        counts[p, min(int(share * bins), bins - 1), y, x] += 1
    clipped = int(np.maximum(counts - cutoff, 0).sum())
    return np.minimum(counts, cutoff).reshape(2 * bins, *counts.shape[2:]), clipped


def slow_mdes(ev: Events, bins: int, size: tuple[int, int], cutoff: int) -> NDArray[Any]:
    """``floor(B + log2(tn))`` by halving, each event added to its bin and to all above it."""
    sums = np.zeros((bins, size[1], size[0]), np.int64)
    for (x, y, _, p), share in zip(rows(ev), progress(ev), strict=True):
        tn = min(max(share, Fraction(1, 10**6)), 1 - Fraction(1, 10**6))
        b = bins - 1
        while b > 0 and tn < Fraction(1, 2 ** (bins - b)):
            b -= 1
        sums[b:, y, x] += 2 * p - 1
    return np.clip(sums, -cutoff, cutoff)


# RVT's histogram


@given(st.data(), sensor_sizes(), BINS, st.integers(1, 4))
def test_the_histogram_equals_its_slow_twin(
    data: st.DataObject, size: tuple[int, int], bins: int, cutoff: int
) -> None:
    ev = data.draw(events(sensor_size=size))
    settings = make("stack:rvt", bins=bins, count_cutoff=cutoff)

    stack = settings(ev, sensor_size=size)

    assert stack.dtype == np.uint8
    assert np.array_equal(stack, slow_rvt(ev, bins, size, cutoff)[0])


@given(events(), BINS)
def test_the_histogram_without_a_cutoff_counts_every_event_once(ev: Events, bins: int) -> None:
    stack = make("stack:rvt", bins=bins, count_cutoff=None)(ev, sensor_size=SIZE)

    assert stack.sum() == len(ev)


@pytest.mark.parametrize("cutoff", [1, 10, 255, None, 1000])
def test_full_cells_stay_full_and_what_found_them_full_is_counted(cutoff: int | None) -> None:
    settings = make("stack:rvt", bins=3, count_cutoff=cutoff)
    taker = settings.accumulator(Windows.of_edges([0, 1]), sensor_size=SIZE)
    taker.update(pile(300))

    frames = taker.finish()

    top = min(cutoff or 255, 255)
    assert frames[0, 3, 1, 2] == top  # ON, bin 0: events of one time
    assert taker.clipped.tolist() == [300 - top]
    assert frames.sum(dtype=int) == top


@given(events(max_size=60), BINS, st.integers(1, 3))
def test_clipped_of_the_histogram_is_that_of_the_slow_twin(
    ev: Events, bins: int, cutoff: int
) -> None:
    settings = make("stack:rvt", bins=bins, count_cutoff=cutoff)
    first, last = (int(ev.t[0]), int(ev.t[-1])) if len(ev) else (0, 0)
    taker = settings.accumulator(Windows.of_edges([first, last + 1]), sensor_size=SIZE)
    taker.update(ev)
    taker.finish()

    assert taker.clipped.sum() == slow_rvt(ev, bins, SIZE, cutoff)[1]


def test_off_bins_come_first_and_the_last_event_is_in_the_last_bin() -> None:
    ev = Events(x=[6, 1, 0], y=[4, 2, 0], t=[0, 5, 10], p=[0, 1, 1])

    stack = make("stack:rvt", bins=4)(ev, sensor_size=SIZE)

    assert np.argwhere(stack).tolist() == [[0, 4, 6], [6, 2, 1], [7, 0, 0]]


@given(st.integers(1, 30), st.integers(0, 200), st.integers(-5, 5))
def test_an_event_on_an_edge_is_in_the_bin_above_it(bins: int, length: int, start: int) -> None:
    t = [start + length * i for i in range(bins + 1)]
    ev = Events(x=[0] * len(t), y=[0] * len(t), t=t, p=[1] * len(t))

    on = make("stack:rvt", bins=bins)(ev, sensor_size=(1, 1))[bins:, 0, 0]

    expected = np.ones(bins, int)
    expected[-1] = 2
    if not length:
        expected[:] = 0
        expected[0] = min(bins + 1, 10)
    assert on.tolist() == expected.tolist()


def test_a_store_has_the_bins_in_time_and_two_channels() -> None:
    ev = Events(x=[0, 1], y=[0, 0], t=[0, 10], p=[0, 1])
    settings = make("stack:rvt", bins=3)

    stored = settings.as_stored(settings(ev, sensor_size=(2, 1))[None])

    assert stored.shape == (3, 2, 1, 2)
    assert np.argwhere(stored).tolist() == [[0, 0, 0, 0], [2, 1, 0, 1]]


# Windows


@pytest.mark.parametrize("name", NAMES)
def test_an_event_on_a_common_edge_is_in_both_windows(name: str) -> None:
    ev = Events(x=[0, 1, 2], y=[0] * 3, t=[0, 10, 19], p=[1] * 3)

    stacks = make(name, bins=2)(ev, sensor_size=(3, 1), window_us=10)
    of_edges = make(name, bins=2)(ev, sensor_size=(3, 1), edges_us=[0, 10, 20])

    assert np.array_equal(stacks, of_edges)
    assert stacks.any(axis=1)[:, 0].tolist() == [[True, True, False], [False, True, True]]


def test_given_windows_and_windows_by_number_are_half_open() -> None:
    ev = Events(x=[0, 1, 2], y=[0] * 3, t=[0, 10, 20], p=[1] * 3)
    settings = make("stack:rvt", bins=2)
    taker = settings.accumulator(Windows.of_edges([0, 10, 21]), sensor_size=(3, 1))
    taker.update(ev)

    assert taker.finish().sum(axis=(1, 2, 3)).tolist() == [1, 2]
    assert settings(ev, sensor_size=(3, 1), count=2).sum(axis=(1, 2, 3)).tolist() == [2, 1]


@pytest.mark.parametrize("name", NAMES)
def test_bins_lie_between_the_events_of_a_window_not_between_its_edges(name: str) -> None:
    ev = Events(x=[0, 1, 2], y=[0] * 3, t=[400, 450, 500], p=[1] * 3)

    wide = make(name)(ev, sensor_size=(3, 1), edges_us=[0, 100_000])

    assert np.array_equal(wide[0], make(name)(ev, sensor_size=(3, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_an_edge_at_the_end_of_time_does_not_wrap(name: str) -> None:
    ev = pile(3, t=(1 << 63) - 2)

    stack = make(name)(ev, sensor_size=SIZE, edges_us=[(1 << 63) - 3, (1 << 63) - 1])

    assert stack.any()


# Mixed density


@given(st.data(), sensor_sizes(), st.integers(1, 24), st.integers(1, 4))
def test_the_mixed_density_equals_its_slow_twin(
    data: st.DataObject, size: tuple[int, int], bins: int, cutoff: int
) -> None:
    ev = data.draw(events(sensor_size=size))
    settings = make("stack:mdes", bins=bins, count_cutoff=cutoff)

    stack = settings(ev, sensor_size=size)

    assert stack.dtype == np.int8
    assert np.array_equal(stack, slow_mdes(ev, bins, size, cutoff))


@pytest.mark.parametrize("bins", [19, 20, 21, 22, 40])
def test_what_is_within_a_millionth_of_the_start_is_lifted_as_in_the_source(bins: int) -> None:
    steps = [0, 1, 953, 954, 1000, 1907, 1908, 10**9]  # 2^-20 and 2^-19 of 10^9 lie among them
    ev = Events(x=range(8), y=[0] * 8, t=steps, p=[1] * 8)

    stack = make("stack:mdes", bins=bins)(ev, sensor_size=(8, 1))

    assert np.array_equal(stack, slow_mdes(ev, bins, (8, 1), 127))


@given(events(), BINS)
def test_the_last_channel_holds_the_sum_of_all_signs(ev: Events, bins: int) -> None:
    stack = make("stack:mdes", bins=bins)(ev, sensor_size=SIZE)

    assert stack[-1].sum() == (2 * ev.p.astype(int) - 1).sum()


@given(events(), BINS)
def test_the_other_polarity_gives_the_other_sign(ev: Events, bins: int) -> None:
    flipped = Events(x=ev.x, y=ev.y, t=ev.t, p=1 - ev.p)

    stack = make("stack:mdes", bins=bins, count_cutoff=2)(flipped, sensor_size=SIZE)

    assert np.array_equal(
        stack, -make("stack:mdes", bins=bins, count_cutoff=2)(ev, sensor_size=SIZE)
    )


@pytest.mark.parametrize(("p", "top"), [(1, 127), (0, -127)])
def test_sums_stop_at_127_instead_of_wrapping_and_the_cells_are_counted(p: int, top: int) -> None:
    many = pile(300)
    ev = Events(x=many.x, y=many.y, t=many.t, p=np.full(300, p))
    taker = make("stack:mdes", bins=4).accumulator(Windows.of_edges([0, 1]), sensor_size=SIZE)
    taker.update(ev)

    frames = taker.finish()

    assert frames[0, :, 1, 2].tolist() == [top] * 4
    assert taker.clipped.tolist() == [4]


def test_a_sum_that_comes_back_below_the_limit_is_exact() -> None:
    # 200 ON in the first half, 150 OFF at the end: limited at 127 in between, 50 after all.
    ev = Events(x=[0] * 350, y=[0] * 350, t=[0] * 200 + [10] * 150, p=[1] * 200 + [0] * 150)

    stack = make("stack:mdes", bins=3)(ev, sensor_size=(1, 1))

    assert stack.ravel().tolist() == [127, 127, 50]


# Both


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), ev=events(), window_us=st.integers(50, 3000))
def test_chunks_give_the_bits_of_the_whole(
    name: str, data: st.DataObject, ev: Events, window_us: int
) -> None:
    settings = make(name, bins=5)
    windows = settings.windows(ev, SIZE, window_us=window_us)
    taker = settings.accumulator(windows, sensor_size=SIZE)

    for part in data.draw(parts(ev)):
        taker.update(part)

    assert np.array_equal(taker.finish(), settings(ev, sensor_size=SIZE, window_us=window_us))


@pytest.mark.parametrize("name", NAMES)
@given(ev=events(), shift=st.integers(-(1 << 40), 1 << 40))
def test_another_start_of_the_clock_changes_nothing(name: str, ev: Events, shift: int) -> None:
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)

    assert np.array_equal(make(name)(moved, sensor_size=SIZE), make(name)(ev, sensor_size=SIZE))


@pytest.mark.parametrize("n", [1, 511, 512, 513, 1025])
def test_the_blocks_of_the_kernels_meet_without_a_seam(n: int) -> None:
    ev = drawn_on((13, 4), n)

    histogram = make("stack:rvt", bins=3, count_cutoff=None)(ev, sensor_size=(13, 4))
    density = make("stack:mdes", bins=3)(ev, sensor_size=(13, 4))

    assert np.array_equal(histogram, slow_rvt(ev, 3, (13, 4), 255)[0])
    assert np.array_equal(density, slow_mdes(ev, 3, (13, 4), 127))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("t", [0, -7, (1 << 53) + 1])
def test_events_of_one_time_are_all_in_the_first_bin(name: str, t: int) -> None:
    for n in (1, 5):
        stack = make(name, bins=3)(pile(n, t=t), sensor_size=SIZE)[:, 1, 2]
        assert stack.tolist() == ([0, 0, 0, n, 0, 0] if name == "stack:rvt" else [n] * 3)


@pytest.mark.parametrize("name", NAMES)
def test_no_events_give_zeros_whatever_was_in_out(name: str) -> None:
    settings = make(name)
    out = np.full((3, *settings.frame_shape(SIZE)), 77, settings.frame_dtype)

    assert settings(Events.empty(), sensor_size=SIZE, edges_us=[0, 1, 2, 3], out=out) is out
    assert not out.any()
    assert not settings(Events.empty(), sensor_size=SIZE).any()


@pytest.mark.parametrize("name", NAMES)
def test_spans_that_float64_cannot_hold_are_binned_exactly(name: str) -> None:
    t = [-(1 << 62), -(1 << 61) - 1, (1 << 60) + 1, 1 << 61]
    ev = Events(x=[0] * 4, y=[0] * 4, t=t, p=[1] * 4)

    stack = make(name, bins=4)(ev, sensor_size=(1, 1))

    slow = slow_rvt(ev, 4, (1, 1), 10)[0] if name == "stack:rvt" else slow_mdes(ev, 4, (1, 1), 127)
    assert np.array_equal(stack, slow)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", ["x", "y"])
def test_an_event_outside_the_sensor_is_named_or_dropped(name: str, column: str) -> None:
    ev = drawn_on(SIZE, 1000)
    columns = {c: getattr(ev, c).copy() for c in "xytp"}
    columns[column][700] = SIZE["xy".index(column)]
    broken = Events(**columns)
    keep = np.arange(1000) != 700

    with pytest.raises(InvalidEventsError, match="at event 700"):
        make(name)(broken, sensor_size=SIZE)
    dropped = make(name)(broken, sensor_size=SIZE, outside="drop")
    assert np.array_equal(dropped, make(name)(broken[keep], sensor_size=SIZE))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [{"bins": 0}, {"count_cutoff": 0}, {"count_cutoff": 2.5}])
def test_settings_that_cannot_be_are_refused(name: str, bad: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        make(name, **bad)


@pytest.mark.parametrize("name", NAMES)
def test_no_cutoff_is_the_largest_and_a_spec_says_so(name: str) -> None:
    settings = make(name, count_cutoff=None)

    assert settings.settings["count_cutoff"] == (255 if name == "stack:rvt" else 127)
    assert parse(spec_of(settings)) == settings


def test_in_windows_of_fifty_milliseconds_the_float32_of_rvt_gives_the_same_bins() -> None:
    ev = drawn_on((13, 4), 5000, span_us=50_000)
    whole, half = np.float32(ev.t[-1] - ev.t[0]), (ev.t - ev.t[0]).astype(np.float32)
    bins = np.minimum(np.floor(half / whole * np.float32(10)), 9).astype(int)
    counts = np.zeros((2, 10, 4, 13), int)
    np.add.at(counts, (ev.p, bins, ev.y, ev.x), 1)

    stack = make("stack:rvt", count_cutoff=10)(ev, sensor_size=(13, 4))

    assert np.array_equal(stack, np.minimum(counts, 10).reshape(20, 4, 13))


def test_in_windows_of_fifty_milliseconds_the_float32_logarithm_gives_the_same_bins() -> None:
    ev = drawn_on((13, 4), 5000, span_us=50_000)
    share = (ev.t - ev.t[0]).astype(np.float32) / np.float32(ev.t[-1] - ev.t[0])
    share = np.clip(share, np.float32(1e-6), np.float32(1 - 1e-6))
    bins = np.floor(np.maximum(10 - np.log(share) / np.float32(np.log(0.5)), 0)).astype(int)
    sums = np.zeros((10, 4, 13), int)
    np.add.at(sums, (bins, ev.y, ev.x), 2 * ev.p - 1)

    stack = make("stack:mdes")(ev, sensor_size=(13, 4))

    assert np.array_equal(stack, sums.cumsum(axis=0))
