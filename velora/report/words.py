"""Numbers and names as words."""

from __future__ import annotations

from velora.scoring.accuracy import Accuracy

_LONGEST = 80


def number(value: int) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,}"


def percent(share: float) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> percent(0.9715)
    '97.2 %'
    """
    return f"{100 * share:.1f} %"


def with_error(share: float, error: float) -> str:
    """Return a share and its standard error in percent."""
    return f"{100 * share:.1f} \N{PLUS-MINUS SIGN} {100 * error:.1f} %"


def interval(low: float, high: float) -> str:
    """Return an interval in percent."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def of(one: Accuracy) -> str:
    """Return an accuracy by its counts."""
    return f"{number(one.hits)} of {number(one.samples)}" if one.samples else "no clips"


def p_value(p: float) -> str:
    """Return a p value with as many digits as mean something.

    Examples
    --------
    >>> p_value(0.25), p_value(0.0123), p_value(1e-9)
    ('0.25', '0.012', '< 0.001')
    """
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def cut(text: str, most: int = _LONGEST) -> str:
    """Return text that is at most so long; what was cut is marked."""
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
