"""Times in words: bins in milliseconds, with as many decimals as tell them apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.render.canvas import first_that_fits


def decimals(windows_us: NDArray[np.int64]) -> int:
    """Return how many decimals of a millisecond these windows need, 0 to 3."""
    shortest = int((windows_us[:, 1] - windows_us[:, 0]).min())
    if not (windows_us % 1000).any():
        return 0
    return 1 if shortest >= 1000 else 3


def milliseconds(time_us: int, digits: int) -> str:
    """Write a time in milliseconds, without its unit.

    Examples
    --------
    >>> milliseconds(12_500, 1)
    '12.5'
    """
    return f"{time_us / 1000:.{digits}f}"


def span_text(start_us: int, stop_us: int, digits: int) -> str:
    """Write a window.

    Examples
    --------
    >>> span_text(0, 12_500, 1)
    '0.0 - 12.5 ms'
    """
    return f"{milliseconds(start_us, digits)} - {milliseconds(stop_us, digits)} ms"


def captions(windows_us: NDArray[np.int64] | None, bins: int, width: int) -> list[str]:
    """Return what stands over the bins, at most ``width`` pixels each.

    The window in milliseconds, shortened where cells are narrow; without windows the bin's number.
    """
    if windows_us is None:
        return [first_that_fits([f"bin {k}", str(k)], width) for k in range(bins)]
    digits = decimals(windows_us)
    found = []
    for start, stop in windows_us.tolist():
        whole = span_text(start, stop, digits)
        texts = [whole, whole.removesuffix(" ms"), milliseconds(start, digits)]
        found.append(first_that_fits(texts, width))
    return found
