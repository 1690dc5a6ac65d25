"""What a run needs of memory."""

from __future__ import annotations

import resource
import sys

import torch
from torch import Tensor

from velora.training.optim import trained_parameters


def peak_bytes(device: torch.device) -> int:
    """Return the most that was held at once: of a CUDA device's memory, else of the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
