"""How a pack of the store is laid out, and which version of it this is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventkit._optional import require
from eventkit.errors import DamageError, UnsupportedFormatError
from eventkit.location import Location

PACK_VERSION = 1
ENCODING = {"encoding-type": "eventkit-pack", "encoding-version": str(PACK_VERSION)}
COLUMNS = (
    "window_us",
    "exposure_us",
    "rgb_index",
    "binned",
    "clipped",
    "decoded",
    "label",
    "has_events",
    "has_rgb",
)

RAW_DTYPES = {"x": "u2", "y": "u2", "t": "i8", "p": "i1"}


def open_group(path: Location) -> Any:
    """Open a group; behind a URL its metadata alone, as chunks are not read by Zarr there."""
    zarr = require("zarr", extra="zarr", purpose="reading the store")
    if isinstance(path, Path):
        return zarr.open_group(str(path), mode="r", zarr_format=3)
    buffers = zarr.core.buffer.default_buffer_prototype().buffer
    metadata = {
        at.relative_to(path).as_posix(): buffers.from_bytes(at.read_bytes())
        for at in path.rglob("*")
        if at.name == "zarr.json"
    }
    return zarr.open_group(zarr.storage.MemoryStore(metadata), mode="r", zarr_format=3)


def check_encoding(path: Location, attributes: dict[str, Any]) -> None:
    """Refuse a group that is no pack of this version or an older one."""
    version = str(attributes.get("encoding-version", ""))
    if attributes.get("encoding-type") == ENCODING["encoding-type"] and version.isdecimal():
        check_version(path, int(version), known=PACK_VERSION)
    if any(attributes.get(key) != value for key, value in ENCODING.items()):
        msg = f"{path}: expected {ENCODING}, got another layout or version"
        raise DamageError(msg)


def check_version(path: Location, version: int, *, known: int) -> None:
    """Refuse what a newer version wrote.

    Raises
    ------
    UnsupportedFormatError
    """
    if version > known:
        msg = (
            f"{path}: expected a store of version {known} or older, got version {version}, which "
            "a newer eventkit wrote; install that, or convert again with this one"
        )
        raise UnsupportedFormatError(msg)
