"""RGB frames and event windows: which frame a window takes, and whose clock counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.align import align, nearest, on_event_clock
from eventkit.frames import Frames, Timing
from eventkit.slicing import equal_edges
from eventkit.windows import windows_of_edges


def exposures(
    starts: list[int], length: int = 0, *, timing: Timing = "recorded", size: int = 1
) -> Frames:
    """Return frames with these exposures and no pictures."""
    start = np.array(starts, np.int64)
    stop = start + length
    return Frames(
        start + length // 2, start, stop, (size, size), 1, timing, lambda indices: iter(())
    )


@given(
    st.lists(st.integers(-100, 100), min_size=1, max_size=8),
    st.lists(st.integers(-150, 150), min_size=1, max_size=8),
)
def test_nearest_equals_a_search_by_hand(times: list[int], wanted: list[int]) -> None:
    times = sorted(times)

    found = nearest(np.array(times), np.array(wanted))

    for index, time in zip(found.tolist(), wanted, strict=True):
        assert abs(times[index] - time) == min(abs(t - time) for t in times)


def test_of_two_equally_near_frames_the_earlier_is_taken() -> None:
    assert nearest(np.array([0, 10]), np.array([4, 5, 6])).tolist() == [0, 0, 1]


def test_each_equal_window_takes_the_frame_nearest_to_its_middle() -> None:
    frames = exposures([0, 40, 80, 120])

    found = align(frames, start=0, stop=160, bins=4)

    assert found.windows.tolist() == [[0, 40], [40, 80], [80, 120], [120, 160]]
    # Middles 20, 60, 100, 140; a frame as near on both sides: the earlier.
    assert found.rgb_index.tolist() == [0, 1, 2, 3]
    assert (found.rule, found.fell_back) == ("time", False)


@given(st.integers(-(1 << 60), 1 << 60), st.integers(1, 1 << 50), st.integers(1, 12))
def test_windows_of_the_time_rule_are_the_equal_edges(start: int, length: int, bins: int) -> None:
    found = align(exposures([start]), start=start, stop=start + length, bins=bins)

    expected = windows_of_edges(equal_edges(start, start + length, bins))
    assert np.array_equal(found.windows, expected)
    assert found.rgb_index.tolist() == [0] * bins


def test_without_frames_no_window_has_one() -> None:
    found = align(None, start=0, stop=10, bins=2)

    assert found.rgb_index.tolist() == [-1, -1]


def test_bins_between_exposures_end_at_their_frame() -> None:
    frames = exposures([10, 30, 50, 70, 90], length=4)

    found = align(frames, start=0, stop=100, bins=4, rule="rgb")

    assert found.windows.tolist() == [[12, 32], [32, 52], [52, 72], [72, 92]]
    assert found.rgb_index.tolist() == [1, 2, 3, 4]
    assert (found.rule, found.fell_back) == ("rgb", False)


def test_more_exposures_than_bins_are_picked_evenly() -> None:
    frames = exposures(list(range(0, 90, 10)))

    found = align(frames, start=0, stop=100, bins=2, rule="rgb")

    assert found.windows.tolist() == [[0, 40], [40, 80]]
    assert found.rgb_index.tolist() == [4, 8]


def test_only_exposures_of_the_clip_are_picked() -> None:
    frames = exposures(list(range(0, 200, 10)))

    found = align(frames, start=50, stop=80, bins=2, rule="rgb")

    # 50, 60, 70 lie in [50, 80); 80 does not.
    assert found.windows.tolist() == [[50, 60], [60, 70]]
    assert found.rgb_index.tolist() == [6, 7]


def test_exposure_windows_are_the_exposures_themselves() -> None:
    frames = exposures([0, 20, 40], length=6)

    found = align(frames, start=0, stop=100, bins=2, rule="rgb", event_window="exposure")

    assert found.windows.tolist() == [[20, 26], [40, 46]]
    assert found.rgb_index.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("frames", "event_window"),
    [
        (exposures([0, 20]), "interval"),
        (exposures([0]), "interval"),
        (None, "interval"),
        (exposures([0, 20, 20, 40]), "interval"),
        (exposures([0, 20, 40, 60]), "exposure"),
        (exposures([0, 20, 40, 60], length=25), "exposure"),
    ],
    ids=["too few", "one", "none", "equal times", "no exposure times", "overlapping exposures"],
)
def test_exposures_that_make_no_windows_fall_back_to_equal_time_and_say_so(
    frames: Frames | None, event_window: str
) -> None:
    found = align(frames, start=0, stop=90, bins=3, rule="rgb", event_window=event_window)

    assert (found.rule, found.fell_back) == ("time", True)
    assert found.windows.tolist() == [[0, 30], [30, 60], [60, 90]]


def test_recorded_times_stay_and_an_offset_moves_them() -> None:
    frames = exposures([5, 6], length=2)

    same, how = on_event_clock(frames, first_us=100, last_us=200)
    moved, _ = on_event_clock(frames, first_us=100, last_us=200, offset_us=-3)

    assert how == "recorded"
    assert same is frames
    assert moved.start_us.tolist() == [2, 3]
    assert moved.t_us.tolist() == [3, 4]
    assert moved.stop_us.tolist() == [4, 5]


def test_a_video_with_its_own_clock_starts_at_the_first_event() -> None:
    frames = exposures([0, 40], timing="own-clock")

    found, how = on_event_clock(frames, first_us=1000, last_us=2000, offset_us=7)

    assert how == "first frame at first event"
    assert found.t_us.tolist() == [1007, 1047]
    assert found.timing == "recorded"


def test_pictures_without_times_are_spread_evenly() -> None:
    frames = exposures([0, 1, 2, 3], timing="none")

    found, how = on_event_clock(frames, first_us=100, last_us=179)

    assert how == "spread evenly"
    # Four parts of 20 us, the middle of each.
    assert found.t_us.tolist() == [110, 130, 150, 170]


@given(st.integers(1, 20))
def test_as_many_pictures_as_bins_are_paired_one_to_one(count: int) -> None:
    frames = exposures(list(range(count)), timing="none")

    spread, _ = on_event_clock(frames, first_us=0, last_us=99_999)
    found = align(spread, start=0, stop=100_000, bins=count)

    assert found.rgb_index.tolist() == list(range(count))


def test_one_picture_is_static() -> None:
    found, how = on_event_clock(exposures([0], timing="none"), first_us=0, last_us=9)

    assert how == "static"
    assert found.t_us.tolist() == [5]
