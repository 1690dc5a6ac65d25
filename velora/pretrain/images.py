"""What the trunk learns from: garments and letters, 28 x 28, gray.

Garments are Fashion-MNIST as the Debian package ``dataset-fashion-mnist`` installs it: 60,000
training and 10,000 test pictures in ten classes; copyright Zalando SE, Expat (MIT) licence. Letters
are drawn in the font that Pillow ships, Aileron, which is in the public domain (CC0). No digit is
among them, nor a letter that looks like one, so that digits are new to the trunk.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import FormatError, MissingDataError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LICENCES = (
    "Fashion-MNIST: copyright 2017 Zalando SE, Expat (MIT) licence",
    "letters in Aileron Regular by Sora Sagano, as Pillow ships it: CC0 1.0",
)
LETTERS = "ACDEFHJKLMNPRTUVWXYadefhjkmnrty"
GARMENTS = 10
NUM_CLASSES = GARMENTS + len(LETTERS)
# How often each drawing of a letter stands among the images: a quarter of them are letters.
_REPEATS = 72
_SIDE = 28
_PREFIX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled gray pictures.

    Parameters
    ----------
    pixels : (N, H, W) uint8
    labels : (N,) int64
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def fashion_mnist(split: Literal["train", "test"], *, folder: Path = DEBIAN_FOLDER) -> Images:
    """Read a split.

    Raises
    ------
    MissingDataError
        If the files are not there; says where they come from.
    FormatError
        If one is damaged.
    """
    prefix = _PREFIX[split]
    pixels = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
        msg = f"expected as many labels as pictures, got {labels.shape} and {pixels.shape}"
        raise FormatError(msg, path=str(folder))
    return Images(pixels, labels.astype(np.int64))


def pretraining_images(*, folder: Path = DEBIAN_FOLDER) -> Images:
    """Return the training garments and, with the classes that follow, the letters."""
    garments, drawn = fashion_mnist("train", folder=folder), letters()
    return Images(
        np.concatenate([garments.pixels, np.tile(drawn.pixels, (_REPEATS, 1, 1))]),
        np.concatenate([garments.labels, np.tile(drawn.labels + GARMENTS, _REPEATS)]),
    )


def letters() -> Images:
    """Draw every letter in three sizes and three widths of the stroke, white on black."""
    image = require("PIL.Image", extra="images", purpose="drawing letters")
    draw = require("PIL.ImageDraw", extra="images", purpose="drawing letters")
    font = require("PIL.ImageFont", extra="images", purpose="drawing letters")
    pixels, labels = [], []
    for (label, letter), size, width in product(enumerate(LETTERS), (18, 22, 26), (0, 1, 2)):
        canvas = image.new("L", (_SIDE, _SIDE))
        draw.Draw(canvas).text(
            (_SIDE / 2, _SIDE / 2),
            letter,
            fill=255,
            font=font.load_default(size),
            anchor="mm",
            stroke_width=width,
        )
        pixels.append(np.asarray(canvas))
        labels.append(label)
    return Images(np.stack(pixels), np.array(labels, np.int64))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of bytes: two zeros, type 8, the number of axes, sizes, values."""
    if not path.is_file():
        msg = f"no {path}; `apt-get install dataset-fashion-mnist`, or give --data FOLDER"
        raise MissingDataError(msg)
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        msg = f"expected a whole gzip file ({error})"
        raise FormatError(msg, path=str(path)) from error
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    header = 4 + 4 * axes
    shape = tuple(np.frombuffer(data[4:header].ljust(4 * axes, b"\0"), ">u4").tolist())
    if not axes or len(data) != header + math.prod(shape):
        msg = "expected an IDX file of bytes, got another one or a part of one"
        raise FormatError(msg, path=str(path))
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()
