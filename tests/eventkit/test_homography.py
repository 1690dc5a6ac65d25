"""RGB on the sensor's grid: every pixel by the formula, whatever the matrix; odd files refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import EventKitError, MissingDataError
from eventkit.frames import Frames, Picture
from eventkit.homography import check_homography, load_homography, warp, warp_frames

SHIFT = np.array([[1.0, 0, 2], [0, 1, -1], [0, 0, 1]])


def bilinear(pixels: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ask for every event pixel what the picture has there, one by one."""
    height, width, channels = pixels.shape
    out = np.zeros((size[1], size[0], channels))
    inverse = np.linalg.inv(matrix)
    side = np.sign((matrix @ [(width - 1) / 2, (height - 1) / 2, 1])[2])

    def at(row: int, column: int) -> np.ndarray:
        return pixels[min(max(row, 0), height - 1), min(max(column, 0), width - 1)].astype(float)

    for v in range(size[1]):
        for u in range(size[0]):
            a, b, depth = inverse @ [u, v, 1]
            if depth * side <= 0:
                continue
            x, y = a / depth, b / depth
            if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
                continue
            left, top = int(np.floor(x)), int(np.floor(y))
            fx, fy = x - left, y - top
            upper = (1 - fx) * at(top, left) + fx * at(top, left + 1)
            lower = (1 - fx) * at(top + 1, left) + fx * at(top + 1, left + 1)
            out[v, u] = (1 - fy) * upper + fy * lower
    return out


@given(st.integers(0, 2**32 - 1))
def test_every_pixel_is_what_the_matrix_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(2, 12, 2)
    pixels = rng.integers(0, 256, (height, width, rng.choice([1, 3])), dtype=np.uint8)
    noise = rng.normal(0, 0.2, (3, 3)) * [[1, 1, 5], [1, 1, 5], [0.3, 0.3, 0]]
    matrix = (np.eye(3) + noise) * rng.choice([-3, 1])
    size = (int(rng.integers(2, 15)), int(rng.integers(2, 15)))

    found = warp(pixels, matrix, sensor_size=size)

    # Rounded down. A pixel on the very edge of the picture may fall to either side.
    away = np.abs(found.astype(float) - bilinear(pixels, matrix, size)) >= 1.001
    assert found.shape == (size[1], size[0], pixels.shape[2])
    assert away.any(axis=2).sum() <= 1


def test_a_whole_shift_moves_pixels_as_they_are_and_leaves_zeros() -> None:
    pixels = np.arange(1, 13, dtype=np.uint8).reshape(3, 4, 1)

    found = warp(pixels, SHIFT, sensor_size=(5, 3))

    expected = np.zeros((3, 5), np.uint8)
    expected[:2, 2:] = pixels[1:, :3, 0]
    assert found[:, :, 0].tolist() == expected.tolist()


def test_what_lies_beyond_the_horizon_is_zero() -> None:
    # The horizon runs through the third column; the first two would come back mirrored.
    pixels = np.full((6, 6, 1), 100, np.uint8)
    pixels[:, :2] = 200
    matrix = np.array([[1.0, 0, 20], [0, 1, 20], [0, 0, 1]]) @ [[1, 0, 0], [0, 1, 0], [-0.5, 0, 1]]

    found = warp(pixels, matrix, sensor_size=(30, 30))

    assert set(np.unique(found)) == {0, 100}


def test_a_matrix_that_puts_the_corner_at_infinity_works() -> None:
    # The inverse has no constant: the corner of the sensor sees no point of the picture.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    inverse = np.array([[1.0, 0, 1], [0, 1, 1], [1, 0, 0]])
    matrix = np.linalg.inv(half) @ np.linalg.inv(inverse) @ half

    found = warp(np.full((9, 9, 3), 7, np.uint8), matrix, sensor_size=(4, 4))

    assert found.shape == (4, 4, 3)
    assert set(np.unique(found)) <= {0, 7}


def test_deep_pictures_become_eight_bits() -> None:
    pixels = np.full((2, 2, 1), 257 * 9, np.uint16)

    assert warp(pixels, np.eye(3), sensor_size=(2, 2)).ravel().tolist() == [9] * 4


def test_frames_have_the_size_of_the_sensor_and_no_files() -> None:
    picture = Picture(np.full((2, 2, 3), 9, np.uint8), b"file")
    times = np.array([5], np.int64)
    frames = Frames(times, times, times, (2, 2), 3, "recorded", lambda _: iter([picture]), "png")

    found = warp_frames(frames, np.eye(3), sensor_size=(4, 3))

    assert (found.size, found.suffix, len(found)) == ((4, 3), "", 1)
    (warped,) = found.pictures([0])
    assert warped.encoded is None
    assert warped.pixels.shape == (3, 4, 3)
    assert int(warped.pixels.sum()) == 9 * 2 * 2 * 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("h.txt", "1 0 2\n0 1 -1 # a comment\n0 0 1\n"),
        ("h.csv", "[[1, 0, 2], [0, 1, -1], [0, 0, 1]]"),
        ("h.json", json.dumps(SHIFT.tolist())),
        ("h.json", json.dumps({"homography": SHIFT.ravel().tolist()})),
    ],
)
def test_files_of_each_kind_are_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)

    assert load_homography(tmp_path / name).tolist() == SHIFT.tolist()


def test_a_npy_file_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", SHIFT.astype(np.float32))

    assert load_homography(tmp_path / "h.npy").tolist() == SHIFT.tolist()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("h.txt", b"1 2 3", "3x3 matrix"),
        ("h.txt", b"1 0 0 0 1 0 0 0 x", "cannot read"),
        ("h.txt", b"\xff\xfe", "cannot read"),
        ("h.json", b"{", "cannot read"),
        ("h.json", b'{"rotation": [1]}', "cannot read"),
        ("h.json", b"[[1, 0], [0, 1, 0]]", "3x3 matrix"),
        ("h.npy", b"no array", "npy"),
        ("h.txt", b"1 0 0 0 1 0 0 0 nan", "finite"),
        ("h.txt", b"1 2 3 2 4 6 0 0 1", "inverted"),
        ("h.txt", b"0 0 0 0 0 0 0 0 0", "inverted"),
    ],
)
def test_a_file_without_a_matrix_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(EventKitError, match=words) as caught:
        load_homography(tmp_path / name)

    assert name in str(caught.value)


def test_no_file_is_said() -> None:
    with pytest.raises(MissingDataError, match="no such file"):
        load_homography("nowhere.txt")


@pytest.mark.parametrize("matrix", [[[1]], np.eye(4), "text", None])
def test_what_is_no_matrix_is_refused(matrix: object) -> None:
    with pytest.raises(EventKitError, match="3x3"):
        check_homography(matrix)
