"""Where bytes come from: a file, a folder, a compressed file, a member of a zip, a URL.

Readers get a `Source` and never ask which of these it is. What is compressed is told by its first
bytes, not by its name. URLs (``s3://bucket/key`` ...) go through fsspec.
"""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import struct
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from eventkit.compression import SUFFIXES, compression_of, decompressed
from eventkit.errors import FormatError, MissingDataError, SettingsError
from eventkit.remote import RemoteFile, remote_faults, remote_place

PIECE_BYTES = 1 << 18
"""A buffer of this size stays in the cache; reading a file whole costs a page fault every 4 kB."""
HEAD_BYTES = 1 << 16
MOST_WHOLE_BYTES = 1 << 29
"""Of a picture, which is read whole: 2^26 pixels of 16 bit RGB, not compressed, and some more."""
_LONGEST_NAME = 60
"""Characters of four bytes each: a name of a file has 255."""
HOLE_BYTES = 512
"""So many zeros up to the end of a file are no records: space that was reserved and not filled."""


class Source:
    """One place that bytes are read from.

    Parameters
    ----------
    name : str or Path
        A path; ``zip://member::archive``, where the archive is a path or URL again; or any URL
        that fsspec opens.

    Raises
    ------
    MissingDataError
        If nothing is there.
    SettingsError
        If it is no name of a place, or a remote one that may not be read.
    OSError
        If a disk or a remote store does not answer.

    Examples
    --------
    >>> Source("no/such/file.raw")
    Traceback (most recent call last):
        ...
    eventkit.errors.MissingDataError: no/such/file.raw: no such file or folder
    """

    def __init__(self, name: str | Path) -> None:
        self.name = str(name)
        self._member: str | None = None
        self._archive: Source | None = None
        self._fs: Any = None
        self._remote = ""
        self._status: os.stat_result | None = None
        if self.name.startswith("zip://"):
            member, _, archive = self.name.removeprefix("zip://").partition("::")
            if not archive:
                msg = f"expected zip://MEMBER::ARCHIVE, got {self.name!r}"
                raise SettingsError(msg)
            self._member, self._archive = member, Source(archive)
            self._check_member()
        elif "://" in self.name:
            self._fs, self._remote = remote_place(self.name)
        else:
            self._status = self._stat()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Source({self.name!r})"

    def _stat(self) -> os.stat_result:
        try:
            return os.stat(self.name)
        except (OSError, ValueError) as err:
            known = (FileNotFoundError, NotADirectoryError, ValueError)
            no_place = (errno.ENAMETOOLONG, errno.ELOOP)
            if not isinstance(err, known) and getattr(err, "errno", None) not in no_place:
                raise
            msg = f"{self.name}: no such file or folder"
            raise MissingDataError(msg) from None

    @cached_property
    def path(self) -> Path:
        """The name as a path, for display and for files beside it; see `is_plain`."""
        return Path(self.name)

    @property
    def is_plain(self) -> bool:
        """Whether this is a local file, or folder, that is not compressed."""
        return self._is_local and not self.compression

    @property
    def _is_local(self) -> bool:
        return self._archive is None and self._fs is None

    @property
    def is_sequential(self) -> bool:
        """Whether a place is reached only through all that stands before it; backwards, again."""
        return bool(self.compression) or self._archive is not None

    @cached_property
    def is_dir(self) -> bool:
        """Whether this is a folder."""
        if self._archive is not None:
            return False
        if self._fs is not None:
            with remote_faults(self.name):
                return bool(self._fs.isdir(self._remote))
        return self._status is not None and stat.S_ISDIR(self._status.st_mode)

    @cached_property
    def compression(self) -> str:
        """``gzip``, ``zstd``, ``bz2``, ``xz`` or empty."""
        if self.is_dir:
            return ""
        return compression_of(self._stored_head)

    @cached_property
    def _stored_head(self) -> bytes:
        """The first bytes as they are stored; of small files, of which sets have many, all."""
        parts: list[bytes] = []
        try:
            with self._open_stored() as file:
                while sum(map(len, parts)) < HEAD_BYTES and (part := _some(file, HEAD_BYTES)):
                    parts.append(part)
        except Exception:
            # `zipfile` raises nearly anything for a damaged archive; whoever reads on meets it.
            if self._archive is None:
                raise
        return b"".join(parts)[:HEAD_BYTES]

    @cached_property
    def inner_name(self) -> str:
        """Name of the file without folders and without ``.gz``, ``.zst`` ..."""
        name = self._member if self._member is not None else self.name
        # Not by pathlib, which takes a tenth of the time of reading a small file.
        name = name.replace(os.sep, "/").rstrip("/").rpartition("/")[2]
        if self.compression and name.lower().endswith(SUFFIXES):
            name = name[: name.rindex(".")]
        return name

    @cached_property
    def suffix(self) -> str:
        """Suffix of `inner_name` with the dot, lower case."""
        return os.path.splitext(self.inner_name)[1].lower()

    @cached_property
    def size(self) -> int | None:
        """Bytes of the content; None where only decompressing it would tell."""
        if self.compression or self.is_dir:
            return None
        if self._archive is not None:
            with self._zip() as archive:
                return archive.getinfo(str(self._member)).file_size
        if self._fs is not None:
            with remote_faults(self.name):
                return int(self._fs.size(self._remote))
        return self._stat().st_size

    @cached_property
    def head(self) -> bytes:
        """Up to `HEAD_BYTES` of the content; empty for a folder, short where it is damaged."""
        if self.is_dir:
            return b""
        if not self.compression:
            return self._stored_head
        parts: list[bytes] = []
        try:
            with self.open() as file, self.faults():
                while sum(map(len, parts)) < HEAD_BYTES and (part := _some(file, HEAD_BYTES)):
                    parts.append(part)
        except FormatError:
            pass  # met again, with its offset, by whoever reads on
        return b"".join(parts)[:HEAD_BYTES]

    def open(self) -> BinaryIO:
        """Open the content: binary, decompressed, seekable (backwards by reading again)."""
        if not self.compression:
            return self._open_stored()
        return decompressed(self._open_stored, self.compression)

    def read(self) -> bytes:
        """Return the whole content; for formats that are read whole anyway.

        Raises
        ------
        FormatError
            If it is damaged, or more than `MOST_WHOLE_BYTES`.
        """
        if (self.size or 0) > MOST_WHOLE_BYTES:
            raise self._too_large(self.size)
        parts: list[bytes] = []
        total = 0
        with self.open() as file, self.faults():
            while part := file.read(PIECE_BYTES):
                parts.append(part)
                total += len(part)
                if total > MOST_WHOLE_BYTES:
                    raise self._too_large(None)
        return b"".join(parts)

    def _too_large(self, size: int | None) -> FormatError:
        got = f"{size:,}" if size is not None else "more"
        msg = f"expected a file of at most {MOST_WHOLE_BYTES:,} bytes, got {got}; is it a picture?"
        return FormatError(msg, path=self.name, offset=0, reason="bad_value")

    def pieces(
        self, size: int = PIECE_BYTES, *, start: int = 0
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield ``(offset, bytes)`` from ``start`` on; only the last piece is shorter.

        The array is the same buffer every time: take what is needed before the next.

        Raises
        ------
        FormatError
            Where compressed content is damaged; what came before it has been yielded.
        """
        if self.is_plain and len(self.head) < HEAD_BYTES:
            # Sets have thousands of small files: each is read once only.
            for offset in range(start, len(self.head), size):
                yield offset, np.array(np.frombuffer(self.head, np.uint8)[offset : offset + size])
            return
        buffer = np.empty(size, np.uint8)
        view = buffer.data
        offset = start
        with self.open() as file:
            file.seek(start)
            while True:
                filled, fault = 0, None
                try:
                    with self.faults():
                        while filled < size and (got := _some_into(file, view[filled:])):
                            filled += got
                except FormatError as err:
                    fault = err.anew()
                if filled:
                    yield offset, buffer[:filled]
                    offset += filled
                if fault is not None:
                    raise fault.anew()
                if filled < size:
                    return

    def records(
        self, stride: int, size: int = PIECE_BYTES, *, start: int = 0, zeros: bool = False
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield ``(offset, bytes)`` of whole records only, then refuse what is left over.

        Parameters
        ----------
        stride : int
            Bytes of a record.
        size : int
            Bytes of a piece, at most.
        start : int
            Byte of a record.
        zeros : bool
            A record of zeros is harmless: without this, a hole at the end is no record.

        Raises
        ------
        FormatError
            Behind the last whole record, if the file goes on.
        """
        step = size - size % stride
        # Records of zeros, from `held` to `stop`, wait for what follows: the end makes them a hole.
        held = stop = start
        rest, fault = 0, None
        try:
            for offset, piece in self.pieces(step, start=start):
                rest = piece.size % stride
                stop = offset + piece.size - rest
                filled = stop if zeros else offset + _filled(piece[: stop - offset], stride)
                if filled > offset:
                    yield from _zeros(held, offset, step)
                    yield offset, piece[: filled - offset]
                    held = filled
        except FormatError as err:
            fault = err.anew()
        if stop - held >= HOLE_BYTES:
            got = f"{stop + rest - held} zeros up to the end: the space was not filled"
            raise self._left_over(held, stride, got)
        yield from _zeros(held, stop, step)
        if fault is not None:
            raise fault.anew()
        if rest:
            raise self._left_over(stop, stride, f"{rest} bytes at the end: the file is cut")

    def _left_over(self, at: int, stride: int, got: str) -> FormatError:
        cure = "--on-error skip keeps the whole records"
        msg = f"expected records of {stride} bytes, got {got}; {cure}"
        return FormatError(msg, path=self.name, offset=at, reason="truncated")

    @contextmanager
    def faults(self, *, zipped: bool = False) -> Iterator[None]:
        """Turn damage of the compression, or of this zip archive, into `FormatError`."""
        packed = zipped or bool(self.compression) or self._archive is not None
        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as err:
            raise self._damaged(err) from err
        except FormatError:
            raise
        except OSError as err:
            lost = isinstance(err, TimeoutError | ConnectionError)  # these have no number
            if lost or err.errno not in (None, errno.EINVAL) or not packed:
                raise
            raise self._damaged(err) from err
        except (RuntimeError, ValueError, struct.error, OverflowError) as err:
            # What `zipfile` raises for a forged directory, an unknown method, a password.
            if not (zipped or self._archive is not None):
                raise
            raise self._damaged(err) from err
        except Exception as err:
            if type(err).__module__.split(".")[0] not in ("zstandard", "backports"):
                raise
            raise self._damaged(err) from err

    def _damaged(self, err: Exception) -> FormatError:
        msg = (
            f"expected whole {self.compression or 'zip'} data, got damaged data ({err}); copy it "
            "again, or --on-error skip keeps what comes before the damage"
        )
        return FormatError(msg, path=self.name, reason="truncated")

    def local(self) -> Path:
        """Return a path for libraries that need one; copied to a temporary file if need be."""
        return self.path if self.is_plain else self._spooled

    @cached_property
    def _spooled(self) -> Path:
        folder = tempfile.mkdtemp(prefix="eventkit-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        # A member of an archive may be called `..`, or anything that is too long for a file.
        path = Path(folder) / (self.inner_name[-_LONGEST_NAME:].lstrip(".") or "recording")
        with self.open() as file, path.open("wb") as copy, self.faults():
            shutil.copyfileobj(file, copy, 1 << 20)
        return path

    def beside(self, name: str) -> Path | None:
        """Return the local file ``name`` in the same folder, if there is one."""
        if not self._is_local:
            return None
        path = os.path.join(os.path.dirname(self.name), name)
        # Asked for every file of a set: `access` says no in a third of the time of `isfile`.
        return Path(path) if os.access(path, os.F_OK) and os.path.isfile(path) else None

    def _open_stored(self) -> BinaryIO:
        """Open the bytes as they are stored, compressed or not."""
        if self._archive is not None:
            with self._zip() as archive, self._archive.faults(zipped=True):
                return cast("BinaryIO", archive.open(str(self._member)))
        if self._fs is not None:
            with remote_faults(self.name):
                return cast("BinaryIO", RemoteFile(self._fs.open(self._remote, "rb"), self.name))
        if self._status is not None and not stat.S_ISREG(self._status.st_mode):
            msg = f"{self.name}: expected a file, got a pipe or device; write it to a file first"
            raise SettingsError(msg)
        return open(self.name, "rb")

    def _zip(self) -> zipfile.ZipFile:
        assert self._archive is not None
        # A path is closed with the last member; a file that is passed in is left to its owner.
        file = self._archive.path if self._archive.is_plain else self._archive.open()
        with self._archive.faults(zipped=True):
            return zipfile.ZipFile(file)

    def _check_member(self) -> None:
        with self._zip() as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
        if self._member not in names:
            msg = f"{self.name}: no such member; there are {', '.join(names[:5])} ..."
            raise MissingDataError(msg)


def _filled(piece: NDArray[np.uint8], stride: int) -> int:
    """Return where the records of zeros begin that a piece ends in."""
    if not piece.size or piece[-stride:].any():
        return piece.size
    for begin in reversed(range(0, piece.size, HEAD_BYTES)):
        found = np.flatnonzero(piece[begin : begin + HEAD_BYTES])
        if found.size:
            return (begin + int(found[-1])) // stride * stride + stride
    return 0


def _zeros(start: int, stop: int, size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for offset in range(start, stop, size):
        yield offset, np.zeros(min(size, stop - offset), np.uint8)


def _some(file: BinaryIO, size: int) -> bytes:
    """Read what is there, so that a fault further on does not take it along."""
    read = getattr(file, "read1", file.read)
    return cast("bytes", read(size))


def _some_into(file: BinaryIO, view: memoryview) -> int:
    """As `_some`, into a buffer."""
    read = getattr(file, "readinto1", None) or file.readinto  # type: ignore[attr-defined]
    return int(read(view))
