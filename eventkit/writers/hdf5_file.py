"""An HDF5 file that is being written, and a disk that may be full.

The HDF5 library ends the process (SIGSEGV) where a write fails while it closes a file. So it
writes through a file of Python's that takes everything; after a fault nothing more goes to the
disk, and the fault is raised once the library has let go.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from eventkit._optional import require


def library() -> Any:
    """Import h5py."""
    return require("h5py", extra="hdf5", purpose="writing HDF5 files")


@contextmanager
def created(path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Make an HDF5 file.

    Yields
    ------
    root : h5py.File
    check : callable
        Raises the first fault there was, so that a long writing ends early.

    Raises
    ------
    OSError
        If anything could not be written.
    """
    h5py = library()
    with path.open("w+b", buffering=0) as file:
        out = _Output(file)
        try:
            with h5py.File(out, "w", libver=("earliest", "v110")) as root:
                yield root, out.check
        except (OSError, RuntimeError, ValueError, KeyError) as err:
            if out.fault is not None and err is not out.fault:
                # What was not written cannot be read again.
                raise out.fault from err
            raise
        out.check()


class _Output(io.RawIOBase):
    """What the library writes to: a file until the first fault, then nothing."""

    def __init__(self, file: BinaryIO) -> None:
        self.fault: OSError | None = None
        self._file = file

    def check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._file.read(len(view))
        view[: len(data)] = data
        view[len(data) :] = bytes(len(view) - len(data))
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view) and self.fault is None:
            written += self._try(self._file.write, view[written:])
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._try(self._file.truncate, size)
        return size or 0

    def _try(self, change: Callable[[Any], int], value: Any) -> int:
        if self.fault is None:
            try:
                return change(value)
            except OSError as err:
                self.fault = err
        return 0
