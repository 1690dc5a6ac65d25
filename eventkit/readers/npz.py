"""``.npz`` event files: HARDVS and SpikingJelly (t, x, y, p), N-ImageNet (two spellings)."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError, InvalidEventsError
from eventkit.events import field_names, polarities, to_microseconds
from eventkit.ledger import Ledger
from eventkit.readers.base import EVENT_CHUNK, ReadOptions
from eventkit.readers.policy import RawChunk, checked
from eventkit.recording import Chunk, Recording

_STRUCTURED = ("event_data", "events")


class NpzReader:
    """Reader of ``.npz`` archives with event columns."""

    name = "npz"
    suffixes = (".npz",)
    holds = ("events",)

    def matches(self, path: Path, head: bytes) -> bool:
        """A zip archive named ``.npz``; an empty or cut one is still ours to complain about."""
        return path.suffix.lower() in self.suffixes and (head[:2] == b"PK" or len(head) < 4)

    def open(self, path: Path, options: ReadOptions) -> Recording:
        """Open the archive and read its geometry; columns are decoded on first use."""
        size, why = options.sensor_size, "given"
        if size is None:
            size = _stored_size(path)
            why = "keys of the file" if size else "not in the file"

        def source(ledger: Ledger) -> Iterator[Chunk]:
            raw = _decode(path, options)
            return checked(raw, ledger, path=path, sensor_size=size, on_error=options.on_error)

        return Recording(
            path=path, format=self.name, sensor_size=size, geometry_source=why, source=source
        )


def _load(path: Path, wanted: tuple[str, ...] | None = None) -> dict[str, NDArray[Any]]:
    try:
        # Object arrays are pickles, and a pickle runs code: never from a data file.
        with np.load(path, allow_pickle=False) as archive:
            return {k: archive[k] for k in archive.files if wanted is None or k in wanted}
    except (zipfile.BadZipFile, EOFError) as err:
        msg = f"expected a whole .npz archive, got a damaged one ({err}); copy it again"
        offset = path.stat().st_size
        raise FormatError(msg, path=path, offset=offset, reason="truncated") from err
    except (ValueError, OSError, zlib.error, NotImplementedError) as err:
        if isinstance(err, OSError) and err.errno is not None:
            raise
        msg = f"expected numeric arrays, got something else ({err})"
        raise FormatError(msg, path=path, offset=0, reason="corrupt") from err


def _stored_size(path: Path) -> tuple[int, int] | None:
    keys = _load(path, ("sensor_size", "width", "height"))
    if "sensor_size" in keys and keys["sensor_size"].size == 2:
        width, height = (int(v) for v in keys["sensor_size"].ravel())
    elif {"width", "height"} <= keys.keys():
        width, height = int(keys["width"].item()), int(keys["height"].item())
    else:
        return None
    if not (0 < width <= 65536 and 0 < height <= 65536):
        msg = f"expected a sensor size between 1x1 and 65536x65536, got {width}x{height}"
        raise FormatError(msg, path=path, offset=0, reason="bad_header")
    return width, height


def _decode(path: Path, options: ReadOptions) -> Iterator[RawChunk]:
    columns = _columns(_load(path), path)
    try:
        t = to_microseconds(columns["t"], options.time_unit)
        p = polarities(columns["p"])
    except InvalidEventsError as err:
        raise FormatError(str(err), path=path, offset=0, reason="bad_value") from err
    x, y = (_places(columns[name], name, path) for name in ("x", "y"))
    for start in range(0, max(t.size, 1), EVENT_CHUNK):
        part = slice(start, start + EVENT_CHUNK)
        n = t[part].size
        yield RawChunk(x=x[part], y=y[part], t=t[part], p=p[part], words=n)


def _columns(arrays: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    holder: Any = arrays
    names = tuple(arrays)
    for key in _STRUCTURED:
        fields = arrays[key].dtype.names if key in arrays else None
        if fields:
            holder, names = arrays[key], fields
    try:
        found = field_names(names)
    except InvalidEventsError as err:
        raise FormatError(str(err), path=path, offset=0, reason="bad_header") from err
    columns = {column: np.asarray(holder[name]).reshape(-1) for column, name in found.items()}
    sizes = {column: values.size for column, values in columns.items()}
    if len(set(sizes.values())) > 1:
        msg = f"expected columns of one length, got {sizes}"
        raise FormatError(msg, path=path, offset=0, reason="truncated")
    return columns


def _places(values: NDArray[Any], name: str, path: Path) -> NDArray[Any]:
    """Return integers that the sensor check can judge; refuse what no sensor could give."""
    if values.size and values.dtype.kind not in "iu":
        whole = values.dtype.kind == "f" and bool(np.all(values == np.floor(values)))
        if not whole:
            msg = f"expected whole pixel numbers in {name!r}, got dtype {values.dtype}"
            raise FormatError(msg, path=path, offset=0, reason="bad_value")
    bad = (values < 0) | (values > 65535)
    if bad.any():
        i = int(np.argmax(bad))
        msg = f"expected {name!r} in 0..65535, got {values[i]} at event {i}"
        raise FormatError(msg, path=path, offset=0, reason="bad_value")
    return values.astype(np.uint16, copy=False)
