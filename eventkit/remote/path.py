"""A place behind a URL, by the names of `pathlib.Path`.

So the same code reads a store on a disk and in a bucket. What differs is said by type: an object is
put whole and replaces what was there, there is nothing to rename or to sync, and folders are only
the common beginning of names.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from eventkit.errors import MissingDataError, SettingsError
from eventkit.remote.faults import remote_faults
from eventkit.remote.files import RemoteFile, filesystem_of
from eventkit.remote.listing import Listing, ObjectStatus, status_of
from eventkit.remote.url import UrlPath, is_plain

logger = logging.getLogger(__name__)

_TAKEN = re.compile("PreconditionFailed|ConditionalRequestConflict|conflicting", re.IGNORECASE)
_VERSION = "?versionId="
"""What follows it names a version for s3fs, which would go to the object of the name before it."""
_BEYOND = re.compile("range|416", re.IGNORECASE)
_LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RemotePath(UrlPath):
    """An object, or a prefix, of a store that fsspec opens.

    Parameters
    ----------
    url : str
        As ``s3://bucket/folder``.
    listing : Listing, optional
        Questions are answered from it, and from nothing newer; see `listed`.

    Raises
    ------
    SettingsError, MissingDataError, OSError
        As `eventkit.remote.remote_faults`, by whatever asks the store.

    Notes
    -----
    There is no ``__fspath__``: what only works on a disk refuses it at once.
    """

    def __init__(self, url: str, *, listing: Listing | None = None) -> None:
        super().__init__(url)
        self._listing = listing

    def __reduce__(self) -> tuple[Any, ...]:
        return RemotePath, (str(self),)  # what was listed here may be old there

    def _like(self, url: str) -> Self:
        return type(self)(url, listing=self._listing)

    @cached_property
    def _asked(self) -> tuple[Any, str]:
        """File system and the name in it; made by each process, as they do not survive a fork."""
        if _VERSION in self._key:
            msg = f"{self}: expected a name without {_VERSION}; copy the object to another name"
            raise SettingsError(msg)
        # Of the bucket alone: a name with `::` in it would be taken for a chain of URLs. And a
        # listing that is kept does not know what another process has put since.
        bucket = f"{self._protocol}://{self.parts[0]}"
        store, _ = filesystem_of(bucket, shown=str(self), use_listings_cache=False)
        return store, str(store._strip_protocol(str(self)))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with remote_faults(str(self)):
                yield
        except MissingDataError as err:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self)) from err

    @contextmanager
    def _putting(self) -> Iterator[None]:
        try:
            with remote_faults(str(self)):
                yield
        except MissingDataError as err:
            msg = f"{self}: expected a bucket that is there, got none; make it first"
            raise MissingDataError(msg) from err

    def listed(self) -> RemotePath:
        """Return the same place with what lies below it now: asked once, for all below it too."""
        return RemotePath(str(self), listing=self._listed_below())

    def held(self, *, at_most: int) -> RemotePath:
        """Return the same place as `listed`, with the content of objects of few bytes.

        They are asked for side by side: a store answers one in some ten milliseconds, and a
        hundred in little more. What is held already is not asked for again.
        """
        if self._listing is not None and self._listing.held:
            return self
        store, name = self._asked
        found = self._listed_below()
        small = [n for n in found.below(self._key) if 0 < found[n].st_size <= at_most]
        sizes = [found[n].st_size for n in small]
        paths = [name + n[len(self._key) :] for n in small]
        with self._faults():  # `cat` of many asks of each whether it is there, and then for it
            content = store.cat_ranges(paths, [0] * len(paths), sizes, on_error="raise")
        held = {n: bytes(data) for n, data in zip(small, content, strict=True)}
        return RemotePath(str(self), listing=found.with_content(held))

    def _listed_below(self) -> Listing:
        store, name = self._asked
        with suppress(FileNotFoundError), self._faults():
            found = store.find(name, detail=True)
            below = {at[len(name) :]: status_of(info) for at, info in found.items()}
            self._tell_odd(below)
            return Listing({self._key + at: s for at, s in below.items() if _is_usable(at)})
        return Listing({})

    def _tell_odd(self, names: Iterable[str]) -> None:
        """Say what is left out; marks of folders, whose names end with a slash, are nothing."""
        odd = [name for name in names if not _is_usable(name) and not name.endswith("/")]
        if odd:
            words = "%s: objects are left out whose names no file can have: %d, as %s%s"
            logger.warning(words, self, len(odd), self, odd[0])

    def _ask_folder(self) -> list[RemotePath]:
        """Return what lies in this folder; files with their status."""
        store, name = self._asked
        found: dict[str, RemotePath] = {}
        with suppress(FileNotFoundError), self._faults():
            for info in store.ls(name, detail=True):
                is_file = info["type"] == "file"
                below = (info["name"] if is_file else info["name"].rstrip("/"))[len(name) :]
                if not below or not _is_usable(below):  # of a file that is all that is found
                    continue
                path = self / below
                if is_file:
                    path._listing = Listing({path._key: status_of(info)})
                found[str(path)] = path
        return sorted(found.values())

    def stat(self) -> ObjectStatus:
        """Return size and version.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        """
        found = self._look()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        return found

    def _look(self) -> ObjectStatus | None:
        if self._listing is not None:
            return self._listing.status(self._key)
        store, name = self._asked
        try:
            with self._faults():
                info = store.info(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status_of(info) if info.get("type") == "file" else None

    def is_file(self) -> bool:
        """Tell whether this is an object."""
        return self._look() is not None

    def is_dir(self) -> bool:
        """Tell whether anything lies below."""
        if self._listing is not None:
            return next(self._listing.below(self._key), None) is not None
        store, name = self._asked
        try:
            with self._faults():  # not `isdir`, which takes a network that is away for a "no"
                kind = store.info(name)["type"]
                return bool(kind == "directory" or store.isdir(name))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def exists(self) -> bool:
        """Tell whether this is an object, or anything lies below."""
        return self.is_file() or self.is_dir()

    def rglob(self, pattern: Literal["*"]) -> Iterator[RemotePath]:
        """Yield every object below, in order."""
        listing = self._listing or self._listed_below()
        for name in listing.below(self._key):
            yield RemotePath(f"{self._protocol}://{name}", listing=listing)

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what lies in this folder, in order; folders too.

        Raises
        ------
        FileNotFoundError
            If there is nothing.
        """
        if self._listing is None:
            found = self._ask_folder()
        else:
            start = len(self.parts)
            names = {name.split("/")[start] for name in self._listing.below(self._key)}
            found = [self / name for name in sorted(names)]
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(self))
        return iter(found)

    def read_bytes(self) -> bytes:
        """Return the content.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        """
        if (content := self._held_here()) is not None:
            return content
        store, name = self._asked
        with self._faults():
            return bytes(store.cat_file(name))

    def _held_here(self) -> bytes | None:
        return None if self._listing is None else self._listing.held.get(self._key)

    def read_part(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, fewer at the end."""
        if (content := self._held_here()) is not None:
            return content[start : start + length]
        if length <= 0:  # a range of nothing is none, for which all is sent
            return b""
        store, name = self._asked
        with self._faults():
            try:
                return bytes(store.cat_file(name, start=start, end=start + length))
            except OSError as err:
                if not _BEYOND.search(str(err)) or start < int(store.info(name)["size"]):
                    raise
                return b""

    def open(self, mode: Literal["rb"] = "rb") -> RemoteFile:
        """Open for reading bytes."""
        store, name = self._asked
        with self._faults():
            return RemoteFile(store.open(name, "rb"), str(self))

    def write_bytes(self, data: bytes) -> None:
        """Put an object, whole; one that is there is replaced."""
        store, name = self._asked
        with self._putting():
            store.pipe_file(name, data)

    def create(self, data: bytes) -> bool:
        """Put an object unless there is one; of many that do so at a time one succeeds.

        Returns
        -------
        bool
            Whether what is there is ``data``: where the answer was lost and the request sent again
            it is, and is not new.
        """
        store, name = self._asked
        with self._putting():
            try:
                store.pipe_file(name, data, mode="create")
            except OSError as err:
                if not isinstance(err, FileExistsError) and not _TAKEN.search(_all_of(err)):
                    raise
                with suppress(FileNotFoundError):  # which was removed since
                    return bool(store.cat_file(name) == data)
                return False
        return True

    def fetch(self, file: Path) -> None:
        """Copy the content to a file of this machine."""
        store, name = self._asked
        with self._faults():
            try:
                store.get_file(name, str(file))
            except OSError as err:
                if err.filename is None and err.errno in _LOCAL_ERRORS:
                    err.filename = str(file)
                raise

    def take(self, file: Path) -> None:
        """Put the content of a file of this machine."""
        store, name = self._asked
        with self._putting():
            store.put_file(str(file), name)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove an object."""
        store, name = self._asked
        try:
            with self._faults():
                store.rm_file(name)
        except FileNotFoundError:
            if not missing_ok:
                raise


def _all_of(err: OSError) -> str:
    """Return message and cause: s3fs has no class of its own for a put that lost to another."""
    return f"{err} {err.__cause__}"


def _is_usable(name: str) -> bool:
    """Tell whether what stands behind the name of a folder can lead to a file; nothing can."""
    return not name or (is_plain(name.removeprefix("/")) and _VERSION not in name)
