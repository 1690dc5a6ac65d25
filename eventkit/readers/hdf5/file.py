"""HDF5 files that may be damaged: opening, which rows are really there, and where they stand.

The HDF5 library refuses a file that is shorter than its superblock says, and gives zeros for rows
that were never stored. Neither is wanted here: the rows that are whole are read, and zeros that
nobody wrote are no events. So a short file is presented at its full length, and every dataset is
compared with the storage it has before it is read.

File format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eventkit import ecf
from eventkit._optional import require
from eventkit.errors import EventKitError, FormatError
from eventkit.readers.hdf5.chunks import FAULTS as INDEX_FAULTS
from eventkit.readers.hdf5.chunks import Chunks, chunk_count, chunks_of
from eventkit.readers.hdf5.guard import Guarded
from eventkit.sources import Source

SIGNATURE = b"\x89HDF\r\n\x1a\n"

MOST_CHUNK_BYTES = 1 << 26
"""A chunk is decompressed whole; a larger one has to be backed by a file of its size / 1024."""
MOST_RATIO = 1024
"""Deflate makes at most 1 byte of 1,032."""

_USER_BLOCKS = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def library() -> Any:
    """Import h5py."""
    return require("h5py", extra="hdf5", purpose="reading HDF5 files")


def start_of(head: bytes) -> int | None:
    """Return the byte at which HDF5 begins: 0, or after a user block; None if nowhere."""
    return next((at for at in _USER_BLOCKS if head[at : at + 8] == SIGNATURE), None)


def stored_size(head: bytes) -> int | None:
    """Return the length of the file by its superblock; None if that cannot be told."""
    at = start_of(head)
    if at is None or len(head) < at + 64:
        return None
    version = head[at + 8]
    if version < 2:
        sizes, place = head[at + 13], at + (24 if version == 0 else 28) + 16
    else:
        sizes, place = head[at + 9], at + 12 + 16
    if sizes != 8:
        return None
    size = int.from_bytes(head[place : place + 8], "little")
    return size if 0 < size < 1 << 62 else None


@contextmanager
def faults(source: Source, *, offset: Callable[[], int | None] = lambda: None) -> Iterator[None]:
    """Turn what the HDF5 library raises for damaged content into `FormatError`.

    Parameters
    ----------
    source : Source
    offset : callable
        ``offset()`` is the byte of what is read; asked for only after a fault.
    """
    try:
        yield
    except EventKitError:
        raise
    except (
        OSError,
        KeyError,
        RuntimeError,
        ValueError,
        TypeError,
        NotImplementedError,
        OverflowError,
        MemoryError,
        AttributeError,
        IndexError,
    ) as err:
        if isinstance(err, OSError) and err.errno not in (None, errno.EINVAL):
            raise
        text = " ".join(str(err).split())[:200] or type(err).__name__
        msg = f"expected sound HDF5, got what the library cannot read ({text}); copy it again"
        raise FormatError(msg, path=source.name, offset=offset(), reason="corrupt") from err


class File:
    """An open HDF5 file and how long it really is.

    Parameters
    ----------
    root : h5py.File
    size : int, bytes
    handle : Guarded
        What ``root`` reads from.
    """

    def __init__(self, root: Any, source: Source, size: int, handle: Guarded) -> None:
        self.root, self.source, self.size = root, source, size
        self.cut = handle.cut
        self._handle = handle
        self._chunks: dict[tuple[str, int], Chunks] = {}

    def member(self, group: Any, name: str) -> Any:
        """Return a member of a group; None if it is not there or cannot be read."""
        try:
            return group.get(name)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError):
            return None

    def is_there(self, dset: Any) -> bool:
        """Whether a small dataset that is not in chunks stands in the file as far as it goes."""
        if dset.chunks is not None or not self.cut:
            return True
        return bool(self._contiguous(dset) >= dset.size * dset.dtype.itemsize)

    def attribute(self, holder: Any, name: str) -> Any:
        """Return an attribute, text as str; None if it is not there.

        Raises
        ------
        FormatError
            If it cannot be read.
        """
        with faults(self.source):
            if name not in holder.attrs:
                return None
            value = holder.attrs[name]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def check(self, dset: Any) -> None:
        """Refuse a dataset that would be read from elsewhere or into too much memory.

        Raises
        ------
        FormatError
        """
        if dset.is_virtual or dset.external:
            msg = f"expected events in the file itself, got {dset.name} with data in other files"
            raise FormatError(msg, path=self.source.name, reason="bad_header")
        if dset.chunks is None:
            return
        chunk = math.prod(dset.chunks) * dset.dtype.itemsize
        if chunk > max(MOST_CHUNK_BYTES, MOST_RATIO * self.size):
            msg = f"expected chunks that fit the file, got {chunk} bytes in {dset.name}"
            raise FormatError(msg, path=self.source.name, reason="bad_header")
        self._check_filters(dset)

    def _check_filters(self, dset: Any) -> None:
        h5py = library()
        for number in filters(dset):
            if number == ecf.FILTER_ID or h5py.h5z.filter_avail(number):
                continue
            # Importing it registers blosc, zstd, lz4 and others.
            require("hdf5plugin", extra="hdf5", purpose=f"the compression of {dset.name}")
            if not h5py.h5z.filter_avail(number):
                msg = f"expected a known compression of {dset.name}, got HDF5 filter {number}"
                raise FormatError(msg, path=self.source.name, reason="bad_header")

    def rows(self, dset: Any, axis: int = 0) -> int:
        """Return how many leading rows of a dataset have been stored and are in the file."""
        claimed = int(dset.shape[axis])
        if not math.prod(dset.shape) * dset.dtype.itemsize:
            return 0
        if dset.chunks is None:
            row = math.prod(dset.shape[axis + 1 :]) * dset.dtype.itemsize
            # The rows of the last column stand at the end.
            before = (math.prod(dset.shape[:axis]) - 1) * claimed * row
            return int(max(0, min(claimed, (self._contiguous(dset) - before) // row)))
        if not self.cut and self._looks_whole(dset):
            return claimed
        return min(claimed, self.chunks(dset, axis).rows)

    def _contiguous(self, dset: Any) -> int:
        h5py = library()
        if dset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT:
            return int(dset.id.get_storage_size())
        at = dset.id.get_offset()
        return 0 if at is None else max(0, self.size - int(at))

    def _looks_whole(self, dset: Any) -> bool:
        """Whether as many chunks are listed as there should be, in as many bytes as can be."""
        wanted = chunk_count(dset)
        try:
            if wanted > self.size or int(dset.id.get_storage_size()) > self.size:
                return False
            return bool(dset.id.get_num_chunks() == wanted)
        except INDEX_FAULTS:
            return False

    def chunks(self, dset: Any, axis: int = 0) -> Chunks:
        """Return where the chunks of a dataset stand that are whole, found once for each."""
        key = dset.name, axis
        if key not in self._chunks:
            full = None if filters(dset) else math.prod(dset.chunks) * dset.dtype.itemsize
            # Where nothing may be listed, nothing is in the file.
            end = 0 if self._may_be_computed(dset) else self.size
            self._crossed(reset=True)
            self._chunks[key] = chunks_of(dset, axis, end=end, full=full, unsure=self._crossed)
        return self._chunks[key]

    def _crossed(self, *, reset: bool = False) -> bool:
        """Whether anything was read from behind the end of a cut file."""
        self._handle.crossed &= not reset
        return self._handle.crossed

    def _may_be_computed(self, dset: Any) -> bool:
        """Whether chunks may be computed rather than listed: walking forged ones would not end.

        So they are in newer files, for datasets that cannot grow.
        """
        head = self.source.head
        newer = head[(start_of(head) or 0) + 8] >= 2
        return newer and None not in dset.maxshape and chunk_count(dset) > self.size

    def byte_of(self, dset: Any, row: int, axis: int = 0) -> int | None:
        """Return the byte at which a row, or the chunk with it, stands; None if unknown."""
        try:
            if dset.chunks is None:
                at = dset.id.get_offset()
                width = math.prod(dset.shape[axis + 1 :]) * dset.dtype.itemsize
                return None if at is None else int(at) + row * width
            place = self.chunks(dset, axis).place(row)
            return None if place is None else place[0]
        except INDEX_FAULTS:
            return None


def kind_of(group: Any, name: str) -> int | None:
    """Return ``h5g.GROUP``, ``h5g.DATASET`` ...; None if it is elsewhere or cannot be read.

    Not by ``h5o.get_info``, as h5py does it: that adds up the size of indexes, and one that is
    damaged ends the process (HDF5 2.0.0).
    """
    try:
        return None if _is_outside(group, name) else int(_looked_up(group, name).type)
    except (*INDEX_FAULTS, KeyError):
        return None


def address_of(group: Any) -> tuple[int, ...]:
    """Return what tells an object of the file from all others."""
    return tuple(_looked_up(group, ".").objno)


def attribute_of(group: Any, name: str, attribute: str) -> Any:
    """Return the identifier of an attribute of a member of a group; None if there is none."""
    try:
        if _is_outside(group, name):
            return None
        return library().h5a.open(group.id, _key(attribute), obj_name=_key(name))
    except KeyError:
        return None


def _looked_up(group: Any, name: str) -> Any:
    return library().h5g.get_objinfo(group.id, _key(name))


def _is_outside(group: Any, name: str) -> bool:
    kind = group.id.links.get_info(_key(name)).type
    return bool(kind == library().h5l.TYPE_EXTERNAL)


def _key(name: str) -> bytes:
    """Return a name as the library has it; h5py makes other bytes than UTF-8 surrogates."""
    return name.encode("utf-8", "surrogateescape")


def filters(dset: Any) -> list[int]:
    """Return the numbers of a dataset's filters."""
    plist = dset.id.get_create_plist()
    return [int(plist.get_filter(i)[0]) for i in range(plist.get_nfilters())]


def _refuse_odd_lengths(source: Source) -> None:
    """Refuse lengths of other than 4 or 8 bytes, which `Guarded` would take for others."""
    at = (start_of(source.head) or 0) + 8
    place = at + (2 if source.head[at : at + 1] >= b"\x02" else 6)
    if source.head[place : place + 1] not in (b"", b"\x04", b"\x08"):
        msg = "expected lengths of 8 bytes in HDF5, got others; copy the file again"
        raise FormatError(msg, path=source.name, offset=place, reason="bad_header")


@contextmanager
def opened(source: Source) -> Iterator[File]:
    """Open an HDF5 file for reading, cut or not; nothing stays open afterwards.

    A compressed file is copied to a temporary one first: HDF5 jumps about.

    Raises
    ------
    FormatError
    """
    h5py = library()
    _refuse_odd_lengths(source)
    streamed = not source.is_plain and not source.compression and source.name[:6] != "zip://"
    file: Any
    if streamed:
        file, size = source.open(), int(source.size or 0)
    else:
        path = source.local()
        file, size = path.open("rb", buffering=0), path.stat().st_size
    handle = Guarded(file, size, stored_size(source.head) or size, source.name)
    with handle, faults(source), h5py.File(handle, "r") as root:
        yield File(root, source, size, handle)
