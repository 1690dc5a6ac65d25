"""What is wrong with a set as a whole: its lists, names and folders.

`convert` refuses at the first of these; `eventkit check` collects them all and goes on. So what
finds one hands it to ``refuse`` and says, for the case that it returns, how to go on without it.
"""

from __future__ import annotations

from collections.abc import Callable

from eventkit.errors import SettingsError


class SetFault(SettingsError):
    """A fault of a set.

    Parameters
    ----------
    message : str
        One sentence: expected, got, cure.
    reason : str
        ``bad_line``, ``listed_twice``, ``same_name``, ``two_pictures``, ``layout``,
        ``unreadable``.
    where : str
        The file, or the list and its line, relative to the root.
    others : tuple of str
        Recordings that the fault is about.
    """

    def __init__(
        self, message: str, *, reason: str, where: str, others: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.reason, self.where, self.others = reason, where, others


Refuse = Callable[[SetFault], None]


def at_once(fault: SetFault) -> None:
    """Raise the fault."""
    raise fault
