"""RGB pictures on the sensor's grid: a 3x3 matrix from RGB pixels to event pixels.

For cameras side by side that look at a plane, or far away. Integer coordinates are the middles of
pixels, as in OpenCV, so a matrix of ``cv2.findHomography(rgb_points, event_points)`` fits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventkit._optional import require
from eventkit.errors import MissingDataError, SettingsError
from eventkit.frames import Frames, Picture, to_uint8
from eventkit.npy import BadArrayError, read_npy

_KEYS = ("homography", "H", "matrix")
# Below this share of the largest possible determinant a matrix maps the plane onto a line.
_FLAT = 1e-12


def load_homography(path: str | Path) -> NDArray[np.float64]:
    """Read a matrix from a file.

    Parameters
    ----------
    path : str or Path
        ``.npy``; ``.json``: three rows of three numbers, nine numbers, or an object that has them
        under ``homography``, ``H`` or ``matrix``; else text with nine numbers between blanks,
        commas, semicolons or brackets, ``#`` starts a comment.

    Returns
    -------
    (3, 3) float64

    Raises
    ------
    MissingDataError
        If there is no such file.
    SettingsError
        If it holds no invertible 3x3 matrix.
    """
    file = Path(path)
    if not file.is_file():
        msg = f"{file}: no such file; --homography takes a 3x3 matrix as .npy, .json or text"
        raise MissingDataError(msg)
    try:
        return check_homography(_numbers(file))
    except (ValueError, TypeError) as err:
        reason = str(err) if isinstance(err, SettingsError) else f"cannot read it ({err})"
        msg = f"{file}: {reason}"
        raise SettingsError(msg) from err


def _numbers(file: Path) -> Any:
    data = file.read_bytes()
    if file.suffix == ".npy":
        try:
            return read_npy(data)
        except BadArrayError as err:
            msg = f"expected a whole .npy array: {err}"
            raise SettingsError(msg) from err
    text = data.decode("utf-8")
    if file.suffix == ".json":
        found = json.loads(text)
        if not isinstance(found, dict):
            return found
        named = [found[key] for key in _KEYS if key in found]
        if len(named) != 1:
            msg = f"expected one of {', '.join(_KEYS)}, got {', '.join(found) or 'nothing'}"
            raise ValueError(msg)
        return named[0]
    lines = [line.split("#")[0] for line in text.splitlines()]
    bare = " ".join(lines).translate(str.maketrans("[](),;", "      "))
    return [float(number) for number in bare.split()]


def check_homography(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return a matrix as (3, 3) float64, or say why it is none.

    Examples
    --------
    >>> check_homography([1, 0, 5, 0, 1, 0, 0, 0, 1])[0].tolist()
    [1.0, 0.0, 5.0]
    """
    try:
        found = np.asarray(matrix, np.float64)
    except (TypeError, ValueError) as err:
        msg = f"expected a 3x3 matrix of numbers, got {type(matrix).__name__}"
        raise SettingsError(msg) from err
    if found.size != 9 or found.ndim not in (1, 2) or (found.ndim == 2 and found.shape != (3, 3)):
        msg = f"expected a 3x3 matrix of numbers, got shape {found.shape}"
        raise SettingsError(msg)
    square = found.reshape(3, 3)
    if not np.isfinite(square).all():
        msg = "expected finite numbers in the matrix"
        raise SettingsError(msg)
    limit = float(np.prod(np.linalg.norm(square, axis=1)))
    if not abs(float(np.linalg.det(square))) > _FLAT * limit:
        msg = "expected a matrix that can be inverted, this one maps the picture onto a line"
        raise SettingsError(msg)
    return square


def warp_frames(frames: Frames, matrix: ArrayLike, *, sensor_size: tuple[int, int]) -> Frames:
    """Return frames whose pictures are resampled onto the sensor's grid.

    Parameters
    ----------
    frames : Frames
    matrix : (3, 3)
        RGB pixel (x, y, 1) -> event pixel, up to a factor.
    sensor_size : (W, H)

    Returns
    -------
    Frames
        Of size (W, H), 8-bit; the encoded files are gone, their pixels are others.
    """
    checked = check_homography(matrix)

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        for picture in frames.reader(indices):
            yield Picture(warp(picture.pixels, checked, sensor_size=sensor_size))

    return replace(frames, size=sensor_size, reader=reader, suffix="")


def warp(
    pixels: NDArray[Any], matrix: ArrayLike, *, sensor_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resample a picture onto the sensor's grid: bilinear, zeros outside the picture.

    Parameters
    ----------
    pixels : (h, w, 1 or 3) uint8 or uint16
    matrix : (3, 3)
        RGB pixel (x, y, 1) -> event pixel, up to a factor.
    sensor_size : (W, H)

    Returns
    -------
    (H, W, 1 or 3) uint8

    Notes
    -----
    Not antialiased: a picture that shrinks to less than half shows every second pixel.

    Examples
    --------
    >>> picture = np.array([[[10], [20], [30]]], np.uint8)
    >>> warp(picture, [[1, 0, 1], [0, 1, 0], [0, 0, 1]], sensor_size=(3, 1)).ravel().tolist()
    [0, 10, 20]
    """
    pil = require("PIL.Image", extra="images", purpose="resampling pictures")
    source = to_uint8(pixels)
    height, width = source.shape[:2]
    inverse = _backwards(check_homography(matrix), (width, height))
    image = pil.fromarray(source[:, :, 0] if source.shape[2] == 1 else source)
    out = image.transform(
        sensor_size,
        pil.Transform.PERSPECTIVE,
        _eight(inverse),
        resample=pil.Resampling.BILINEAR,
    )
    found = np.array(out, np.uint8).reshape(sensor_size[1], sensor_size[0], source.shape[2])
    found[_behind(inverse, sensor_size)] = 0
    return found


def _backwards(matrix: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return event position -> RGB position, for positions that start at the corner of a pixel.

    Signed so that the third coordinate is above zero for what the middle of the picture sees.
    """
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    whole = half @ matrix @ np.linalg.inv(half)
    inverse = np.asarray(np.linalg.inv(whole), np.float64)
    middle = whole @ [size[0] / 2, size[1] / 2, 1.0]
    return inverse if middle[2] > 0 else -inverse


def _eight(inverse: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the matrix as Pillow takes it: the ninth number is one."""
    last = float(inverse[2, 2])
    if last == 0:  # the sensor's corner looks past the horizon; a hair beside it does not matter
        last = 1e-12 * float(np.abs(inverse[2]).max())
    return tuple((inverse / last).ravel()[:8].tolist())


def _behind(inverse: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return (H, W) which pixels look away from the picture: a projection would fold them in."""
    x, y = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    depth = inverse[2, 0] * x + inverse[2, 1] * y[:, None] + inverse[2, 2]
    return np.asarray(depth <= 0)
