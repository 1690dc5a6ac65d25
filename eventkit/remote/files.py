"""Objects of a remote store as files that are read."""

from __future__ import annotations

import io
import os
from typing import Any

from eventkit._optional import require
from eventkit.errors import SettingsError
from eventkit.remote.faults import remote_faults


def filesystem_of(url: str, *, shown: str, **options: Any) -> tuple[Any, str]:
    """Return what fsspec opens for a URL, and the path in it; asks no store.

    Raises
    ------
    SettingsError
        If fsspec opens no such URL; names ``shown``.
    """
    fsspec = require("fsspec", extra="remote", purpose="URLs")
    try:
        store, path = fsspec.core.url_to_fs(url, **options)
    except (ValueError, ImportError) as err:  # no such protocol, or its package is missing
        msg = f"{shown}: expected a path or a URL that fsspec opens ({err})"
        raise SettingsError(msg) from err
    return store, str(path)


def remote_place(name: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it.

    Raises
    ------
    SettingsError
        If fsspec opens no such URL.
    MissingDataError
        If nothing is there.
    OSError
        If the store does not answer.
    """
    with remote_faults(name):
        store, path = filesystem_of(name, shown=name)
        if not store.exists(path):
            raise FileNotFoundError
    return store, path


class RemoteFile(io.BufferedIOBase):
    """A file of a remote store, whose faults are those of `remote_faults`.

    Parameters
    ----------
    file : file object
        Binary, as fsspec opens it; closed with this one.
    name : str
        The URL, for the message.
    """

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes, all without one."""
        with remote_faults(self._name):
            return bytes(self._file.read(-1 if size is None else size))

    read1 = read

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, as far as the file goes."""
        with remote_faults(self._name):
            return int(self._file.readinto(buffer))

    readinto1 = readinto

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return whether the store gives parts of an object."""
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a byte."""
        with remote_faults(self._name):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the byte that is read next."""
        return int(self._file.tell())

    def close(self) -> None:
        """Close the file of the store as well."""
        if not self.closed:
            self._file.close()
        super().close()
