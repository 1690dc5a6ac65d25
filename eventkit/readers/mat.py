"""MATLAB ``.mat`` files with event columns: ASL-DVS, structs like ``TD``, version 5 and 7.3.

Version 7.3 is HDF5 and read as such. Of version 5 the variables are looked at once, and their
numbers are read in step, a part of each at a time. Version 4, which MATLAB no longer writes unless
asked, is refused. Function handles and objects are never looked at.

ASL-DVS (https://github.com/PIX2NVS/NVS2Graph) has vectors ``ts`` (us), ``x`` (0..239), ``y``
(0..179) and ``pol``; its pictures stand upside down in the file and are not turned here.

Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import EVENT_CHUNK
from eventkit.errors import EventKitError, FormatError, InvalidEventsError
from eventkit.events import FIELD_NAMES, TimeUnit, field_names
from eventkit.npy import BadArrayError
from eventkit.readers import geometry, mat5, mat_numbers, notes
from eventkit.readers.arrays import Array, Lanes, from_columns, from_table
from eventkit.readers.base import ReadOptions
from eventkit.readers.column_order import refuse_order
from eventkit.readers.hdf5.reader import open_hdf5
from eventkit.readers.mat_numbers import Numbering
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner, bytes_from, check_types
from eventkit.readers.time_unit import guess_unit
from eventkit.recording import Recording
from eventkit.sources import Source

_V5, _V73 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"
_V4 = re.compile(rb"[A-Za-z]\w{0,62}\0")
_LOOK = 1 << 16

_Columns = dict[str, NDArray[Any]]


class MatReader:
    """Reader of MATLAB files."""

    name = "mat"
    suffixes = (".mat",)
    holds = ("events",)
    takes = ("time_unit", "columns", "topic")

    def recognise(self, source: Source) -> str | None:
        """Go by the text at the start; version 4 has none, but the name of a variable."""
        if source.head.startswith(_V5):
            return "MATLAB 5 header"
        if source.head.startswith(_V73):
            return "MATLAB 7.3 header, HDF5 inside"
        return "MATLAB 4 variable" if _is_v4(source.head) else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file; the first events tell their unit, their origin and their sensor."""
        if source.head.startswith(_V73):
            return open_hdf5(source, options, name=self.name)
        if _is_v4(source.head):
            msg = (
                "expected version 5 or 7.3, got version 4, which is not read; load it in MATLAB "
                "and save it with save -v7"
            )
            raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
        with _faults(source):
            found = _find(source, options)
            first = _first(found.lanes)
        unit, why = guess_unit(first["t"], given=options.time_unit, name=source.name)
        size = geometry.settle(source, options.sensor_size)
        size, numbering = mat_numbers.settle(found.names, first, size)
        told = why if options.time_unit is None and first["t"].size else ""
        words = [
            *mat_numbers.size_notes(size),
            f"events: {found.words}",
            *numbering.notes,
            *notes.of_order(found.lanes.order, found.lanes.why),
            *notes.of_unit(unit, told, first["t"].dtype),
        ]
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=size.size,
            geometry_source=size.why if size.size else "",
            source=EventStream(
                lambda _, mark: _decode(source, found, unit, numbering, mark, options),
                path=source.name,
                sensor_size=size.size,
                on_error=options.on_error,
                # A bomb inflates to more events than the file has bytes.
                bound=lambda: min(found.lanes.size, max(EVENT_CHUNK, source.size or 0)),
            ),
            notes=words,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """The columns of the events.

    Parameters
    ----------
    lanes : Lanes
        As many rows as all four have.
    claimed : int
        Rows of the longest.
    names : mapping x, y, t, p -> name
        Empty for a table.
    words : str
        Where they stand.
    """

    lanes: Lanes
    claimed: int
    names: Mapping[str, str]
    words: str


def _is_v4(head: bytes) -> bool:
    """Whether a file begins with the header of a numeric variable of version 4.

    Five u32: type (four decimal digits, the second 0), rows, columns, imaginary or not, length of
    the name; then the name, which ends with 0.
    """
    if len(head) < 22:
        return False
    for order in ("<", ">"):
        kind, rows, columns, imaginary, length = np.frombuffer(head[:20], f"{order}u4").tolist()
        plain = kind in (*range(0, 60, 10), *range(1000, 1060, 10)) and imaginary in (0, 1)
        if plain and rows and columns and 2 <= length <= 64:
            return _V4.fullmatch(head[20 : 20 + length]) is not None
    return False


def _find(source: Source, options: ReadOptions) -> _Found:
    """Find the columns in a version 5 file."""
    held = mat5.variables(source.open, _may_be_events, path=source.name)
    for found in _candidates(held, options, options.topic, source.name):
        if found.names:
            refuse_order(options.columns, f"variables {', '.join(found.names.values())}", source)
        check_types(found.lanes.types, source.name, offset=mat5.HEADER_BYTES)
        return found
    there = ", ".join(list(held)[:8]) or "none of them"
    msg = (
        "expected variables x, y, ts, pol (or their other names), a struct with them, or events of "
        f"four columns, got {there}; is the file cut?"
    )
    raise FormatError(msg, path=source.name, offset=mat5.HEADER_BYTES, reason="bad_header")


def _may_be_events(name: str) -> bool:
    return name.lower() in FIELD_NAMES or _is_table(name)


def _is_table(name: str) -> bool:
    return "event" in name.lower()


def _candidates(
    held: Mapping[str, mat5.Value | None], options: ReadOptions, topic: str | None, path: str
) -> Iterator[_Found]:
    """Yield variables, then tables, then structs, that have all four columns."""
    arrays = {name: value for name, value in held.items() if isinstance(value, Array)}
    plain = _columns_of(arrays)
    if plain is not None and topic is None:
        yield plain
    for name, array in arrays.items():
        if _is_table(name) and array.is_table and (topic is None or topic in name):
            lanes = from_table(array, options.columns, options.sensor_size, path)
            yield _Found(lanes, lanes.size, {}, f"rows {', '.join(lanes.order)} in {name}")
    for name, value in held.items():
        if isinstance(value, Mapping):
            # As deep as aedat.data.polarity.x of the AEDAT tools for MATLAB.
            for found in _candidates(value, options, None, path):
                place = found.words
                full = f"struct {name}" if place == "variables" else f"{name}.{place}"
                if topic is None or topic in full:
                    yield replace(found, words=full)


def _columns_of(arrays: Mapping[str, Array]) -> _Found | None:
    spelt = {name.lower(): name for name in arrays}
    try:
        names = {column: spelt[name] for column, name in field_names(tuple(spelt)).items()}
    except InvalidEventsError:
        return None
    columns = {column: arrays[name] for column, name in names.items()}
    if not all(array.is_column for array in columns.values()):
        return None
    lengths = [array.length for array in columns.values()]
    lanes = replace(from_columns(columns), size=min(lengths))
    return _Found(lanes, max(lengths), names, "variables")


def _first(lanes: Lanes) -> _Columns:
    """Return the first rows."""
    for _, columns in lanes.parts(size=_LOOK):
        return columns
    return {name: np.empty(0, dtype) for name, dtype in lanes.types.items()}


def _decode(
    source: Source,
    found: _Found,
    unit: TimeUnit,
    numbering: Numbering,
    mark: object,
    options: ReadOptions,
) -> Iterator[RawChunk]:
    cleaner = Cleaner(source.name, unit, strict=options.strict, origin=numbering.places)
    first = cleaner.starting_at(mark).seen
    # Deflated as a whole: events have no bytes of their own.
    locate = bytes_from(mat5.HEADER_BYTES)
    with _faults(source):
        for _, columns in found.lanes.parts(first):
            part = numbering.polarities_from_0(columns)
            yield cleaner.chunk(part, locate=locate, mark=cleaner.mark)
    rows = found.lanes.size
    if rows < found.claimed:
        msg = (
            f"expected columns of one length, got {rows} to {found.claimed}: the file is cut; "
            "--on-error skip keeps the events that have all four"
        )
        raise FormatError(msg, path=source.name, offset=source.size, reason="truncated")


@contextmanager
def _faults(source: Source) -> Iterator[None]:
    """Turn every kind of damage into `FormatError`."""
    try:
        with source.faults():
            yield
    except EventKitError:
        raise
    except (BadArrayError, zlib.error, ValueError) as err:
        msg = f"expected a whole .mat file of numbers, got something else ({err}); copy it again"
        raise FormatError(msg, path=source.name, reason="corrupt") from err
