"""Which code wrote the output."""

from __future__ import annotations

import platform
import zlib
from importlib.metadata import PackageNotFoundError, version

import eventkit

_LIBRARIES = ("numpy", "numba", "zarr", "numcodecs", "pillow", "av", "lz4")


def code_versions() -> dict[str, str]:
    """Return the versions that the bytes may depend on; equality is promised for equal ones."""
    found = {"eventkit": eventkit.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["zlib"] = zlib.ZLIB_RUNTIME_VERSION
    return found
