"""Image folders and single images: the RGB side of a recording.

Where the times of a folder come from stands in `eventkit.readers.images.times`. Without any the
pictures have an order (by name) and no times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import FormatError, MissingDataError
from eventkit.frames import Frames, Picture, Timing
from eventkit.readers.base import ReadOptions
from eventkit.readers.images.times import INSIDE, Times, find_times
from eventkit.recording import Recording
from eventkit.sources import Source

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
TIMESTAMP_FILES = INSIDE
_KEPT = {"PNG": "png", "JPEG": "jpg"}
_LOOKED_AT = 16
"""Files of a folder without image suffixes that are opened to see whether they are images."""

_MOST_FOR_A_BYTE = 2048
"""Bytes of pixels that one byte of a file can hold: deflate reaches 1032, no other comes near."""


class ImageReader:
    """Reader of a single image."""

    name = "image"
    suffixes = IMAGE_SUFFIXES
    holds = ("frames",)

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
        frames = _frames([_Image(source.inner_name, source.name, source.read)], None)
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
        found = [_Image(image.name, str(image), image.read_bytes) for image in images]
        return Recording(path=path, format=self.name, frames=_frames(found, times), notes=notes)


@dataclass(frozen=True, slots=True)
class _Image:
    """One encoded picture, wherever it lies."""

    name: str
    path: str
    read: Callable[[], bytes]


def image_kind(head: bytes) -> str | None:
    """Return ``PNG``, ``JPEG``, ``BMP`` or ``TIFF`` by the first bytes, or None.

    Two letters are too few to tell a BMP from raw events: its header must fit as well.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff") and head[3:4] >= b"\xc0":
        return "JPEG"
    if head.startswith((b"II*\0", b"MM\0*")) and len(head) > 8:
        return "TIFF"
    known_headers = (12, 40, 52, 56, 64, 108, 124)
    if (
        head.startswith(b"BM")
        and head[6:10] == bytes(4)
        and int.from_bytes(head[14:18], "little") in known_headers
    ):
        return "BMP"
    return None


def list_images(folder: Path) -> list[Path]:
    """Images directly in a folder, in natural order (2 before 10).

    They are told by suffix; in a folder where no file has one of an image, by their first bytes.
    """
    files = [f for f in folder.iterdir() if not f.name.startswith(".")]
    found = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file()]
    if not found:
        bare = sorted((f for f in files if f.is_file()), key=_natural)
        if any(_is_image(f) for f in bare[:_LOOKED_AT]):
            found = [f for f in bare if _is_image(f)]
    return sorted(found, key=_natural)


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
    return _load(_Image(path.name, str(path), path.read_bytes))


def decode_pixels(data: bytes, *, path: Path | str) -> NDArray[Any]:
    """Decode the bytes of an image file to (H, W, 1 or 3), 8 or 16 bit.

    Raises
    ------
    FormatError
        If they are no whole PNG, JPEG, BMP or TIFF, or claim more pixels than they can hold.
    """
    from io import BytesIO

    pil = require("PIL.Image", extra="images", purpose="reading images")
    try:
        # Named, since Pillow would hand some kinds of files to other programs.
        with pil.open(BytesIO(data), formats=("PNG", "JPEG", "BMP", "TIFF")) as image:
            claimed = image.width * image.height * len(image.getbands())
            if claimed > _MOST_FOR_A_BYTE * len(data) + (1 << 20):
                msg = f"{image.width}x{image.height} pixels claimed by {len(data)} bytes"
                raise ValueError(msg)
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


def _load(image: _Image) -> Picture:
    data = image.read()
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


def _frames(images: list[_Image], times: Times | None) -> Frames:
    first = _load(images[0]).pixels
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
    return Frames(middle, start, stop, (width, height), channels, timing, reader, suffix)


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in parts if p], path.name
