"""A look at what the HDF5 library trusts, before it does.

**Chunks.** The bitshuffle filter (32008) believes the sizes that stand in a chunk, and one flipped
bit in them ends the process (hdf5plugin 7.1; 4 of 1,000 flips of a small file). The lz4 filter
(32004) has the same layout: u64 bytes in all, u32 bytes a block, then for each block u32 bytes and
its data, all big-endian. So these numbers are walked through first. The other filters (deflate,
blosc, zstd, lzf, shuffle, fletcher32) return errors.

**Text.** Text of variable length stands in heaps that begin with ``GCOL``, and an object of size 0
in one makes the library (2.0.0) go round for ever. `Guarded` is what the library reads from, so no
heap gets to it that has not been walked through, wherever it stands and whatever asked for it:
h5py's driver for such files keeps nothing, and each heap is read from its first byte on.

Layouts: https://github.com/kiyo-masui/bitshuffle, https://github.com/nexusformat/HDF5-External-Filter-Plugins
"""

from __future__ import annotations

import io
import math
from typing import Any, BinaryIO

from eventkit.errors import FormatError
from eventkit.readers.hdf5.chunks import corners

BITSHUFFLE, LZ4 = 32008, 32004
_HEAP = b"GCOL\x01"
_MOST_HEAP_BYTES = 1 << 20
"""The library reads a heap whole; one holds a single long text, or is 64 kB at most."""
_MOST_OBJECTS = 1 << 12
"""Those of 64 kB: an object takes 16 bytes at least."""
_PACKED = 4
"""Index of bitshuffle's compression among its settings; 0 is none, and then there are no sizes."""


class Guarded(io.RawIOBase):
    """What the library reads from: a file at the length it once had, zeros after its end.

    Parameters
    ----------
    file : file
        It is closed with this.
    size : int, bytes
        How long it is.
    whole : int, bytes
        How long it should be.
    path : str
        For messages.

    Attributes
    ----------
    cut : bool
        Whether the file is shorter than it should be.
    crossed : bool
        Set when zeros after the end have been handed out.
    """

    def __init__(self, file: BinaryIO, size: int, whole: int, path: str) -> None:
        self._path = path
        self.cut, self.crossed = whole > size, False
        self._file, self._size, self._whole, self._at = file, size, max(size, whole), 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte; the end is where it should be."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence, self._whole)
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer.

        Raises
        ------
        FormatError
            For a heap that is damaged or cut.
        """
        view = memoryview(buffer).cast("B")
        there = self._stored(self._at, view)
        if there < len(view):
            self.crossed = True
            view[there:] = bytes(len(view) - there)
        if view[: len(_HEAP)] == _HEAP and not self._is_sound_heap(bytes(view[8:16])):
            msg = (
                "expected a sound heap of text, got one that is damaged or cut; copy the file "
                "again, or --on-error skip goes on without the text"
            )
            raise FormatError(msg, path=self._path, offset=self._at, reason="corrupt")
        self._at += len(view)
        return len(view)

    def _stored(self, at: int, view: memoryview) -> int:
        """Read what there is; return how much."""
        most, there = max(0, min(len(view), self._size - at)), 0
        if most:
            self._file.seek(at)
        while there < most:
            got = self._file.readinto(view[there:most])  # type: ignore[attr-defined]
            if not got:
                break
            there += got
        return there

    def _is_sound_heap(self, claimed: bytes) -> bool:
        size = int.from_bytes(claimed, "little")
        if size > _MOST_HEAP_BYTES:
            return False
        heap = memoryview(bytearray(size))
        return _sound_heap(heap[: self._stored(self._at, heap)], size)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


def _sound_heap(heap: memoryview, size: int) -> bool:
    """Walk the objects: u16 number, u16 and u32 passed over, u64 size, data; 0 is free room.

    Free room may be cut off.
    """
    at = 16
    for _ in range(_MOST_OBJECTS):
        if at + 16 > size:
            return True
        number = int.from_bytes(heap[at : at + 2], "little")
        held = int.from_bytes(heap[at + 8 : at + 16], "little")
        step = held if number == 0 else 16 + held + -held % 8
        there = 16 if number == 0 else step
        if step < 16 or at + step > size or at + there > len(heap):
            return False
        at += step
    return False


def trusting(dset: Any) -> tuple[int, int] | None:
    """Return the filter that sees the stored bytes first and the unit it works in, if it trusts.

    Returns
    -------
    filter, unit : int, int, or None
        Bytes that stand together: bitshuffle packs eight values at a time.
    """
    plist = dset.id.get_create_plist()
    count = plist.get_nfilters()
    if not count:
        return None
    number, _, settings, _ = plist.get_filter(count - 1)
    if number == LZ4:
        return LZ4, 1
    if number == BITSHUFFLE and len(settings) > _PACKED and settings[_PACKED]:
        return BITSHUFFLE, 8 * int(dset.dtype.itemsize)
    return None


def refuse_bad_sizes(dset: Any, axis: int, start: int, stop: int) -> None:
    """Raise for a chunk of rows ``start`` to ``stop`` whose sizes do not fit its bytes.

    Parameters
    ----------
    dset : h5py.Dataset
    axis : int
        Along which rows are counted.
    start, stop : int

    Raises
    ------
    ValueError
    """
    filtered = trusting(dset)
    if filtered is None:
        return
    step = dset.chunks[axis]
    wanted = math.prod(dset.chunks) * dset.dtype.itemsize
    for row in range(start - start % step, stop, step):
        for corner in corners(dset, axis, row):
            mask, data = dset.id.read_direct_chunk(corner)
            if not mask and not _fits(data, wanted, filtered[1]):
                msg = (
                    f"sizes in the chunk at row {row} of {dset.name} do not fit its {len(data)} "
                    "bytes"
                )
                raise ValueError(msg)


def _fits(data: bytes, wanted: int, unit: int) -> bool:
    total, block = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:12], "big")
    if len(data) < 12 or total != wanted or block == 0 or block % unit:
        return False
    tail = total % unit
    at, left = 12, total - tail
    while left > 0:
        if at + 4 > len(data):
            return False
        at += 4 + int.from_bytes(data[at : at + 4], "big")
        left -= block
        if at > len(data):
            return False
    return at + tail <= len(data)
