"""``.npz`` event files: HARDVS and SpikingJelly (t, x, y, p), N-ImageNet (two spellings)."""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError, InvalidEventsError
from eventkit.events import FIELD_NAMES, field_names, polarities, to_microseconds
from eventkit.npy import BadArrayError, read_npy
from eventkit.readers import geometry
from eventkit.readers.base import EVENT_CHUNK, ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source

_STRUCTURED = ("event_data", "events")


class NpzReader:
    """Reader of ``.npz`` archives with event columns."""

    name = "npz"
    suffixes = (".npz",)
    holds = ("events",)

    def recognise(self, source: Source) -> str | None:
        """A zip archive named ``.npz``; an empty or cut one is still ours to complain about."""
        if source.suffix not in self.suffixes:
            return None
        known = source.head[:2] == b"PK" or len(source.head) < 4
        return "a zip archive named .npz" if known else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the archive and read its geometry; columns are decoded on first use."""
        stored = None if options.sensor_size else _stored_size(source)
        found = geometry.settle(source, options.sensor_size, (stored, "keys of the file"))
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda _buffer, _mark: _decode(source, options),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
            ),
        )


def _load(path: Source, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
    """Read the wanted arrays of the archive; object arrays are pickles and never loaded."""
    found: dict[str, NDArray[Any]] = {}
    try:
        with path.open() as file, zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                if name in wanted:
                    found[name] = read_npy(archive.read(member))
    except BadArrayError as err:
        msg = f"expected numeric arrays, got something else in {name!r}: {err}"
        raise FormatError(msg, path=path.name, offset=0, reason="corrupt") from err
    except (zipfile.BadZipFile, EOFError) as err:
        msg = f"expected a whole .npz archive, got a damaged one ({err}); copy it again"
        offset = path.size
        raise FormatError(msg, path=path.name, offset=offset, reason="truncated") from err
    except (ValueError, OSError, RuntimeError, NotImplementedError, zlib.error) as err:
        if isinstance(err, OSError) and err.errno not in (None, errno.EINVAL):
            raise
        msg = f"expected a whole .npz archive, got a damaged one ({err}); copy it again"
        raise FormatError(msg, path=path.name, offset=0, reason="corrupt") from err
    return found


def _stored_size(path: Source) -> tuple[int, int] | None:
    keys = _load(path, ("sensor_size", "width", "height"))
    if "sensor_size" in keys:
        sides = keys["sensor_size"].ravel()
    elif {"width", "height"} <= keys.keys():
        sides = np.concatenate([keys["width"].ravel(), keys["height"].ravel()])
    else:
        return None
    known = sides.dtype.kind in "iuf" and sides.size == 2 and bool(np.all(sides == sides // 1))
    if not known or not bool(np.all((sides > 0) & (sides <= 65536))):
        got = "x".join(str(side) for side in sides.tolist())
        msg = f"expected a sensor size (W, H) of 1x1 to 65536x65536, got {got}"
        raise FormatError(msg, path=path.name, offset=0, reason="bad_header")
    return int(sides[0]), int(sides[1])


def _decode(path: Source, options: ReadOptions) -> Iterator[RawChunk]:
    columns = _columns(_load(path, (*FIELD_NAMES, *_STRUCTURED)), path)
    try:
        t = to_microseconds(columns["t"], options.time_unit or "us")
        p = polarities(columns["p"])
    except InvalidEventsError as err:
        told = columns["t"].dtype.kind != "f"
        msg = str(err) if told else f"{err}; --time-unit s, ms or ns says what they are"
        raise FormatError(msg, path=path.name, offset=0, reason="bad_value") from err
    x, y = (_places(columns[name], name, path) for name in ("x", "y"))
    for start in range(0, max(t.size, 1), EVENT_CHUNK):
        part = slice(start, start + EVENT_CHUNK)
        n = t[part].size
        yield RawChunk(x=x[part], y=y[part], t=t[part], p=p[part], words=n)


def _columns(arrays: dict[str, NDArray[Any]], path: Source) -> dict[str, NDArray[Any]]:
    holder: Any = arrays
    names = tuple(arrays)
    for key in _STRUCTURED:
        fields = arrays[key].dtype.names if key in arrays else None
        if fields:
            holder, names = arrays[key], fields
    try:
        found = field_names(names)
    except InvalidEventsError as err:
        raise FormatError(str(err), path=path.name, offset=0, reason="bad_header") from err
    columns = {column: np.asarray(holder[name]).reshape(-1) for column, name in found.items()}
    sizes = {column: values.size for column, values in columns.items()}
    if len(set(sizes.values())) > 1:
        msg = f"expected columns of one length, got {sizes}"
        raise FormatError(msg, path=path.name, offset=0, reason="truncated")
    return columns


def _places(values: NDArray[Any], name: str, path: Source) -> NDArray[Any]:
    """Return integers, which the sensor check judges one by one."""
    if values.dtype.kind in "iu":
        return values
    whole = values.dtype.kind == "f" and bool(np.all(np.abs(values) < 2**53))
    if values.size and not (whole and bool(np.all(values == np.floor(values)))):
        msg = f"expected whole pixel numbers in {name!r}, got dtype {values.dtype}"
        raise FormatError(msg, path=path.name, offset=0, reason="bad_value")
    return values.astype(np.int64)
