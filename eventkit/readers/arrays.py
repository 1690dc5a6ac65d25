"""Events in NumPy arrays: where the columns stand, and reading them a part at a time.

An array of records has fields by name; a table of shape (N, 4) or (4, N) has columns without names,
whose order is given (``--columns``), told by evidence, or refused; four arrays of shape (N,) stand
side by side. Each becomes one `Lane` or four; lanes are read in step, so that memory holds one part
of each and never the whole.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from eventkit.aligned import aligned
from eventkit.errors import FormatError, InvalidEventsError, SettingsError
from eventkit.events import TimeUnit, field_names
from eventkit.npy import BadArrayError, CutArrayError, Header, check_size, read_header
from eventkit.readers import notes
from eventkit.readers.column_order import by_places, check_order, possible_orders
from eventkit.readers.table import check_types
from eventkit.readers.time_unit import guess_unit

PART_EVENTS = 1 << 16
"""Events read at once: 1 MB of columns, which stay in the cache."""
SAMPLE_EVENTS = 2048
MAX_RECORD_BYTES = 1 << 12
MAX_PART_BYTES = 1 << 23


@dataclass(frozen=True, slots=True)
class Lane:
    """Consecutive items of one array, read from the front.

    Parameters
    ----------
    open : callable
        Returns the stream of the array, header included.
    dtype : numpy.dtype
    start : int, bytes
        Where the first item stands in the stream.
    width : int
        Items of an event.
    fields : mapping x, y, t, p -> field name, index or None
        What it holds; None means the items themselves.
    """

    open: Callable[[], BinaryIO]
    dtype: np.dtype[Any]
    start: int
    width: int
    fields: Mapping[str, str | int | None]

    @property
    def stride(self) -> int:
        """Bytes of an event."""
        return self.dtype.itemsize * self.width

    def place(self, column: str) -> tuple[int, np.dtype[Any]]:
        """Return the byte of an event where a column stands, and its type."""
        key = self.fields[column]
        if isinstance(key, str):
            dtype, start = cast("Mapping[str, Any]", self.dtype.fields)[key][:2]
            return start, dtype
        return (key or 0) * self.dtype.itemsize, self.dtype


@dataclass(frozen=True, slots=True)
class Lanes:
    """The columns of all events.

    Parameters
    ----------
    lanes : sequence of Lane
    size : int
        Number of events.
    why : str
        How the columns are told, in words.
    order : str
        Of the columns of a table, as in ``txyp``.
    """

    lanes: Sequence[Lane]
    size: int
    why: str
    order: str = ""

    @property
    def types(self) -> dict[str, np.dtype[Any]]:
        """The type of each column."""
        return {column: lane.place(column)[1] for lane in self.lanes for column in lane.fields}

    def of(self, column: str) -> Lane:
        """Return the lane with a column."""
        return next(lane for lane in self.lanes if column in lane.fields)

    @property
    def end(self) -> int:
        """Byte behind the last event, of the stream that reaches furthest."""
        return max(lane.start + self.size * lane.stride for lane in self.lanes)

    def bound(self, size: int) -> int:
        """Return how many events a stream of ``size`` bytes can hold at most."""
        return min(self.size, *(size // max(lane.stride, 1) for lane in self.lanes))

    def parts(
        self, first: int = 0, *, size: int = PART_EVENTS
    ) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """Yield the index of an event and the columns of the next ``size`` events.

        Raises
        ------
        BadArrayError
            As `pieces`.
        """
        for part in self.pieces(first, size=size):
            yield part.at, part.columns

    def pieces(self, first: int = 0, *, size: int = PART_EVENTS) -> Iterator[Part]:
        """Yield ``size`` events at a time, from event ``first`` on.

        Raises
        ------
        BadArrayError
            If the bytes end before the events do; those that are whole have been yielded.
        """
        with self._opened(first) as files:
            yield from self._parts(files, first, size)

    def to_end(self, first: int = 0) -> Iterator[Part]:
        """Yield as `pieces` what is there, of an array that ends where its stream ends.

        Raises
        ------
        BadArrayError
            As `pieces`; and where bytes follow, after all events.
        """
        with self._opened(first) as files:
            yield from self._parts(files, first, PART_EVENTS)
            for lane, file in zip(self.lanes, files, strict=True):
                if lane.start + self.size * lane.stride == self.end and file.read(1):
                    msg = f"its header claims {self.size} events, there is more behind it"
                    raise BadArrayError(msg)

    @contextmanager
    def _opened(self, first: int) -> Iterator[list[BinaryIO]]:
        """Open the streams at an event."""
        longest = max(lane.stride for lane in self.lanes)
        if longest > MAX_RECORD_BYTES:
            msg = f"its header claims records of {longest} bytes"
            raise BadArrayError(msg)
        if self.end >= 1 << 62:
            msg = f"its header claims {self.size} events"
            raise BadArrayError(msg)
        with ExitStack() as stack:
            files = [stack.enter_context(lane.open()) for lane in self.lanes]
            for lane, file in zip(self.lanes, files, strict=True):
                file.seek(lane.start + first * lane.stride)
            yield files

    def _parts(self, files: Sequence[BinaryIO], first: int, size: int) -> Iterator[Part]:
        size = min(size, MAX_PART_BYTES // max(lane.stride for lane in self.lanes))
        rooms = [aligned(min(size, self.size) * lane.stride) for lane in self.lanes]
        for at in range(first, self.size, size):
            n = min(size, self.size - at)
            data = [
                _read(file, room[: n * lane.stride])
                for lane, file, room in zip(self.lanes, files, rooms, strict=True)
            ]
            pairs = list(zip(self.lanes, data, strict=True))
            whole = min(found.size // lane.stride for lane, found in pairs)
            if whole:
                yield Part(
                    at, whole, [(lane, found[: whole * lane.stride]) for lane, found in pairs]
                )
            if whole < n:
                msg = f"it ends after {at + whole} of {self.size} events"
                raise CutArrayError(msg)


def _read(file: BinaryIO, room: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return as many of the next bytes as there is room for, read-only; fewer at the end."""
    if isinstance(file, zipfile.ZipExtFile):
        # It makes bytes in any case, and would copy them: 2 ns an event of four int64.
        return np.frombuffer(file.read(room.size), np.uint8)
    view, done = room.data, 0
    while got := file.readinto(view[done:]):  # type: ignore[attr-defined]
        done += got
    found = room[:done]
    found.flags.writeable = False
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive events, as they stand in the file.

    Parameters
    ----------
    at : int
        Index of the first.
    size : int
    data : sequence of (Lane, (bytes,) uint8)
        The bytes of each lane, exactly those of these events, read-only; the next part may take
        their memory.
    """

    at: int
    size: int
    data: Sequence[tuple[Lane, NDArray[np.uint8]]]

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns; views, but of files of the other byte order."""
        columns: dict[str, NDArray[Any]] = {}
        for lane, found in self.data:
            columns |= _columns(lane, found, self.size)
        return columns

    def bytes_of(self, column: str) -> NDArray[np.uint8]:
        """Return the bytes of the lane with a column."""
        return next(found for lane, found in self.data if column in lane.fields)


def _columns(lane: Lane, data: NDArray[np.uint8], n: int) -> dict[str, NDArray[Any]]:
    items: NDArray[Any] = np.frombuffer(data, lane.dtype)
    found = {}
    for column, key in lane.fields.items():
        if isinstance(key, str):
            values = items[key].reshape(n)
        else:
            values = items if key is None else items.reshape(n, lane.width)[:, key]
        # Files of the other byte order.
        found[column] = values.astype(values.dtype.newbyteorder("="), copy=False)
    return found


def settle_unit(lanes: Lanes, given: TimeUnit | None, name: str) -> tuple[TimeUnit, list[str]]:
    """Return the unit of the times, and notes on what was told by evidence.

    Raises
    ------
    FormatError
        If a column holds no numbers, or the unit cannot be told.
    """
    check_types(lanes.types, name)
    times = Lanes([lanes.of("t")], lanes.size, "")
    sample = np.empty(0, lanes.types["t"])
    # A cut array is met again, and booked, when the events are read.
    with suppress(CutArrayError):
        for _, columns in times.parts(size=SAMPLE_EVENTS):
            sample = columns["t"]
            break
    unit, why = guess_unit(sample, given=given, name=name)
    told = why if given is None and sample.size else ""
    return unit, [
        *notes.of_order(lanes.order, lanes.why),
        *notes.of_unit(unit, told, lanes.types["t"]),
    ]


@dataclass(frozen=True, slots=True)
class Array:
    """One array that may be looked at: its header has been read and fits the bytes there are."""

    name: str
    open: Callable[[], BinaryIO]
    header: Header

    @property
    def length(self) -> int:
        """Number of items, if it is one column."""
        shape = self.header.shape
        return shape[0] if shape else 1

    @property
    def is_column(self) -> bool:
        """Whether its shape is (N,) or (N, 1)."""
        shape = self.header.shape
        return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)

    @property
    def is_table(self) -> bool:
        """Whether its shape is (N, 4) or (4, N)."""
        shape = self.header.shape
        return len(shape) == 2 and 4 in shape and self.header.dtype.kind in "iufb"


def open_array(name: str, open: Callable[[], BinaryIO], size: int) -> Array:
    """Read a header and hold it against the size of the array in bytes.

    Raises
    ------
    BadArrayError
    """
    with open() as file:
        # A damaged header may claim 4 GB of itself; real ones have some hundred bytes.
        header = read_header(io.BytesIO(file.read(1 << 16)))
    check_size(header, size)
    return Array(name, open, header)


def from_records(array: Array) -> Lanes | None:
    """Return the columns of an array of records with the fields of events, or None."""
    names = array.header.dtype.names
    if names is None or not array.is_column:
        return None
    try:
        found = field_names(names)
    except InvalidEventsError:
        return None
    dtype = array.header.dtype
    if any(dtype[name].shape not in ((), (1,)) for name in found.values()):
        return None
    lane = Lane(array.open, dtype, array.header.start, 1, dict(found))
    return Lanes([lane], array.length, f"fields {', '.join(names)}")


def from_columns(arrays: Mapping[str, Array]) -> Lanes:
    """Return the columns of four arrays, by x, y, t, p.

    Raises
    ------
    BadArrayError
        If they are no columns.
    """
    lanes = []
    for column, array in arrays.items():
        if not array.is_column:
            msg = f"{array.name!r} has shape {array.header.shape}, expected (N,)"
            raise BadArrayError(msg)
        header = array.header
        lanes.append(Lane(array.open, header.dtype, header.start, 1, {column: None}))
    names = ", ".join(array.name for array in arrays.values())
    return Lanes(lanes, next(iter(arrays.values())).length, f"arrays {names}")


def from_table(
    array: Array, given: str | None, sensor_size: tuple[int, int] | None, name: str
) -> Lanes:
    """Return the columns of an array of shape (N, 4) or (4, N).

    Parameters
    ----------
    array : Array
    given : str, optional
        The order as the caller says, as in ``txyp``.
    sensor_size : (W, H), optional
        May tell which of two places is x.
    name : str
        Of the file, for the error.

    Raises
    ------
    FormatError
        If the order is not given and cannot be told.
    SettingsError
        If what is given is no order of four columns.
    """
    if given is not None:
        order = check_order(given)
        if len(order) != 4:
            msg = f"expected --columns of four for an array of four columns, got {given!r}"
            raise SettingsError(msg)
        return _in_order(array, order, "--columns")
    rows = _first_rows(array)
    if not len(rows):
        return _in_order(array, "xytp", "no events")
    orders = possible_orders(rows)
    if len(orders) == 1:
        order, places = by_places(orders[0], rows, sensor_size)
        return _in_order(array, order, f"evidence on the first rows, {places}")
    got = " or ".join(orders) if orders else "columns that fit no order of them"
    msg = (
        f"expected an array of x, y, t, p whose order can be told, got {got}; "
        "--columns says it, as in txyp"
    )
    raise FormatError(msg, path=name, offset=0, reason="bad_header")


def why_table(array: Array) -> str | None:
    """Return why the rows of a table can be events, in words, or None; no rows are none."""
    rows = _first_rows(array)
    if not len(rows):
        return "a NumPy array of four columns without rows"
    told = " or ".join(possible_orders(rows))
    return f"a NumPy array of four columns that can be {told}" if told else None


def _first_rows(array: Array) -> NDArray[np.float64]:
    sample = _in_order(array, "0123", "")
    for _, columns in sample.parts(size=SAMPLE_EVENTS):
        return np.stack([columns[key].astype(np.float64) for key in "0123"], 1)
    return np.empty((0, 4))


def _in_order(array: Array, order: str, why: str) -> Lanes:
    header = array.header
    rows, columns = header.shape
    # Of shape (4, 4): rows are events, as in every library.
    upright = columns == 4
    size = rows if upright else columns
    if upright != header.fortran:  # the four numbers of an event stand together
        fields = {column: order.index(column) for column in order}
        lanes = [Lane(array.open, header.dtype, header.start, 4, fields)]
    else:
        step = size * header.dtype.itemsize
        lanes = [
            Lane(array.open, header.dtype, header.start + k * step, 1, {column: None})
            for k, column in enumerate(order)
        ]
    return Lanes(lanes, size, why, order)
