"""Pixels of ``sensor_msgs/Image``, by the encodings of ``sensor_msgs/image_encodings.hpp``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Encoding(NamedTuple):
    """How the bytes of a row become pixels.

    Parameters
    ----------
    width_bytes : int
        Bytes of a value.
    values : int
        Values of a pixel.
    picked : tuple of int
        Which of them in RGB order; the alpha channel carries no picture.
    pattern : str
        Of a colour filter, the first two of row 0, then of row 1; or the order of ``yuv``.
    """

    width_bytes: int
    values: int
    picked: tuple[int, ...]
    pattern: str = ""

    @property
    def channels(self) -> int:
        """Channels of the picture."""
        return 3 if self.pattern else len(self.picked)


ENCODINGS: dict[str, Encoding] = {
    "mono8": Encoding(1, 1, (0,)),
    "8UC1": Encoding(1, 1, (0,)),
    "mono16": Encoding(2, 1, (0,)),
    "16UC1": Encoding(2, 1, (0,)),
    "rgb8": Encoding(1, 3, (0, 1, 2)),
    "bgr8": Encoding(1, 3, (2, 1, 0)),
    "8UC3": Encoding(1, 3, (2, 1, 0)),  # OpenCV's order
    "rgba8": Encoding(1, 4, (0, 1, 2)),
    "bgra8": Encoding(1, 4, (2, 1, 0)),
    "rgb16": Encoding(2, 3, (0, 1, 2)),
    "bgr16": Encoding(2, 3, (2, 1, 0)),
    **{
        f"bayer_{pattern}{bits}": Encoding(bits // 8, 1, (0,), pattern)
        for pattern in ("rggb", "bggr", "gbrg", "grbg")
        for bits in (8, 16)
    },
    **dict.fromkeys(("yuv422", "uyvy"), Encoding(1, 2, (0, 1), "uyvy")),
    **dict.fromkeys(("yuv422_yuy2", "yuyv"), Encoding(1, 2, (0, 1), "yuyv")),
}


def fits(encoding: Encoding, width: int, height: int) -> bool:
    """Return whether pictures can have this size: Bayer and YUV share colours among neighbours."""
    if encoding.values == 2:
        return width >= 2 and width % 2 == 0 and height >= 1
    return min(width, height) >= (2 if encoding.pattern else 1)


def to_pixels(
    data: memoryview, encoding: Encoding, size: tuple[int, int], step: int, *, big: bool
) -> NDArray[Any]:
    """Return the picture, (H, W, C) uint8 or uint16.

    Parameters
    ----------
    data : memoryview
        With all rows in it.
    encoding : Encoding
    size : (W, H)
    step : int, bytes
        From one row to the next.
    big : bool
        Whether values of two bytes have the higher one first.
    """
    width, height = size
    dtype = np.dtype(f"{'>' if big else '<'}u{encoding.width_bytes}")
    strides = (step, encoding.values * encoding.width_bytes, encoding.width_bytes)
    values = np.ndarray((height, width, encoding.values), dtype, data, 0, strides)
    values = values.astype(dtype.newbyteorder("="), copy=False)
    if not encoding.pattern:
        return np.ascontiguousarray(values[:, :, list(encoding.picked)])
    if encoding.values == 2:
        return from_yuv422(values, encoding.pattern)
    return demosaic(values[:, :, 0], encoding.pattern)


def demosaic(raw: NDArray[Any], pattern: str) -> NDArray[Any]:
    """Fill in the two colours that each pixel behind a Bayer filter does not have.

    Plain bilinear interpolation: the mean of the two or four nearest samples of a colour, rounded,
    at the edges mirrored. What a pixel has itself stays as it is.

    Parameters
    ----------
    raw : (H, W) uint8 or uint16
        At least 2 by 2.
    pattern : str
        ``rggb``, ``bggr``, ``gbrg`` or ``grbg``.

    Returns
    -------
    (H, W, 3), same dtype
        Red first.
    """
    height, width = raw.shape
    padded = np.pad(raw, 1, mode="reflect").astype(np.uint32)  # which keeps even rows even
    row, column = np.arange(-1, height + 1) % 2, np.arange(-1, width + 1) % 2
    place = 2 * row[:, None] + column
    out = np.empty((height, width, 3), raw.dtype)
    for channel, colour in enumerate("rgb"):
        has = np.isin(place, [i for i, letter in enumerate(pattern) if letter == colour])
        plane = np.where(has, padded, np.uint32(0))
        beside = plane[1:-1, :-2] + plane[1:-1, 2:] + plane[:-2, 1:-1] + plane[2:, 1:-1]
        total = 4 * plane[1:-1, 1:-1] + beside
        if colour != "g":  # of which a pixel has two or four beside it, of others also across
            total += beside + plane[:-2, :-2] + plane[:-2, 2:] + plane[2:, :-2] + plane[2:, 2:]
        out[:, :, channel] = (total + 2) // 4
    return out


def from_yuv422(values: NDArray[np.uint8], order: str) -> NDArray[np.uint8]:
    """Return RGB of pixels that share their colour two by two: BT.601, luma from 16 to 235.

    Parameters
    ----------
    values : (H, W, 2) uint8
        W even.
    order : {"uyvy", "yuyv"}
        Of the four values of two pixels.
    """
    height, width, _ = values.shape
    pairs = values.reshape(height, width // 2, 4).astype(np.int32)
    first = order.index("y")
    luma = 298 * (pairs[:, :, first::2].reshape(height, width) - 16)
    u, v = (np.repeat(pairs[:, :, order.index(c)] - 128, 2, axis=1) for c in "uv")
    rgb = np.stack([luma + 409 * v, luma - 100 * u - 208 * v, luma + 516 * u], axis=2)
    out: NDArray[np.uint8] = np.clip((rgb + 128) >> 8, 0, 255).astype(np.uint8)
    return out
