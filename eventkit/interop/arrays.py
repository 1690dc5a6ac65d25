"""Structured arrays of other libraries, (N, 4) arrays, and columns for NumPy and DLPack.

The layouts are those that the libraries document and return, as of tonic 1.7, Metavision SDK 5,
aedat 2.3, faery 0.7, expelliarmus 1.1, dv-processing 2.0 and SpikingJelly 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventkit._optional import require
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events, TimeUnit

TONIC = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
METAVISION = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
# The polarity of these two goes by either name.
AEDAT = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")])
EXPELLIARMUS = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")], align=True)
DV = np.dtype(
    {
        "names": ["timestamp", "x", "y", "polarity"],
        "formats": ["<i8", "<i2", "<i2", "i1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)

_COLUMNS = {"x": "x", "y": "y", "t": "t", "p": "p", "timestamp": "t", "polarity": "p", "on": "p"}

from_tonic = from_metavision = from_aedat = from_faery = Events.from_structured
"""One door for all layouts: by field name, copied where the type differs."""

from_expelliarmus = from_spikingjelly = Events.from_structured


def to_tonic(events: Events) -> NDArray[Any]:
    """Return a copy as tonic has it: (N,) x, y int16; t int64 us; p bool, in this order.

    Raises
    ------
    SettingsError
        If a place is beyond 32,767.

    Examples
    --------
    >>> to_tonic(Events(x=[3], y=[1], t=[10], p=[1]))
    array([(3, 1, 10,  True)],
          dtype=[('x', '<i2'), ('y', '<i2'), ('t', '<i8'), ('p', '?')])
    """
    return _structured(events, TONIC)


def to_metavision(events: Events) -> NDArray[Any]:
    """Return a copy as Metavision's ``EventCD``: (N,) x, y uint16; p int16; t int64 us."""
    return _structured(events, METAVISION)


def to_aedat(events: Events) -> NDArray[Any]:
    """Return a copy as aedat has it: (N,) t uint64 us; x, y uint16; p, also named ``on``, bool.

    Raises
    ------
    SettingsError
        If a time lies before zero.
    """
    return _structured(events, AEDAT)


def to_faery(events: Events) -> NDArray[Any]:
    """Return a copy as faery has it: the layout of `to_aedat`."""
    return _structured(events, AEDAT)


def to_expelliarmus(events: Events) -> NDArray[Any]:
    """Return a copy as expelliarmus has it: (N,) t int64 us; x, y int16; p uint8; 16 bytes each.

    Raises
    ------
    SettingsError
        If a place is beyond 32,767.
    """
    return _structured(events, EXPELLIARMUS)


def to_dv_array(events: Events) -> NDArray[Any]:
    """Return a copy as ``EventStore.numpy()``: timestamp int64 us; x, y int16; polarity int8.

    Raises
    ------
    SettingsError
        If a place is beyond 32,767.
    """
    return _structured(events, DV)


def to_dv(events: Events) -> Any:
    """Return a ``dv_processing.EventStore``; it takes events one by one, a million in a second.

    Raises
    ------
    SettingsError
        If a place is beyond 32,767.
    MissingDependencyError
        Without dv-processing.
    """
    dv = require("dv_processing", extra="aedat4", purpose="making an EventStore")
    _check_short(events)
    store = dv.EventStore()
    columns = (events.t.tolist(), events.x.tolist(), events.y.tolist(), (events.p > 0).tolist())
    for t, x, y, p in zip(*columns, strict=True):
        store.push_back(t, x, y, p)
    return store


def from_dv(store: Any, *, sort: bool = False) -> Events:
    """Take an ``EventStore``, or what its ``numpy()`` returned; a copy.

    Parameters
    ----------
    store : dv_processing.EventStore or structured array
    sort : bool
        As in `Events.from_structured`.
    """
    data = store.numpy() if hasattr(store, "numpy") else store
    # The store's own memory may go before the events do.
    return Events.from_structured(np.array(data, copy=True), sort=sort)


def to_columns(events: Events, *, copy: bool = False) -> dict[str, NDArray[Any]]:
    """Return the columns by name: ``x, y`` uint16; ``t`` int64 us; ``p`` int8 in {0, 1}.

    Parameters
    ----------
    events : Events
    copy : bool
        Without, the arrays share the memory of the events and are read-only. DLPack says so from
        version 1.0 on: ``torch.from_dlpack(column)`` shares them too, and writing to that tensor
        would change the events, so it must not be done. With older consumers, which refuse what is
        read-only, and for tensors that are written to, take copies.

    Examples
    --------
    >>> events = Events(x=[3], y=[1], t=[10], p=[1])
    >>> np.shares_memory(to_columns(events)["t"], events.t)
    True
    """
    columns: dict[str, NDArray[Any]] = {name: getattr(events, name) for name in "xytp"}
    return {name: column.copy() for name, column in columns.items()} if copy else columns


def from_columns(
    columns: Mapping[str, Any], *, time_unit: TimeUnit = "us", sort: bool = False
) -> Events:
    """Take columns by name: NumPy arrays, torch tensors, whatever speaks DLPack or buffers.

    Columns that have the right type already are not copied.

    Parameters
    ----------
    columns : mapping name -> (N,)
        Names as in `Events.from_structured`; tensors on the CPU.
    time_unit : {"us", "s", "ms", "ns"}
    sort : bool
    """
    arrays = {name: _array(column) for name, column in columns.items()}
    return Events.from_structured(arrays, time_unit=time_unit, sort=sort)


def to_spikingjelly(events: Events) -> dict[str, NDArray[Any]]:
    """Return SpikingJelly's dictionary of t, x, y, p; read-only views of the columns."""
    return {name: getattr(events, name) for name in "txyp"}


def to_array(
    events: Events, *, order: str = "txyp", dtype: Any = np.int64, signed: bool = False
) -> NDArray[Any]:
    """Return one (N, 4) copy, in a named order.

    Parameters
    ----------
    events : Events
    order : str
        The letters x, y, t, p: ``txyp`` as in E2VID and HATS code, ``xytp`` as in eventcv.
    dtype : dtype
        float32 does not hold microseconds past 16 s, so it is refused where a time would change.
    signed : bool
        Polarity in {-1, 1} rather than {0, 1}.

    Raises
    ------
    SettingsError
        If ``order`` is no order of the four, or a value does not fit ``dtype``.

    Examples
    --------
    >>> to_array(Events(x=[3], y=[1], t=[10], p=[0]), signed=True).tolist()
    [[10, 3, 1, -1]]
    """
    _check_order(order)
    out = np.empty((len(events), 4), dtype)
    for i, name in enumerate(order):
        column = getattr(events, name)
        if name == "p" and signed:
            column = 2 * column - 1
        with np.errstate(over="ignore", invalid="ignore"):
            out[:, i] = column.astype(dtype)
        if not np.array_equal(out[:, i], column):
            msg = f"expected values of {name!r} that fit {np.dtype(dtype)}, got up to"
            msg = f"{msg} {column.max()} and down to {column.min()}; int64 and float64 hold more"
            raise SettingsError(msg)
    return out


def from_array(array: Any, *, order: str, time_unit: TimeUnit = "us", sort: bool = False) -> Events:
    """Take an (N, 4) array or tensor whose columns stand in ``order``; a copy.

    Parameters
    ----------
    array : (N, 4)
    order : str
        The letters x, y, t, p. There is no default: a wrong guess would go unseen.
    time_unit : {"us", "s", "ms", "ns"}
        Floats in microseconds are rounded to the nearest.
    sort : bool

    Raises
    ------
    SettingsError
        If ``order`` is no order of the four.
    InvalidEventsError
        If the shape or a value is wrong.
    """
    _check_order(order)
    table = _array(array)
    if table.ndim != 2 or table.shape[1] != 4:
        msg = f"expected an array of shape (N, 4), got {table.shape}"
        raise InvalidEventsError(msg)
    columns: dict[str, ArrayLike] = {name: table[:, i] for i, name in enumerate(order)}
    if table.dtype.kind == "f" and time_unit == "us":
        t = np.rint(table[:, order.index("t")].astype(np.float64))
        if t.size and not (np.abs(t) < 2.0**62).all():
            msg = "expected finite times"
            raise InvalidEventsError(msg)
        columns["t"] = t.astype(np.int64)
    return Events.from_structured(columns, time_unit=time_unit, sort=sort)


def _structured(events: Events, dtype: np.dtype[Any]) -> NDArray[Any]:
    fields = dtype.names or ()
    if dtype["x"] == np.dtype("<i2"):
        _check_short(events)
    unsigned = any(_COLUMNS[name] == "t" and dtype[name].kind == "u" for name in fields)
    if unsigned and len(events) and int(events.t[0]) < 0:
        msg = f"expected times from 0 on, the layout is unsigned, got {int(events.t[0])} us"
        raise SettingsError(msg)
    out = np.zeros(len(events), dtype)
    for name in fields:
        out[name] = getattr(events, _COLUMNS[name])
    return out


def _check_short(events: Events) -> None:
    for name in "xy":
        column = getattr(events, name)
        if column.size and int(column.max()) > 32767:
            msg = f"expected {name} up to 32767, the layout has 16 bits and a sign, got"
            msg = f"{msg} {int(column.max())}"
            raise SettingsError(msg)


def _check_order(order: str) -> None:
    if sorted(order) != sorted("xytp"):
        msg = f"expected an order of the letters x, y, t, p, got {order!r}"
        raise SettingsError(msg)


def _array(values: Any) -> NDArray[Any]:
    """View values as a NumPy array: by DLPack where NumPy cannot read them itself."""
    if isinstance(values, np.ndarray) or not hasattr(values, "__dlpack__"):
        return np.asarray(values)
    try:
        return np.from_dlpack(values)
    except (BufferError, RuntimeError, TypeError, ValueError) as err:
        found = type(values).__name__
        msg = f"expected a tensor on the CPU that gives its memory away, got a {found} ({err})"
        raise SettingsError(msg) from err
