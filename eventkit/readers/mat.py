"""MATLAB ``.mat`` files with event columns: ASL-DVS, structs like ``TD``, version 5 and 7.3.

Version 7.3 is HDF5 and read as such. Version 5 is read whole: it is one compressed array a
variable. Function handles and objects are never looked at.

ASL-DVS (https://github.com/PIX2NVS/NVS2Graph) has vectors ``ts`` (us), ``x`` (0..239), ``y``
(0..179) and ``pol``; its pictures stand upside down in the file and are not turned here.

Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError, InvalidEventsError
from eventkit.events import field_names
from eventkit.readers import geometry, mat5
from eventkit.readers.base import EVENT_CHUNK, ReadOptions
from eventkit.readers.hdf5.reader import open_hdf5
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner, bytes_from
from eventkit.readers.time_unit import guess_unit
from eventkit.recording import Recording
from eventkit.sources import Source

_V5, _V73 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"
_LOOK = 1 << 16

_KNOWN = (("ASL-DVS's 240x180", (240, 180)),)

_Columns = dict[str, NDArray[Any]]


class MatReader:
    """Reader of MATLAB files."""

    name = "mat"
    suffixes = (".mat",)
    holds = ("events",)

    def recognise(self, source: Source) -> str | None:
        """Go by the text at the start."""
        if source.head.startswith(_V5):
            return "MATLAB 5 header"
        return "MATLAB 7.3 header, HDF5 inside" if source.head.startswith(_V73) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file; version 5 is read whole to tell its unit, its origin and its sensor."""
        if source.head.startswith(_V73):
            return open_hdf5(source, options, name=self.name)
        columns, words = _load(source, options)
        unit, why = guess_unit(columns["t"][:_LOOK], given=options.time_unit, name=source.name)
        found, one, note = _place(source, columns, options)
        notes = [*found.notes, f"events: {words}", *note]
        if why != "given":
            notes.append(f"times taken as {unit}: {why}; --time-unit overrides")

        def decode(_buffer: object, mark: object) -> Iterator[RawChunk]:
            first, low = mark if isinstance(mark, tuple) else (0, 1)
            strict = options.strict
            cleaner = Cleaner(source.name, unit, strict=strict, seen=first, low=low, origin=one)
            rows, claimed = _lengths(columns)
            for start in range(first, rows, EVENT_CHUNK):
                stop = min(start + EVENT_CHUNK, rows)
                part = {name: column[start:stop] for name, column in columns.items()}
                # Version 5 is compressed as a whole: events have no bytes of their own.
                yield cleaner.chunk(part, locate=bytes_from(mat5.HEADER_BYTES), mark=cleaner.mark)
            if rows < claimed:
                msg = (
                    f"expected columns of one length, got {rows} to {claimed}: the file is cut; "
                    "--on-error skip keeps the events that have all four"
                )
                raise FormatError(msg, path=source.name, offset=source.size, reason="truncated")

        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why if found.size else "",
            source=EventStream(
                decode,
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=lambda: _lengths(columns)[0],
            ),
            notes=notes,
        )


def _lengths(columns: _Columns) -> tuple[int, int]:
    sizes = [column.size for column in columns.values()]
    return min(sizes), max(sizes)


def _load(source: Source, options: ReadOptions) -> tuple[_Columns, str]:
    """Read the four columns of a version 5 file."""
    held = mat5.variables(source.read(), path=source.name)
    for place, found in _candidates(held, options.topic):
        return found, place
    there = ", ".join(list(held)[:8]) or "no numbers"
    msg = (
        "expected variables x, y, ts, pol (or their other names), or a struct with them, got "
        f"{there}; is the file cut?"
    )
    raise FormatError(msg, path=source.name, offset=mat5.HEADER_BYTES, reason="bad_header")


def _candidates(held: Mapping[str, Any], topic: str | None) -> Iterator[tuple[str, _Columns]]:
    """Yield variables, then structs, that have all four columns."""
    plain = _columns_of({n: v for n, v in held.items() if isinstance(v, np.ndarray)})
    if plain is not None and topic is None:
        yield "variables", plain
    for name, value in held.items():
        if isinstance(value, dict):
            # As deep as aedat.data.polarity.x of the AEDAT tools for MATLAB.
            for place, found in _candidates(value, None):
                full = f"struct {name}" if place == "variables" else f"{name}.{place}"
                if topic is None or topic in full:
                    yield full, found


def _columns_of(places: dict[str, NDArray[Any]]) -> _Columns | None:
    spelt = {name.lower(): name for name in places}
    try:
        found = field_names(tuple(spelt))
    except InvalidEventsError:
        return None
    return {column: places[spelt[name]] for column, name in found.items()}


def _place(
    source: Source, columns: _Columns, options: ReadOptions
) -> tuple[geometry.Geometry, int, list[str]]:
    """Settle the sensor and whether places count from 1, as MATLAB does."""
    x, y = (values[np.isfinite(values)] for values in (columns["x"], columns["y"]))
    found = geometry.settle(source, options.sensor_size)
    right, bottom = (int(values.max(initial=0)) for values in (x, y))
    first = min(int(values.min(initial=1)) for values in (x, y)) if x.size and y.size else 0
    sizes = [found.size] if found.size else [size for _, size in _KNOWN]
    # A place that is one too large for the sensor, and none at 0: counted from 1.
    one = int(
        first >= 1
        and any((right, bottom) != (0, 0) and _one_too_far(right, bottom, s) for s in sizes)
    )
    note = ["places count from 1, as MATLAB does: 1 is taken off"] if one else []
    if found.size is None:
        found = geometry.assume(right - one, bottom - one, _KNOWN, path=source)
    return found, one, note


def _one_too_far(right: int, bottom: int, size: tuple[int, int]) -> bool:
    inside = right <= size[0] and bottom <= size[1]
    return inside and (right == size[0] or bottom == size[1])
