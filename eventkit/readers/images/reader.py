"""Image folders and single images: the RGB side of a recording.

Where the times of a folder come from stands in `eventkit.readers.images.times`. Without any the
pictures have an order (by name) and no times.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from eventkit.errors import FormatError, MissingDataError
from eventkit.frames import Frames, Picture, Timing
from eventkit.readers.base import ReadOptions
from eventkit.readers.images.lines import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from eventkit.readers.images.pixels import decode_pixels as decode_pixels
from eventkit.readers.images.pixels import has_alpha
from eventkit.readers.images.pixels import image_kind as image_kind
from eventkit.readers.images.times import INSIDE, Times, find_times
from eventkit.recording import Recording
from eventkit.sources import MOST_WHOLE_BYTES, Source

TIMESTAMP_FILES = INSIDE
_KEPT = {"PNG": "png", "JPEG": "jpg"}
_LOOKED_AT = 16
"""Files of a folder without image suffixes that are opened to see whether they are images."""

_DIGITS = re.compile(r"(\d+)")


class ImageReader:
    """Reader of a single image."""

    name = "image"
    suffixes = IMAGE_SUFFIXES
    holds = ("frames",)
    takes = ()

    def recognise(self, source: Source) -> str | None:
        """Go by the first bytes, then by suffix: a damaged picture is told when it is opened."""
        if source.is_dir:
            return None
        kind = image_kind(source.head)
        if kind:
            return f"first bytes of a {kind} image"
        return f"suffix {source.suffix}" if source.suffix in self.suffixes else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open one picture as a static frame without a time."""
        image = _Image(source.inner_name, source.name, source.read)
        frames, notes = _frames([image], None)
        return Recording(path=source.path, format=self.name, frames=frames, notes=notes)


class ImageFolderReader:
    """Reader of a folder of images in time order."""

    name = "images"
    suffixes = ()
    holds = ("frames",)
    takes = ("time_unit",)

    def recognise(self, source: Source) -> str | None:
        """A folder that directly holds images."""
        found = source.is_dir and source.is_plain and _names(source.path)
        return f"a folder of {len(found)} images" if found else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the folder: names and times at once, pixels on demand."""
        path = source.path
        images = list_images(path)
        if not images:
            msg = f"expected images ({', '.join(IMAGE_SUFFIXES)}) in {path}, found none"
            raise MissingDataError(msg)
        try:
            times, notes = find_times(path, images, time_unit=options.time_unit)
        except FormatError as fault:
            if options.strict:
                raise
            times, notes = None, [f"times not used: {fault}"]
        if times is None:
            notes.append("no timestamps.txt: the pictures have an order but no times")
        else:
            notes.append(times.note)
        found = [_Image(image.name, str(image), partial(_bytes_of, image)) for image in images]
        frames, told = _frames(found, times)
        return Recording(path=path, format=self.name, frames=frames, notes=[*notes, *told])


@dataclass(frozen=True, slots=True)
class _Image:
    """One encoded picture, wherever it lies."""

    name: str
    path: str
    read: Callable[[], bytes]


def list_images(folder: Path) -> list[Path]:
    """Images directly in a folder, in natural order (2 before 10).

    They are told by suffix; in a folder where no file has one of an image, by their first bytes.
    """
    return [folder / name for name in sorted(_names(folder), key=_natural)]


def _names(folder: Path) -> list[str]:
    """Names of the images in a folder; of 100,000 no one is asked for more than its name."""
    with os.scandir(folder) as entries:
        files = [entry for entry in entries if not entry.name.startswith(".")]
    found = [e.name for e in files if e.name.lower().endswith(IMAGE_SUFFIXES) and _is_file(e)]
    if not found:
        bare = sorted((entry.name for entry in files if _is_file(entry)), key=_natural)
        if any(_is_image(folder / name) for name in bare[:_LOOKED_AT]):
            found = [name for name in bare if _is_image(folder / name)]
    return found


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) or Path(entry.path).is_file()


def _is_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return image_kind(file.read(64)) is not None
    except OSError:
        return False


def load_picture(path: Path) -> Picture:
    """Decode one image file to (H, W, 1 or 3), 8 or 16 bit, and keep its bytes if PNG or JPEG.

    Raises
    ------
    FormatError
        If the file is cut or no image.
    """
    return _load(_Image(path.name, str(path), partial(_bytes_of, path)))


def _bytes_of(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MOST_WHOLE_BYTES:
        msg = f"expected a picture of at most {MOST_WHOLE_BYTES:,} bytes, got {size:,}; is it one?"
        raise FormatError(msg, path=path, offset=0, reason="bad_value")
    return path.read_bytes()


def _load(image: _Image) -> Picture:
    return _decoded(image, image.read())


def _decoded(image: _Image, data: bytes) -> Picture:
    pixels = decode_pixels(data, path=image.path)
    kind = image_kind(data)
    named = _common_suffix([image]) or _KEPT.get(kind or "")
    return Picture(pixels, data if kind in _KEPT and _KEPT[kind] == named else None)


def _common_suffix(images: list[_Image]) -> str:
    """Return the kind that all pictures are of; by name, or one would open every file."""
    names = {Path(image.name).suffix.lower() for image in images}
    if names <= {".jpg", ".jpeg"}:
        return "jpg"
    return "png" if names == {".png"} else ""


def _frames(images: list[_Image], times: Times | None) -> tuple[Frames, list[str]]:
    """Return the frames, of which the first is read, and what that tells."""
    data = images[0].read()
    first = _decoded(images[0], data).pixels
    notes = ["the alpha channel of the pictures is left out"] if has_alpha(data) else []
    height, width, channels = first.shape
    # Without times the positions stand in: `align` spreads them over the events.
    order = np.arange(len(images), dtype=np.int64)[:, None].repeat(2, 1)
    table = order if times is None else times.spans
    start, stop = table[:, 0].copy(), table[:, 1].copy()
    suffix = _common_suffix(images)

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        for i in indices:
            picture = _load(images[i])
            if picture.pixels.shape != first.shape:
                msg = f"expected {first.shape} like {images[0].name}, got {picture.pixels.shape}"
                raise FormatError(msg, path=images[i].path, offset=0, reason="bad_value")
            yield picture if suffix else Picture(picture.pixels)

    timing: Timing = "none" if times is None else "recorded"
    middle = start + (stop - start) // 2
    frames = Frames(middle, start, stop, (width, height), channels, timing, reader, suffix)
    return frames, notes


def _natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    parts = _DIGITS.split(name)
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in parts if p], name
