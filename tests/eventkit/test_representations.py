"""Count frames and voxel grids: each kernel against a slow twin, and what must always hold."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import eventkit
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations import (
    accumulate_counts,
    accumulate_voxels,
    count_frames,
    empty_counts,
    empty_voxels,
    voxel_grid,
)
from eventkit.slicing import equal_edges, windows_of_edges
from eventkit.testing.strategies import events, parts, sensor_sizes

SIZE = (7, 5)
COUNT_DTYPES = ["u1", "u2", "u4"]


def slow_counts(
    ev: Events, edges: list[int], size: tuple[int, int], top: int
) -> tuple[NDArray[np.int64], int]:
    """Return counts and clipped: the definition, in Python integers and `np.add.at`."""
    width, height = size
    counts = np.zeros((len(edges) - 1, 2, height, width), np.int64)
    for x, y, t, p in zip(*(getattr(ev, name).tolist() for name in "xytp"), strict=True):
        for window, (start, stop) in enumerate(pairwise(edges)):
            if start <= t < stop:
                np.add.at(counts, (window, p, y, x), 1)
    return np.minimum(counts, top), int(np.maximum(counts - top, 0).sum())


def slow_edges(ev: Events, bins: int) -> list[int]:
    """Return the edges of ``bins``, from the sentence in the design."""
    start, stop = (int(ev.t[0]), int(ev.t[-1]) + 1) if len(ev) else (0, 1)
    return [start + (stop - start) * i // bins for i in range(bins + 1)]


def slow_zhu(ev: Events, bins: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the voxel grid by its formula: each event weighs ``max(0, 1 - |b - tau|)`` in b."""
    width, height = size
    grid = np.zeros((bins, height, width))
    t = ev.t.astype(object)  # Python integers: exact whatever the times
    for x, y, when, p in zip(ev.x.tolist(), ev.y.tolist(), t, ev.p.tolist(), strict=True):
        span = t[-1] - t[0]
        tau = (bins - 1) * (when - t[0]) / span if span else 0.0
        for b in range(bins):
            np.add.at(grid, (b, y, x), max(0.0, 1.0 - abs(b - tau)) * (2 * p - 1))
    return grid


def rounding(ev: Events) -> float:
    """Return the most that float32 sums of these events can be off.

    Every event adds two values below one to a cell, each rounded to 2^-24 of a partial sum that
    is at most the number of events.
    """
    return 2 * max(1, len(ev)) ** 2 * 2.0**-24


def pile(n: int, *, t: int = 0) -> Events:
    """Return ``n`` ON events in pixel (2, 1)."""
    return Events(
        x=np.full(n, 2, np.uint16),
        y=np.full(n, 1, np.uint16),
        t=np.full(n, t),
        p=np.ones(n, np.int8),
    )


def drawn_on(size: tuple[int, int], n: int, *, seed: int = 0, span_us: int = 10_000) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        x=rng.integers(0, size[0], n),
        y=rng.integers(0, size[1], n),
        t=np.sort(rng.integers(0, span_us, n)),
        p=rng.integers(0, 2, n),
    )


# Counts


@given(st.data(), sensor_sizes(), st.integers(1, 9), st.sampled_from(COUNT_DTYPES))
def test_counts_equal_those_of_the_slow_twin(
    data: st.DataObject, size: tuple[int, int], bins: int, dtype: str
) -> None:
    ev = data.draw(events(sensor_size=size))

    frames, clipped = count_frames(
        ev, sensor_size=size, bins=bins, dtype=dtype, return_clipped=True
    )

    expected, too_many = slow_counts(ev, slow_edges(ev, bins), size, np.iinfo(dtype).max)
    assert frames.dtype == np.dtype(dtype)
    assert np.array_equal(frames, expected)
    assert clipped == too_many


@given(events(), st.integers(1, 1500))
def test_windows_of_one_length_count_like_the_slow_twin(ev: Events, window_us: int) -> None:
    frames = count_frames(ev, sensor_size=SIZE, window_us=window_us)

    first = int(ev.t[0]) if len(ev) else 0
    edges = [first + i * window_us for i in range(len(frames) + 1)]
    assert np.array_equal(frames, slow_counts(ev, edges, SIZE, 65535)[0])
    assert frames.sum() == len(ev)


@given(events(), st.lists(st.integers(-500, 3000), min_size=2, max_size=6))
def test_given_edges_count_like_the_slow_twin(ev: Events, offsets: list[int]) -> None:
    first = int(ev.t[0]) if len(ev) else 0
    edges = [first + offset for offset in sorted(offsets)]

    frames = count_frames(ev, sensor_size=SIZE, edges_us=edges)

    assert np.array_equal(frames, slow_counts(ev, edges, SIZE, 65535)[0])


@pytest.mark.parametrize("n", [1, 511, 512, 513, 1024, 1025, 3000])
def test_the_blocks_of_the_kernel_meet_without_a_seam(n: int) -> None:
    ev = drawn_on((13, 4), n)

    frames = count_frames(ev, sensor_size=(13, 4), bins=3)

    expected = np.zeros((3, 2, 4, 13), np.int64)
    window = np.searchsorted(slow_edges(ev, 3), ev.t, side="right") - 1
    np.add.at(expected, (window, ev.p, ev.y, ev.x), 1)
    assert np.array_equal(frames, expected)


@given(events(), st.integers(1, 9))
def test_every_event_is_in_exactly_one_bin(ev: Events, bins: int) -> None:
    frames = count_frames(ev, sensor_size=SIZE, bins=bins)

    assert frames.sum() == len(ev)
    assert np.array_equal(frames.sum(axis=0), count_frames(ev, sensor_size=SIZE, bins=1)[0])


@given(events(), st.integers(1, 8))
def test_twice_as_many_bins_nest(ev: Events, bins: int) -> None:
    fine = count_frames(ev, sensor_size=SIZE, bins=2 * bins)

    coarse = count_frames(ev, sensor_size=SIZE, bins=bins)

    assert np.array_equal(fine.reshape(bins, 2, *fine.shape[1:]).sum(axis=1), coarse)


@given(st.data(), st.integers(1, 9))
def test_the_order_of_events_at_one_time_changes_nothing(data: st.DataObject, bins: int) -> None:
    ev = data.draw(events(max_step_us=3))
    tie_breaker = data.draw(st.permutations(range(len(ev))))
    order = np.lexsort((tie_breaker, ev.t))
    mixed = Events(x=ev.x[order], y=ev.y[order], t=ev.t[order], p=ev.p[order])

    counts = count_frames(mixed, sensor_size=SIZE, bins=bins)
    voxels = voxel_grid(mixed, sensor_size=SIZE, bins=bins)

    assert np.array_equal(counts, count_frames(ev, sensor_size=SIZE, bins=bins))
    np.testing.assert_allclose(
        voxels, voxel_grid(ev, sensor_size=SIZE, bins=bins), rtol=0, atol=rounding(ev)
    )


@given(st.data(), st.integers(1, 5))
def test_chunks_add_up_to_the_whole(data: st.DataObject, bins: int) -> None:
    ev = data.draw(events(min_size=1))
    spans = windows_of_edges(slow_edges(ev, bins))
    counts, voxels = empty_counts(bins, SIZE, "u2"), empty_voxels(bins, SIZE)
    binned = np.zeros(bins, np.int64)

    for part in data.draw(parts(ev)):
        binned += accumulate_counts(part, spans, counts)[0]
        accumulate_voxels(part, int(ev.t[0]), int(ev.t[-1]), voxels)

    assert np.array_equal(counts, count_frames(ev, sensor_size=SIZE, bins=bins))
    assert np.array_equal(binned, counts.sum(axis=(1, 2, 3)))
    # The same additions in the same order: equal to the bit.
    assert np.array_equal(voxels, voxel_grid(ev, sensor_size=SIZE, bins=bins))


def test_columns_are_not_rows_and_off_is_channel_zero() -> None:
    ev = Events(x=[6, 0], y=[0, 4], t=[0, 9], p=[0, 1])

    frames = count_frames(ev, sensor_size=(7, 5), bins=2)

    assert frames.shape == (2, 2, 5, 7)
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 6], [1, 1, 4, 0]]


@pytest.mark.parametrize("t", [0, -7, (1 << 53) + 1, 1_589_163_147_368_868])
def test_one_event_is_in_the_last_of_the_bins(t: int) -> None:
    # [t, t + 1) has one microsecond: all edges but the last are at t, and windows are half-open.
    frames = count_frames(pile(1, t=t), sensor_size=SIZE, bins=4)

    assert frames.sum(axis=(1, 2, 3)).tolist() == [0, 0, 0, 1]


def test_equal_times_are_counted_together() -> None:
    frames = count_frames(pile(5, t=3), sensor_size=SIZE, bins=1)

    assert frames[0, 1, 1, 2] == 5


def test_the_last_event_is_kept() -> None:
    ev = Events(x=[0, 1], y=[0, 0], t=[0, 1000], p=[1, 1])

    assert count_frames(ev, sensor_size=SIZE, bins=8)[-1, 1, 0, 1] == 1


def test_no_events_give_zero_frames_of_the_right_shape() -> None:
    assert count_frames(Events.empty(), sensor_size=SIZE, bins=3).shape == (3, 2, 5, 7)
    assert not count_frames(Events.empty(), sensor_size=SIZE, bins=3).any()
    assert voxel_grid(Events.empty(), sensor_size=SIZE, bins=3).shape == (3, 5, 7)
    assert not voxel_grid(Events.empty(), sensor_size=SIZE, bins=3).any()


def test_events_outside_all_windows_are_in_none() -> None:
    ev = Events(x=[0, 1, 2, 3], y=[0] * 4, t=[9, 10, 19, 20], p=[1] * 4)

    frames = count_frames(ev, sensor_size=SIZE, edges_us=[10, 20])

    assert frames[0, 1, 0].tolist() == [0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("times", [[-(1 << 62), 0, 1 << 61], [(1 << 53) + 1, (1 << 53) + 2]])
def test_times_that_float64_cannot_hold_are_binned_exactly(times: list[int]) -> None:
    n = len(times)
    ev = Events(x=range(n), y=[0] * n, t=times, p=[1] * n)

    frames = count_frames(ev, sensor_size=SIZE, bins=n)

    assert np.array_equal(frames, slow_counts(ev, slow_edges(ev, n), SIZE, 65535)[0])


@pytest.mark.parametrize(("dtype", "n"), [("u1", 300), ("u2", 65_540)])
def test_full_cells_stay_full_and_the_rest_is_counted(dtype: str, n: int) -> None:
    top = np.iinfo(dtype).max

    frames, clipped = count_frames(
        pile(n), sensor_size=SIZE, bins=1, dtype=dtype, return_clipped=True
    )

    assert frames[0, 1, 1, 2] == top
    assert clipped == n - top
    assert frames.sum(dtype=np.int64) + clipped == n


def test_a_full_cell_of_u4_stays_full_too() -> None:
    out = empty_counts(1, SIZE, "u4")
    out[...] = 2**32 - 2

    binned, clipped = accumulate_counts(pile(3), np.array([[0, 1]]), out)

    assert out[0, 1, 1, 2] == 2**32 - 1
    assert (binned.tolist(), clipped.tolist()) == ([3], [2])


@given(st.lists(st.integers(0, 400), min_size=1, max_size=4))
def test_clipped_is_exact_for_every_window(piles: list[int]) -> None:
    spans = windows_of_edges(range(len(piles) + 1))
    ev = Events.concatenate(pile(n, t=i) for i, n in enumerate(piles))
    out = empty_counts(len(piles), SIZE, "u1")

    binned, clipped = accumulate_counts(ev, spans, out)

    assert binned.tolist() == piles
    assert clipped.tolist() == [max(0, n - 255) for n in piles]


@pytest.mark.parametrize("dtype", ["u2", np.uint16, "<u2", np.dtype("u2")])
def test_a_dtype_may_be_given_in_any_spelling(dtype: Any) -> None:
    assert count_frames(pile(1), sensor_size=SIZE, bins=1, dtype=dtype).dtype == np.uint16


@pytest.mark.parametrize("dtype", ["i2", "f4", "u8", "?"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(SettingsError, match="dtype among u1, u2, u4"):
        count_frames(pile(1), sensor_size=SIZE, bins=1, dtype=dtype)


@pytest.mark.parametrize("dtype", [">u2", "counts"])
def test_dtypes_that_no_kernel_takes_are_refused_with_a_sentence(dtype: str) -> None:
    with pytest.raises(SettingsError, match="dtype among u1, u2, u4"):
        count_frames(pile(1), sensor_size=SIZE, bins=1, dtype=dtype)


@pytest.mark.parametrize("bad", [0, 511, 512, 700, 999])
@pytest.mark.parametrize("column", ["x", "y"])
def test_an_event_outside_the_sensor_is_named(bad: int, column: str) -> None:
    ev = drawn_on(SIZE, 1000)
    columns = {name: getattr(ev, name).copy() for name in "xytp"}
    columns[column][bad:] = SIZE["xy".index(column)]
    broken = Events(**columns)
    outside = rf"7x5 sensor.* got x={columns['x'][bad]} y={columns['y'][bad]} at event {bad}$"

    with pytest.raises(InvalidEventsError, match=outside):
        count_frames(broken, sensor_size=SIZE, bins=2)
    with pytest.raises(InvalidEventsError, match=outside):
        voxel_grid(broken, sensor_size=SIZE, bins=2)


def test_the_events_are_not_changed_by_counting() -> None:
    ev = drawn_on(SIZE, 100)
    before = ev.to_structured()

    count_frames(ev, sensor_size=SIZE, bins=2)
    voxel_grid(ev, sensor_size=SIZE, bins=2)

    assert np.array_equal(ev.to_structured(), before)


@pytest.mark.parametrize(
    ("size", "words"),
    [((0, 5), "within 1x1 and"), ((7, -1), "within 1x1 and"), ((65536, 65536), "at most")],
)
def test_sensors_that_cannot_be_are_refused(size: tuple[int, int], words: str) -> None:
    for make in (count_frames, voxel_grid):
        with pytest.raises(SettingsError, match=words):
            make(pile(1), sensor_size=size, bins=1)


def test_the_largest_column_of_the_contract_is_counted() -> None:
    ev = Events(x=[65535], y=[0], t=[0], p=[1])

    assert count_frames(ev, sensor_size=(65536, 1), bins=1)[0, 1, 0, 65535] == 1


# Voxels


@given(st.data(), sensor_sizes(), st.integers(1, 9))
def test_voxels_equal_those_of_the_slow_twin(
    data: st.DataObject, size: tuple[int, int], bins: int
) -> None:
    ev = data.draw(events(sensor_size=size))

    grid = voxel_grid(ev, sensor_size=size, bins=bins, convention="zhu")

    assert grid.dtype == np.float32
    np.testing.assert_allclose(grid, slow_zhu(ev, bins, size), rtol=0, atol=rounding(ev))


@given(events(), st.integers(1, 9))
def test_voxels_sum_to_the_sum_of_signs(ev: Events, bins: int) -> None:
    grid = voxel_grid(ev, sensor_size=SIZE, bins=bins)

    signs = int((2 * ev.p.astype(int) - 1).sum())
    assert grid.sum(dtype=np.float64) == pytest.approx(signs, abs=rounding(ev))


@given(events(), st.integers(2, 9), st.integers(-(1 << 40), 1 << 40))
def test_another_start_of_the_clock_changes_no_voxel(ev: Events, bins: int, shift: int) -> None:
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)

    grid = voxel_grid(moved, sensor_size=SIZE, bins=bins)

    assert np.array_equal(grid, voxel_grid(ev, sensor_size=SIZE, bins=bins))


@given(events(), st.integers(1, 9))
def test_the_other_polarity_gives_the_other_sign(ev: Events, bins: int) -> None:
    flipped = Events(x=ev.x, y=ev.y, t=ev.t, p=1 - ev.p)

    grid = voxel_grid(flipped, sensor_size=SIZE, bins=bins)

    assert np.array_equal(grid, -voxel_grid(ev, sensor_size=SIZE, bins=bins))


def test_the_last_event_is_wholly_in_the_last_bin() -> None:
    ev = Events(x=[0, 6], y=[0, 4], t=[0, 1000], p=[1, 1])

    grid = voxel_grid(ev, sensor_size=SIZE, bins=5)

    assert (grid[0, 0, 0], grid[4, 4, 6]) == (1.0, 1.0)
    assert np.count_nonzero(grid) == 2


def test_equal_times_are_in_the_first_bin() -> None:
    grid = voxel_grid(pile(4, t=7), sensor_size=SIZE, bins=3)

    assert grid[:, 1, 2].tolist() == [4.0, 0.0, 0.0]


def test_one_bin_holds_the_sum_of_signs_of_each_pixel() -> None:
    ev = Events(x=[1, 1, 1, 2], y=[0, 0, 0, 3], t=[0, 3, 9, 10], p=[1, 1, 0, 0])

    grid = voxel_grid(ev, sensor_size=SIZE, bins=1)

    assert (grid[0, 0, 1], grid[0, 3, 2]) == (1.0, -1.0)


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(SettingsError, match="convention among zhu, got 'tonic'"):
        voxel_grid(pile(1), sensor_size=SIZE, bins=2, convention="tonic")


def test_chunks_outside_their_window_are_refused() -> None:
    with pytest.raises(InvalidEventsError, match=r"within 0\.\.4 us"):
        accumulate_voxels(pile(1, t=5), 0, 4, empty_voxels(2, SIZE))


def test_a_span_past_int64_is_spread_or_refused_but_not_piled_up() -> None:
    ev = Events(x=[0, 0, 0], y=[0, 0, 0], t=[-(1 << 62), 0, 1 << 62], p=[1, 1, 1])

    try:
        grid = voxel_grid(ev, sensor_size=SIZE, bins=3)
    except InvalidEventsError:
        return
    assert grid[:, 0, 0].tolist() == [1.0, 1.0, 1.0]


# Real recordings


def test_counts_of_real_events_equal_those_of_tonic_where_tonic_is_right(shared: Path) -> None:
    # tonic's `time_window` with the last, incomplete window kept is half-open and loses nothing
    # (its `n_time_bins` drops the last event and its int16 wraps: neither is met here).
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transforms = pytest.importorskip("tonic.transforms")
    recording = eventkit.open(shared / "es_bin" / "nmnist_sample.bin")
    layout = [("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")]
    peer = transforms.ToFrame(sensor_size=(34, 34, 2), time_window=25_000, include_incomplete=True)(
        recording.events.to_structured().astype(layout)
    )

    frames = count_frames(recording.events, sensor_size=(34, 34), window_us=25_000)

    assert frames.sum() == 4_325
    assert np.array_equal(frames, peer)


def test_real_events_count_like_numpy(shared: Path) -> None:
    recording = eventkit.open(shared / "aedat4" / "davis346_first_170ms.aedat4")
    ev = recording.events

    frames = count_frames(ev, sensor_size=(346, 260), bins=8)

    edges = equal_edges(int(ev.t[0]), int(ev.t[-1]) + 1, 8)
    expected = np.zeros((8, 2, 260, 346), np.int64)
    bins = np.searchsorted(edges, ev.t, side="right") - 1
    np.add.at(expected, (bins, ev.p, ev.y, ev.x), 1)
    assert np.array_equal(frames, expected)
