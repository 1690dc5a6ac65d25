"""HDF5 in three layouts: DSEC's columns, event_utils' columns, Prophesee's chunks with ECF.

Files hold no time stamps of their own, so equal events give equal bytes (one version of the HDF5
library at a time). Columns grow chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit import ecf
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.triggers import CHANNEL_DTYPE, as_channels, channel_losses
from eventkit.writers.base import Contents, event_parts, left_out
from eventkit.writers.hdf5_file import created, library
from eventkit.writers.hdf5_index import MilliIndex, PropheseeIndex, check_span

COLUMN_CHUNK = 1 << 16
ECF_CHUNK = 16_384
"""What the Metavision SDK writes."""

# Without the padding that the SDK's structs have: those bytes would be whatever was in memory.
_TRIGGER = np.dtype([("p", "<i2"), ("t", "<i8"), ("id", "<i2")])
_EVENT = np.dtype(
    {"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"],
     "offsets": [0, 2, 4, 8], "itemsize": 16}
)  # fmt: skip
_ENTRY = np.dtype([("id", "<u8"), ("ts", "<i8")])


class DsecWriter:
    """Writer of DSEC's layout: ``/events/{x,y,t,p}``, ``/ms_to_idx``, ``/t_offset``.

    ``t_offset`` is the first time, so ``t`` starts at 0; it is int64 where DSEC's own files have
    uint32, which ends after 71.6 minutes. ``width`` and ``height`` are attributes, which DSEC does
    not have. Format: https://dsec.ifi.uzh.ch/data-format/.
    """

    name = "hdf5-dsec"
    suffixes = (".h5", ".hdf5")

    def losses(self, contents: Contents) -> list[str]:
        """Frames, triggers and IMU are left out; longer than a day is refused."""
        check_span(contents, "DSEC's index has an entry each millisecond", "events")
        return left_out(contents, "HDF5 in DSEC's layout")

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the file."""
        with created(path) as (file, check):
            group = file.create_group("events")
            types = {"p": "u1", "t": "<i8", "x": "<u2", "y": "<u2"}
            columns = {name: _column(group, name, kind) for name, kind in types.items()}
            index = MilliIndex(_column(file, "ms_to_idx", "<u8"))
            start: int | None = None
            for events in _parts(recording, ledger, check):
                start = int(events.t[0]) if start is None else start
                t = events.t - start
                index.add(t)
                values: tuple[NDArray[Any], ...] = (events.x, events.y, t, events.p)
                for name, part in zip("xytp", values, strict=True):
                    columns[name].add(part)
            for column in (*columns.values(), index.column):
                column.finish()
            file["t_offset"] = np.int64(start or 0)
            _write_size(file, recording)


class XsWriter:
    """Writer of event_utils' layout, which E2VID and its successors train from.

    ``/events/{xs,ys,ts,ps}`` with ``ts`` in float64 seconds (attribute ``units``), ``ps`` bool, and
    ``sensor_resolution`` (H, W). Microseconds come back exactly up to 2^31 s.
    Format: https://github.com/TimoStoff/event_utils.
    """

    name = "hdf5-xs"
    suffixes = ()

    def losses(self, contents: Contents) -> list[str]:
        """Frames, triggers and IMU; and microseconds of times that float64 cannot hold."""
        lost = left_out(contents, "HDF5 with xs, ys, ts, ps")
        latest = max(abs(contents.first_us), abs(contents.last_us))
        if contents.events and latest >= 1_000_000 << 31:
            step = np.spacing(latest / 1e6) * 1e6
            lost.append(f"times are float64 seconds, which are {step:.2g} us apart at the end")
        return lost

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the file."""
        with created(path) as (file, check):
            group = file.create_group("events")
            types = {"ps": "?", "ts": "<f8", "xs": "<u2", "ys": "<u2"}
            columns = {name: _column(group, name, kind) for name, kind in types.items()}
            group["ts"].attrs["units"] = "s"
            total, on, first, last = 0, 0, 0.0, 0.0
            for events in _parts(recording, ledger, check):
                seconds = events.t / 1e6
                first = float(seconds[0]) if not total else first
                last = float(seconds[-1])
                total, on = total + len(events), on + int(events.p.sum(dtype=np.int64))
                values: tuple[NDArray[Any], ...] = (events.x, events.y, seconds, events.p > 0)
                for name, part in zip(("xs", "ys", "ts", "ps"), values, strict=True):
                    columns[name].add(part)
            for column in columns.values():
                column.finish()
            numbers = {"num_events": total, "num_pos": on, "num_neg": total - on, "num_imgs": 0}
            for key, number in numbers.items():
                file.attrs[key] = np.int64(number)
            for key, time in (("t0", first), ("tk", last), ("duration", last - first)):
                file.attrs[key] = np.float64(time)
            if recording.sensor_size is not None:
                width, height = recording.sensor_size
                file.attrs["sensor_resolution"] = np.array([height, width], np.int64)


class EcfWriter:
    """Writer of Prophesee's layout: ``/CD/events`` in ECF, triggers, an entry each 2 ms.

    Checked with our own reader and another decoder of ECF; no program of Prophesee was at hand.
    Format: https://docs.prophesee.ai/stable/data/file_formats/hdf5.html.
    """

    name = "hdf5-ecf"
    suffixes = ()

    def losses(self, contents: Contents) -> list[str]:
        """Frames and IMU are left out; places beyond 11 bits and more than a day are refused."""
        for side in ("events", "triggers"):
            check_span(contents, "Prophesee's index has an entry each 2 ms", side)
        if max(contents.right, contents.bottom) > ecf.LAST_PIXEL:
            msg = (
                f"expected places up to {ecf.LAST_PIXEL}, which is what ECF holds, got x up to "
                f"{contents.right} and y up to {contents.bottom}; hdf5-dsec holds them"
            )
            raise SettingsError(msg)
        if contents.events and max(abs(contents.first_us), abs(contents.last_us)) > 1 << 61:
            msg = "expected times within 2^61 us, which is what ECF holds; hdf5-dsec holds more"
            raise SettingsError(msg)
        lost = left_out(contents, "Prophesee's HDF5", keeps="events and triggers")
        if contents.triggers:
            lost.append(f"{contents.triggers} triggers keep their time, channel and level only")
        return lost + channel_losses(contents.kinds)

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the file."""
        with created(path) as (file, check):
            group = file.create_group("CD")
            dset = _ecf_dataset(group)
            index = PropheseeIndex(_column(group, "indexes", _ENTRY, ECF_CHUNK, plain=True))
            waiting: list[Events] = []
            held = written = 0
            for events in _parts(recording, ledger, check):
                index.add(events.t)
                waiting.append(events)
                held += len(events)
                if held >= ECF_CHUNK:
                    joined = Events.concatenate(waiting)
                    whole = held - held % ECF_CHUNK
                    _write_chunks(dset, written, joined[:whole])
                    waiting, held, written = [joined[whole:]], held - whole, written + whole
            _write_chunks(dset, written, Events.concatenate(waiting))
            index.finish()
            self._triggers(file, recording)
            file.attrs["version"] = "1.0"
            if recording.sensor_size is not None:
                file.attrs["geometry"] = "{}x{}".format(*recording.sensor_size)

    def _triggers(self, file: Any, recording: Recording) -> None:
        """Write the triggers, if any; the SDK asks for both datasets in any case."""
        group = file.create_group("EXT_TRIGGER")
        found = recording.triggers
        signals = np.empty(0, CHANNEL_DTYPE) if found is None else as_channels(found)
        rows = np.empty(signals.size, _TRIGGER)
        for field, name in (("t", "t"), ("p", "p"), ("id", "source")):
            rows[field] = signals[name]
        column = _column(group, "events", _TRIGGER, ECF_CHUNK, plain=True)
        column.add(rows)
        column.finish()
        index = PropheseeIndex(_column(group, "indexes", _ENTRY, ECF_CHUNK, plain=True))
        if rows.size:
            index.add(np.maximum.accumulate(rows["t"]))
        index.finish()


def _parts(recording: Recording, ledger: Ledger, check: Callable[[], None]) -> Iterator[Events]:
    """Yield the events in parts, until a disk is full."""
    for events in event_parts(recording, ledger):
        yield events
        check()


def _write_size(file: Any, recording: Recording) -> None:
    if recording.sensor_size is not None:
        for key, side in zip(("width", "height"), recording.sensor_size, strict=True):
            file.attrs[key] = np.int64(side)


class _Column:
    """A dataset that grows by whole chunks."""

    def __init__(self, dset: Any) -> None:
        self.dset = dset
        self._waiting: list[NDArray[Any]] = []
        self._held = 0

    def add(self, values: NDArray[Any]) -> None:
        self._waiting.append(values)
        self._held += values.size
        if self._held >= self.dset.chunks[0]:
            self._write(self._held - self._held % self.dset.chunks[0])

    def finish(self) -> None:
        self._write(self._held)

    def _write(self, size: int) -> None:
        if not size:
            return
        joined = np.concatenate(self._waiting)
        start = self.dset.shape[0]
        self.dset.resize((start + size,))
        self.dset[start:] = joined[:size].astype(self.dset.dtype, copy=False)
        # A copy: a view would keep the whole part alive, and the caller may use it again.
        self._waiting, self._held = [joined[size:].copy()], joined.size - size


def _column(
    group: Any, name: str, dtype: Any, chunk: int = COLUMN_CHUNK, *, plain: bool = False
) -> _Column:
    options = {} if plain else {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    dset = group.create_dataset(
        name, (0,), dtype=dtype, maxshape=(None,), chunks=(chunk,), track_times=False, **options
    )
    return _Column(dset)


def _ecf_dataset(group: Any) -> Any:
    """Make ``events`` with the filter's number: chunks are encoded here, not by HDF5."""
    h5py = library()
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((ECF_CHUNK,))
    plist.set_filter(ecf.FILTER_ID, h5py.h5z.FLAG_OPTIONAL, ())
    plist.set_obj_track_times(False)
    space = h5py.h5s.create_simple((0,), (h5py.h5s.UNLIMITED,))
    kind = h5py.h5t.py_create(_EVENT, logical=True)
    return h5py.Dataset(h5py.h5d.create(group.id, b"events", kind, space, plist))


def _write_chunks(dset: Any, start: int, events: Events) -> None:
    dset.resize((start + len(events),))
    for first in range(0, len(events), ECF_CHUNK):
        part = ecf.encode(events[first : first + ECF_CHUNK])
        dset.id.write_direct_chunk((start + first,), part)
