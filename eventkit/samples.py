"""The sample schema: one clip <-> members of a tar. The treaty between pipelines and velora.

A sample is a few neighbouring members named ``<key>.<suffix>``:

    events.npy.gz       (T, C, H, W) counts or voxels; `.npy` or `.npy.zst` with another codec
    rgb00.png ...       T pictures, PNG or JPEG
    diff_events.npy.gz  (T - 1, C, H, W), optional
    diff_rgb.npy.gz     (T - 1, H, W, C), optional
    cls                 the class id as text, -1 without a label
    json                times, mass balance, names

Every sample of a set has the same members, so plain tar readers need nothing from here. Suffixes
come from a fixed list: webdataset and Hugging Face take ``h5``, ``rgb`` or ``id`` at the end of a
name for pictures and numbers.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import DamageError, SettingsError
from eventkit.frames import to_uint8
from eventkit.gunzip import MEMBER_BYTES, GzipError, gunzip
from eventkit.npy import BadArrayError, read_npy

SCHEMA_VERSION = 1
CODECS = ("npy.gz", "npy", "npy.zst")
MAX_NAME_BYTES = 100
_LONGEST_SUFFIX = len(".diff_events.npy.zst")
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
_ARRAYS = ("events", "diff_events", "diff_rgb")
_MEMBER = re.compile(
    r"(cls|json|(events|diff_events|diff_rgb)\.npy(\.gz|\.zst)?|rgb[0-9]{2,}\.(png|jpg))"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One clip as it stands in a shard.

    Parameters
    ----------
    key : str
        Unique over the set.
    events : (T, C, H, W)
        uint8, uint16 or uint32 counts (C = 2: OFF, ON) or float32 voxels (C = 1).
    rgb : tuple of T bytes
        Encoded images.
    rgb_suffix : {"png", "jpg"}
    label : int
        -1 without a label.
    meta : dict
        The json member.
    diff_events, diff_rgb : arrays, optional
    """

    key: str
    events: NDArray[Any]
    rgb: tuple[bytes, ...]
    rgb_suffix: str
    label: int
    meta: dict[str, Any]
    diff_events: NDArray[Any] | None = None
    diff_rgb: NDArray[Any] | None = None


def sample_key(recording: str, clip: int) -> str:
    """Return the key of a clip: letters, digits, ``-`` and ``_`` only, short enough for ustar.

    A dot or a blank would break other readers, so anything else becomes ``_`` and a short hash of
    the true name keeps keys apart.

    Examples
    --------
    >>> sample_key("train/7/60001", 0)
    'train_7_60001_000000'
    """
    room = MAX_NAME_BYTES - _LONGEST_SUFFIX - 7
    name = re.sub(r"[^A-Za-z0-9-]", "_", recording)
    if name.startswith("_") or len(name) > room or not re.fullmatch(r"[A-Za-z0-9/-]+", recording):
        name = f"{name.lstrip('_')[: room - 9]}-{key_digest(recording).hex()}"
    return f"{name}_{clip:06d}"


def key_digest(recording: str) -> bytes:
    """Return the four bytes that keep keys apart where all that can be read of them is the same."""
    return hashlib.sha256(os.fsencode(recording)).digest()[:4]


def encode_array(array: NDArray[Any], *, codec: str = "npy.gz") -> bytes:
    """Return the bytes of a ``.npy`` file.

    ``npy.gz`` is libdeflate's gzip level 6 without time stamp, ``npy.zst`` zstd level 3 with a
    checksum: equal arrays give equal bytes for equal versions of the libraries.
    """
    if codec not in CODECS:
        msg = f"expected codec among {', '.join(CODECS)}, got {codec!r}"
        raise SettingsError(msg)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0))
    data = buffer.getvalue()
    if codec == "npy.gz":
        return _to_gzip(data)
    return _to_zstd(data) if codec == "npy.zst" else data


def decode_array(data: bytes, *, codec: str) -> NDArray[Any]:
    """Read what `encode_array` wrote; object arrays are refused."""
    try:
        return read_npy(inflate(data, codec=codec))
    except BadArrayError as err:
        msg = f"expected a whole {codec} array, got a damaged one ({err})"
        raise DamageError(msg) from err


def inflate(data: bytes, *, codec: str) -> bytes:
    """Return the ``.npy`` file that a member of this codec holds."""
    try:
        if codec == "npy.gz":
            return gunzip(data)
        return _from_zstd(data) if codec == "npy.zst" else data
    except (BadArrayError, GzipError) as err:
        msg = f"expected a whole {codec} array, got a damaged one ({err})"
        raise DamageError(msg) from err


def _to_gzip(data: bytes) -> bytes:
    # 35 ms for 346x260 and 10^6 events, 140 ms for 1280x720; zlib takes 92 and 370 ms for 4 % less.
    # ISA-L takes 4 and 15 ms for a third more, which every epoch would have to read.
    deflate = require("deflate", extra="pipelines", purpose="writing npy.gz members")
    return bytes(deflate.gzip_compress(data, _GZIP_LEVEL))


def _to_zstd(data: bytes) -> bytes:
    zstd = require("zstandard", extra="zstd", purpose="writing npy.zst members")
    compressor = zstd.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
    compressed: bytes = compressor.compress(data)
    return compressed


def _from_zstd(data: bytes) -> bytes:
    """Decompress one whole frame; memory is taken for the size that it names, within the bound."""
    zstd = require("zstandard", extra="zstd", purpose="reading npy.zst members")
    try:
        size: int = zstd.frame_content_size(data)
        if size < 0:
            msg = "its zstd frame does not say how much it holds"
            raise BadArrayError(msg)
        if size > MEMBER_BYTES:
            msg = f"its zstd frame claims {size} bytes, more than {MEMBER_BYTES}"
            raise BadArrayError(msg)
        decompressor = zstd.ZstdDecompressor()
        plain: bytes = decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstd.ZstdError as err:
        raise BadArrayError(str(err)) from err
    return plain


def encode_json(value: Any) -> bytes:
    """Return canonical JSON: sorted keys, no blanks, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 1 or 3) uint8 as PNG."""
    pil = require("PIL.Image", extra="images", purpose="writing PNG pictures")
    image = pil.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def encode_sample(sample: Sample, *, codec: str = "npy.gz") -> dict[str, bytes]:
    """Return the members of a sample, suffix -> bytes, sorted by suffix.

    Raises
    ------
    SettingsError
        If a member has a name that other readers would take for something else.
    """
    members = {f"events.{codec}": encode_array(sample.events, codec=codec)}
    for name, array in (("diff_events", sample.diff_events), ("diff_rgb", sample.diff_rgb)):
        if array is not None:
            members[f"{name}.{codec}"] = encode_array(array, codec=codec)
    digits = max(2, len(str(len(sample.rgb) - 1)))
    for i, image in enumerate(sample.rgb):
        members[f"rgb{i:0{digits}d}.{sample.rgb_suffix}"] = image
    members["cls"] = str(sample.label).encode()
    members["json"] = encode_json(sample.meta)
    for suffix in members:
        if not _MEMBER.fullmatch(suffix):
            msg = f"{sample.key}: expected a member among {_MEMBER.pattern}, got {suffix!r}"
            raise SettingsError(msg)
    return dict(sorted(members.items()))


def decode_sample(key: str, members: Mapping[str, bytes]) -> Sample:
    """Rebuild a sample from its members.

    Raises
    ------
    DamageError
        If a member is missing or cannot be decoded; names the sample.
    """
    try:
        return _decode(key, members)
    except (DamageError, KeyError, ValueError, RecursionError) as err:
        msg = f"sample {key}: {err}; run `eventkit verify` on the shards"
        raise DamageError(msg) from err


def _decode(key: str, members: Mapping[str, bytes]) -> Sample:
    arrays: dict[str, NDArray[Any]] = {}
    for name in _ARRAYS:
        for codec in CODECS:
            data = members.get(f"{name}.{codec}")
            if data is not None:
                arrays[name] = decode_array(data, codec=codec)
    pictures = sorted(suffix for suffix in members if re.fullmatch(r"rgb\d+\.(png|jpg)", suffix))
    if "events" not in arrays or not pictures:
        msg = f"expected events and rgb members, got {', '.join(sorted(members))}"
        raise DamageError(msg)
    return Sample(
        key=key,
        events=arrays["events"],
        rgb=tuple(members[suffix] for suffix in pictures),
        rgb_suffix=pictures[0].rsplit(".", 1)[1],
        label=int(members["cls"]),
        meta=json.loads(members["json"]),
        diff_events=arrays.get("diff_events"),
        diff_rgb=arrays.get("diff_rgb"),
    )


def decode_images(images: Sequence[bytes]) -> NDArray[np.uint8]:
    """Decode pictures of one clip; equal bytes are decoded once.

    Returns
    -------
    (T, H, W, C) uint8
        C is 1 or 3; 16-bit pictures are divided by 257.

    Raises
    ------
    DamageError
        If one cannot be decoded or their shapes differ.
    """
    from eventkit.errors import FormatError
    from eventkit.readers.images.reader import decode_pixels

    seen: dict[bytes, NDArray[np.uint8]] = {}
    for data in images:
        if data not in seen:
            try:
                seen[data] = to_uint8(decode_pixels(data, path="picture of a sample"))
            except FormatError as err:
                raise DamageError(str(err)) from err
    shapes = {pixels.shape for pixels in seen.values()}
    if len(shapes) != 1:
        msg = f"expected pictures of one shape, got {sorted(shapes)}"
        raise DamageError(msg)
    return np.stack([seen[data] for data in images])
