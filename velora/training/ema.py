"""A moving average of what trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """The exponential average of parameters over the updates.

    The decay of update n is at most (1 + n) / (10 + n), so that the start, which is arbitrary, is
    forgotten early (as in TensorFlow's and timm's averages).

    Parameters
    ----------
    parameters : sequence of Parameter
    decay : float
        0 keeps no average: the parameters stand for themselves.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._parameters = list(parameters)
        self.averages: list[Tensor] = []
        if decay > 0:
            self.averages = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are after an update."""
        if not self.averages:
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.averages, self._parameters, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the parameters for the length of a block."""
        if not self.averages:
            yield
            return
        own = [p.detach().clone() for p in self._parameters]
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(own)

    def state(self) -> dict[str, object]:
        """Return what a checkpoint keeps."""
        return {"updates": self.updates, "averages": [t.cpu() for t in self.averages]}

    @torch.no_grad()
    def load(self, state: dict[str, object]) -> None:
        """Go on from what `state` gave."""
        averages = state["averages"]
        assert isinstance(averages, list)
        for own, kept in zip(self.averages, averages, strict=True):
            own.copy_(kept)
        self.updates = int(str(state["updates"]))

    @torch.no_grad()
    def _put(self, tensors: Sequence[Tensor]) -> None:
        for parameter, tensor in zip(self._parameters, tensors, strict=True):
            parameter.copy_(tensor)
