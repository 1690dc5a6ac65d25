"""Frame differences: absolute, in the input's type, never wrapping."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eventkit.differences import frame_difference, velora_difference
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


KINDS = ["absolute", "signed", "thresholded", "velora"]


def slow_kind(frames: NDArray[Any], kind: str, order: str, threshold: float) -> NDArray[Any]:
    """Return the differences of any kind through Python integers."""
    wide = frames.astype(object)
    found = []
    for k in range(len(wide) - 1):
        d = wide[k + 1] - wide[0 if order == "first" else k]
        found.append(
            {
                "absolute": abs(d),
                "signed": d,
                "thresholded": (abs(d) > threshold).astype(object),
                "velora": abs(d) / 127.5,
            }[kind]
        )
    return np.array(found, object).reshape(len(frames) - 1, *frames.shape[1:])


@given(
    st.sampled_from(["u1", "u2", "u4"]).flatmap(lambda kind: frame_stacks(dtype=kind)),
    st.sampled_from(KINDS[:3]),
    st.sampled_from(["consecutive", "first"]),
    st.sampled_from([0, 1, 2.5, 200, 1e9, float("inf")]),
)
def test_every_kind_equals_the_slow_twin(
    frames: NDArray[Any], kind: Any, order: Any, threshold: float
) -> None:
    limit = threshold if kind == "thresholded" else None

    found = frame_difference(frames, kind=kind, order=order, threshold=limit)

    assert np.array_equal(found, slow_kind(frames, kind, order, threshold))


@given(frame_stacks(dtype="u1"), st.sampled_from(["consecutive", "first"]))
def test_velora_is_the_difference_of_normalised_pictures(frames: NDArray[Any], order: Any) -> None:
    found = frame_difference(frames, kind="velora", order=order)

    assert found.dtype == np.float32
    expected = slow_kind(frames, "velora", order, 0).astype(np.float32)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("dtype", "wider"), [("u1", "i2"), ("u2", "i4"), ("u4", "i8")])
def test_signed_differences_have_the_next_wider_type(dtype: str, wider: str) -> None:
    top = int(np.iinfo(dtype).max)

    found = frame_difference(np.array([0, top, 0], dtype), kind="signed")

    assert found.dtype == np.dtype(wider)
    assert found.tolist() == [top, -top]


def test_a_signed_difference_of_uint64_is_refused() -> None:
    with pytest.raises(SettingsError, match="uint8, uint16 or uint32"):
        frame_difference(np.zeros((2, 3), np.uint64), kind="signed")


def test_the_largest_threshold_of_uint64_is_exact() -> None:
    top = 2**64 - 1
    frames = np.array([[0, 0], [top, top - 1]], np.uint64)

    found = frame_difference(frames, kind="thresholded", threshold=top - 1)

    assert found.tolist() == [[1, 0]]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floats_keep_their_type_and_sign(dtype: str) -> None:
    frames = np.array([[0.5, -1.0], [-0.5, 2.0], [0.5, np.nan]], dtype)

    signed = frame_difference(frames, kind="signed")
    first = frame_difference(frames, kind="absolute", order="first")
    mask = frame_difference(frames, kind="thresholded", threshold=1.5)

    assert signed.dtype == first.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(signed, [[-1.0, 3.0], [1.0, np.nan]])
    np.testing.assert_array_equal(first, [[1.0, 3.0], [0.0, np.nan]])
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_a_buffer_is_filled_and_returned(kind: Any, dtype: str) -> None:
    if kind == "velora" and dtype == "f4":
        return
    frames = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 4)).astype(dtype)
    fresh = frame_difference(frames, kind=kind)
    out = np.full_like(fresh, 77)

    assert frame_difference(frames, kind=kind, out=out) is out
    assert np.array_equal(out, fresh)


def test_buffers_that_do_not_fit_are_refused() -> None:
    frames = np.zeros((3, 2, 4), np.uint8)

    for out in (np.zeros((3, 2, 4), np.uint8), np.zeros((2, 2, 4), np.int16), [[0]]):
        with pytest.raises(SettingsError, match="expected out as"):
            frame_difference(frames, out=out)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="shares their memory"):
        frame_difference(frames, out=frames[1:])


@pytest.mark.parametrize("pixels", [8191, 8192, 8193, 70_000, 600_000])
def test_the_blocks_of_the_kernel_meet_without_a_seam(pixels: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, pixels)).astype(np.uint8)

    found = frame_difference(frames)

    assert np.array_equal(found, np.abs(np.diff(frames.astype(np.int16), axis=0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "squared"}, "kind among"),
        ({"order": "last"}, "order among"),
        ({"threshold": 3}, "goes with kind='thresholded'"),
        ({"kind": "thresholded", "threshold": -1}, "at least 0"),
        ({"kind": "thresholded", "threshold": float("nan")}, "at least 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        frame_difference(np.zeros((2, 3), np.uint8), **options)


def as_released(*pictures: NDArray[Any]) -> NDArray[np.float32]:
    """Return what the released code does: pictures to float32, normalised, then subtracted."""
    total = np.zeros((), np.float32)
    for stream in pictures:
        unit = stream.astype(np.float32) / np.float32(255)
        normal = (unit - np.float32(0.5)) / np.float32(0.5)
        total = total + np.abs(normal[:-1] - normal[1:])
    return np.asarray(total)


@given(st.data(), frame_stacks(dtype="u1"))
def test_the_difference_of_a_clip_is_that_of_the_release(
    data: st.DataObject, rgb: NDArray[Any]
) -> None:
    seed = data.draw(st.integers(0, 99))
    pictures = np.random.default_rng(seed).integers(0, 256, rgb.shape).astype(np.uint8)

    found = velora_difference(rgb, pictures)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, as_released(rgb, pictures), rtol=0, atol=5e-7)
    assert np.array_equal(found, velora_difference(rgb) + velora_difference(pictures))


def test_the_difference_of_a_clip_reaches_four_and_takes_a_buffer() -> None:
    rgb = np.array([[0, 255], [255, 0]], np.uint8)
    out = np.full((1, 2), np.nan, np.float32)

    assert velora_difference(rgb, rgb[::-1], out=out) is out
    assert out.tolist() == [[4.0, 4.0]]


def test_pictures_of_several_shapes_or_types_are_refused() -> None:
    rgb = np.zeros((2, 4, 4, 3), np.uint8)

    for streams in ((), (rgb, rgb[:, :2])):
        with pytest.raises(SettingsError, match="pictures of one shape"):
            velora_difference(*streams)
    with pytest.raises(SettingsError, match="uint8 pictures"):
        velora_difference(rgb, rgb.astype(np.uint16))  # type: ignore[arg-type]
