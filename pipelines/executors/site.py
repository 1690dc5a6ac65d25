"""What a run touches, for executors that have to look whether workers see it."""

from __future__ import annotations

from dataclasses import dataclass

from eventkit.location import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What tasks touch; workers on other machines must see it under the same path.

    Parameters
    ----------
    folder : Location, optional
        Where they write, locked by this run. Absolute.
    inputs : tuple of Path
        Files among those that they read. Absolute.
    """

    folder: Location | None = None
    inputs: tuple[Location, ...] = ()
