"""Image folders and single images: the RGB side of a recording.

Times of a folder come from ``timestamps.txt`` (or ``.csv``) inside it: one line an image, columns
separated by blanks or commas, an optional name first, then either one time or the start and stop
of the exposure, integers in microseconds on the clock of the events; lines that start with ``#``
are comments. Without such a file the pictures have an order (by name) and no times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import FormatError, MissingDataError
from eventkit.frames import Frames, Picture, Timing
from eventkit.readers.base import ReadOptions
from eventkit.recording import Recording
from eventkit.sources import Source

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
TIMESTAMP_FILES = ("timestamps.txt", "timestamps.csv")
_KEPT = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg"}


class ImageReader:
    """Reader of a single image."""

    name = "image"
    suffixes = IMAGE_SUFFIXES
    holds = ("frames",)

    def recognise(self, source: Source) -> str | None:
        """Go by suffix; the content is checked when it is decoded."""
        known = not source.is_dir and source.suffix in self.suffixes
        return f"suffix {source.suffix}" if known else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open one picture as a static frame without a time."""
        frames = _frames([source.local()], None)
        return Recording(path=source.path, format=self.name, frames=frames)


class ImageFolderReader:
    """Reader of a folder of images in time order."""

    name = "images"
    suffixes = ()
    holds = ("frames",)

    def recognise(self, source: Source) -> str | None:
        """A folder that directly holds images."""
        found = source.is_dir and source.is_plain and list_images(source.path)
        return f"a folder of {len(found)} images" if found else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the folder: names and times at once, pixels on demand."""
        path = source.path
        images = list_images(path)
        if not images:
            msg = f"expected images ({', '.join(IMAGE_SUFFIXES)}) in {path}, found none"
            raise MissingDataError(msg)
        times = next((path / name for name in TIMESTAMP_FILES if (path / name).is_file()), None)
        notes = [] if times else ["no timestamps.txt: the pictures have an order but no times"]
        table = _read_times(times, images) if times else None
        return Recording(path=path, format=self.name, frames=_frames(images, table), notes=notes)


def list_images(folder: Path) -> list[Path]:
    """Images directly in a folder, in natural order (2 before 10)."""
    found = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file()]
    return sorted((f for f in found if not f.name.startswith(".")), key=_natural)


def load_picture(path: Path) -> Picture:
    """Decode one image file to (H, W, 1 or 3), 8 or 16 bit, and keep its bytes if PNG or JPEG.

    Raises
    ------
    FormatError
        If the file is cut or no image.
    """
    data = path.read_bytes()
    pixels = decode_pixels(data, path=path)
    return Picture(pixels, data if path.suffix.lower() in _KEPT else None)


def decode_pixels(data: bytes, *, path: Path | str) -> NDArray[Any]:
    """Decode the bytes of an image file to (H, W, 1 or 3), 8 or 16 bit."""
    from io import BytesIO

    pil = require("PIL.Image", extra="images", purpose="reading images")
    try:
        with pil.open(BytesIO(data)) as image:
            image.load()
            return _to_array(image)
    except Exception as err:  # a damaged file makes Pillow fail in any way it likes
        # Pillow names the object in memory, whose address differs from run to run.
        why = re.sub(r" <_io\.BytesIO object at 0x[0-9a-f]+>", "", str(err))
        reason = "truncated" if "truncated" in why.lower() else "corrupt"
        msg = f"expected an image, got one that cannot be decoded ({why})"
        raise FormatError(msg, path=path, offset=0, reason=reason) from err


def _to_array(image: Any) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image, np.uint16)[:, :, None]
    if image.mode == "I":  # a 16-bit PNG as older writers leave it
        return np.asarray(image).clip(0, 65535).astype(np.uint16)[:, :, None]
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image.convert("RGB"))


def _frames(images: list[Path], times: NDArray[np.int64] | None) -> Frames:
    first = load_picture(images[0]).pixels
    height, width, channels = first.shape
    # Without times the positions stand in: `align` spreads them over the events.
    table = np.arange(len(images), dtype=np.int64)[:, None].repeat(2, 1) if times is None else times
    start, stop = table[:, 0].copy(), table[:, 1].copy()
    kinds = {_KEPT.get(image.suffix.lower(), "") for image in images}
    suffix = kinds.pop() if len(kinds) == 1 else ""

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        for i in indices:
            picture = load_picture(images[i])
            if picture.pixels.shape != first.shape:
                msg = f"expected {first.shape} like {images[0].name}, got {picture.pixels.shape}"
                raise FormatError(msg, path=images[i], offset=0, reason="bad_value")
            yield picture if suffix else Picture(picture.pixels)

    timing: Timing = "none" if times is None else "recorded"
    middle = start + (stop - start) // 2
    return Frames(middle, start, stop, (width, height), channels, timing, reader, suffix)


def _read_times(path: Path, images: list[Path]) -> NDArray[np.int64]:
    rows: list[tuple[int, int]] = []
    names: list[str | None] = []
    for number, line in enumerate(path.read_text("utf-8-sig", errors="replace").splitlines(), 1):
        cells = line.replace(",", " ").split()
        if not cells or cells[0].startswith("#"):
            continue
        names.append(None if _integer(cells[0]) else cells.pop(0))
        if len(cells) not in (1, 2) or not all(_integer(cell) for cell in cells):
            msg = (
                "expected '[name] time' or '[name] start stop' in integer microseconds, "
                f"got {line!r} in line {number}"
            )
            raise FormatError(msg, path=path, reason="bad_value")
        rows.append((int(cells[0]), int(cells[-1])))
    if len(rows) != len(images):
        msg = f"expected {len(images)} lines, one an image, got {len(rows)}"
        raise FormatError(msg, path=path, reason="bad_value")
    table = np.array(rows, np.int64)
    if all(name is not None for name in names):
        by_name = {str(name): row for name, row in zip(names, rows, strict=True)}
        missing = [image.name for image in images if image.name not in by_name]
        if missing:
            msg = f"expected a line for every image, {missing[0]} has none"
            raise FormatError(msg, path=path, reason="bad_value")
        table = np.array([by_name[image.name] for image in images], np.int64)
    middle = table.sum(axis=1)
    if (table[:, 1] < table[:, 0]).any() or (middle[1:] < middle[:-1]).any():
        msg = "expected exposures in time order with start before stop"
        raise FormatError(msg, path=path, reason="backwards_time")
    return table


def _integer(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", cell) is not None and abs(int(cell)) < 2**62


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in parts if p], path.name
