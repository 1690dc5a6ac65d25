"""HDF5: DSEC, MVSEC, event_utils and E2VID, RVT, TUM-VIE, M3ED, v2e, Prophesee with ECF.

`eventkit.readers.hdf5.layouts` tells where the columns stand. They are read in slices of whole
chunks, so memory holds a slice, and a mark is a row. The file is open only while events are read.

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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer
from eventkit.errors import FormatError
from eventkit.events import TimeUnit
from eventkit.readers.base import ReadOptions
from eventkit.readers.hdf5 import ecf as hdf5_ecf
from eventkit.readers.hdf5 import side as hdf5_side
from eventkit.readers.hdf5.file import File, faults, opened, start_of
from eventkit.readers.hdf5.layouts import LOOK_ROWS, Layout, find
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import INDEX_EVENTS, EventStream
from eventkit.readers.time_unit import UNITS, guess_unit, microseconds
from eventkit.recording import Recording
from eventkit.sources import Source

_MATLAB = b"MATLAB 7.3 MAT-file"
_PACKED: tuple[TimeUnit, str] = ("us", "the format")
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
        layout, others = find(file, topic=options.topic, columns=options.columns)
        for dset in layout.datasets(file).values():
            file.check(dset)
        packed = hdf5_ecf.is_packed(layout, file)
        unit, why = _PACKED if packed else _unit(file, layout, options)
        offset_us = _offset(file, layout)
        rows = layout.rows(file)
        found = hdf5_side.geometry_of(file, layout, options)
        frames = hdf5_side.frames_of(file, layout, unit)
        side = hdf5_side.arrays_of(file, layout, unit)

    def decode(buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        first = mark if isinstance(mark, int) else 0
        if packed:
            return hdf5_ecf.decode(source, layout, options, buffer, first)
        return _decode(source, layout, options, unit, offset_us, first)

    notes = [*found.notes, *_notes(layout, others, why, unit, offset_us)]
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
            bound=lambda: rows,
        ),
        frames=frames,
        side_data=side,
        notes=notes,
    )


def _notes(
    layout: Layout, others: list[str], why: str, unit: TimeUnit, offset_us: int
) -> list[str]:
    notes = [f"events: {layout.words}"]
    if why not in ("given", "the format"):
        notes.append(f"times taken as {unit}: {why}; --time-unit overrides")
    if offset_us:
        notes.append(f"t_offset of {offset_us} us is added to every time")
    if others:
        places = ", ".join(f"/{place}" for place in others)
        notes.append(f"other events in {places}: --topic chooses")
    return notes


def _unit(file: File, layout: Layout, options: ReadOptions) -> tuple[TimeUnit, str]:
    """Tell the unit of the times: given, said, fitting the index, or by the times themselves."""
    given = options.time_unit
    dset = layout.datasets(file)["t"]
    if given is None and layout.form == "columns":
        for key in ("units", "unit"):
            said = str(file.attribute(dset, key)).strip().lower()
            if said in _SPELT:
                return _SPELT[said], f"attribute {key!r} of {dset.name}"
    rows = layout.rows(file)
    t = layout.read(file, 0, min(rows, LOOK_ROWS), "t")["t"]
    if given is None and rows:
        fits = _unit_by_index(file, layout, rows)
        if fits is not None:
            return fits
    return guess_unit(t, given=given, name=file.source.name)


def _unit_by_index(file: File, layout: Layout, rows: int) -> tuple[TimeUnit, str] | None:
    """Return the unit in which the last time is where the index of milliseconds ends."""
    for name in _MS_INDEX:
        for place in (f"{layout.place}/{name}", name):
            dset = file.member(file.root, place.strip("/"))
            if dset is None or getattr(dset, "ndim", 0) != 1 or dset.shape[0] < 10:
                continue
            last = float(layout.read(file, rows - 1, rows, "t")["t"][0])
            for unit, size in UNITS.items():
                if 0.5 < last * size / 1000 / dset.shape[0] < 2:
                    return unit, f"{name} has {dset.shape[0]} entries, one a millisecond"
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
    first: int,
) -> Iterator[RawChunk]:
    with opened(source) as file:
        found = layout.datasets(file)
        rows, claimed = layout.rows(file), layout.claimed(file)
        chunk = max((dset.chunks[layout.axis(dset)] for dset in found.values() if dset.chunks),
                    default=1)  # fmt: skip
        step = chunk * -(-INDEX_EVENTS // chunk)
        for start in range(first, rows, step):
            stop = min(start + step, rows)
            at = file.byte_of(found["t"], start)
            try:
                with faults(source, offset=at):
                    columns = layout.read(file, start, stop)
            except FormatError:
                if options.on_error == "raise":
                    raise
                # Chunks do not depend on each other: those behind a damaged one are sound.
                yield _lost(stop - start, start)
                continue
            yield _raw(file, found, columns, start, unit, offset_us, options)
        if rows < max(claimed.values()):
            raise _cut(file, found["t"], claimed, rows)


def _cut(file: File, dset: Any, claimed: dict[str, int], rows: int) -> FormatError:
    wanted = " ".join(f"{name}:{size}" for name, size in claimed.items())
    msg = (
        f"expected {wanted} events, got {rows} that are whole: the file is cut or was not closed; "
        "--on-error skip keeps those"
    )
    at = file.size if file.cut else file.byte_of(dset, max(rows - 1, 0))
    return FormatError(msg, path=file.source.name, offset=at, reason="truncated")


def _lost(rows: int, mark: int) -> RawChunk:
    empty = np.empty(0, np.int64)
    none = np.empty(0, np.uint16)
    return RawChunk(
        x=none, y=none, t=empty, p=np.empty(0, np.int8), words=rows,
        skipped={"damaged_chunk": rows}, mark=mark,
    )  # fmt: skip


def _raw(
    file: File,
    found: dict[str, Any],
    columns: dict[str, Any],
    start: int,
    unit: TimeUnit,
    offset_us: int,
    options: ReadOptions,
) -> RawChunk:
    """Bring one slice to whole pixels, microseconds and signs; what cannot be is dropped."""
    rows = columns["t"].size
    with faults(file.source):
        t, bad_time = microseconds(columns["t"], unit)
        x, bad_x = whole_places(columns["x"])
        y, bad_y = whole_places(columns["y"])
        p, bad_p = signs(columns["p"])
    if offset_us:
        t = t + offset_us
    index = None
    dropped: dict[str, NDArray[np.int64]] = {}
    bad = _any(bad_time, bad_x, bad_y, bad_p)
    if bad is not None:
        i = int(np.argmax(bad))
        many = int(bad.sum()) > rows // 2
        if options.on_error == "raise" or (many and rows > 1 and _fractions(columns)):
            got = ", ".join(f"{name}={columns[name][i]}" for name in "xytp")
            msg = (
                f"expected whole pixels, a finite time and a sign at event {start + i}, got {got}; "
                "--on-error skip drops and counts such events"
            )
            at = file.byte_of(found["t"], start + i)
            raise FormatError(msg, path=file.source.name, offset=at, reason="bad_value")
        if bad_time is not None:
            t = np.where(bad_time, _nearest(t, bad_time), t)
        dropped["bad_value"] = t[bad]
        index = np.flatnonzero(~bad)
        x, y, t, p = x[index], y[index], t[index], p[index]

    def locate(event: int) -> int | None:
        row = start + (event if index is None else int(index[event]))
        return file.byte_of(found["t"], row)

    return RawChunk(
        x=x, y=y, t=t, p=p, words=rows, dropped=dropped, locate=locate, mark=start
    )  # fmt: skip


def _fractions(columns: dict[str, Any]) -> bool:
    """Whether places are no pixels at all, as after rectification."""
    floats = [columns[name] for name in "xy" if columns[name].dtype.kind == "f"]
    return any(float(np.mean(values != np.floor(values))) > 0.5 for values in floats)


def _nearest(t: NDArray[np.int64], bad: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the last sound time up to each event, where a lost one is booked."""
    sound = np.flatnonzero(~bad)
    if not sound.size:
        return np.zeros_like(t)
    before = np.searchsorted(sound, np.arange(t.size), side="right") - 1
    return t[sound[np.maximum(before, 0)]]


def _any(*masks: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    found = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(found) if found else None


def whole_places(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return places as integers, and where they are none; the sensor is checked elsewhere."""
    if values.dtype.kind in "iu":
        return values.astype(values.dtype.newbyteorder("="), copy=False), None
    if values.dtype.kind == "b":
        return values.astype(np.uint16), None
    with np.errstate(invalid="ignore"):
        bad = ~((np.abs(values) < 1 << 30) & (values == np.floor(values)))
    if bad.any():
        return np.where(bad, 0, values).astype(np.int64), bad
    inside = bool(np.all((values >= 0) & (values <= 65535)))
    return values.astype(np.uint16 if inside else np.int64), None


def signs(values: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.bool_] | None]:
    """Return polarities as 0 and 1 from bool, {0, 1} or {-1, 1}, and where they are none of it."""
    if values.dtype.kind == "b":
        return (values.view(np.uint8) != 0).astype(np.int8), None
    low = -1 if values.dtype.kind != "u" and bool((values == -1).any()) else 0
    on = values == 1
    bad = ~(on | (values == low))
    return on.astype(np.int8), bad if bad.any() else None
