"""Pictures and films to files that are whole or not there, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.atomic import committed, remove_left
from eventkit.errors import SettingsError


def save_png(path: str | Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture as PNG; an older file stays whole until the new one is.

    Parameters
    ----------
    path : str or Path
    pixels : (H, W) or (H, W, 3) uint8
    """
    pil = require("PIL.Image", extra="images", purpose="writing PNG files")
    with _replacing(path) as partial:
        pil.fromarray(np.ascontiguousarray(pixels)).save(partial, format="PNG")


def save_gif(path: str | Path, frames: Iterable[NDArray[np.uint8]], *, fps: float) -> None:
    """Write a film as GIF that starts again at its end.

    Parameters
    ----------
    path : str or Path
    frames : iterable of (H, W, 3) uint8
        At least one; of one size. Taken one by one.
    fps : float
        Frames a second; GIF knows hundredths of a second only.
    """
    pil = require("PIL.Image", extra="images", purpose="writing GIF files")
    _check_fps(fps)
    # A palette of its own for every frame and no dithering, which would flicker.
    films = (
        pil.fromarray(np.ascontiguousarray(frame)).quantize(256, dither=pil.Dither.NONE)
        for frame in frames
    )
    first = _first(films)
    with _replacing(path) as partial:
        first.save(
            partial,
            format="GIF",
            save_all=True,
            append_images=films,
            duration=max(10, round(100 / fps) * 10),
            loop=0,
        )


def save_mp4(path: str | Path, frames: Iterable[NDArray[np.uint8]], *, fps: float) -> None:
    """Write a film as MP4 (H.264, or MPEG-4 where that is not built in).

    Parameters
    ----------
    path : str or Path
    frames : iterable of (H, W, 3) uint8
        At least one; of one size, which is made even by repeating the last row and column.
        Taken one by one.
    fps : float
        Frames a second.
    """
    av = require("av", extra="images", purpose="writing MP4 files")
    _check_fps(fps)
    films = iter(frames)
    first = _first(films)
    height, width = first.shape[:2]
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    options = {"crf": "18"} if codec == "libx264" else {"qscale": "3"}
    # Without bitexact the container names the library, and some of them the time.
    how = {"fflags": "+bitexact", "movflags": "faststart"}
    with (
        _replacing(path) as partial,
        av.open(str(partial), "w", format="mp4", options=how) as container,
    ):
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt, stream.options = "yuv420p", options
        # With several threads the bytes depend on their number.
        stream.codec_context.thread_count = 1
        for pixels in chain([first], films):
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(_yuv420(even), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _yuv420(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB of even size as the planes of BT.601 with halved colours, (3 H / 2, W).

    FFmpeg's own conversion rounds differently where its buffers happen to be aligned differently:
    the 29th film of a process was not the first.
    """
    height, width = pixels.shape[:2]
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    quarters = pixels.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3), dtype=np.int32)
    r, g, b = np.moveaxis(quarters, -1, 0)
    luma = ((66 * red + 129 * green + 25 * blue + 128) >> 8) + 16
    cb = ((-38 * r - 74 * g + 112 * b + 512) >> 10) + 128
    cr = ((112 * r - 94 * g - 18 * b + 512) >> 10) + 128
    planes = [luma.ravel(), cb.ravel(), cr.ravel()]
    return np.concatenate(planes).astype(np.uint8).reshape(height * 3 // 2, width)


def _check_fps(fps: float) -> None:
    if not (np.isfinite(fps) and 0.01 <= fps <= 1000):
        msg = f"expected 0.01 to 1000 frames a second, got {fps}"
        raise SettingsError(msg)


def _first(frames: Iterator[Any]) -> Any:
    for frame in frames:
        return frame
    msg = "expected a film with at least one frame, got none"
    raise SettingsError(msg)


@contextmanager
def _replacing(path: str | Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; it takes its place when all went well."""
    path = Path(path)
    check_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left(path.parent)
    try:
        with committed(path) as temporary:
            yield temporary
    except OSError as err:
        # The temporary name says nothing to whoever named the file.
        if err.filename is not None:
            err.filename, err.filename2 = str(path), None
        raise


def check_place(path: Path, sources: Iterable[Path] = ()) -> None:
    """Refuse a place for a picture or film where something is that must stay.

    Parameters
    ----------
    path : Path
        A file that is there may be replaced.
    sources : iterable of Path
        Files and folders that it is drawn from.

    Raises
    ------
    SettingsError
        If it is a folder, one of the sources, or inside one.
    """
    if path.is_dir():
        msg = f"{path}: expected a file to write, got a folder; name a file in it"
        raise SettingsError(msg)
    for source in sources:
        if path.resolve().is_relative_to(source.resolve()):
            where = "the source" if path.resolve() == source.resolve() else f"inside {source}"
            msg = f"{path}: expected a place outside what is drawn, got {where}; name another --out"
            raise SettingsError(msg)
