"""Which datasets of an HDF5 file are events: columns, a table with named fields, or four columns.

There is no standard. These are told apart by names and shapes, never by position alone:

- columns in one group: ``x y t p`` (DSEC, TUM-VIE, M3ED, RVT), ``xs ys ts ps`` (event_utils,
  E2VID), and the other names of `eventkit.events.field_names`;
- a dataset with such fields (Prophesee's ``/CD/events``);
- a dataset ``events`` of shape (N, 4), or (4, N) as MATLAB writes (N, 4): MVSEC has ``x, y, t, p``,
  v2e ``t, x, y, p``. The order is told by which column never steps back and which holds only signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from eventkit.errors import FormatError, InvalidEventsError, SettingsError
from eventkit.events import field_names
from eventkit.readers.base import ReadOptions
from eventkit.readers.column_order import by_places, check_order, possible_orders, refuse_order
from eventkit.readers.hdf5.file import File, address_of, kind_of, library
from eventkit.readers.hdf5.layouts import Layout

MOST_OBJECTS = 10_000
"""Groups of pictures have thousands of members; nothing more is looked at."""
MOST_DEPTH = 6

_MVSEC, _V2E = "xytp", "txyp"


def find(file: File, options: ReadOptions) -> tuple[Layout, list[str]]:
    """Find the events.

    Parameters
    ----------
    file : File
    options : ReadOptions
        ``topic``: part of the place of the wanted events, where there are several cameras;
        ``columns``: order of the columns of an (N, 4) dataset, as in ``txyp``.

    Returns
    -------
    layout : Layout
        The first one that fits.
    others : list of str
        Places of the others.

    Raises
    ------
    FormatError
        If there are no events; it lists what there is.
    SettingsError
        If ``topic`` fits none.
    """
    found = list(_candidates(file, options))
    if not found:
        there = ", ".join(sorted(file.root)[:8]) or "nothing"
        msg = (
            "expected columns x, y, t, p (or their other names) in a group, or a dataset of "
            f"events, got {there}; is this a file of events?"
        )
        raise FormatError(msg, path=file.source.name, reason="bad_header")
    wanted = found
    if options.topic is not None:
        name = options.topic.strip("/")
        wanted = [f for f in found if f.place == name] or [f for f in found if name in f.place]
        if not wanted:
            places = ", ".join(f"/{layout.place}" for layout in found)
            msg = f"{file.source}: expected a topic among {places}, got {options.topic!r}"
            raise SettingsError(msg)
    if wanted[0].form != "rows":
        refuse_order(options.columns, wanted[0].words, file.source)
    return wanted[0], [layout.place for layout in found if layout is not wanted[0]]


def _candidates(file: File, options: ReadOptions) -> Iterator[Layout]:
    for place, group in _groups(file):
        names = _members(group)
        by_name = _columns_of(group, names)
        if by_name is not None:
            yield Layout(place, "columns", by_name)
        for name in names:
            path = f"{place}/{name}".strip("/")
            dset = _dataset(group, name)
            layout = None if dset is None else _single(file, dset, path, options)
            if layout is not None:
                yield layout


def _groups(file: File) -> Iterator[tuple[str, Any]]:
    """Yield groups from the top down, each once: links may go round in circles."""
    waiting: list[tuple[str, Any]] = [("", file.root["/"])]
    seen, looked = {address_of(waiting[0][1])}, 0
    while waiting:
        place, group = waiting.pop(0)
        yield place, group
        if place.count("/") >= MOST_DEPTH:
            continue
        for name in _members(group):
            looked += 1
            if looked > MOST_OBJECTS:
                return
            if kind_of(group, name) != library().h5g.GROUP:
                continue
            child = group[name]
            if address_of(child) not in seen:
                seen.add(address_of(child))
                waiting.append((f"{place}/{name}".strip("/"), child))


def _members(group: Any) -> list[str]:
    """Return names of members, as many as are worth a look."""
    return list(islice(group, MOST_OBJECTS // 10))


def _dataset(group: Any, name: str) -> Any:
    return group[name] if kind_of(group, name) == library().h5g.DATASET else None


def _columns_of(group: Any, names: list[str]) -> dict[str, str | int] | None:
    spelt = {name.lower(): name for name in names}
    try:
        found = field_names(tuple(spelt))
    except InvalidEventsError:
        return None
    columns: dict[str, str | int] = {}
    for column, name in found.items():
        dset = _dataset(group, spelt[name])
        if dset is None or dset.dtype.kind not in "iufb" or not _is_column(dset.shape):
            return None
        columns[column] = spelt[name]
    return columns


def _is_column(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and (len(shape) == 1 or (len(shape) == 2 and 1 in shape))


def _single(file: File, dset: Any, path: str, options: ReadOptions) -> Layout | None:
    """Return the layout of one dataset that holds events, if it does."""
    if dset.dtype.names and len(dset.shape or ()) == 1:
        spelt = {name.lower(): name for name in dset.dtype.names}
        try:
            found = field_names(tuple(spelt))
        except InvalidEventsError:
            return None
        fields = {column: spelt[name] for column, name in found.items()}
        if any(dset.dtype[name].kind not in "iufb" for name in fields.values()):
            return None
        return Layout(path, "fields", fields)
    named = "event" in path.rpartition("/")[2].lower()
    if named and len(dset.shape or ()) == 2 and 4 in dset.shape and dset.dtype.kind in "iuf":
        given = options.columns
        order = check_order(given) if given else _order_of(file, dset, path, options)
        return Layout(path, "rows", _numbered(order)) if len(order) == 4 else None
    return None


def _numbered(order: str) -> dict[str, str | int]:
    return {name: order.index(name) for name in "xytp"}


def _order_of(file: File, dset: Any, path: str, options: ReadOptions) -> str:
    """Tell the order of the four columns."""
    file.check(dset)
    sample = Layout(path, "rows", _numbered(_MVSEC)).sample(file, _MVSEC, strict=options.strict)
    rows = np.stack([sample[name].astype(np.float64) for name in _MVSEC], 1)
    if not len(rows):
        return _MVSEC
    orders = possible_orders(rows)
    # Where a sample fits several: these two are known by their place and type.
    for order, known in ((_MVSEC, "davis" in path), (_V2E, dset.dtype == np.uint32)):
        if known and order in orders:
            return order
    if len(orders) == 1:
        return by_places(orders[0], rows, options.sensor_size)[0]
    got = "rows that fit " + " and ".join(orders) if orders else "rows that fit no order"
    msg = (
        f"expected rows of t, x, y, p or x, y, t, p in /{path}, got {got}; "
        "--columns says the order, as in txyp"
    )
    raise FormatError(msg, path=file.source.name, reason="bad_header")
