"""The unit of times of pictures: as a header or the caller says, else by how cameras step.

Whole numbers are microseconds, unless that would be a date past the year 5000 or a picture every
20 s, which nanoseconds are. Numbers with a fraction are in the unit that makes the step between
two pictures less than five seconds: a camera, not a clock tower. All on decimals: seconds since
1970 as a float64 have no room for microseconds.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import cast

from eventkit.events import TimeUnit

UNIT_NS: dict[TimeUnit, int] = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
UNIT_NAMES: dict[TimeUnit, str] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}

_SLOWEST_NS = 1000 * 10**9

NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{0,30})?([eE][+-]?\d{1,2})?")
WHOLE = re.compile(r"[+-]?\d+")
_UNIT_WORD = re.compile(
    r"(?:[_\[(]|\bin )(us|ns|ms|s)\b|\b(micro|nano|milli)?sec(?:ond)?s?\b|\b([unm])secs?\b",
    re.IGNORECASE,
)


def tell_unit(
    rows: list[list[str]], header: str, time_unit: TimeUnit | None
) -> tuple[TimeUnit, str]:
    """Return the unit of rows of numbers, and why it is that one.

    Parameters
    ----------
    rows : list of lists of str
        One or two numbers each, in time order.
    header : str
        Comments and column names.
    time_unit : {"us", "s", "ms", "ns"}, optional
        What the caller says.

    Returns
    -------
    unit : {"us", "s", "ms", "ns"}
    why : str
        Words to follow the unit's name; empty for microseconds, which are what is expected.
    """
    if time_unit is not None:
        return time_unit, " as given"
    values = [Decimal(row[0]) for row in rows]
    step = median_step(values)
    word = _UNIT_WORD.search(header)
    # "a film of 60 seconds" names no unit of what follows: pictures that far apart are no film.
    if word is not None and step * UNIT_NS[_spelled(word)] < _SLOWEST_NS:
        return _spelled(word), " by its header"
    if all(WHOLE.fullmatch(cell) for row in rows for cell in row):
        return _of_whole(abs(int(values[-1])), step)
    limits: tuple[tuple[TimeUnit, int], ...] = (("s", 5), ("ms", 5_000), ("us", 5_000_000))
    unit: TimeUnit = next((unit for unit, most in limits if step < most), "ns")
    return unit, f" taken from steps of {float(step):.6g}; --time-unit overrides"


def _spelled(word: re.Match[str]) -> TimeUnit:
    """Return the unit that a header names in one of the ways that are usual."""
    if word[1]:
        return cast("TimeUnit", word[1].lower())
    if word[3]:
        return cast("TimeUnit", f"{word[3].lower()}s")
    units: dict[str, TimeUnit] = {"micro": "us", "nano": "ns", "milli": "ms"}
    return units.get((word[2] or "").lower(), "s")


def _of_whole(last: int, step: Decimal) -> tuple[TimeUnit, str]:
    """Whole numbers are microseconds, but for a date past 5000 or a frame every 20 s."""
    if last >= 10**17 or step >= 20_000_000:
        return "ns", f" taken from times of {last} and steps of {int(step)}; --time-unit overrides"
    if 0 < step < 100:
        return "us", f", which makes {int(step)} us between pictures; is --time-unit ms?"
    return "us", ""


def median_step(values: list[Decimal]) -> Decimal:
    """Median step; 0 for one picture."""
    steps = sorted(b - a for a, b in pairwise(values))
    return steps[len(steps) // 2] if steps else Decimal(0)


def exact_us(cell: str, unit: TimeUnit) -> int:
    """Bring one number to microseconds without a float: whole ones down, others to the nearest."""
    if WHOLE.fullmatch(cell):
        return int(cell) * UNIT_NS[unit] // 1000
    scaled = Decimal(cell) * UNIT_NS[unit] / 1000
    return int(scaled.to_integral_value(ROUND_HALF_EVEN))
