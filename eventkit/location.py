"""Where a set is kept: a folder of this machine, or a prefix behind a URL."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from eventkit.remote import ObjectStatus as ObjectStatus
from eventkit.remote import RemotePath as RemotePath
from eventkit.remote.url import URL

Location: TypeAlias = Path | RemotePath


def lies_in(path: Location, folder: Location) -> bool:
    """Tell whether a path is ``folder`` or lies below it."""
    if isinstance(path, RemotePath):
        return path.is_relative_to(folder)
    return isinstance(folder, Path) and path.is_relative_to(folder)


def location(name: str | Location) -> Location:
    """Return a path of this machine, or that of a URL.

    Examples
    --------
    >>> location("s3://bucket/raw").name
    'raw'
    """
    if isinstance(name, RemotePath | Path):
        return name
    if name.startswith("file:///"):
        return Path(name.removeprefix("file://"))
    return RemotePath(name) if URL.fullmatch(name) else Path(name)


def now(folder: Location) -> Location:
    """Return a folder whose files are looked up as they are now; behind a URL by one listing."""
    return folder.listed() if isinstance(folder, RemotePath) else folder
