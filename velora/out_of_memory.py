"""Memory that ran out: what such an error looks like, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable

import torch

from eventkit.errors import EventKitError


class OutOfMemoryError(EventKitError):
    """The memory of the machine or the device ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out; torch has no type for it on a CPU."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def largest_that_fits(attempt: Callable[[int], object], size: int) -> int:
    """Return the largest size below one that did not fit; 0 if not even 1 does.

    Parameters
    ----------
    attempt : callable
        Does the work for a size, and raises where memory runs out.
    size : int
        What did not fit.
    """
    fits, fails = 0, size
    while fails - fits > 1:
        middle = (fits + fails) // 2
        torch.cuda.empty_cache()
        try:
            attempt(middle)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            fails = middle
        else:
            fits = middle
    return fits
