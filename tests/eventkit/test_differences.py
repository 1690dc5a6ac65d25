"""Frame differences: absolute, in the input's type, never wrapping."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.differences import frame_difference
from eventkit.errors import SettingsError
from eventkit.testing.strategies import frame_stacks


def slow_difference(frames: np.ndarray) -> np.ndarray:
    """Return the difference through Python integers."""
    wide = frames.astype(object)
    return np.array([abs(b - a) for a, b in pairwise(wide)], object)


@given(st.sampled_from(["u1", "u2", "u4", "u8"]).flatmap(lambda kind: frame_stacks(dtype=kind)))
def test_differences_equal_those_of_the_slow_twin(frames: np.ndarray) -> None:
    found = frame_difference(frames)

    assert found.dtype == frames.dtype
    assert found.shape == (len(frames) - 1, *frames.shape[1:])
    assert found.size == 0 or np.array_equal(found, slow_difference(frames))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_the_largest_step_does_not_wrap_either_way(dtype: str) -> None:
    top = np.iinfo(dtype).max

    found = frame_difference(np.array([[0, top], [top, 0], [1, 1]], dtype))

    assert found.tolist() == [[top, top], [top - 1, 1]]


@given(frame_stacks(dtype="u2"))
def test_the_order_of_two_frames_does_not_matter(frames: np.ndarray) -> None:
    assert np.array_equal(frame_difference(frames[::-1]), frame_difference(frames)[::-1])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floats_are_subtracted_as_they_are(dtype: str) -> None:
    frames = np.array([[0.5, -1.0, np.nan], [-0.5, 2.0, 1.0]], dtype)

    found = frame_difference(frames)

    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, [[1.0, 3.0, np.nan]])


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "?", "f2", "c8"])
def test_types_in_which_the_difference_may_not_fit_are_refused(dtype: str) -> None:
    with pytest.raises(SettingsError, match="expected unsigned integers, float32 or float64"):
        frame_difference(np.zeros((2, 3), dtype))


@pytest.mark.parametrize("shape", [(), (0,), (0, 2, 4, 4)])
def test_no_frame_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="at least one frame"):
        frame_difference(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "shape", [(1, 2, 4, 5), (3,), (3, 4, 5), (3, 2, 4, 5), (3, 4, 5, 3), (3, 0, 4), (2, 2, 2, 2, 2)]
)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_shapes_lose_one_frame_and_nothing_else(shape: tuple[int, ...], dtype: str) -> None:
    found = frame_difference(np.ones(shape, dtype))

    assert found.shape == (shape[0] - 1, *shape[1:])
    assert not found.any()


@pytest.mark.parametrize(
    "view",
    [
        lambda frames: frames[:, :, :, 1:],
        lambda frames: frames[::2],
        lambda frames: frames.transpose(0, 2, 3, 1),
        lambda frames: np.asfortranarray(frames),
        lambda frames: frames[:, ::-1],
    ],
    ids=["cropped", "every second", "channels last", "fortran", "reversed"],
)
def test_views_are_read_through_their_strides(view: Any) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6)).astype(np.uint8)

    found = frame_difference(view(frames))

    wide = view(frames).astype(np.int64)
    assert np.array_equal(found, np.abs(wide[1:] - wide[:-1]))


def test_read_only_frames_are_taken_and_stay_as_they_are() -> None:
    frames = np.array([[3], [250]], np.uint8)
    frames.flags.writeable = False

    assert frame_difference(frames).tolist() == [[247]]
    assert frames.tolist() == [[3], [250]]


def test_the_other_byte_order_is_taken_too() -> None:
    assert frame_difference(np.array([[1], [300]], ">u2")).tolist() == [[299]]
