"""Opened tars: checked when first opened, a bounded number at a time, of each process its own.

`os.pread` needs no position, so threads share a handle. A handle that falls out of the bounded set
is closed when its last reader has let go of it, never under a reader's hands.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventkit.errors import DamageError

BLOCK_BYTES = 512
MOST_OPEN = 256
"""Sets have up to 9,000 shards, processes often only 1,024 handles."""
_ATTEMPTS = 3
_NAME = slice(0, 100)
_SIZE = slice(124, 136)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a tar: ``<key>.<suffix>``, and the place of its data."""

    name: str
    offset: int
    size: int


class OpenTar:
    """A handle that any number of threads may read from.

    Parameters
    ----------
    path : Path
        Of the file on this machine.
    """

    __slots__ = ("file", "path")

    def __init__(self, path: Path) -> None:
        self.file = -1
        self.path = path
        self.file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Bound here: when the interpreter ends, what stands in modules may be gone before this.
        if self.file >= 0:
            close(self.file)

    def read(self, member: Member) -> bytes:
        """Return the bytes of a member.

        Raises
        ------
        DamageError
            If the file ends before.
        """
        data = os.pread(self.file, member.size, member.offset)
        if len(data) != member.size:
            raise self._cut(member, len(data))
        return data

    def read_into(self, member: Member, buffers: Sequence[memoryview]) -> None:
        """Fill buffers, which together are as large as the member, one after the other."""
        got = os.preadv(self.file, buffers, member.offset)
        if got != member.size:
            raise self._cut(member, got)

    def _cut(self, member: Member, got: int) -> DamageError:
        msg = (
            f"{self.path}: expected {member.size} bytes of {member.name} at {member.offset}, got "
            f"{got}: cut; run `eventkit verify`"
        )
        return DamageError(msg)


class ShardFiles:
    """The tars of a set by name.

    Parameters
    ----------
    locate : callable
        Entry of the manifest -> path on this machine, fetched if need be.
    verify_on_read : bool
        Compare the sha256 of a whole tar when it is first opened.
    """

    def __init__(
        self, locate: Callable[[Mapping[str, Any]], Path], *, verify_on_read: bool = False
    ) -> None:
        self._locate = locate
        self._verify = verify_on_read
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._open: OrderedDict[str, OpenTar] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}
        self._verified: set[str] = set()
        self._lock = threading.Lock()

    def get(self, entry: Mapping[str, Any], last: Member) -> OpenTar:
        """Return the handle of a tar.

        Parameters
        ----------
        entry : mapping
            Of the manifest: name, bytes, sha256.
        last : Member
            The last one of the tar by the index.

        Raises
        ------
        DamageError
            If the tar is not there, not whole, or not the one that the manifest and index mean.
        """
        if self._process != os.getpid():  # a fork may have copied a lock that somebody held
            self._begin()
        name = entry["name"]
        with self._lock:
            if name in self._open:
                self._open.move_to_end(name)
                return self._open[name]
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:  # others go on reading while one tar is fetched or hashed
            tar = self._open.get(name) or self._opened(entry, last)
            with self._lock:
                self._open[name] = tar
                self._opening.pop(name, None)
                while len(self._open) > MOST_OPEN:
                    self._open.popitem(last=False)
        return tar

    def close(self) -> None:
        """Let go of all handles."""
        with self._lock:
            self._open.clear()

    def _opened(self, entry: Mapping[str, Any], last: Member) -> OpenTar:
        tar = self._there(entry)
        check_whole(tar, entry["bytes"], last)
        if self._verify and entry["name"] not in self._verified:
            check_hash(tar, entry)
            self._verified.add(entry["name"])
        return tar

    def _there(self, entry: Mapping[str, Any]) -> OpenTar:
        for _ in range(_ATTEMPTS):
            path = self._locate(entry)
            # Another process may remove a file from a shared cache at this moment.
            with suppress(FileNotFoundError):
                return OpenTar(path)
        msg = f"{path}: the manifest lists this shard, it is not there; shard again"
        raise DamageError(msg)


def check_whole(tar: OpenTar, size: int, last: Member) -> None:
    """Compare size, last block and the header of the last member: 5 us, and no cut passes.

    A file that was set to its size before it was filled is caught by the header, one that another
    was written over by both.

    Raises
    ------
    DamageError
    """
    got = os.fstat(tar.file).st_size
    if got != size:
        msg = f"{tar.path}: expected {size} bytes, got {got}; run `eventkit verify`"
        raise DamageError(msg)
    end = os.pread(tar.file, BLOCK_BYTES, max(0, size - BLOCK_BYTES))
    head = os.pread(tar.file, BLOCK_BYTES, max(0, last.offset - BLOCK_BYTES))
    name = head[_NAME].rstrip(b"\0").decode("ascii", "replace")
    digits = head[_SIZE].strip(b" \0").rjust(11, b"0")
    if any(end) or name != last.name or digits != b"%011o" % last.size:
        msg = (
            f"{tar.path}: expected to end with {last.name} of {last.size} bytes at {last.offset} "
            f"and a block of zeros, got {name!r} there; run `eventkit verify`"
        )
        raise DamageError(msg)


def check_hash(tar: OpenTar, entry: Mapping[str, Any]) -> None:
    """Compare the sha256 of a whole tar with the manifest's.

    Raises
    ------
    DamageError
    """
    with open(tar.file, "rb", closefd=False) as file:
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != entry.get("sha256"):
        msg = f"{tar.path}: expected sha256 {entry.get('sha256')}, got {found}; shard again"
        raise DamageError(msg)
