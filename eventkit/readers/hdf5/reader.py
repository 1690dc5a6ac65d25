"""HDF5: DSEC, MVSEC, event_utils and E2VID, RVT, TUM-VIE, M3ED, v2e, Prophesee with ECF.

`eventkit.readers.hdf5.find` tells where the columns stand. They are read in slices of whole chunks,
so memory holds a slice, and a mark is a row. The file is open only while events are read.

``t_offset`` (DSEC) is added: ``events.t`` is the absolute time, as `Events.from_structured` and the
time stamps of DSEC's pictures have it. Times without a unit are told by
`eventkit.readers.time_unit`; an attribute ``units`` of the time column or a ``ms_to_idx`` that fits
only one unit comes before that.

Tested with files made by h5py, evlib and evutils in these layouts; no recording of these data sets
was at hand, and of Prophesee's files synthetic ones only.

Formats: https://dsec.ifi.uzh.ch/data-format/, https://daniilidis-group.github.io/mvsec/,
https://github.com/TimoStoff/event_utils, https://m3ed.io/data_overview/datafiles/,
https://docs.prophesee.ai/stable/data/file_formats/hdf5.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from eventkit.columns import EVENT_CHUNK, Buffer
from eventkit.errors import FormatError
from eventkit.events import TimeUnit
from eventkit.readers import mat_numbers, notes
from eventkit.readers.base import ReadOptions
from eventkit.readers.hdf5 import ecf as hdf5_ecf
from eventkit.readers.hdf5 import side as hdf5_side
from eventkit.readers.hdf5.file import File, faults, opened, start_of
from eventkit.readers.hdf5.find import find
from eventkit.readers.hdf5.layouts import Layout
from eventkit.readers.mat_numbers import Numbering
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import INDEX_EVENTS, EventStream
from eventkit.readers.table import Cleaner
from eventkit.readers.time_unit import UNITS, guess_unit, settled_unit
from eventkit.recording import Recording
from eventkit.sources import Source

_MATLAB = b"MATLAB 7.3 MAT-file"
_PACKED: tuple[TimeUnit, str] = ("us", "")
_MS_INDEX = ("ms_to_idx", "ms_map_idx")
_SPELT: dict[str, TimeUnit] = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "usec", "microsecond", "microseconds", "µs", "μs"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), "ns"),
}  # fmt: skip


class Hdf5Reader:
    """Reader of HDF5 recordings."""

    name = "hdf5"
    suffixes = (".h5", ".hdf5")
    holds = ("events", "frames")
    takes = ("time_unit", "columns", "topic")

    def recognise(self, source: Source) -> str | None:
        """Go by the signature, which may stand behind a user block."""
        at = start_of(source.head)
        if at is None or source.head.startswith(_MATLAB):
            return None
        return "HDF5 signature" if at == 0 else f"HDF5 signature at byte {at}"

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Find the events and their size and unit; a sample of the times is read."""
        return open_hdf5(source, options, name=self.name)


def open_hdf5(source: Source, options: ReadOptions, *, name: str) -> Recording:
    """Open whatever is HDF5 inside, ``.mat`` files of MATLAB 7.3 among them.

    Raises
    ------
    FormatError
        If there are no events, or the unit of their times cannot be told.
    SettingsError
        If ``options.topic`` names none of several cameras.
    """
    with opened(source) as file:
        layout, others = find(file, options)
        for dset in layout.datasets(file).values():
            file.check(dset)
        packed = hdf5_ecf.is_packed(layout, file)
        unit, why = _PACKED if packed else _unit(file, layout, options)
        offset_us = _offset(file, layout)
        rows, dtype = layout.rows(file), layout.type_of(file, "t")
        # Less than a byte an event is nobody's camera: room for more is made when there are more.
        room = min(rows, max(EVENT_CHUNK, file.size))
        found = hdf5_side.geometry_of(file, layout, options)
        numbering = Numbering()
        if source.head.startswith(_MATLAB):
            sample = layout.sample(file, "xyp", strict=options.strict)
            found, numbering = mat_numbers.settle(layout.columns, sample, found)
        frames = None
        with options.booking(), faults(source):
            frames = hdf5_side.frames_of(file, layout, unit)
        side = hdf5_side.arrays_of(file, layout, unit, options)

    def decode(buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        if packed:
            first = mark if isinstance(mark, int) else 0
            return hdf5_ecf.decode(source, layout, options, buffer, first)
        return _decode(source, layout, options, unit, offset_us, numbering, mark)

    words = [
        *mat_numbers.size_notes(found),
        *_notes(layout, others, offset_us),
        *numbering.notes,
        *notes.of_unit(unit, why, dtype),
    ]
    return Recording(
        path=source.path,
        format=name,
        sensor_size=found.size,
        geometry_source=found.why if found.size else "",
        source=EventStream(
            decode,
            path=source.name,
            sensor_size=found.size,
            on_error=options.on_error,
            bound=lambda: room,
        ),
        frames=frames,
        side_data=side,
        notes=words,
    )


def _notes(layout: Layout, others: list[str], offset_us: int) -> list[str]:
    words = [f"events: {layout.words}"]
    if offset_us:
        words.append(f"t_offset of {offset_us} us is added to every time")
    if others:
        places = ", ".join(f"/{place}" for place in others)
        words.append(f"other events in {places}: --topic chooses")
    return words


def _unit(file: File, layout: Layout, options: ReadOptions) -> tuple[TimeUnit, str]:
    """Tell the unit of the times: given, said, fitting the index, or by the times themselves."""
    given = options.time_unit
    dset = layout.datasets(file)["t"]
    if layout.form == "columns":
        for key in ("units", "unit"):
            text = None
            with options.booking():
                text = file.attribute(dset, key)
            said = _SPELT.get(str(text).strip().lower())
            where = f"attribute {key!r} of {dset.name}"
            if said is not None:
                settled_unit(given, said, where=where, name=file.source.name)
                return said, where
    rows = layout.rows(file)
    fits = _unit_by_index(file, layout, rows, strict=options.strict) if rows else None
    if fits is not None:
        unit, name, entries = fits
        where = f"{name} of {entries} milliseconds"
        settled_unit(given, unit, where=where, name=file.source.name)
        return unit, "" if given else f"{name} has {entries} entries, one a millisecond"
    if given is not None:
        return given, ""
    t = layout.sample(file, "t", strict=options.strict)["t"]
    unit, why = guess_unit(t, given=None, name=file.source.name)
    return unit, why if rows else ""


def _unit_by_index(
    file: File, layout: Layout, rows: int, *, strict: bool
) -> tuple[TimeUnit, str, int] | None:
    """Return the unit in which the last time is where an index of milliseconds ends, and that."""
    for name in _MS_INDEX:
        for place in (f"{layout.place}/{name}", name):
            dset = file.member(file.root, place.strip("/"))
            if dset is None or getattr(dset, "ndim", 0) != 1 or dset.shape[0] < 10:
                continue
            ((_, _, end),) = layout.sound(file, rows - 1, rows, "t", strict=strict)
            last = 0.0 if end is None else float(end["t"][0])
            for unit, size in UNITS.items():
                if 0.5 < last * size / 1000 / dset.shape[0] < 2:
                    return unit, name, int(dset.shape[0])
    return None


def _offset(file: File, layout: Layout) -> int:
    """Return DSEC's ``t_offset`` in microseconds; 0 without one."""
    parent = layout.place.rpartition("/")[0]
    for place in dict.fromkeys((f"{layout.place}/t_offset", f"{parent}/t_offset", "t_offset")):
        dset = file.member(file.root, place.strip("/"))
        if dset is None or getattr(dset, "size", 0) != 1 or dset.dtype.kind not in "iu":
            continue
        value = int(np.asarray(dset[()]).item())
        if abs(value) < 1 << 61:
            return value
        msg = f"expected a t_offset within 2^61 us, got {value}"
        raise FormatError(msg, path=file.source.name, reason="bad_header")
    return 0


def _decode(
    source: Source,
    layout: Layout,
    options: ReadOptions,
    unit: TimeUnit,
    offset_us: int,
    numbering: Numbering,
    mark: object,
) -> Iterator[RawChunk]:
    cleaner = Cleaner(
        source.name, unit, strict=options.strict, offset_us=offset_us, origin=numbering.places
    )
    first = cleaner.starting_at(mark).seen
    with opened(source) as file:
        found = layout.datasets(file)
        rows, claimed = layout.rows(file), layout.claimed(file)
        chunk = max((dset.chunks[layout.axis(dset)] for dset in found.values() if dset.chunks),
                    default=1)  # fmt: skip
        step = chunk * -(-INDEX_EVENTS // chunk)
        for at in range(first, rows, step):
            parts = layout.sound(file, at, min(at + step, rows), strict=options.strict)
            for start, stop, columns in parts:
                if columns is None:
                    yield _lost(stop - start, cleaner.mark)
                    cleaner.seen = stop
                    continue
                # A chunk is read whole; what is made of it need not be that large.
                for row in range(0, stop - start, INDEX_EVENTS):
                    part = {name: rows[row : row + INDEX_EVENTS] for name, rows in columns.items()}
                    bytes_of = partial(_byte_of, file, layout, found["t"], start + row)
                    mark = None if row else cleaner.mark
                    with faults(source):
                        part = numbering.polarities_from_0(part)
                        raw = cleaner.chunk(part, locate=bytes_of, mark=mark)
                    yield raw
        if rows < max(claimed.values()):
            raise _cut(file, layout, claimed, rows)


def _byte_of(file: File, layout: Layout, dset: Any, start: int, row: int) -> int | None:
    return file.byte_of(dset, start + row, layout.axis(dset))


def _cut(file: File, layout: Layout, claimed: dict[str, int], rows: int) -> FormatError:
    wanted = " ".join(f"{name}:{size}" for name, size in claimed.items())
    msg = (
        f"expected {wanted} events, got {rows} that are whole: the file is cut or was not closed; "
        "--on-error skip keeps those"
    )
    dset = layout.datasets(file)["t"]
    at = file.size if file.cut else _byte_of(file, layout, dset, 0, max(rows - 1, 0))
    return FormatError(msg, path=file.source.name, offset=at, reason="truncated")


def _lost(rows: int, mark: object) -> RawChunk:
    empty = np.empty(0, np.int64)
    none = np.empty(0, np.uint16)
    return RawChunk(
        x=none, y=none, t=empty, p=np.empty(0, np.int8), words=rows,
        skipped={"damaged_chunk": rows}, mark=mark,
    )  # fmt: skip
