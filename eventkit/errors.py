"""The error tree. Every message says what was expected, what was got, where, and the cure.

EventKitError                       exit code 2
├── FormatError (ValueError)        the content of a file is not what its format says
├── UnsupportedFormatError (ValueError)   no reader knows this file
├── InvalidEventsError (ValueError) arrays that are no event stream
├── SettingsError (ValueError)      a setting or a combination of settings that cannot be
├── MissingDataError (FileNotFoundError)  a path that is not there, a folder without recordings
├── MissingDependencyError (ImportError)  an optional library is not installed
├── DamageError                     verify or a reader found damaged output; exit code 4
└── LockedError                     another process works on the same folder; exit code 5
"""

from __future__ import annotations


class EventKitError(Exception):
    """Base of everything this project raises for a user's input or settings."""

    exit_code = 2


class FormatError(EventKitError, ValueError):
    """A file that breaks its own format.

    Parameters
    ----------
    message : str
        One sentence: expected, got, cure.
    path : optional
        A path or source; anything whose ``str`` names the file.
    offset : int, bytes, optional
        Where in the file the fault starts.
    reason : str
        A code for tables: ``truncated``, ``bad_header``, ``backwards_time``, ``outside_sensor``,
        ``corrupt``, ``bad_value``, ``no_geometry``, ``no_time_unit``, ``no_rgb_overlap``,
        ``empty``.
    time_us : int, microseconds, optional
        Of the event where it starts, on the clock of the recording.
    """

    def __init__(
        self,
        message: str,
        *,
        path: object = None,
        offset: int | None = None,
        reason: str = "corrupt",
        time_us: int | None = None,
    ) -> None:
        where = f"{path}: " if path is not None else ""
        at = f" (byte {offset})" if offset is not None else ""
        super().__init__(f"{where}{message}{at}")
        self.message = message
        self.path = None if path is None else str(path)
        self.offset = offset
        self.reason = reason
        self.time_us = time_us

    def as_dict(self) -> dict[str, object]:
        """Return reason, offset and message, as a ledger books them."""
        return {"reason": self.reason, "offset": self.offset, "message": self.message}

    def anew(self) -> FormatError:
        """Return the same fault without traceback and cause: to keep, or to raise what was kept.

        The frames of a traceback that hold the error itself hold all that was read, until a
        collection.
        """
        return FormatError(
            self.message,
            path=self.path,
            offset=self.offset,
            reason=self.reason,
            time_us=self.time_us,
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not survive the default pickling, and tasks
        # send them from worker processes.
        state = (self.message, self.path, self.offset, self.reason, self.time_us)
        return (_rebuild_format_error, state)


def _rebuild_format_error(
    message: str, path: str | None, offset: int | None, reason: str, time_us: int | None
) -> FormatError:
    return FormatError(message, path=path, offset=offset, reason=reason, time_us=time_us)


class UnsupportedFormatError(EventKitError, ValueError):
    """No reader recognises the file."""


class InvalidEventsError(EventKitError, ValueError):
    """Arrays that do not form an event stream: unsorted, out of range, unequal lengths."""


class SettingsError(EventKitError, ValueError):
    """A setting, or a combination of settings, that cannot be."""


class MissingDataError(EventKitError, FileNotFoundError):
    """A path that does not exist or holds nothing of use."""

    def __str__(self) -> str:
        # OSError formats two-argument instances as errno; a sentence is wanted here.
        return str(self.args[0]) if self.args else ""


class MissingDependencyError(EventKitError, ImportError):
    """An optional library is not installed."""


class DamageError(EventKitError):
    """Written output that no longer is what its manifest or receipt says."""

    exit_code = 4


class LockedError(EventKitError):
    """Another process works on the same folder."""

    exit_code = 5
