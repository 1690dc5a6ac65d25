"""``.npy`` arrays of events: records with fields by name, or tables of shape (N, 4) and (4, N).

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
Objects are pickles, which run code, and are never loaded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from eventkit.columns import Buffer
from eventkit.errors import EventKitError, FormatError
from eventkit.events import TimeUnit
from eventkit.npy import MAGIC, BadArrayError, CutArrayError, read_header
from eventkit.readers import geometry, notes
from eventkit.readers.arrays import (
    Array,
    Lanes,
    from_records,
    from_table,
    settle_unit,
    why_table,
)
from eventkit.readers.base import ReadOptions
from eventkit.readers.column_order import refuse_order
from eventkit.readers.integers import PartDecoder
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner, bytes_from
from eventkit.recording import Recording
from eventkit.sources import Source


class NpyReader:
    """Reader of ``.npy`` arrays."""

    name = "npy"
    suffixes = (".npy",)
    holds = ("events",)
    takes = ("time_unit", "columns")

    def recognise(self, source: Source) -> str | None:
        """Go by the fields of records, or by four columns that can be events."""
        if not source.head.startswith(MAGIC):
            return None
        try:
            array = _array(source)
            if (records := from_records(array)) is not None:
                return f"a NumPy array with {records.why}"
            return why_table(array) if array.is_table else None
        except (EventKitError, BadArrayError, OSError):
            return None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open an array: its header, and the first events for what evidence has to tell."""
        found = geometry.settle(source, options.sensor_size)
        with _faults(source):
            lanes = _lanes(source, options.columns, found.size)
            unit, told = settle_unit(lanes, options.time_unit, source.name)
        strict = options.strict
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda buffer, mark: _decode(source, lanes, unit, buffer, mark, strict=strict),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=None if source.size is None else lambda: lanes.bound(source.size or 0),
            ),
            notes=[*told, *notes.of_size(found)],
        )


def _array(source: Source) -> Array:
    """Read the header; a file that is cut keeps its whole events, so it is not refused for it."""
    return Array(source.inner_name, source.open, read_header(io.BytesIO(source.head)))


def _lanes(source: Source, columns: str | None, sensor_size: tuple[int, int] | None) -> Lanes:
    array = _array(source)
    lanes = from_records(array)
    if lanes is not None:
        refuse_order(columns, lanes.why, source.name)
        return lanes
    if array.is_table:
        return from_table(array, columns, sensor_size, source.name)
    header = array.header
    got = f"fields {', '.join(header.dtype.names)}" if header.dtype.names else str(header.dtype)
    msg = (
        "expected records with fields x, y, t, p, or numbers of shape (N, 4) or (4, N), got "
        f"{got} of shape {header.shape}"
    )
    raise FormatError(msg, path=source.name, offset=0, reason="bad_header")


def _decode(
    source: Source,
    lanes: Lanes,
    unit: TimeUnit,
    buffer: Buffer,
    mark: object,
    *,
    strict: bool,
) -> Iterator[RawChunk]:
    cleaner = Cleaner(source.name, unit, strict=strict).starting_at(mark)
    decoder, lane = PartDecoder.of(lanes, cleaner, buffer), lanes.of("t")
    with _faults(source, end=lanes.end):
        for part in lanes.to_end(cleaner.seen):
            offset = lane.start + part.at * lane.stride
            yield decoder.chunk(part, locate=bytes_from(offset, lane.stride))


@contextmanager
def _faults(source: Source, *, end: int | None = None) -> Iterator[None]:
    """Turn what is wrong with the array into `FormatError`; ``end`` is the byte behind it."""
    with source.faults():
        try:
            yield
        except BadArrayError as err:
            msg = f"expected a whole array of numbers, got something else: {err}; copy it again"
            cut = isinstance(err, CutArrayError)
            offset, reason = (source.size, "truncated") if cut else (end, "corrupt")
            raise FormatError(msg, path=source.name, offset=offset, reason=reason) from err
