"""Pictures as a folder: PNG files and ``timestamps.txt``, the form that every tool reads.

``timestamps.txt`` has one line a picture, in the order of their names: start and stop of the
exposure, integer microseconds on the clock of the events, equal where only one time is known.
Pictures that came as PNG or JPEG keep their bytes; nothing is compressed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import SettingsError
from eventkit.frames import Frames, to_uint8
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.writers.base import Contents, left_out

TIMES = "timestamps.txt"
HEADER = "# start_us stop_us"


class ImagesWriter:
    """Writer of the frames of a recording as a folder of pictures."""

    name = "images"
    suffixes = ()

    def losses(self, contents: Contents) -> list[str]:
        """Everything but the frames."""
        if not contents.frames:
            msg = "expected frames for a folder of images, the recording has none"
            raise SettingsError(msg)
        return left_out(contents, "a folder of images", keeps="frames")

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the folder; the events are not read."""
        assert recording.frames is not None
        write_folder(recording.frames, path)


def write_folder(frames: Frames, folder: Path) -> None:
    """Write pictures and their times into a new folder, one picture in memory at a time.

    Parameters
    ----------
    frames : Frames
        Without times (``timing`` is ``none``) there is no ``timestamps.txt``.
    folder : Path
        Does not exist yet.

    Raises
    ------
    MissingDependencyError
        Without Pillow, where a picture has to be encoded.
    """
    folder.mkdir()
    for name, data in _files(frames):
        (folder / name).write_bytes(data)


def is_written(frames: Frames, folder: Path) -> bool:
    """Tell whether a folder holds what `write_folder` would write, byte for byte, and no more."""
    names = {path.name for path in folder.iterdir()}
    for name, data in _files(frames):
        path = folder / name
        if name not in names or not path.is_file() or path.stat().st_size != len(data):
            return False
        if path.read_bytes() != data:
            return False
        names.remove(name)
    return not names


def _files(frames: Frames) -> Iterator[tuple[str, bytes]]:
    digits = max(6, len(str(len(frames) - 1)))
    for i, picture in enumerate(frames.pictures(range(len(frames)))):
        # One suffix for all: a mixture of kinds has no order by name that lasts.
        keep = picture.encoded if frames.suffix else None
        data = keep if keep is not None else encode_png(picture.pixels)
        suffix = frames.suffix if keep is not None else "png"
        yield f"{i:0{digits}d}.{suffix}", data
    if frames.timing != "none":
        spans = zip(frames.start_us.tolist(), frames.stop_us.tolist(), strict=True)
        lines = [HEADER, *(f"{start} {stop}" for start, stop in spans)]
        yield TIMES, ("\n".join(lines) + "\n").encode()


def encode_png(pixels: NDArray[Any]) -> bytes:
    """Encode (H, W, 1 or 3) uint8, or (H, W, 1) uint16, as PNG; 16-bit colour becomes 8 bit."""
    pil = require("PIL.Image", extra="images", purpose="writing PNG pictures")
    if pixels.shape[2] == 3:
        pixels = to_uint8(pixels)
    picture = np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    buffer = BytesIO()
    pil.fromarray(picture).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def png_losses(frames: Frames) -> list[str]:
    """What PNG files cannot hold of these frames; decodes the first one to see."""
    if not len(frames) or frames.suffix or frames.channels == 1:
        return []
    if next(frames.pictures([0])).pixels.dtype == np.uint8:
        return []
    return ["16-bit colour pictures become 8 bit: PNG has 16 bit of gray only here"]
