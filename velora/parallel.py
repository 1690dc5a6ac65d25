"""Several processes train one model: who is who, and what they tell each other.

Only sums of gradients, counts and small results go between processes, so a frozen trunk costs
nothing. Sums are divided by counts over all processes: shares of unequal size give the loss and the
gradient of one process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from eventkit.errors import EventKitError, SettingsError
from velora.orphan import die_with

T = TypeVar("T")

PEER_LOST = 75
"""Exit code of a process that ends because another one did."""

QUIET_PEERS = "VELORA_QUIET_PEERS"
"""Set by `velora.training.launch`, which shows the message of the process that ended first."""

# Longer than the slowest epoch's evaluation may keep one process waiting for another; a process
# that died is noticed at once by its closed connection, or by torchrun.
_TIMEOUT = timedelta(hours=1)
_GRACE_S = 5.0
_TURN_S = 1.0


class PeerLostError(EventKitError):
    """Another process of the run ended; its own message says why."""

    exit_code = PEER_LOST


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of the processes that train together this one is; by default it is alone."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Return this process's own device of a kind.

        Raises
        ------
        SettingsError
            If there are fewer GPUs than processes.
        """
        if device.type != "cuda" or self.world_size == 1:
            return device
        if self.local_rank >= torch.cuda.device_count():
            msg = (
                f"expected a GPU for each process, got {torch.cuda.device_count()} for process "
                f"{self.local_rank + 1}; lower --devices"
            )
            raise SettingsError(msg)
        own = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(own)
        return own

    def sum_(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.world_size > 1:
            with _peers():
                dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Return what every process gives, in order of rank, to all of them."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        with _peers():
            dist.all_gather_object(gathered, value)
        return gathered

    def from_first(self, value: T) -> T:
        """Return what the first process gives, to all of them."""
        if self.world_size == 1:
            return value
        box: list[Any] = [value if self.is_first else None]
        with _peers():
            dist.broadcast_object_list(box)
        received: T = box[0]
        return received

    def copy_from_first_(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the values of the first one, in place."""
        if self.world_size > 1:
            with _peers(), torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def sum_gradients_(self, parameters: Sequence[nn.Parameter], extra: Tensor) -> Tensor:
        """Sum gradients over all processes in one transfer, with a few numbers more.

        A gradient that no process has stays None, as it would in one process.

        Parameters
        ----------
        parameters : sequence of Parameter
            The same on every process, in the same order.
        extra : (K,) float
            More numbers to sum.

        Returns
        -------
        (K,) float
        """
        if self.world_size == 1:
            return extra
        have = extra.new_tensor([p.grad is not None for p in parameters])
        parts = [extra, have]
        parts += [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        dtype = torch.promote_types(parameters[0].dtype, torch.float32)
        flat = self.sum_(torch.cat([part.to(dtype) for part in parts]))
        sizes = [extra.numel(), len(parameters), *(p.numel() for p in parameters)]
        total, have, *sums = torch.split(flat, sizes)
        for parameter, anywhere, grad in zip(parameters, have.tolist(), sums, strict=True):
            parameter.grad = grad.view_as(parameter).to(parameter.dtype) if anywhere else None
        return total.to(extra.dtype)


ALONE = Ranks()


def started_by_torchrun() -> bool:
    """Tell whether this process is one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device_type: str) -> Iterator[Ranks]:
    """Meet the other processes that torchrun started, by its environment; alone without them.

    Parameters
    ----------
    device_type : {"cpu", "cuda"}
        NCCL talks between GPUs; counts and small results stay with gloo on the CPU, so that nobody
        waits for his GPU over them.
    """
    if not started_by_torchrun():
        yield ALONE
        return
    die_with(os.getppid())
    ranks = Ranks(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    with _peers():
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield ranks
    except PeerLostError:
        # The other one is about to say why; torchrun ends this one as soon as it has.
        time.sleep(_GRACE_S)
        if QUIET_PEERS in os.environ:
            os._exit(PEER_LOST)
        raise
    except EventKitError:
        # What all refuse is said by the first, and torchrun ends the others as soon as it was.
        if not ranks.is_first:
            time.sleep(_TURN_S)
        raise
    # Not after an error: it would wait for processes that wait for this one.
    with _peers():
        dist.barrier()
        dist.destroy_process_group()


@contextmanager
def _peers() -> Iterator[None]:
    """Tell the loss of another process from an error of this one."""
    try:
        yield
    except RuntimeError as error:  # what gloo, NCCL and the store raise
        msg = f"another process of this run ended, and its own message says why ({error})"
        raise PeerLostError(msg.splitlines()[0]) from error
