"""A still image moved before a camera: the scene that `eventkit.simulate` films."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError

_SACCADE_US = 100_000


def moving_image(
    image: NDArray[Any],
    *,
    size: tuple[int, int],
    duration_us: int,
    fps: float,
    rng: np.random.Generator,
    travel: float = 0.08,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Move a still image before a camera, in saccades like those of N-MNIST.

    The image is scaled so that it just covers the view wherever the path leads: the camera sees
    no border, and of an image of another shape the middle. The path visits the corners of
    triangles with random orientation, one corner every 100 ms, starting and stopping softly.

    Parameters
    ----------
    image : (h, w) or (h, w, 3), uint8, or float in [0, 1]
    size : (W, H)
        Pixels of the camera.
    duration_us : int, microseconds
    fps : float
        Rendered frames per second; one at 0 and one at ``duration_us`` are always among them.
    rng : Generator
    travel : float
        Radius of the path, as a share of the shorter side of the view.

    Returns
    -------
    frames : (N, H, W) or (N, H, W, 3) float32 in [0, 1]
        Bilinear between pixels.
    t_us : (N,) int64, microseconds

    Examples
    --------
    >>> frames, t_us = moving_image(
    ...     np.eye(8), size=(6, 4), duration_us=10_000, fps=1000, rng=np.random.default_rng(0)
    ... )
    >>> frames.shape, t_us[-1].item()
    ((11, 4, 6), 10000)
    """
    check_size(size)
    check_range("duration_us", duration_us, 1, 2**53)
    check_range("fps", fps, 1e-3, 1e6)
    check_range("travel", travel, 0, 1)
    radius = travel * min(size)
    picture, scale = scaled_to_cover(image, size=size, margin=radius)
    t_us, path = saccades(duration_us, fps=fps, radius=radius, rng=rng)
    return views(picture, path, scale=scale, size=size), t_us


def resize_to_view(image: NDArray[Any], *, size: tuple[int, int]) -> NDArray[np.float32]:
    """Scale an image so that it covers a view, and cut its middle out.

    Parameters
    ----------
    image : (h, w) or (h, w, 3), uint8, or float in [0, 1]
    size : (W, H)

    Returns
    -------
    (H, W) or (H, W, 3) float32 in [0, 1]
    """
    check_size(size)
    picture, scale = scaled_to_cover(image, size=size, margin=0.0)
    return np.asarray(views(picture, np.zeros((1, 2)), scale=scale, size=size)[0])


def saccades(
    duration_us: int, *, fps: float, radius: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (N,) times and the (N, 2) offset (x, y) of the view at each, in camera pixels."""
    num_frames = max(2, round(duration_us * fps / 1e6) + 1)
    t_us = np.unique(np.rint(np.linspace(0, duration_us, num_frames)).astype(np.int64))
    moves = max(1, round(duration_us / _SACCADE_US))
    turn = rng.choice([-1.0, 1.0]) * 2 * np.pi / 3
    angle = rng.uniform(0, 2 * np.pi) + turn * np.arange(moves + 1)
    angle += rng.uniform(-0.3, 0.3, moves + 1)
    corners = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    progress = t_us / duration_us * moves
    move = np.minimum(progress.astype(np.int64), moves - 1)
    share = 0.5 - 0.5 * np.cos(np.pi * (progress - move))
    path = corners[move] + share[:, None] * (corners[move + 1] - corners[move])
    return t_us, np.asarray(path)


def scaled_to_cover(
    image: NDArray[Any], *, size: tuple[int, int], margin: float
) -> tuple[NDArray[np.float32], float]:
    """Return a picture that is not much finer than the camera, and its pixels per camera pixel."""
    picture = intensity(np.asarray(image)[None])[0]
    scale = _cover(picture, size, margin)
    if scale < 2:
        return picture, scale
    # Bilinear sampling of a much larger image skips pixels and flickers: average first.
    picture = _box_average(picture, int(scale))
    return picture, _cover(picture, size, margin)


def views(
    picture: NDArray[np.float32],
    path: NDArray[np.float64],
    *,
    scale: float,
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """Return what the camera sees at each offset of ``path`` (N, 2): (N, H, W[, 3])."""
    from eventkit.kernels.simulate import sample_views

    channels = picture.reshape(*picture.shape[:2], -1)
    out = np.empty((len(path), size[1], size[0], channels.shape[2]), np.float32)
    sample_views(np.ascontiguousarray(channels), path, scale, out)
    return out.reshape(*out.shape[:3], *picture.shape[2:])


def _cover(picture: NDArray[np.float32], size: tuple[int, int], margin: float) -> float:
    """Image pixels per camera pixel."""
    height, width = picture.shape[:2]
    return float(min(width / (size[0] + 2 * margin), height / (size[1] + 2 * margin)))


def _box_average(picture: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = (n // factor * factor for n in picture.shape[:2])
    blocks = picture[:height, :width].reshape(
        height // factor, factor, width // factor, factor, *picture.shape[2:]
    )
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64), np.float32)


def intensity(frames: NDArray[Any]) -> NDArray[np.float32]:
    """Return frames (N, H, W[, 3]) as float32 in [0, 1]; refuse other shapes and values."""
    if frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[3] != 3):
        msg = f"expected images of shape (H, W) or (H, W, 3), got {frames.shape[1:]}"
        raise SettingsError(msg)
    if 0 in frames.shape[1:]:
        msg = f"expected images of at least one pixel, got shape {frames.shape[1:]}"
        raise SettingsError(msg)
    if frames.dtype == np.uint8:
        return frames.astype(np.float32) / np.float32(255)
    if frames.dtype.kind != "f":
        msg = f"expected uint8, or float in [0, 1], got {frames.dtype}"
        raise SettingsError(msg)
    if frames.size and not (frames.min() >= 0 and frames.max() <= 1):  # also false for NaN
        msg = f"expected intensities in [0, 1], got {frames.min():g} to {frames.max():g}"
        raise SettingsError(msg)
    return frames.astype(np.float32, copy=False)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside its range; names it."""
    if not low <= value <= high:
        msg = f"expected {name} between {low:g} and {high:g}, got {value:g}"
        raise SettingsError(msg)


def check_size(size: tuple[int, int]) -> None:
    """Refuse a size that no camera has."""
    if len(size) != 2 or not all(0 < n <= 65536 for n in size):
        msg = f"expected a size between 1x1 and 65536x65536, got {'x'.join(map(str, size))}"
        raise SettingsError(msg)
