"""What a run needs of memory, and the largest batch that fits where it does not."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from eventkit.errors import EventKitError
from velora.out_of_memory import is_out_of_memory
from velora.training.optim import trained_parameters


class OutOfMemoryError(EventKitError):
    """The memory of the machine or the device ran out."""


def peak_bytes(device: torch.device) -> int:
    """Return the most that was held at once: of a CUDA device's memory, else of the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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


def room_of_later_steps(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Take the memory that a later part of a later step finds taken, until what is returned goes.

    Gradients, which the parts before have left, and AdamW's two moments, which the first step
    makes: a batch that fills the memory of a first step would not fit in the second.
    """
    moments = []
    for parameter in trained_parameters(optimizer):
        parameter.grad = torch.zeros_like(parameter)
        if parameter not in optimizer.state:
            moments += [torch.zeros_like(parameter) for _ in range(2)]
    return moments
