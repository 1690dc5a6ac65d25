"""The unit of times that come without one: told by evidence, or refused.

Cameras write microseconds. Files made from ROS bags and by the tools around E2VID hold seconds as
floats, simulators nanoseconds, and hardly any of them says so. What can be told:

- past `TOO_LATE` they are nanoseconds since 1970: anything else would be 3,000 years;
- other integers are microseconds, unless more than `FASTEST` events a second would follow: the
  fastest sensor on the market gives 1.066 G events/s (Prophesee IMX636 data sheet). A quiet camera
  gives as few as one likes, so nothing follows from a low rate but a word about nanoseconds;
- floats without fractions are microseconds too: nobody keeps times to the whole second;
- times with fractions are seconds where they are whole millionths: clocks tick in microseconds.
  In whole thousandths they may be milliseconds as well, and finer ones come from simulators: these
  are seconds only where that gives at least `LIVELY` events a second.

What would need a guess beyond that is refused, with the option that says it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError, SettingsError
from eventkit.events import TimeUnit

UNITS: dict[TimeUnit, float] = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
"""Microseconds in one of each."""

SLOWEST, LIVELY, FASTEST = 10.0, 1e3, 2e9
ENOUGH = 100
"""Events from which on a rate says something."""
DIFFERENT = 16
"""Whole numbers that seconds or milliseconds would hardly have."""
NEARLY_ALL = 0.98
TOO_LATE = 10**17
LONGEST_S = 1e10
"""Past this a number is no count of seconds: 317 years; clocks since 1970 stand at 1.8e9."""

_LAST = 2.0**62


def guess_unit(t: NDArray[Any], *, given: TimeUnit | None, name: str) -> tuple[TimeUnit, str]:
    """Tell the unit of times.

    Parameters
    ----------
    t : (N,) integers or floats
        Raw times, or the first some thousand of them; single damaged ones do no harm.
    given : {"us", "s", "ms", "ns"}, optional
        What the caller says; it is believed, unless most times are past 2^62 us by it.
    name : str
        Name of the file, for the error.

    Returns
    -------
    unit : {"us", "s", "ms", "ns"}
    why : str
        The reason in words, for ``recording.notes``.

    Raises
    ------
    FormatError
        If the times allow more than one unit, none, or not the given one; it names ``--time-unit``.

    Examples
    --------
    >>> guess_unit(np.array([0.000125, 0.000131]), given=None, name="a.h5")
    ('s', 'times are whole millionths, as seconds of a camera are')
    >>> guess_unit(np.array([125, 131]), given=None, name="a.h5")
    ('us', 'times are integers')
    """
    if given is not None:
        _check_given(t, given, name)
        return given, "given"
    if t.dtype.kind not in "iuf":
        msg = f"expected times as numbers, got dtype {t.dtype}"
        raise FormatError(msg, path=name, reason="bad_value")
    sound = t[np.isfinite(t)] if t.dtype.kind == "f" else t
    if not sound.size:
        return ("s", "floats without an event") if t.dtype.kind == "f" else ("us", "no event")
    late = np.abs(sound.astype(np.float64)) >= TOO_LATE
    if late.mean() >= NEARLY_ALL:
        latest = float(np.median(np.abs(sound.astype(np.float64))))
        return "ns", f"times of {latest:.1e} are past the year 3000 in any other unit"
    # Where rows are shifted from a lost byte on, most may be: what stands before it tells the unit.
    sound = sound[~late]
    latest = float(np.median(np.abs(sound.astype(np.float64))))
    if t.dtype.kind != "f":
        return _of_integers(sound, name)
    # One damaged time must not decide, and a start at exactly 0.0 is common.
    fractions = float(np.mean(sound != np.floor(sound)))
    if fractions >= 0.5 or (sound.size < ENOUGH and fractions > 0):
        return _of_fractions(sound, name)
    return _of_whole_floats(sound, latest, name)


def _check_given(t: NDArray[Any], given: TimeUnit, name: str) -> None:
    """Refuse a unit by which no time would be left: every row would be told as a damaged one."""
    sound = t[np.isfinite(t)] if t.dtype.kind == "f" else t
    if t.dtype.kind not in "iuf" or not sound.size:
        return
    middle = float(np.median(np.abs(sound.astype(np.float64))))
    if middle * UNITS[given] < _LAST:
        return
    likely = "ns" if middle >= TOO_LATE else "us"
    msg = (
        f"expected times in {given}, got {middle:.16g}, which is too large for {given}: more than "
        f"64 bits of microseconds hold; --time-unit {likely} fits"
    )
    raise FormatError(msg, path=name, reason="no_time_unit")


def _in_whole(t: NDArray[Any], parts: float) -> bool | None:
    """Whether nearly all times are whole in such parts; None where floats are too coarse."""
    exact = t.astype(np.float64)
    slack = np.maximum(2 * np.spacing(np.abs(t).astype(t.dtype)).astype(np.float64) * parts, 1e-6)
    if float(np.median(slack)) > 0.05:
        return None
    scaled = exact * parts
    return bool(np.mean(np.abs(scaled - np.rint(scaled)) <= slack) >= NEARLY_ALL)


def settled_unit(
    given: TimeUnit | None, stated: TimeUnit | None, *, where: str, name: str
) -> TimeUnit | None:
    """Return the unit that the caller or the file says; None if neither does.

    Parameters
    ----------
    given, stated : {"us", "s", "ms", "ns"}, optional
        What the caller says, and the file.
    where : str
        Where the file says it, for the error.
    name : str
        Name of the file, for the error.

    Raises
    ------
    SettingsError
        If they differ: times by the wrong one would be off by a thousand.
    """
    if given is not None and stated is not None and given != stated:
        msg = f"{name}: expected no --time-unit but {stated}, as {where} says, got {given}; drop it"
        raise SettingsError(msg)
    return given if given is not None else stated


def microseconds(
    t: NDArray[Any], unit: TimeUnit
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Bring times in ``unit`` to int64 microseconds, floats rounded to the nearest.

    Parameters
    ----------
    t : (N,) integers or floats, in ``unit``
    unit : {"us", "s", "ms", "ns"}

    Returns
    -------
    t : (N,) int64, microseconds
        0 where there is no time.
    bad : (N,) bool or None
        Where the time is no number, or past 2^62 us; None where all are sound.
    """
    if t.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint(t.astype(np.float64) * UNITS[unit])
            bad = ~(np.abs(scaled) < _LAST)
        return _without(scaled, bad)
    if unit == "us" and t.dtype == np.int64:
        return t, None
    factor = 1 if unit == "ns" else int(UNITS[unit])
    top = (1 << 62) // factor
    if t.dtype.itemsize < 8 and int(np.iinfo(t.dtype).max) <= top:
        whole = t.astype(np.int64)
        return (whole // 1000 if unit == "ns" else whole * factor), None
    bad = t > np.array(top).astype(t.dtype)
    if t.dtype.kind == "i":
        bad |= t < -top
    if bad.any():
        t = np.where(bad, t.dtype.type(0), t)
    whole = t.astype(np.int64)
    return (whole // 1000 if unit == "ns" else whole * factor), bad if bad.any() else None


def _without(
    scaled: NDArray[np.float64], bad: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    if not bad.any():
        return scaled.astype(np.int64), None
    return np.where(bad, 0.0, scaled).astype(np.int64), bad


def _rate(t: NDArray[Any]) -> float | None:
    """Events for each unit of time, without the outermost twentieths; None where it says nothing.

    Sorted first: the times of a damaged file need not be in order.
    """
    if t.size < ENOUGH:
        return None
    middle = np.sort(t.astype(np.float64))[t.size // 20 : t.size - t.size // 20]
    span = float(middle[-1] - middle[0])
    return middle.size / span if span > 0 else None


def _possible(rate: float, units: tuple[TimeUnit, ...]) -> list[TimeUnit]:
    return [unit for unit in units if SLOWEST <= rate * 1e6 / UNITS[unit] <= FASTEST]


def _of_integers(t: NDArray[Any], name: str) -> tuple[TimeUnit, str]:
    rate = _rate(t)
    if rate is None:
        return "us", "times are integers"
    if rate * 1e6 > FASTEST:
        raise _undecided(rate, "integers", name)
    if rate * 1e6 >= LIVELY:
        return "us", f"times are integers, {rate * 1e6:.2g} events/s in the first rows"
    return "us", (
        f"times are integers, though {rate * 1e6:.2g} events/s in the first rows are few; as "
        f"nanoseconds they were {rate * 1e9:.2g}"
    )


def _of_fractions(t: NDArray[Any], name: str) -> tuple[TimeUnit, str]:
    rate = _rate(t)
    whole = _in_whole(t, 1e6)
    if rate is not None:
        either = _in_whole(t, 1e3) and bool(_possible(rate, ("ms",)))
        if either and rate < SLOWEST and whole:
            return "ms", f"times are whole thousandths; seconds would be {rate:.2g} events/s"
        least = LIVELY if whole is False else SLOWEST
        if either or not least <= rate <= FASTEST:
            raise _undecided(rate, "times with fractions", name)
    if whole:
        return "s", "times are whole millionths, as seconds of a camera are"
    coarse = np.spacing(np.abs(t).max()) if t.dtype.itemsize < 8 else 0.0
    if coarse > 1e-6:
        return "s", (
            f"times have fractions, as seconds have; {t.dtype} holds them in steps of "
            f"{float(coarse) * 1e6:.0f} us at the end"
        )
    return "s", "times have fractions, as seconds have"


def _of_whole_floats(t: NDArray[Any], latest: float, name: str) -> tuple[TimeUnit, str]:
    """MATLAB keeps microseconds as doubles; nobody keeps times to the whole second."""
    if latest > LONGEST_S:
        return "us", f"floats without fractions, at {latest:.1e}: too late for seconds"
    rate = _rate(t)
    many = np.unique(t).size >= DIFFERENT
    if many and (rate is None or _possible(rate, ("us",))):
        return "us", "floats without fractions, too many different ones for whole seconds"
    raise _undecided(rate, "floats without fractions", name)


def _undecided(rate: float | None, got: str, name: str) -> FormatError:
    rates = ""
    if rate is not None:
        each = (f"{rate * 1e6 / size:.2g} in {unit}" for unit, size in UNITS.items())
        rates = f" ({', '.join(each)}, as events/s)"
    msg = (
        f"expected times whose unit can be told, got {got}{rates}; "
        "--time-unit s, ms, us or ns says it"
    )
    return FormatError(msg, path=name, reason="no_time_unit")
