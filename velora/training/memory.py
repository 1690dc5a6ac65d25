"""What a run needs of memory, and the largest batch that fits where it does not."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable

import torch

from eventkit.errors import EventKitError


class OutOfMemoryError(EventKitError):
    """The memory of the machine or the device ran out."""


def peak_bytes(device: torch.device) -> int:
    """Return the most that was held at once: of a CUDA device's memory, else of the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out; torch has no type for it on a CPU."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def largest_that_fits(attempt: Callable[[int], object], size: int) -> int:
    """Halve a size that did not fit until it does; 0 if not even 1 fits.

    Parameters
    ----------
    attempt : callable
        Does the work for a size, and raises where memory runs out.
    size : int
        What did not fit.
    """
    while size > 1:
        size //= 2
        torch.cuda.empty_cache()
        try:
            attempt(size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return size
    return 0
