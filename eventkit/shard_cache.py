"""Where the files of a set lie: in a folder, or behind a URL with whole shards kept on this disk.

A fetched file is written under a temporary name, hashed on the way, and renamed to its sha256, so
that processes, sets and generations may share a cache and a killed fetch leaves nothing that could
be taken for a shard. The least recently opened files go first when room is needed; who reads one
that goes keeps his handle. File systems are made where they are used: those of object stores do
not survive a fork.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from eventkit.atomic import committed, remove_left
from eventkit.errors import DamageError, EventKitError, MissingDataError, SettingsError
from eventkit.remote.files import filesystem_of

logger = logging.getLogger(__name__)

CACHE_BYTES = 64 << 30
_PIECE_BYTES = 1 << 20
_ATTEMPTS = 3
_OURS = re.compile(r"[0-9a-f]{64}\.(tar|npz)")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Place(Protocol):
    """Where the files of a set lie."""

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        ...

    def path(self, entry: Mapping[str, Any]) -> Path:
        """Return the path on this machine of a file: name, sha256, and bytes if known."""
        ...


class Folder:
    """A set in a folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        return (self._path / name).read_bytes()

    def path(self, entry: Mapping[str, Any]) -> Path:
        """Return the path; whether anything is there the reader will see."""
        name: str = entry["name"]
        return self._path / name


class ShardCache:
    """A set behind a URL, its files fetched whole when they are first asked for.

    Parameters
    ----------
    url : str
        Anything that fsspec opens, such as ``s3://bucket/shards``.
    folder : Path, optional
        Default ``~/.cache/velora-eventkit``; a disk of the node is best.
    max_bytes : int
        What the folder may hold, whoever put it there.
    """

    def __init__(
        self, url: str, *, folder: Path | None = None, max_bytes: int = CACHE_BYTES
    ) -> None:
        self._url = url.rstrip("/")
        self._folder = folder or Path.home() / ".cache" / "velora-eventkit"
        self._max_bytes = max_bytes

    def read(self, name: str) -> bytes:
        """Return the content of a small file, which is not cached."""
        for attempt in range(1, _ATTEMPTS + 1):
            with self._again(name, attempt), self._open(name) as file:
                content: bytes = file.read()
                return content
        raise AssertionError

    def path(self, entry: Mapping[str, Any]) -> Path:
        """Return the cached file, fetched if it is not there.

        Raises
        ------
        MissingDataError
            If it is not there or cannot be fetched.
        DamageError
            If what is there has another hash than the manifest says.
        SettingsError
            If it is larger than the cache may be.
        """
        if not entry.get("sha256"):
            msg = f"{self._url}/{entry['name']}: expected a sha256 in the manifest; shard again"
            raise DamageError(msg)
        path = self._folder / f"{entry['sha256']}{Path(entry['name']).suffix}"
        if not self._whole(path, entry):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._alone(entry["sha256"][:2]):
                if not self._whole(path, entry):
                    self._fetch(path, entry)
        return path

    def _whole(self, path: Path, entry: Mapping[str, Any]) -> bool:
        """Tell whether a file is cached; its time says when it was last asked for."""
        try:
            os.utime(path)
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        return bool(size == entry.get("bytes", size))

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """Keep others from doing the same at a time; the kernel lets go for a dead process."""
        with (self._folder / f"lock-{what}").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _fetch(self, path: Path, entry: Mapping[str, Any]) -> None:
        needed = entry.get("bytes", 0)
        if needed > self._max_bytes:
            msg = (
                f"{entry['name']}: expected a cache of at least its {needed} bytes, got "
                f"{self._max_bytes}; raise cache_bytes"
            )
            raise SettingsError(msg)
        remove_left(self._folder)
        self._make_room(needed, besides=path)
        for attempt in range(1, _ATTEMPTS + 1):
            with self._again(entry["name"], attempt), committed(path) as temporary:
                found, size = self._copy(entry["name"], temporary)
                if found != entry["sha256"]:
                    msg = (
                        f"{self._url}/{entry['name']}: expected sha256 {entry['sha256']}, got "
                        f"{found} of {size} bytes; run `eventkit verify` there"
                    )
                    raise DamageError(msg)
                break
        # Others may have fetched meanwhile.
        self._make_room(0, besides=path)

    def _copy(self, name: str, target: Path) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with self._open(name) as source, target.open("wb") as copy:
            while piece := source.read(_PIECE_BYTES):
                digest.update(piece)
                copy.write(piece)
                size += len(piece)
        return digest.hexdigest(), size

    def _open(self, name: str) -> Any:
        filesystem, path = filesystem_of(f"{self._url}/{name}", shown=self._url)
        return filesystem.open(path, "rb")

    @contextmanager
    def _again(self, name: str, attempt: int) -> Iterator[None]:
        """Try anew after what passes by: a lost connection, a transfer that was cut."""
        try:
            yield
        except FileNotFoundError as err:
            msg = f"{self._url}/{name}: no such file; is the set finished and the URL its folder?"
            raise MissingDataError(msg) from err
        except Exception as err:  # every object store has exceptions of its own
            if not _passes_by(err):
                raise
            if attempt == _ATTEMPTS and isinstance(err, DamageError):
                raise
            if attempt == _ATTEMPTS:
                msg = f"{self._url}/{name}: cannot be fetched after {attempt} attempts ({err})"
                raise MissingDataError(msg) from err
            logger.warning("%s/%s: fetched again after %s", self._url, name, err)
            time.sleep(0.05 * 4**attempt)

    def _make_room(self, needed: int, *, besides: Path) -> None:
        """Remove the least recently opened files until the bound is kept, on the disk as well."""
        with self._alone("room"):
            files = []
            for file in self._folder.iterdir():
                with suppress(FileNotFoundError):
                    if _OURS.fullmatch(file.name):  # and nothing else that may stand here
                        status = file.stat()
                        files.append((status.st_mtime_ns, status.st_size, file))
            total = sum(size for _, size, _ in files)
            for _, size, file in sorted(files):
                free = shutil.disk_usage(self._folder).free
                if total + needed <= self._max_bytes and needed <= free:
                    return
                if file != besides:
                    logger.info("%s: removed from the cache to make room", file)
                    file.unlink(missing_ok=True)
                    total -= size


def _passes_by(err: Exception) -> bool:
    """Tell whether another attempt may help: not against a full disk or a wrong setting."""
    if isinstance(err, EventKitError):
        return isinstance(err, DamageError)
    return getattr(err, "errno", None) not in _DISK_ERRORS
