"""Events: four columns, checked once, never mutated.

Columns rather than one structured array: kernels read each column contiguously (copying columns
out of a structured array costs as much as counting them). `Events.from_structured` takes the
layouts of other libraries by name, never by position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventkit.errors import InvalidEventsError, SettingsError

EVENT_DTYPE = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "<i1")])

_Scalar = TypeVar("_Scalar", bound=np.generic)
TimeUnit = Literal["s", "ms", "us", "ns"]

_NAMES = {
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "t": ("t", "ts", "timestamp", "timestamps", "time"),
    "p": ("p", "on", "polarity", "pol", "ps", "polarities"),
}
FIELD_NAMES = tuple(name for names in _NAMES.values() for name in names)
_MICROSECONDS: dict[str, float] = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}


class Events:
    """A stream of events in time order.

    Parameters
    ----------
    x, y : (N,) integers
        Column and row, origin top left, 0..65535. Stored as uint16.
    t : (N,) integers, microseconds
        Not decreasing. Stored as int64.
    p : (N,) bool or integers
        Polarity: {0, 1}, {-1, 1} or bool; 0 is OFF. Stored as int8 in {0, 1}.

    Raises
    ------
    InvalidEventsError
        If lengths differ, a value does not fit or times step back; names the first such event.

    Notes
    -----
    Arrays that have the right type already are not copied; the views kept here are read-only, the
    caller's arrays stay as they are.

    Examples
    --------
    >>> ev = Events(x=[0, 3], y=[1, 2], t=[10, 25], p=[True, False])
    >>> len(ev), ev[1:].t.tolist()
    (2, [25])
    """

    __slots__ = ("p", "t", "x", "y")

    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t: NDArray[np.int64]
    p: NDArray[np.int8]

    def __init__(self, *, x: ArrayLike, y: ArrayLike, t: ArrayLike, p: ArrayLike) -> None:
        columns = {"x": _column(x, "x"), "y": _column(y, "y"), "t": _column(t, "t")}
        columns["p"] = _column(p, "p")
        _check_lengths(columns)
        self.x = _frozen(_coordinates(columns["x"], "x"))
        self.y = _frozen(_coordinates(columns["y"], "y"))
        self.t = _frozen(_times(columns["t"]))
        self.p = _frozen(polarities(columns["p"]))
        _check_order(self.t)

    @classmethod
    def from_checked(
        cls,
        x: NDArray[np.uint16],
        y: NDArray[np.uint16],
        t: NDArray[np.int64],
        p: NDArray[np.int8],
    ) -> Events:
        """Wrap columns that are known to be right: no check, no copy."""
        self = object.__new__(cls)
        self.x, self.y, self.t, self.p = _frozen(x), _frozen(y), _frozen(t), _frozen(p)
        return self

    @classmethod
    def empty(cls) -> Events:
        """A stream without events."""
        return cls.from_checked(
            np.empty(0, np.uint16),
            np.empty(0, np.uint16),
            np.empty(0, np.int64),
            np.empty(0, np.int8),
        )

    @classmethod
    def from_structured(
        cls,
        data: NDArray[Any] | Mapping[str, ArrayLike],
        *,
        time_unit: TimeUnit = "us",
        sort: bool = False,
    ) -> Events:
        """Take a structured array or a mapping of columns, by field name.

        Parameters
        ----------
        data : structured (N,) array, or mapping name -> (N,) array
            Accepted names: ``x | xs | x_pos``, ``y | ys | y_pos``, ``t | ts | timestamp |
            timestamps | time``, ``p | on | polarity | pol | ps | polarities``. This covers tonic,
            aedat and faery (``on``), dv (``timestamp``, ``polarity``), expelliarmus, Metavision,
            DSEC (a scalar ``t_offset`` beside the columns is added), SpikingJelly and N-ImageNet.
        time_unit : {"us", "s", "ms", "ns"}
            Unit of the time column; float times in microseconds are refused, since float32
            seconds lose microseconds: say what they are.
        sort : bool
            Sort by time, stable, instead of raising for a backward step.

        Raises
        ------
        InvalidEventsError
            If a column is missing, named twice, or breaks the rules of `Events`.
        """
        if not isinstance(data, np.ndarray | Mapping):
            found = type(data).__name__  # type: ignore[unreachable]
            msg = f"expected a structured array or a mapping of columns, got {found}"
            raise InvalidEventsError(msg)
        names = tuple(data.dtype.names or ()) if isinstance(data, np.ndarray) else tuple(data)
        columns = {column: np.asarray(data[name]) for column, name in field_names(names).items()}
        _check_lengths(columns)
        t = to_microseconds(columns["t"].reshape(-1), time_unit)
        if "t_offset" in names:
            t = _shifted(t, int(np.asarray(data["t_offset"]).item()))
        columns["t"] = t
        if sort:
            order = np.argsort(t, kind="stable")
            columns = {name: column.reshape(-1)[order] for name, column in columns.items()}
        return cls(**columns)

    @classmethod
    def concatenate(cls, parts: Iterable[Events]) -> Events:
        """Join streams that follow each other in time."""
        found = [part for part in parts if len(part)]
        if not found:
            return cls.empty()
        if len(found) == 1:
            return found[0]
        joined = cls.from_checked(
            np.concatenate([part.x for part in found]),
            np.concatenate([part.y for part in found]),
            np.concatenate([part.t for part in found]),
            np.concatenate([part.p for part in found]),
        )
        _check_order(joined.t)
        return joined

    def to_structured(self) -> NDArray[Any]:
        """Return a (N,) copy with dtype `EVENT_DTYPE`."""
        out = np.empty(len(self), EVENT_DTYPE)
        out["x"], out["y"], out["t"], out["p"] = self.x, self.y, self.t, self.p
        return out

    def __len__(self) -> int:
        return int(self.t.size)

    @overload
    def __getitem__(self, item: slice) -> Events: ...
    @overload
    def __getitem__(self, item: NDArray[np.bool_]) -> Events: ...
    def __getitem__(self, item: slice | NDArray[np.bool_]) -> Events:
        """Events of a slice (views) or of a boolean mask (copies)."""
        if isinstance(item, slice):
            if item.step is not None and item.step < 1:
                msg = f"expected a slice that goes forward in time, got step {item.step}"
                raise InvalidEventsError(msg)
        elif not (isinstance(item, np.ndarray) and item.dtype == np.bool_):
            msg = f"expected a slice or a boolean mask, got {type(item).__name__}"
            raise InvalidEventsError(msg)
        return Events.from_checked(self.x[item], self.y[item], self.t[item], self.p[item])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Events):
            return NotImplemented
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in _NAMES)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not len(self):
            return "Events(0)"
        return f"Events({len(self)}, t={int(self.t[0])}..{int(self.t[-1])} us)"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Events.from_checked, (self.x, self.y, self.t, self.p))


def _column(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1:
        msg = f"expected column {name!r} of shape (N,), got {array.shape}"
        raise InvalidEventsError(msg)
    return array


def _frozen(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _first(bad: NDArray[np.bool_]) -> int:
    return int(np.argmax(bad))


def _coordinates(values: NDArray[Any], name: str) -> NDArray[np.uint16]:
    if values.dtype == np.uint16:
        return values
    if values.size == 0:
        return np.empty(0, np.uint16)
    if values.dtype.kind not in "iu":
        whole = values.dtype.kind == "f" and bool(np.all(values == np.floor(values)))
        if not whole:
            msg = f"expected whole pixel numbers in {name!r}, got dtype {values.dtype}"
            raise InvalidEventsError(msg)
    bad = (values < 0) | (values > 65535)
    if bad.any():
        i = _first(bad)
        msg = f"expected {name!r} in 0..65535, got {values[i]} at event {i}"
        raise InvalidEventsError(msg)
    return values.astype(np.uint16)


def _times(values: NDArray[Any]) -> NDArray[np.int64]:
    if values.dtype == np.int64:
        return values
    if values.size == 0:
        return np.empty(0, np.int64)
    if values.dtype.kind not in "iu":
        msg = (
            f"expected integer microseconds in 't', got dtype {values.dtype}; "
            "Events.from_structured(..., time_unit='s') converts seconds"
        )
        raise InvalidEventsError(msg)
    # Unsigned times make t - t0 wrap, so they are cast at the door.
    if values.dtype.kind == "u" and bool((values > np.iinfo(np.int64).max).any()):
        i = _first(values > np.iinfo(np.int64).max)
        msg = f"expected 't' below 2^63, got {values[i]} at event {i}"
        raise InvalidEventsError(msg)
    return values.astype(np.int64)


def polarities(values: NDArray[Any]) -> NDArray[np.int8]:
    """Bring polarities given as bool, {0, 1} or {-1, 1} to int8 in {0, 1}."""
    if values.dtype == np.bool_:
        # A bool that comes from a buffer may hold any byte.
        return np.asarray(values.view(np.uint8) != 0).astype(np.int8)
    if values.size == 0:
        return np.empty(0, np.int8)
    if values.dtype.kind not in "iuf":
        msg = f"expected 'p' as bool, {{0, 1}} or {{-1, 1}}, got dtype {values.dtype}"
        raise InvalidEventsError(msg)
    signed = values.dtype.kind in "if" and bool((values == -1).any())
    low = -1 if signed else 0
    bad = (values != low) & (values != 1)
    if bad.any():
        i = _first(bad)
        msg = f"expected 'p' in {{{low}, 1}}, got {values[i]} at event {i}"
        raise InvalidEventsError(msg)
    if values.dtype == np.int8 and not signed:
        return values
    return (values > 0).astype(np.int8)


def to_microseconds(t: NDArray[Any], unit: TimeUnit) -> NDArray[np.int64]:
    """Bring times in ``unit`` to int64 microseconds; floats are rounded to the nearest."""
    if unit not in _MICROSECONDS:
        msg = f"expected time_unit among {', '.join(_MICROSECONDS)}, got {unit!r}"
        raise SettingsError(msg)
    if unit == "us":
        return _times(t)
    if t.dtype.kind in "iu":
        t = _times(t)
        if unit == "ns":
            return t // 1000
        factor = int(_MICROSECONDS[unit])
        if t.size and max(abs(int(t.min())), abs(int(t.max()))) * factor >= 2**63:
            msg = f"expected times in {unit} within 2^63 us, got {t.min()} .. {t.max()}"
            raise InvalidEventsError(msg)
        return t * factor
    if t.dtype.kind != "f":
        msg = f"expected numbers in 't', got dtype {t.dtype}"
        raise InvalidEventsError(msg)
    scaled = np.rint(t.astype(np.float64) * _MICROSECONDS[unit])
    if scaled.size and not np.all(np.abs(scaled) < 2.0**62):
        msg = f"expected finite times in {unit}, got {t[_first(~(np.abs(scaled) < 2.0**62))]}"
        raise InvalidEventsError(msg)
    return scaled.astype(np.int64)


def _check_order(t: NDArray[np.int64]) -> None:
    if t.size < 2:
        return
    back = t[1:] < t[:-1]
    if back.any():
        i = _first(back) + 1
        msg = (
            f"expected times that do not decrease, got {t[i]} us after {t[i - 1]} us at event {i}; "
            "Events.from_structured(..., sort=True) sorts"
        )
        raise InvalidEventsError(msg)


def _check_lengths(columns: Mapping[str, NDArray[Any]]) -> None:
    lengths = {name: column.size for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        msg = f"expected four columns of one length, got {lengths}"
        raise InvalidEventsError(msg)


def _shifted(t: NDArray[np.int64], offset: int) -> NDArray[np.int64]:
    if t.size and not (int(t.min()) + offset >= -(2**63) and int(t.max()) + offset < 2**63):
        msg = f"expected times and t_offset within 2^63 us together, got an offset of {offset}"
        raise InvalidEventsError(msg)
    return t + np.int64(offset) if t.size else t


def field_names(names: tuple[str, ...]) -> dict[str, str]:
    """Map ``x, y, t, p`` to the names they go by among ``names``.

    Raises
    ------
    InvalidEventsError
        If a column has none or more than one of its known names.
    """
    return {column: _find(names, column) for column in _NAMES}


def _find(names: tuple[str, ...], column: str) -> str:
    found = [name for name in _NAMES[column] if name in names]
    if len(found) != 1:
        trouble = "none" if not found else " and ".join(found)
        msg = (
            f"expected one field for {column!r} among {', '.join(_NAMES[column])}, got {trouble}; "
            f"the fields are {', '.join(names) or 'none'}"
        )
        raise InvalidEventsError(msg)
    return found[0]
