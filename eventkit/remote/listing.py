"""What a remote store says lies below a prefix."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """What a store says of an object, by the names of `os.stat_result`.

    Attributes
    ----------
    st_size : int
        Bytes.
    version : str
        Changes whenever the object is replaced: its ETag, or its time where there is none.
    """

    st_size: int
    version: str


class Listing:
    """What lay below a prefix when it was asked for: one request for a thousand objects.

    Parameters
    ----------
    found : dict name -> ObjectStatus
    held : dict name -> bytes, optional
        The content of some of them.
    """

    def __init__(
        self, found: dict[str, ObjectStatus], *, held: dict[str, bytes] | None = None
    ) -> None:
        self._found = found
        self._names = sorted(found)
        self.held = held or {}

    def status(self, name: str) -> ObjectStatus | None:
        """Return what was there under a name, if anything."""
        return self._found.get(name)

    def __getitem__(self, name: str) -> ObjectStatus:
        return self._found[name]

    def with_content(self, held: dict[str, bytes]) -> Listing:
        """Return the same with the content of some objects."""
        return Listing(self._found, held=held)

    def below(self, name: str) -> Iterator[str]:
        """Yield the names of all objects below a folder, in order."""
        prefix = f"{name.rstrip('/')}/"
        for i in range(bisect_left(self._names, prefix), len(self._names)):
            if not self._names[i].startswith(prefix):
                return
            yield self._names[i]


def status_of(info: dict[str, Any]) -> ObjectStatus:
    """Return size and version from what fsspec says of an object."""
    marks = (info.get(key) for key in _VERSIONS)
    return ObjectStatus(int(info["size"] or 0), str(next((m for m in marks if m), "")))
