"""What a library of a remote store raises, in our words.

fsspec promises `OSError` for what goes wrong, and the libraries under it do not keep that: those of
botocore, for one, are bare exceptions, and stores that nobody here knows have others.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

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
    except OSError as err:
        if err.filename is None:  # libraries of stores name nothing
            err.filename = name
        raise
    except Exception as err:
        # Any class can come from a remote library, and none may be imported to be named here.
        if _WHO.search(type(err).__name__):
            raise _not_allowed(name, err) from err
        msg = f"expected the store to answer, got {_told(err)}; check its address and the network"
        raise OSError(errno.EIO, msg, name) from err


def _not_allowed(name: str, err: Exception) -> SettingsError:
    msg = (
        f"{name}: expected an object that may be read, got {_told(err)}; give the credentials of "
        "its store, for S3 as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
    )
    return SettingsError(msg)


def _told(err: Exception) -> str:
    text = " ".join(str(err).split())[:_LONGEST]
    return f"{type(err).__name__} ({text})" if text else type(err).__name__
