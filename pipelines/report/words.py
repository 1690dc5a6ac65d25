"""Numbers and names as words, short enough for a table."""

from __future__ import annotations

_LONGEST = 120
_TIMES = ((1_000_000, "s"), (1_000, "ms"), (1, "\N{MICRO SIGN}s"))
_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "bytes"))
_RATES = ((10**9, "G/s"), (10**6, "M/s"), (10**3, "k/s"), (1, "/s"))


def number(value: int) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,}"


def share(part: int, whole: int) -> str:
    """Return a share in percent; what is not nothing does not look like nothing.

    Examples
    --------
    >>> share(1, 3), share(1, 10**6), share(0, 0)
    ('33.3 %', '< 0.1 %', '0 %')
    """
    if not part or not whole:
        return "0 %"
    percent = 100 * part / whole
    if percent < 0.1:
        return "< 0.1 %"
    if part < whole and percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def duration(us: int) -> str:
    """Return a time in a unit that suits it.

    Examples
    --------
    >>> duration(315_000), duration(1_250_000)
    ('315 ms', '1.25 s')
    """
    return _scaled(us, _TIMES)


def size(num_bytes: int) -> str:
    """Return a number of bytes in a unit that suits it."""
    return _scaled(num_bytes, _SIZES)


def rate(per_second: int) -> str:
    """Return events a second in a unit that suits it."""
    return _scaled(per_second, _RATES)


def cut(text: str, most: int = _LONGEST) -> str:
    """Return text that is at most so long; what was cut is marked."""
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _scaled(value: int, units: tuple[tuple[int, str], ...]) -> str:
    for step, unit in units:
        if value >= step:
            return f"{value / step:.4g}{'' if unit.startswith('/') else ' '}{unit}"
    return f"0 {units[-1][1]}"
