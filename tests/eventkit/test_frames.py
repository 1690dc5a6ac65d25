"""The RGB side: times at once, each picture decoded once and only when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import SettingsError
from eventkit.frames import Frames, Picture, to_uint8


def film(n: int = 5) -> tuple[Frames, list[int]]:
    """Return frames whose pixels are their index, and a list of what was decoded."""
    decoded: list[int] = []

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        for i in indices:
            decoded.append(i)
            yield Picture(np.full((2, 3, 1), i, np.uint8))

    t = 10 * np.arange(n, dtype=np.int64)
    return Frames(t, t - 1, t + 1, (3, 2), 1, "recorded", reader), decoded


def test_a_picture_wanted_more_than_once_is_decoded_once() -> None:
    frames, decoded = film()

    values = [int(p.pixels[0, 0, 0]) for p in frames.pictures([0, 0, 2, 2, 2, 4])]

    assert values == [0, 0, 2, 2, 2, 4]
    assert decoded == [0, 2, 4]


def test_pictures_are_decoded_as_they_are_taken() -> None:
    frames, decoded = film()

    next(frames.pictures([1, 2, 3]))

    assert decoded == [1]


def test_going_back_in_a_film_is_refused() -> None:
    frames, decoded = film()

    with pytest.raises(SettingsError, match="do not decrease"):
        list(frames.pictures([1, 0]))
    assert decoded == []


def test_no_wanted_pictures_give_none() -> None:
    assert list(film()[0].pictures([])) == []


def test_images_are_all_frames_in_order() -> None:
    frames, _ = film(3)

    assert frames.images.shape == (3, 2, 3, 1)
    assert frames.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert len(frames) == 3


def test_shifting_moves_every_time_and_no_picture() -> None:
    frames, _ = film(2)

    moved = frames.shifted(100)

    assert (moved.t_us.tolist(), moved.start_us.tolist()) == ([100, 110], [99, 109])
    assert moved.stop_us.tolist() == [101, 111]
    assert frames.t_us.tolist() == [0, 10]
    assert np.array_equal(moved.images, frames.images)


def test_sixteen_bits_become_eight_by_257() -> None:
    pixels = np.array([0, 128, 129, 257, 65535 - 129, 65535 - 128, 65535], np.uint16)

    assert to_uint8(pixels).tolist() == [0, 0, 1, 1, 254, 255, 255]


@given(st.integers(0, 65535))
def test_sixteen_bits_are_rounded_to_the_nearest(value: int) -> None:
    assert to_uint8(np.array([value], np.uint16))[0] == round(value / 257)


def test_eight_bits_times_257_come_back() -> None:
    every = np.arange(256, dtype=np.uint8)

    assert np.array_equal(to_uint8(every.astype(np.uint16) * 257), every)
    assert to_uint8(every) is every


@pytest.mark.parametrize("dtype", ["i2", "u4", "f4"])
def test_other_pixels_are_refused(dtype: str) -> None:
    with pytest.raises(SettingsError, match="uint8 or uint16 pixels"):
        to_uint8(np.zeros(1, dtype))
