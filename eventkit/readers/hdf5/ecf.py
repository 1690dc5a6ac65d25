"""Prophesee's HDF5 event files: chunks of ``/CD/events`` that h5py hands over as they are stored.

h5py cannot decompress filter 36559 without a plug-in of Prophesee's; `eventkit.ecf` can. Layout:
https://docs.prophesee.ai/stable/data/file_formats/hdf5.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit import ecf
from eventkit.columns import Buffer, Columns
from eventkit.errors import FormatError
from eventkit.readers.base import ReadOptions
from eventkit.readers.hdf5.file import File, faults, filters, opened
from eventkit.readers.hdf5.layouts import Layout
from eventkit.readers.policy import RawChunk
from eventkit.sources import Source


def is_packed(layout: Layout, file: File) -> bool:
    """Whether the events are compressed with ECF.

    Raises
    ------
    FormatError
        If they are, among other filters: nobody writes that.
    """
    if layout.form != "fields":
        return False
    dset = file.root[layout.place]
    used = filters(dset)
    if ecf.FILTER_ID not in used:
        return False
    if used != [ecf.FILTER_ID] or dset.chunks[0] > 1 << 20:
        msg = f"expected ECF alone in chunks of 16,384 events, got filters {used}"
        raise FormatError(msg, path=file.source.name, reason="bad_header")
    return True


def decode(
    source: Source, layout: Layout, options: ReadOptions, buffer: Buffer, first: int
) -> Iterator[RawChunk]:
    """Yield the events of one stored chunk after the other, from row ``first`` on.

    Raises
    ------
    FormatError
        Where a chunk is damaged and ``options.on_error`` is ``raise``, and where chunks end before
        the events that are claimed.
    """
    with opened(source) as file:
        dset = file.root[layout.place]
        rows, claimed, chunk = file.rows(dset), int(dset.shape[0]), int(dset.chunks[0])
        for start in range(first, rows, chunk):
            wanted = min(chunk, rows - start)
            try:
                yield _chunk(file, dset, layout, start, wanted, buffer)
            except FormatError:
                if options.strict:
                    raise
                nothing = Columns.empty(0)
                yield RawChunk(
                    *nothing, words=wanted, skipped={"damaged_chunk": wanted}, mark=start
                )
        if rows < claimed:
            msg = (
                f"expected {claimed} events, got {rows} in chunks that are whole: the file is cut "
                "or was not closed; --on-error skip keeps those"
            )
            raise FormatError(msg, path=source.name, offset=file.size, reason="truncated")


def _chunk(
    file: File, dset: Any, layout: Layout, start: int, wanted: int, buffer: Buffer
) -> RawChunk:
    source = file.source
    place = file.chunks(dset).place(start)
    if place is None:
        msg = f"expected a chunk of {wanted} events inside the file, got none at event {start}"
        raise FormatError(msg, path=source.name, offset=file.size, reason="truncated")
    at = place[0]
    with faults(source, offset=lambda: at):
        mask, data = dset.id.read_direct_chunk((start,))
        if mask & 1:
            columns = _plain(np.frombuffer(data, np.uint8), dset, layout, wanted, source, at)
        else:
            columns = _decoded(np.frombuffer(data, np.uint8), dset, wanted, buffer, source, at)
    # The byte is that of the chunk: events have none of their own in it.
    return RawChunk(*columns, words=wanted, locate=lambda _: at, mark=start)


def _decoded(
    data: NDArray[np.uint8], dset: Any, wanted: int, buffer: Buffer, source: Source, at: int
) -> Columns:
    try:
        # A chunk that went through HDF5's own filter is full, with fill values at the end.
        room = buffer.room(max(wanted, min(ecf.count(data), int(dset.chunks[0]))))
        events = ecf.decode(data, room)
    except FormatError as err:
        where = at + (err.offset or 0)
        raise FormatError(err.message, path=source.name, offset=where, reason=err.reason) from err
    if events < wanted:
        msg = f"expected {wanted} events in an ECF chunk, got {events}"
        raise FormatError(msg, path=source.name, offset=at, reason="truncated")
    return room.part(0, wanted)


def _plain(
    data: NDArray[np.uint8], dset: Any, layout: Layout, wanted: int, source: Source, at: int
) -> Columns:
    """Return the events of a chunk that was stored without compression."""
    rows = data[: wanted * dset.dtype.itemsize].view(dset.dtype)
    x, y, t, p = (rows[layout.columns[name]] for name in "xytp")
    if rows.size < wanted or not np.isin(p, (0, 1)).all():
        msg = f"expected {wanted} events in a chunk, got {rows.size} or no polarities"
        raise FormatError(msg, path=source.name, offset=at, reason="corrupt")
    return Columns(x.astype(np.uint16), y.astype(np.uint16), t.astype(np.int64), p.astype(np.int8))
