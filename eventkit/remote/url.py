"""Paths in a URL, by the names of `pathlib.PurePath`."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Self

from eventkit.errors import SettingsError

URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)


class UrlPath:
    """The names in a URL; asks no store.

    Parameters
    ----------
    url : str
        As ``s3://bucket/folder``. Slashes too many go, ``..`` leads up but not out of the bucket.

    Raises
    ------
    SettingsError
        If it is none.
    """

    def __init__(self, url: str) -> None:
        matched = URL.fullmatch(url)
        if matched is None or not matched[2] or "://" in matched[2]:  # fsspec chains the last
            msg = f"expected one URL like s3://bucket/folder, got {url!r}"
            raise SettingsError(msg)
        self._protocol = matched[1].lower()
        bucket, _, names = matched[2].partition("/")
        self._key = "/".join((bucket, *_straight(names)))

    def __str__(self) -> str:
        return f"{self._protocol}://{self._key}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UrlPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: UrlPath) -> bool:
        return self.parts < other.parts

    def __truediv__(self, name: str | PurePosixPath) -> Self:
        return self._at(f"{self._key}/{name}")

    def _at(self, key: str) -> Self:
        return self._like(f"{self._protocol}://{key}")

    def _like(self, url: str) -> Self:
        return type(self)(url)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names between the slashes, the bucket first."""
        return tuple(self._key.split("/"))

    @property
    def name(self) -> str:
        """Last part."""
        return self.parts[-1]

    @property
    def suffix(self) -> str:
        """Suffix of the last part, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Self:
        """The folder; of a bucket itself."""
        return self._at("/".join(self.parts[:-1])) if len(self.parts) > 1 else self

    @property
    def parents(self) -> tuple[Self, ...]:
        """All folders above, the nearest first."""
        return tuple(self._at("/".join(self.parts[:n])) for n in range(len(self.parts) - 1, 0, -1))

    def with_name(self, name: str) -> Self:
        """Return the path of another name in the same folder."""
        return self.parent / name

    def resolve(self) -> Self:
        """Return itself: there are no links."""
        return self

    absolute = resolve

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    def is_relative_to(self, other: object) -> bool:
        """Tell whether this lies below ``other``, or is it."""
        if not isinstance(other, UrlPath) or other._protocol != self._protocol:
            return False
        return self.parts[: len(other.parts)] == other.parts

    def relative_to(self, other: object) -> PurePosixPath:
        """Return the path from ``other`` to here.

        Raises
        ------
        ValueError
            If it does not lead there.
        """
        if not isinstance(other, UrlPath) or not self.is_relative_to(other):
            msg = f"expected a folder above {self}, got {other}"
            raise ValueError(msg)
        return PurePosixPath(*self.parts[len(other.parts) :])


def is_plain(key: str) -> bool:
    """Tell whether an object of this name can be a file: not of ``a//b``, ``a/../b`` or ``a/``."""
    return not {"", ".", ".."} & set(key.split("/"))


def _straight(names: str) -> list[str]:
    """Return the parts of a path without those that stay or lead up."""
    parts: list[str] = []
    for part in names.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts
