"""A process that was started to train for another one ends with it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(starter: int) -> None:
    """End this process as soon as its parent ends, however that ends; on Linux only.

    Everything that a run writes is written whole, so an end at any moment is safe.

    Parameters
    ----------
    starter : int
        The parent's process id. One that is gone already has left this process to another parent,
        of whose end the system would tell.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != starter:
        os.kill(os.getpid(), signal.SIGKILL)
