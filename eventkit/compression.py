"""Compressed files as files that seek: gzip, zstd, bz2, xz.

What a file is compressed with is told by its first bytes, not by its name.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, Protocol, cast

from eventkit._optional import require

SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
BUFFER_BYTES = 1 << 18
XZ_MEMORY_BYTES = 1 << 28
"""The highest preset, 9, needs 65 MB."""
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}


def compression_of(head: bytes) -> str:
    """Return ``gzip``, ``zstd``, ``bz2``, ``xz`` or empty, by the first bytes of a file.

    Examples
    --------
    >>> compression_of(b"BZh9...")
    'bz2'
    """
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


def decompressed(open_stored: Callable[[], BinaryIO], kind: str) -> BinaryIO:
    """Return the content of a compressed file: binary, seekable (backwards by reading again).

    Parameters
    ----------
    open_stored : callable
        Opens the file as it is stored, at its beginning.
    kind : {"gzip", "zstd", "bz2", "xz"}
    """
    raw = _Rewindable(open_stored, lambda stored: _stream(stored, kind))
    return cast("BinaryIO", io.BufferedReader(raw, BUFFER_BYTES))


def _stream(stored: BinaryIO, kind: str) -> _Stream:
    if kind == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=stored)
    if kind == "bz2":
        import bz2

        return bz2.BZ2File(stored)
    if kind == "xz":
        # `lzma.LZMAFile` takes as much memory as a forged header says, 4 GB at most.
        return _Frames(stored, partial(lzma.LZMADecompressor, memlimit=XZ_MEMORY_BYTES))
    zstandard = require("zstandard", extra="zstd", purpose="reading .zst files")
    return _Frames(stored, zstandard.ZstdDecompressor().decompressobj)


class _Stream(Protocol):
    """A file that is read from the beginning."""

    def read1(self, size: int = -1, /) -> bytes:
        """Return what is there, up to ``size``; empty at the end only."""
        ...

    def close(self) -> None: ...


class _Frames:
    """A zstd or xz file of one or more frames, which says so where it is cut.

    ``zstandard.ZstdDecompressor.stream_reader`` ends a cut file without a word.
    """

    # A block of 4 bytes of zstd may hold 128 kB, so this is 32 MB at most.
    FEED_BYTES = 1 << 10

    def __init__(self, stored: BinaryIO, frame: Callable[[], Any]) -> None:
        self._stored, self._new_frame = stored, frame
        self._frame: Any = None
        self._waiting = b""
        self._ready = memoryview(b"")

    def read1(self, size: int = -1, /) -> bytes:
        while not self._ready:
            data = self._waiting or self._stored.read(self.FEED_BYTES)
            if not data and self._frame is not None:
                msg = "the file ends within a frame"
                raise EOFError(msg)
            if not data:
                return b""
            if self._frame is None:
                self._frame = self._new_frame()
            self._ready = memoryview(self._frame.decompress(data))
            self._waiting = b""
            if self._frame.eof:
                self._waiting, self._frame = self._frame.unused_data, None
        part = self._ready[: size if size >= 0 else None]
        self._ready = self._ready[len(part) :]
        return bytes(part)

    def close(self) -> None:
        self._ready = memoryview(b"")


class _Rewindable(io.RawIOBase):
    """A decompressed stream that seeks: forwards by reading, backwards by starting again."""

    def __init__(
        self, stored: Callable[[], BinaryIO], decompressed: Callable[[BinaryIO], _Stream]
    ) -> None:
        self._open, self._decompressed = stored, decompressed
        self._begin()

    def _begin(self) -> None:
        self._stored = self._open()
        self._stream = self._decompressed(self._stored)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read1(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while self.read(BUFFER_BYTES):
                pass
            offset += self._at
        elif whence == io.SEEK_CUR:
            offset += self._at
        if offset < self._at:
            self._end()
            self._begin()
        while self._at < offset and self.read(min(BUFFER_BYTES, offset - self._at)):
            pass
        return self._at

    def close(self) -> None:
        if not self.closed:
            self._end()
        super().close()

    def _end(self) -> None:
        self._stream.close()
        self._stored.close()
