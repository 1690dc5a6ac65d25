"""Where events stand in an HDF5 file: columns, a table with named fields, or rows of four numbers.

There is no standard. These are told apart by names and shapes, never by position alone:

- columns in one group: ``x y t p`` (DSEC, TUM-VIE, M3ED, RVT), ``xs ys ts ps`` (event_utils,
  E2VID), and the other names of `eventkit.events.field_names`;
- a dataset with such fields (Prophesee's ``/CD/events``);
- a dataset ``events`` of shape (N, 4): MVSEC has ``x, y, t, p``, v2e ``t, x, y, p``. The order is
  told by which column never steps back and which holds only signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError, InvalidEventsError, SettingsError
from eventkit.events import field_names
from eventkit.readers.column_order import check_order, possible_orders
from eventkit.readers.hdf5.file import File, library
from eventkit.readers.hdf5.guard import refuse_bad_sizes

MOST_OBJECTS = 10_000
"""Groups of pictures have thousands of members; nothing more is looked at."""
MOST_DEPTH = 6
LOOK_ROWS = 1 << 16
"""Rows that are looked at to tell an order or a unit."""

_MVSEC, _V2E = "xytp", "txyp"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the four columns of one camera stand.

    Parameters
    ----------
    place : str
        The group, or the dataset, without the leading slash.
    form : {"columns", "fields", "rows"}
        Datasets of a group; fields of one dataset; columns of one (N, 4) dataset.
    columns : mapping x, y, t, p -> name or number
    """

    place: str
    form: Literal["columns", "fields", "rows"]
    columns: Mapping[str, str | int]

    @property
    def words(self) -> str:
        """The layout in words, for messages."""
        names = ", ".join(str(self.columns[name]) for name in "xytp")
        if self.form == "columns":
            return f"columns {names} in /{self.place}"
        if self.form == "fields":
            return f"fields {names} of /{self.place}"
        order = "".join(sorted("xytp", key=lambda name: int(self.columns[name])))
        return f"rows {', '.join(order)} in /{self.place}"

    def datasets(self, file: File) -> dict[str, Any]:
        """Return the dataset of each column."""
        if self.form == "columns":
            group = file.root[self.place or "/"]
            return {name: group[str(self.columns[name])] for name in "xytp"}
        return dict.fromkeys("xytp", file.root[self.place])

    def axis(self, dset: Any) -> int:
        """Along which axis the events stand; MATLAB writes columns as (1, N)."""
        return 1 if self.form == "columns" and dset.ndim == 2 and dset.shape[0] == 1 else 0

    def claimed(self, file: File) -> dict[str, int]:
        """Return how many events each column says it has."""
        return {n: int(d.shape[self.axis(d)]) for n, d in self.datasets(file).items()}

    def rows(self, file: File) -> int:
        """Return how many events are stored in full."""
        found = self.datasets(file)
        return min(file.rows(dset, self.axis(dset)) for dset in found.values())

    def read(self, file: File, start: int, stop: int, names: str = "xytp") -> dict[str, Any]:
        """Read rows ``start`` to ``stop`` of some columns, as they are stored."""
        found = self.datasets(file)
        for dset in {found[name].name: found[name] for name in names}.values():
            refuse_bad_sizes(dset, start, stop)
        if self.form == "columns":
            return {name: _part(found[name], start, stop) for name in names}
        if self.form == "fields":
            # Other fields may be text, which the library follows to wherever it points.
            fields = [str(self.columns[name]) for name in names]
            rows = found["t"].fields(fields)[start:stop]
            return {name: rows[self.columns[name]] for name in names}
        rows = found["t"][start:stop]
        return {name: rows[:, self.columns[name]] for name in names}


def _part(dset: Any, start: int, stop: int) -> NDArray[Any]:
    if dset.ndim == 1:
        return np.asarray(dset[start:stop])
    part = dset[:, start:stop] if dset.shape[0] == 1 else dset[start:stop]
    return np.asarray(part).reshape(-1)


def find(file: File, *, topic: str | None, columns: str | None) -> tuple[Layout, list[str]]:
    """Find the events.

    Parameters
    ----------
    file : File
    topic : str, optional
        Part of the place of the wanted events, where there are several cameras.
    columns : str, optional
        Order of the columns of an (N, 4) dataset, as in ``txyp``.

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
    found = list(_candidates(file, columns))
    if not found:
        there = ", ".join(sorted(file.root)[:8]) or "nothing"
        msg = (
            "expected columns x, y, t, p (or their other names) in a group, or a dataset of "
            f"events, got {there}; is this a file of events?"
        )
        raise FormatError(msg, path=file.source.name, reason="bad_header")
    wanted = found
    if topic is not None:
        name = topic.strip("/")
        wanted = [f for f in found if f.place == name] or [f for f in found if name in f.place]
        if not wanted:
            places = ", ".join(f"/{layout.place}" for layout in found)
            msg = f"{file.source}: expected a topic among {places}, got {topic!r}"
            raise SettingsError(msg)
    return wanted[0], [layout.place for layout in found if layout is not wanted[0]]


def _candidates(file: File, columns: str | None) -> Iterator[Layout]:
    for place, group in _groups(file):
        names = _members(group)
        by_name = _columns_of(group, names)
        if by_name is not None:
            yield Layout(place, "columns", by_name)
        for name in names:
            path = f"{place}/{name}".strip("/")
            dset = _dataset(group, name)
            layout = None if dset is None else _single(file, dset, path, columns)
            if layout is not None:
                yield layout


def _groups(file: File) -> Iterator[tuple[str, Any]]:
    """Yield groups from the top down, each once: links may go round in circles."""
    waiting: list[tuple[str, Any]] = [("", file.root["/"])]
    seen, looked = {_address(waiting[0][1])}, 0
    while waiting:
        place, group = waiting.pop(0)
        yield place, group
        if place.count("/") >= MOST_DEPTH:
            continue
        for name in _members(group):
            looked += 1
            if looked > MOST_OBJECTS:
                return
            if _kind(group, name) is not library().Group:
                continue
            child = group[name]
            if _address(child) not in seen:
                seen.add(_address(child))
                waiting.append((f"{place}/{name}".strip("/"), child))


def _address(group: Any) -> int:
    return int(library().h5o.get_info(group.id).addr)


def _members(group: Any) -> list[str]:
    """Return names of members that are in this file, as many as are worth a look."""
    outside = library().ExternalLink
    names = islice(group, MOST_OBJECTS // 10)
    return [name for name in names if not isinstance(group.get(name, getlink=True), outside)]


def _dataset(group: Any, name: str) -> Any:
    return group[name] if _kind(group, name) is library().Dataset else None


def _kind(group: Any, name: str) -> Any:
    """Return the class of a member; None if it cannot be read, as behind the end of a cut file."""
    try:
        return group.get(name, getclass=True)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return None


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


def _single(file: File, dset: Any, path: str, columns: str | None) -> Layout | None:
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
    if named and len(dset.shape or ()) == 2 and dset.shape[1] == 4 and dset.dtype.kind in "iuf":
        order = check_order(columns) if columns else _order_of(file, dset, path)
        if len(order) != 4:
            return None
        return Layout(path, "rows", {name: order.index(name) for name in "xytp"})
    return None


def _order_of(file: File, dset: Any, path: str) -> str:
    """Tell the order of (N, 4) rows."""
    file.check(dset)
    count = min(file.rows(dset), LOOK_ROWS)
    refuse_bad_sizes(dset, 0, count)
    rows = np.asarray(dset[:count], np.float64)
    if not len(rows):
        return _MVSEC
    orders = possible_orders(rows)
    # Where a sample fits several: these two are known by their place and type.
    for order, known in ((_MVSEC, "davis" in path), (_V2E, dset.dtype == np.uint32)):
        if known and order in orders:
            return order
    if len(orders) == 1:
        return orders[0]
    got = "rows that fit " + " and ".join(orders) if orders else "rows that fit no order"
    msg = (
        f"expected rows of t, x, y, p or x, y, t, p in /{path}, got {got}; "
        "--columns says the order, as in txyp"
    )
    raise FormatError(msg, path=file.source.name, reason="bad_header")
