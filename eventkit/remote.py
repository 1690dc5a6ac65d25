"""Objects behind a URL: what a library of a remote store raises, in our words.

fsspec promises `OSError` for what goes wrong, and the libraries under it do not keep that: those of
botocore, for one, are bare exceptions, and stores that nobody here knows have others.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eventkit._optional import require
from eventkit.errors import EventKitError, MissingDataError, SettingsError

_WHO = re.compile(r"Credential|Token|Auth|Profile|AccessDenied|Forbidden", re.IGNORECASE)
_LONGEST = 300


@contextmanager
def remote_faults(name: str) -> Iterator[None]:
    """Turn whatever a remote store raises into one sentence.

    Parameters
    ----------
    name : str
        The URL, for the message.

    Raises
    ------
    MissingDataError
        If nothing is there.
    SettingsError
        If it may not be read by whoever asks.
    OSError
        Everything else, as a network that does not answer.
    """
    try:
        yield
    except EventKitError:
        raise
    except FileNotFoundError as err:
        msg = f"{name}: no such object"
        raise MissingDataError(msg) from err
    except PermissionError as err:
        raise _not_allowed(name, err) from err
    except OSError:
        raise
    except Exception as err:
        # Any class can come from a remote library, and none may be imported to be named here.
        if _WHO.search(type(err).__name__):
            raise _not_allowed(name, err) from err
        msg = f"expected the store to answer, got {_told(err)}; check its address and the network"
        raise OSError(errno.EIO, msg, name) from err


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
    fsspec = require("fsspec", extra="remote", purpose="reading URLs")
    with remote_faults(name):
        try:
            store, path = fsspec.core.url_to_fs(name)
        except (ValueError, ImportError) as err:  # no such protocol, or its package is missing
            msg = f"{name}: expected a path or a URL that fsspec opens ({err})"
            raise SettingsError(msg) from err
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


def _not_allowed(name: str, err: Exception) -> SettingsError:
    msg = (
        f"{name}: expected an object that may be read, got {_told(err)}; give the credentials of "
        "its store, for S3 as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
    )
    return SettingsError(msg)


def _told(err: Exception) -> str:
    text = " ".join(str(err).split())[:_LONGEST]
    return f"{type(err).__name__} ({text})" if text else type(err).__name__
