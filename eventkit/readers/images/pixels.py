"""Pixels of encoded pictures: 8 or 16 bit, gray or RGB, as deep as the file has them."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import EventKitError, FormatError

_KINDS = ("PNG", "JPEG", "BMP", "TIFF")
_DEEP = {"PNG": "png", "TIFF": "tiff"}
"""Kinds that may have 16 bit of colour, and FFmpeg's decoders for that: Pillow has 8 bit only."""

MOST_PIXELS = 1 << 26
"""Of one picture; a palette of one bit grows to four bytes each while it is decoded."""
_MOST_FOR_A_BYTE = 2048
"""Bytes of pixels that one byte of a file can hold: deflate reaches 1032, no other comes near."""


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


def decode_pixels(data: bytes, *, path: Path | str) -> NDArray[Any]:
    """Decode the bytes of an image file to (H, W, 1 or 3), 8 or 16 bit; alpha is left out.

    Raises
    ------
    FormatError
        If they are no whole PNG, JPEG, BMP or TIFF, claim more pixels than they can hold, or have
        pixels that 16 bit do not hold: floats, and integers outside 0..65535.
    """
    pil = require("PIL.Image", extra="images", purpose="reading images")
    try:
        # Named, since Pillow would hand some kinds of files to other programs.
        with pil.open(BytesIO(data), formats=_KINDS) as image:
            pixels = image.width * image.height
            claimed = pixels * len(image.getbands())
            if claimed > _MOST_FOR_A_BYTE * len(data) + (1 << 20) or pixels > MOST_PIXELS:
                msg = f"{image.width}x{image.height} pixels claimed by {len(data)} bytes"
                raise ValueError(msg)
            deep = _is_deep(image)
            image.load()  # whatever is cut or damaged is met here
            return _deep_colour(data, image.format) if deep else _to_array(image, path)
    except EventKitError:
        raise
    except Exception as err:  # a damaged file makes Pillow fail in any way it likes
        # Pillow names the object in memory, whose address differs from run to run.
        why = re.sub(r" <_io\.BytesIO object at 0x[0-9a-f]+>", "", str(err))
        reason = "truncated" if "truncated" in why.lower() else "corrupt"
        msg = f"expected an image, got one that cannot be decoded ({why})"
        raise FormatError(msg, path=path, offset=0, reason=reason) from err


def has_alpha(data: bytes) -> bool:
    """Whether a picture that can be decoded has an alpha channel or a transparent colour."""
    pil = require("PIL.Image", extra="images", purpose="reading images")
    with pil.open(BytesIO(data), formats=_KINDS) as image:
        return "A" in image.getbands() or "transparency" in image.info


def _is_deep(image: Any) -> bool:
    """Whether the file has 16 bit of what Pillow hands out as 8."""
    packed = (str(tile.args) for tile in image.tile)
    shallow = image.mode in ("LA", "RGB", "RGBA")
    return image.format in _DEEP and shallow and any(";16" in mode for mode in packed)


def _deep_colour(data: bytes, kind: str) -> NDArray[Any]:
    av = require("av", extra="images", purpose="reading pictures with 16 bit of colour")
    codec = av.CodecContext.create(_DEEP[kind], "r")
    frame = (codec.decode(av.Packet(data)) or codec.decode(None))[0]
    gray = len(frame.format.components) < 3
    pixels: NDArray[Any] = frame.to_ndarray(format="gray16le" if gray else "rgb48le")
    return pixels.astype(np.uint16, copy=False).reshape(frame.height, frame.width, -1)


def _to_array(image: Any, path: Path | str) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image, np.uint16)[:, :, None]
    if image.mode in ("I", "F"):  # the former is a 16-bit PNG as well, as older writers leave it
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            kind = "floats" if image.mode == "F" else "32-bit integers"
            msg = (
                f"expected pixels of 8 or 16 bit, got {kind} of {values.min():g} to "
                f"{values.max():g}; scale them and save them as 16 bit"
            )
            raise FormatError(msg, path=path, offset=0, reason="bad_value")
        return values.astype(np.uint16)[:, :, None]
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image.convert("RGB"))
