"""How kernels are compiled: without the interpreter lock, from a cache where one can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile with ``nogil=True, cache=True``.

    Where neither the package's folder nor the user's cache can be written (a container, a read-only
    installation) Numba refuses to cache; the kernel is then compiled once a process.
    """
    try:
        compiled = njit(nogil=True, cache=True)(function)
    except RuntimeError:
        compiled = njit(nogil=True)(function)
    return cast("Kernel", compiled)
