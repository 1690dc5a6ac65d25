"""Count frames: the kernel against a slow twin, and what must always hold."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from representation_twins import (
    SIZE,
    between,
    drawn_on,
    pile,
    slow_counts,
    slow_edges,
    slow_numbers,
)

import eventkit
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.representations import Accumulator, count_frames, make, voxel_grid
from eventkit.slicing import equal_edges, windows
from eventkit.testing.strategies import events, parts, sensor_sizes
from eventkit.windows import Windows

COUNT_DTYPES = ["u1", "u2", "u4", "f4"]
TOPS = {"u1": 255, "u2": 65_535, "u4": 2**32 - 1, "f4": 2**24}


def counting(edges: Any, *, dtype: str = "u2", size: tuple[int, int] = SIZE) -> Accumulator:
    """Return an accumulator for windows between edges."""
    return make("counts:eventkit", dtype=dtype).accumulator(
        Windows.of_edges(edges), sensor_size=size
    )


@given(st.data(), sensor_sizes(), st.integers(1, 9), st.sampled_from(COUNT_DTYPES))
def test_counts_equal_those_of_the_slow_twin(
    data: st.DataObject, size: tuple[int, int], bins: int, dtype: str
) -> None:
    ev = data.draw(events(sensor_size=size))

    frames, clipped = count_frames(
        ev, sensor_size=size, bins=bins, dtype=dtype, return_clipped=True
    )

    expected, too_many = slow_counts(ev, between(slow_edges(ev, bins)), size, TOPS[dtype])
    assert frames.dtype == np.dtype(dtype)
    assert np.array_equal(frames, expected)
    assert clipped == too_many


@given(events(), st.integers(1, 1500), st.none() | st.integers(1, 1500))
def test_windows_of_one_length_count_like_the_slow_twin(
    ev: Events, window_us: int, stride_us: int | None
) -> None:
    frames = count_frames(ev, sensor_size=SIZE, window_us=window_us, stride_us=stride_us)

    first, step = int(ev.t[0]) if len(ev) else 0, stride_us or window_us
    spans = [(first + i * step, first + i * step + window_us) for i in range(len(frames))]
    assert np.array_equal(frames, slow_counts(ev, spans, SIZE, 65535)[0])
    assert stride_us or frames.sum() == len(ev)


@given(events(), st.integers(1, 12), st.none() | st.integers(1, 12))
def test_windows_by_count_count_like_the_slow_twin(
    ev: Events, count: int, stride: int | None
) -> None:
    frames = count_frames(ev, sensor_size=SIZE, count=count, stride=stride)

    step = stride or count
    numbers = [(i * step, i * step + count) for i in range(len(frames))]
    assert np.array_equal(frames, slow_numbers(ev, numbers, SIZE))
    assert stride or frames.sum() == len(ev)


@given(events(), st.lists(st.integers(-500, 3000), min_size=2, max_size=6))
def test_given_edges_count_like_the_slow_twin(ev: Events, offsets: list[int]) -> None:
    first = int(ev.t[0]) if len(ev) else 0
    edges = [first + offset for offset in sorted(offsets)]

    frames = count_frames(ev, sensor_size=SIZE, edges_us=edges)

    assert np.array_equal(frames, slow_counts(ev, between(edges), SIZE, 65535)[0])


@given(events(min_size=1), st.integers(1, 5))
def test_the_events_at_the_last_time_can_be_left_out(ev: Events, bins: int) -> None:
    frames = count_frames(ev, sensor_size=SIZE, bins=bins, last="exclude")

    assert frames.shape[0] == bins
    assert frames.sum() == int((ev.t < ev.t[-1]).sum())


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
    assert np.array_equal(frames.sum(axis=0), count_frames(ev, sensor_size=SIZE))


@given(events(), st.integers(1, 8))
def test_twice_as_many_bins_nest(ev: Events, bins: int) -> None:
    fine = count_frames(ev, sensor_size=SIZE, bins=2 * bins)

    coarse = count_frames(ev, sensor_size=SIZE, bins=bins)

    assert np.array_equal(fine.reshape(bins, 2, *fine.shape[1:]).sum(axis=1), coarse)


@given(st.data(), st.integers(1, 9))
def test_the_order_of_events_at_one_time_changes_no_count(data: st.DataObject, bins: int) -> None:
    ev = data.draw(events(max_step_us=3))
    order = np.lexsort((data.draw(st.permutations(range(len(ev)))), ev.t))
    mixed = Events(x=ev.x[order], y=ev.y[order], t=ev.t[order], p=ev.p[order])

    counts = count_frames(mixed, sensor_size=SIZE, bins=bins)

    assert np.array_equal(counts, count_frames(ev, sensor_size=SIZE, bins=bins))


@given(st.data(), st.integers(1, 5))
def test_chunks_add_up_to_the_whole(data: st.DataObject, bins: int) -> None:
    ev = data.draw(events(min_size=1))
    counts = counting(slow_edges(ev, bins))

    for part in data.draw(parts(ev)):
        counts.update(part)

    frames = counts.finish()
    assert np.array_equal(frames, count_frames(ev, sensor_size=SIZE, bins=bins))
    assert np.array_equal(counts.binned, frames.sum(axis=(1, 2, 3)))
    assert (counts.ledger.decoded, counts.ledger.kept) == (len(ev), len(ev))


def test_chunks_that_step_back_or_come_late_are_refused() -> None:
    counts = counting([0, 10])
    counts.update(pile(1, t=5))

    with pytest.raises(InvalidEventsError, match="a chunk from 5 us on, got 4 us"):
        counts.update(pile(1, t=4))
    counts.finish()
    with pytest.raises(SettingsError, match=r"after finish\(\)"):
        counts.update(pile(1, t=6))


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
    assert count_frames(pile(5, t=3), sensor_size=SIZE)[1, 1, 2] == 5


def test_the_last_event_is_kept() -> None:
    ev = Events(x=[0, 1], y=[0, 0], t=[0, 1000], p=[1, 1])

    assert count_frames(ev, sensor_size=SIZE, bins=8)[-1, 1, 0, 1] == 1


def test_no_events_give_zero_frames_of_the_right_shape() -> None:
    frames = count_frames(Events.empty(), sensor_size=SIZE, bins=3)

    assert frames.shape == (3, 2, 5, 7)
    assert not frames.any()
    assert count_frames(Events.empty(), sensor_size=SIZE, count=3).shape == (0, 2, 5, 7)


def test_events_outside_all_windows_are_in_none_and_in_the_ledger() -> None:
    ev = Events(x=[0, 1, 2, 3], y=[0] * 4, t=[9, 10, 19, 20], p=[1] * 4)
    ledger = Ledger()

    frames = count_frames(ev, sensor_size=SIZE, edges_us=[10, 20], ledger=ledger)

    assert frames[0, 1, 0].tolist() == [0, 1, 1, 0, 0, 0, 0]
    assert (ledger.decoded, ledger.kept, dict(ledger.dropped)) == (4, 2, {"unpaired": 2})


@pytest.mark.parametrize(
    "times",
    [
        [-(1 << 62), 0, 1 << 61],
        [(1 << 53) + 1, (1 << 53) + 2],
        [0, (1 << 32) - 1, 1 << 32, (1 << 32) + 1],
    ],
)
def test_times_that_float64_and_32_bits_cannot_hold_are_binned_exactly(times: list[int]) -> None:
    n = len(times)
    ev = Events(x=range(n), y=[0] * n, t=times, p=[1] * n)

    for bins in (n, 1 << 10):
        frames = count_frames(ev, sensor_size=SIZE, bins=bins)
        assert np.array_equal(frames, slow_counts(ev, between(slow_edges(ev, bins)), SIZE, 9)[0])


# Full cells, and the two roads of the kernel


@pytest.mark.parametrize(
    ("dtype", "n"),
    [("u1", 255), ("u1", 256), ("u1", 300), ("u1", 512), ("u2", 65_535), ("u2", 65_540)],
)
def test_full_cells_stay_full_and_the_rest_is_counted(dtype: str, n: int) -> None:
    frames, clipped = count_frames(pile(n), sensor_size=SIZE, dtype=dtype, return_clipped=True)

    assert frames[1, 1, 2] == min(n, TOPS[dtype])
    assert clipped == max(0, n - TOPS[dtype])
    assert frames.sum(dtype=np.int64) + clipped == n


@pytest.mark.parametrize("dtype", ["u4", "f4"])
@pytest.mark.parametrize("n", [3, 300])
def test_full_cells_of_wide_types_stay_full_too(dtype: str, n: int) -> None:
    from eventkit.kernels.counts import count

    ev, top = pile(n), TOPS[dtype]
    out = np.full((1, 2 * 5 * 7), top - 2, dtype)
    clipped = np.zeros(1, np.int64)

    bad = count(
        ev.x,
        ev.y,
        ev.p,
        np.array([[0, n]]),
        *SIZE,
        top,
        np.zeros(1, np.bool_),
        np.zeros(2 * 5 * 7, np.uint8),
        clipped,
        out,
    )

    assert (bad, out.reshape(2, 5, 7)[1, 1, 2], clipped[0]) == (-1, top, n - 2)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=4), st.booleans())
def test_clipped_is_exact_for_every_window(piles: list[int], whole: bool) -> None:
    counts = counting(range(len(piles) + 1), dtype="u1")
    chunks = [pile(n, t=i) for i, n in enumerate(piles)]

    for part in [Events.concatenate(chunks)] if whole else chunks:
        counts.update(part)

    frames = counts.finish()
    assert counts.binned.tolist() == piles
    assert counts.clipped.tolist() == [max(0, n - 255) for n in piles]
    assert frames[:, 1, 1, 2].tolist() == [min(n, 255) for n in piles]


@pytest.mark.parametrize("dtype", COUNT_DTYPES)
@pytest.mark.parametrize("size", [(7, 5), (1, 1), (64, 3)])
def test_many_events_at_once_and_few_at_a_time_count_the_same(
    dtype: str, size: tuple[int, int]
) -> None:
    ev = drawn_on(size, 3000)
    dense, sparse = (counting([0, 5000, 10_000], dtype=dtype, size=size) for _ in range(2))

    dense.update(ev)
    for i in range(0, len(ev), 3):
        sparse.update(ev[i : i + 3])

    assert np.array_equal(dense.finish(), sparse.finish())
    assert np.array_equal(dense.clipped, sparse.clipped)


@pytest.mark.parametrize("dtype", COUNT_DTYPES)
@pytest.mark.parametrize("size", [(7, 5), (1, 1)])
def test_a_window_of_more_than_two_passes_is_counted_whole(
    dtype: str, size: tuple[int, int]
) -> None:
    ev = drawn_on(size, (1 << 21) + 777)
    expected = np.zeros((2, size[1], size[0]), np.int64)
    np.add.at(expected, (ev.p, ev.y, ev.x), 1)

    frames, clipped = count_frames(ev, sensor_size=size, dtype=dtype, return_clipped=True)

    assert np.array_equal(frames, np.minimum(expected, TOPS[dtype]))
    assert clipped == np.maximum(expected - TOPS[dtype], 0).sum()


# Conventions


@given(events(), st.integers(1, 9), st.sampled_from(["tonic", "spikingjelly"]))
def test_bins_of_the_peers_count_like_the_slow_twin(ev: Events, bins: int, convention: str) -> None:
    frames = count_frames(ev, sensor_size=SIZE, bins=bins, convention=convention)

    first, last = (int(ev.t[0]), int(ev.t[-1])) if len(ev) else (0, 0)
    spans = between([first + (last - first) // bins * i for i in range(bins + 1)])
    if convention == "spikingjelly":
        spans[-1] = (spans[-1][0], last + 1)
        assert frames.sum() == len(ev)
    assert np.array_equal(frames, slow_counts(ev, spans, SIZE, 65535)[0])


@given(st.data(), st.integers(1, 9), st.sampled_from(["tonic", "spikingjelly"]))
def test_bins_of_the_peers_by_number_count_like_the_slow_twin(
    data: st.DataObject, bins: int, convention: str
) -> None:
    ev = data.draw(events())
    kind = make(f"counts:{convention}", split_by="number")

    frames = kind(ev, sensor_size=SIZE, bins=bins)

    numbers = between([len(ev) // bins * i for i in range(bins + 1)])
    if convention == "spikingjelly":
        numbers[-1] = (numbers[-1][0], len(ev))
    assert np.array_equal(frames, slow_numbers(ev, numbers, SIZE))


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(SettingsError, match="convention among eventkit, tonic, spikingjelly"):
        count_frames(pile(1), sensor_size=SIZE, convention="zhu")
    with pytest.raises(SettingsError, match="split_by among time, number, got 'x'"):
        make("counts:tonic", split_by="x")


# Options of the call


@pytest.mark.parametrize("dtype", ["u2", np.uint16, "<u2", np.dtype("u2")])
def test_a_dtype_may_be_given_in_any_spelling(dtype: Any) -> None:
    assert count_frames(pile(1), sensor_size=SIZE, bins=1, dtype=dtype).dtype == np.uint16


@pytest.mark.parametrize("dtype", ["i2", "f8", "u8", "?", ">u2", "counts"])
def test_other_dtypes_are_refused_with_a_sentence(dtype: str) -> None:
    with pytest.raises(SettingsError, match="dtype among u1, u2, u4, f4"):
        count_frames(pile(1), sensor_size=SIZE, bins=1, dtype=dtype)


@given(events(), st.sampled_from(COUNT_DTYPES))
def test_a_kept_buffer_is_filled_and_returned(ev: Events, dtype: str) -> None:
    many, one = np.full((3, 2, 5, 7), 77, dtype), np.full((2, 5, 7), 77, dtype)

    assert count_frames(ev, sensor_size=SIZE, bins=3, dtype=dtype, out=many) is many
    assert count_frames(ev, sensor_size=SIZE, dtype=dtype, out=one) is one
    assert np.array_equal(many, count_frames(ev, sensor_size=SIZE, bins=3, dtype=dtype))
    assert np.array_equal(one, count_frames(ev, sensor_size=SIZE, dtype=dtype))


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((2, 2, 5, 7), np.uint16),
        np.zeros((3, 2, 7, 5), np.uint16),
        np.zeros((3, 2, 5, 7), np.uint8),
        np.zeros((3, 2, 5, 14), np.uint16)[..., ::2],
        frozen(np.zeros((3, 2, 5, 7), np.uint16)),
        [[0]],
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(out: Any) -> None:
    with pytest.raises(SettingsError, match=r"writeable C-contiguous uint16\(3, 2, 5, 7\)"):
        count_frames(pile(1), sensor_size=SIZE, bins=3, out=out)


def test_columns_out_of_order_are_refused_or_sorted_on_request() -> None:
    columns = {"x": [0, 1, 2, 3], "y": [0] * 4, "t": [5, 9, 7, 8], "p": [1, 0, 1, 0]}

    with pytest.raises(InvalidEventsError, match="7 us after 9 us at event 2"):
        count_frames(columns, sensor_size=SIZE, bins=2)
    frames = count_frames(columns, sensor_size=SIZE, bins=2, sort=True)

    ordered = Events(x=[0, 2, 3, 1], y=[0] * 4, t=[5, 7, 8, 9], p=[1, 1, 0, 0])
    assert np.array_equal(frames, count_frames(ordered, sensor_size=SIZE, bins=2))


@pytest.mark.parametrize("bad", [0, 511, 512, 700, 999])
@pytest.mark.parametrize("column", ["x", "y"])
def test_an_event_outside_the_sensor_is_named_or_dropped(bad: int, column: str) -> None:
    ev = drawn_on(SIZE, 1000)
    columns = {name: getattr(ev, name).copy() for name in "xytp"}
    columns[column][bad:] = SIZE["xy".index(column)]
    broken = Events(**columns)
    x, y, p = (columns[name][bad] for name in "xyp")
    outside = rf"7x5 sensor.* got x={x} y={y} p={p} at event {bad};"

    for make_frames in (count_frames, partial(voxel_grid, bins=2)):
        with pytest.raises(InvalidEventsError, match=outside):
            make_frames(broken, sensor_size=SIZE)
    ledger = Ledger()
    edges = [0, 5000, 10_000]
    kept = count_frames(broken, sensor_size=SIZE, edges_us=edges, outside="drop", ledger=ledger)

    assert np.array_equal(kept, count_frames(ev[:bad], sensor_size=SIZE, edges_us=edges))
    assert (ledger.decoded, ledger.kept, ledger.dropped["outside"]) == (1000, bad, 1000 - bad)


def test_an_event_outside_is_named_by_its_number_in_the_whole_stream() -> None:
    counts = counting([0, 100])
    counts.update(pile(600, t=3))

    with pytest.raises(InvalidEventsError, match=r"x=7 y=0 p=1 at event 602"):
        counts.update(Events(x=[0, 1, 7], y=[0] * 3, t=[5, 6, 7], p=[1] * 3))


def test_the_events_are_not_changed_by_counting() -> None:
    ev = drawn_on(SIZE, 100)
    before = ev.to_structured()

    count_frames(ev, sensor_size=SIZE, bins=2)
    voxel_grid(ev, sensor_size=SIZE, bins=2)

    assert np.array_equal(ev.to_structured(), before)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((0, 5), "within 1x1 and"),
        ((7, -1), "within 1x1 and"),
        ((65536, 65536), "at most"),
        ((7, 5, 2), r"expected sensor_size \(W, H\)"),
        (None, r"expected sensor_size \(W, H\)"),
    ],
)
def test_sensors_that_cannot_be_are_refused(size: Any, words: str) -> None:
    for make_frames in (count_frames, partial(voxel_grid, bins=2)):
        with pytest.raises(SettingsError, match=words):
            make_frames(pile(1), sensor_size=size)


def test_the_largest_column_of_the_contract_is_counted() -> None:
    ev = Events(x=[65535], y=[0], t=[0], p=[1])

    assert count_frames(ev, sensor_size=(65536, 1), bins=1)[0, 1, 0, 65535] == 1


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
    assert np.array_equal(windows(ev, bins=8).spans[:, 0], edges[:-1])
    expected = np.zeros((8, 2, 260, 346), np.int64)
    bins = np.searchsorted(edges, ev.t, side="right") - 1
    np.add.at(expected, (bins, ev.p, ev.y, ev.x), 1)
    assert np.array_equal(frames, expected)
