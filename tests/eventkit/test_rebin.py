"""Rebinning: equal to making the frames anew, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.rebin import rebin_counts, rebin_windows, represent_clip
from eventkit.representations.counts import Counts, count_frames
from eventkit.representations.registry import make
from eventkit.slicing import equal_edges
from eventkit.testing.strategies import events
from eventkit.windows import Windows

SIZE = (7, 5)


def spans_of(ev: Events, bins: int) -> np.ndarray:
    start, stop = (int(ev.t[0]), int(ev.t[-1]) + 1) if len(ev) else (0, 1)
    return Windows.of_edges(equal_edges(start, stop, bins)).spans


@given(
    events(),
    st.sampled_from([(16, 8), (32, 8), (32, 16), (6, 3), (6, 1), (5, 5)]),
    st.sampled_from(["u1", "u2", "u4", "f4"]),
)
def test_fewer_bins_are_what_counting_in_them_gives(
    ev: Events, bins: tuple[int, int], dtype: str
) -> None:
    fine, coarse = bins
    counts = count_frames(ev, sensor_size=SIZE, bins=fine, dtype=dtype)

    found = rebin_counts(counts, coarse, windows_us=spans_of(ev, fine))

    assert found.dtype == counts.dtype
    assert np.array_equal(found, count_frames(ev, sensor_size=SIZE, bins=coarse, dtype=dtype))
    assert found.sum() == len(ev)


@given(events(), st.sampled_from([(16, 8), (9, 3)]))
def test_the_windows_of_fewer_bins_are_those_of_cutting_anew(
    ev: Events, bins: tuple[int, int]
) -> None:
    found = rebin_windows(spans_of(ev, bins[0]), bins[1])

    assert np.array_equal(found, spans_of(ev, bins[1]))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_sum_that_does_not_fit_is_refused_and_fits_a_wider_type(dtype: str) -> None:
    top = int(np.iinfo(dtype).max)
    counts = np.zeros((2, 2, 5, 7), dtype)
    counts[:, 1, 2, 3] = top, 1

    with pytest.raises(SettingsError, match=rf"at most {top} for .*, got {top + 1} in bin 0"):
        rebin_counts(counts, 1)
    assert rebin_counts(counts, 1, dtype="u4")[0, 1, 2, 3] == top + 1


def test_the_largest_sum_of_float32_is_where_whole_numbers_end() -> None:
    counts = np.zeros((2, 2, 1, 1), np.float32)
    counts[:, 0] = 1 << 23
    assert rebin_counts(counts, 1)[0, 0, 0, 0] == 1 << 24

    counts[0, 0] += 1
    with pytest.raises(SettingsError, match="at most 16777216"):
        rebin_counts(counts, 1)


@pytest.mark.parametrize("clipped", [1, [0, 0, 3, 0], np.array([0, 1, 0, 0])])
def test_clipped_counts_are_refused(clipped: Any) -> None:
    with pytest.raises(SettingsError, match="nothing was clipped"):
        rebin_counts(np.zeros((4, 2, 1, 1), np.uint8), 2, clipped=clipped)


@pytest.mark.parametrize("clipped", [-1, 0.5, [0, 0], [[0] * 4]])
def test_clipped_numbers_that_cannot_be_are_refused(clipped: Any) -> None:
    with pytest.raises(SettingsError, match="expected clipped"):
        rebin_counts(np.zeros((4, 2, 1, 1), np.uint8), 2, clipped=clipped)


@pytest.mark.parametrize("bins", [0, 3, 5, 8, 1.5, True])
def test_bins_that_do_not_nest_are_refused(bins: Any) -> None:
    with pytest.raises(SettingsError, match="divides the 4"):
        rebin_counts(np.zeros((4, 2, 1, 1), np.uint8), bins)


@pytest.mark.parametrize("second", [[5, 10], [3, 10]])
def test_windows_with_a_gap_or_an_overlap_are_refused(second: list[int]) -> None:
    counts = np.zeros((2, 2, 1, 1), np.uint8)

    with pytest.raises(SettingsError, match="windows that nest"):
        rebin_counts(counts, 1, windows_us=[[0, 4], second])
    with pytest.raises(SettingsError, match=r"integer windows \(2, 2\)"):
        rebin_counts(counts, 1, windows_us=[[0, 4]])


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((4, 1, 2, 2), np.float32),
        np.zeros((4, 2, 2), np.uint8),
        np.zeros((0, 2, 2, 2), np.uint8),
        np.zeros((4, 2, 2, 2), np.int16),
        np.full((4, 2, 2, 2), 0.5, np.float32),
        np.full((4, 2, 2, 2), -1, np.float32),
        np.full((4, 2, 2, 2), np.nan, np.float32),
    ],
)
def test_what_are_no_counts_is_refused(frames: Any) -> None:
    with pytest.raises(SettingsError, match="expected"):
        rebin_counts(frames, 2)


@given(events(), st.integers(1, 9), st.integers(0, 50), st.integers(0, 50))
def test_counts_from_kept_events_are_those_of_the_clips_windows(
    ev: Events, bins: int, before: int, after: int
) -> None:
    first, last = (int(ev.t[0]), int(ev.t[-1])) if len(ev) else (0, 0)
    span = (first - before, last + 1 + after)

    found = represent_clip(ev, span, Counts(dtype="u1"), sensor_size=SIZE, bins=bins)

    edges = equal_edges(*span, bins)
    assert np.array_equal(found, count_frames(ev, sensor_size=SIZE, edges_us=edges, dtype="u1"))


def test_a_stack_sees_the_clip_as_one_window() -> None:
    rng = np.random.default_rng(0)
    ev = Events(
        x=rng.integers(0, 7, 50),
        y=rng.integers(0, 5, 50),
        t=np.sort(rng.integers(10, 90, 50)),
        p=rng.integers(0, 2, 50),
    )

    found = represent_clip(ev, (0, 100), "voxel:zhu,bins=4", sensor_size=SIZE)

    assert found.shape == (4, 1, 5, 7)
    whole = make("voxel:zhu", bins=4)(ev, sensor_size=SIZE, edges_us=[0, 100])
    assert np.array_equal(found[:, 0], whole[0])


def test_events_of_other_clips_are_in_no_frame() -> None:
    ev = Events(x=[0, 1, 2], y=[0, 0, 0], t=[-1, 5, 10], p=[1, 1, 1])

    found = represent_clip(ev, (0, 10), "counts:eventkit", sensor_size=SIZE, bins=2)

    assert found.sum() == 1


def test_bins_go_where_they_belong() -> None:
    with pytest.raises(SettingsError, match="bins is a setting of voxel:zhu"):
        represent_clip(Events.empty(), (0, 10), "voxel:zhu", sensor_size=SIZE, bins=4)
    with pytest.raises(SettingsError, match="expected bins, the number of frames"):
        represent_clip(Events.empty(), (0, 10), "counts:eventkit", sensor_size=SIZE)


def test_a_span_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="ends after it starts"):
        represent_clip(Events.empty(), (10, 10), "counts:eventkit", sensor_size=SIZE, bins=2)


def test_events_outside_the_sensor_are_named_or_dropped() -> None:
    ev = Events(x=[7], y=[0], t=[0], p=[1])

    with pytest.raises(InvalidEventsError, match="x=7 y=0"):
        represent_clip(ev, (0, 10), "counts:eventkit", sensor_size=SIZE, bins=2)
    found = represent_clip(ev, (0, 10), "counts:eventkit", sensor_size=SIZE, bins=2, outside="drop")
    assert not found.any()
