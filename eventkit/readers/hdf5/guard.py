"""A look at what the HDF5 library trusts, before it does.

**Chunks.** The bitshuffle filter (32008) believes the sizes that stand in a chunk, and one flipped
bit in them ends the process (hdf5plugin 7.1; 4 of 1,000 flips of a small file). The lz4 filter
(32004) has the same layout: u64 bytes in all, u32 bytes a block, then for each block u32 bytes and
its data, all big-endian. So these numbers are walked through first. The other filters (deflate,
blosc, zstd, lzf, shuffle, fletcher32) return errors.

**Text.** Attributes of variable length stand in heaps that begin with ``GCOL``. An object of size 0
in one makes the library (2.0.0) go round for ever. Heaps are written when a file is made and when
it is closed, so both ends of the file are searched for them and walked.

Layouts: https://github.com/kiyo-masui/bitshuffle, https://github.com/nexusformat/HDF5-External-Filter-Plugins
"""

from __future__ import annotations

import math
from typing import Any, BinaryIO

from eventkit.readers.hdf5.chunks import corners

BITSHUFFLE, LZ4 = 32008, 32004
HEAP_BYTES = 1 << 20
_HEAP = b"GCOL\x01"
_PACKED = 4
"""Index of bitshuffle's compression among its settings; 0 is none, and then there are no sizes."""


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


def refuse_bad_heaps(file: BinaryIO, size: int) -> None:
    """Raise if a heap at either end of the file has an object that cannot be.

    Raises
    ------
    ValueError
    """
    for start in sorted({0, max(0, size - HEAP_BYTES)}):
        file.seek(start)
        part = file.read(HEAP_BYTES)
        at = part.find(_HEAP)
        while at >= 0:
            if not _sound_heap(part[at:]):
                msg = f"the heap at byte {start + at} is damaged"
                raise ValueError(msg)
            at = part.find(_HEAP, at + 1)


def _sound_heap(heap: bytes) -> bool:
    """Walk the objects: u16 number, u16 and u32 passed over, u64 size, data; 0 is free room."""
    size = int.from_bytes(heap[8:16], "little")
    at = 16
    while at + 16 <= min(size, len(heap)):
        number = int.from_bytes(heap[at : at + 2], "little")
        held = int.from_bytes(heap[at + 8 : at + 16], "little")
        step = held if number == 0 else 16 + held + -held % 8
        if step < 16 or at + step > size:
            return False
        at += step
    return True


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
