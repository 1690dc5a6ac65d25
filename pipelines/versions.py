"""Which code wrote the output."""

from __future__ import annotations

import hashlib
import platform
import zlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import eventkit

_LIBRARIES = ("numpy", "numba", "zarr", "numcodecs", "pillow", "av", "lz4", "deflate")
# The bytes do not depend on these, but whether a task arrives and whether a file can be opened.
_BESIDE = ("dask", "distributed", "h5py", "hdf5plugin", "zstandard", "rosbags", "polars", "pyarrow")


def code_versions() -> dict[str, str]:
    """Return the versions that the bytes may depend on; equality is promised for equal ones."""
    found = {"eventkit": eventkit.__version__, "python": platform.python_version()}
    found.update(_installed(_LIBRARIES))
    found["zlib"] = zlib.ZLIB_RUNTIME_VERSION
    return found


def installation() -> dict[str, str]:
    """Return what workers on different machines must have in common, the source code included."""
    return {**code_versions(), **_installed(_BESIDE), "source code": _source_digest()}


def _installed(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _source_digest() -> str:
    """Return a hash of the Python files of eventkit and pipelines: a checkout has no version."""
    digest = hashlib.sha256()
    for package in (Path(eventkit.__file__).parent, Path(__file__).parent):
        for path in sorted(package.rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
