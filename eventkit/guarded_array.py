"""An array of a pack whose chunks must be there: what is lost or damaged never reads as zeros.

Zarr takes a chunk that is not there for one of zeros, which would look like "no events". So the
file of a shard must be there and the index at its end, which is looked at once, must name every
chunk that the shape asks for. What is in a chunk is held by its crc32c.

The layout that `eventkit.pack_arrays` writes is read here: Zarr takes 20 times as long for clips
of 34x34, and 2.5 times for those of 346x260. Any other that it knows is read by Zarr, behind the
same guard.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import DamageError, UnsupportedFormatError
from eventkit.location import Location, RemotePath
from eventkit.parts import read_part, state_of

_INDEX_ENTRY = 16
_CRC = 4
_BLOSC_HEADER = struct.Struct("<4xI4xI")
"""Bytes of the content and of the whole frame."""
_LITTLE = {"endian": "little"}
_PURPOSE = "reading the store"


class _Shard(NamedTuple):
    """A file of an array as it was when its index was read."""

    file: Location
    state: tuple[int, int | str]
    spans: NDArray[np.uint64]
    """(chunks, 2): first byte and number of bytes of each inner chunk that the shape asks for."""


class GuardedArray:
    """An array of a pack; several threads may read it at a time.

    Parameters
    ----------
    pack : Path or RemotePath
        Folder of the group.
    name : str
    array : zarr.Array
    """

    def __init__(self, pack: Location, name: str, array: Any) -> None:
        self._pack, self._folder, self._array = pack, pack / name, array
        self._shape: tuple[int, ...] = array.shape
        self._inner = tuple(max(1, n) for n in array.chunks)
        self._outer = tuple(max(1, n) for n in array.shards or array.chunks)
        self._dtype = np.dtype(array.dtype).newbyteorder("<")
        self._codecs = _known_codecs(array)
        self._crc32c = require("google_crc32c", extra="zarr", purpose=_PURPOSE).value
        self._unpack = require("numcodecs.blosc", extra="zarr", purpose=_PURPOSE).decompress
        self._shards: dict[tuple[int, ...], _Shard] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return self._shape

    def words(self) -> str:
        """Return shape of a clip and type."""
        return f"{self._shape[1:]} {self._array.dtype}"

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows of the first axis.

        Raises
        ------
        DamageError
            If there are not so many, or a file is missing or not as it was written.
        """
        stop = self._shape[0] if stop is None else stop
        if not 0 <= start <= stop <= self._shape[0]:
            got = f"expected rows {start} to {stop} of an array, got one of {self._shape[0]}"
            msg = f"{self._folder} is damaged: {got}; {cure_of(self._pack)}"
            raise DamageError(msg)
        if self._codecs is None:
            return self._read_with_zarr(start, stop)
        values = np.empty((stop - start, *self._shape[1:]), self._dtype)
        rows = self._outer[0]
        for number in range(start // rows, -(-stop // rows)) if stop > start else ():
            shard = self._shard((number, *(0 for _ in self._shape[1:])))
            self._read_shard(shard, number * rows, values, start)
        return values

    def _read_shard(self, shard: _Shard, base: int, values: NDArray[Any], start: int) -> None:
        """Fill in what a shard, whose first row is ``base``, has of the rows from ``start`` on."""
        inner, stop = self._inner[0], start + len(values)
        first = max(0, start - base) // inner
        spans = shard.spans[first : -(-(stop - base) // inner)].tolist()
        begin = min(offset for offset, _ in spans)
        end = max(offset + length for offset, length in spans)
        try:
            data = np.frombuffer(read_part(shard.file, begin, end - begin), np.uint8)
        except FileNotFoundError as err:
            raise self._missing(shard.file) from err
        for number, (offset, length) in enumerate(spans, first):
            chunk = data[offset - begin : offset - begin + length]
            row = base + number * inner
            low, high = max(start, row), min(stop, row + inner)
            body = self._checked(chunk, shard.file, number)
            with damage_of(shard.file):
                self._decode(body, values[low - start : high - start], slice(low - row, high - row))

    def _checked(self, chunk: NDArray[np.uint8], file: Location, number: int) -> NDArray[np.uint8]:
        """Return what the checksum of a chunk covers, if that holds and it is of the right size."""
        body, checksum = chunk[:-_CRC], int.from_bytes(chunk[-_CRC:].tobytes(), "little")
        where = f"{file} is damaged: expected chunk {number}"
        if self._crc32c(body) != checksum:
            msg = f"{where} to have its checksum, got other bytes; {cure_of(self._pack)}"
            raise DamageError(msg)
        size, whole = len(body), len(body)
        if self._codecs == "blosc":
            # Blosc goes by this header, wherever it leads.
            known = len(body) >= _BLOSC_HEADER.size
            size, whole = _BLOSC_HEADER.unpack_from(body.data) if known else (0, 0)
        expected = math.prod(self._inner) * self._dtype.itemsize
        if size != expected or whole != len(body):
            got = size if whole == len(body) else f"a frame of {whole} in {len(body)}"
            msg = f"{where} to hold {expected} bytes, got {got}; {cure_of(self._pack)}"
            raise DamageError(msg)
        return body

    def _decode(self, body: NDArray[np.uint8], out: NDArray[Any], rows: slice) -> None:
        """Undo what `eventkit.pack_arrays` does to a chunk, and take some of its rows."""
        if self._codecs == "plain":
            out[...] = body.view(self._dtype).reshape(self._inner)[rows]
        elif len(out) == self._inner[0]:
            self._unpack(body, out)
        else:
            whole = np.empty(self._inner, self._dtype)
            self._unpack(body, whole)
            out[...] = whole[rows]

    def _read_with_zarr(self, start: int, stop: int) -> NDArray[Any]:
        if isinstance(self._folder, RemotePath):
            msg = (
                f"{self._folder}: expected the layout that `eventkit convert` writes, got another "
                "one, which is not read behind a URL; copy the store to a disk"
            )
            raise UnsupportedFormatError(msg)
        first = range(start // self._outer[0], -(-stop // self._outer[0]) if stop > start else 0)
        others = zip(self._shape[1:], self._outer[1:], strict=True)
        cells = itertools.product(first, *(range(-(-size // outer)) for size, outer in others))
        files = [self._shard(cell).file for cell in cells]
        with damage_of(*files or (self._folder,)):
            values: NDArray[Any] = self._array[start:stop]
        return values

    def _shard(self, cell: tuple[int, ...]) -> _Shard:
        """Require a file, and that its index names every chunk; the latter once a file."""
        known = self._shards.get(cell)
        file = known.file if known else self._folder / self._array.metadata.encode_chunk_key(cell)
        try:
            state = state_of(file)
            if known is None or known.state != state:
                known = self._shards[cell] = _Shard(file, state, self._spans(cell, file, state[0]))
        except FileNotFoundError as err:
            raise self._missing(file) from err
        return known

    def _spans(self, cell: tuple[int, ...], file: Location, size: int) -> NDArray[np.uint64]:
        """Return where in a file its inner chunks are: all of it where there are no shards."""
        if self._array.shards is None:
            return np.array([[0, size]], np.uint64)
        grid = [outer // inner for outer, inner in zip(self._outer, self._inner, strict=True)]
        count = math.prod(grid)
        length = count * _INDEX_ENTRY + _CRC
        data = read_part(file, max(0, size - length), length)
        if len(data) != length or self._crc32c(data[:-_CRC]) != int.from_bytes(
            data[-_CRC:], "little"
        ):
            got = "expected the index of its chunks at its end, got none"
            msg = f"{file} is damaged: {got}; {cure_of(self._pack)}"
            raise DamageError(msg)
        axes = zip(self._shape, cell, self._outer, self._inner, strict=True)
        wanted = tuple(slice(-(-(n - at * outer) // inner)) for n, at, outer, inner in axes)
        index = np.frombuffer(data, "<u8", 2 * count).reshape(*grid, 2)
        spans: NDArray[np.uint64] = index[wanted].reshape(-1, 2)
        # A chunk that is not there has the largest number as offset and as length.
        if (spans > size).any() or (spans.sum(axis=1) > size - length).any():
            got = f"expected {len(spans)} chunks, got an index of fewer or beyond its end"
            msg = f"{file} is damaged: {got}; {cure_of(self._pack)}"
            raise DamageError(msg)
        return spans

    def _missing(self, file: Location) -> DamageError:
        msg = f"{file}: expected a part of the pack, it is missing; {cure_of(self._pack)}"
        return DamageError(msg)


def _known_codecs(array: Any) -> str | None:
    """Return ``blosc`` or ``plain`` where an array is as `eventkit.pack_arrays` lays it out.

    None for any other: chunks that are no whole rows, other codecs, big-endian numbers.
    """
    metadata = array.metadata.to_dict()
    codecs = metadata["codecs"]
    if array.shards is not None:
        sharding = codecs[0]["configuration"]
        index = [(codec["name"], codec.get("configuration")) for codec in sharding["index_codecs"]]
        if sharding["index_location"] != "end" or index != [("bytes", _LITTLE), ("crc32c", None)]:
            return None
        codecs = sharding["codecs"]
    names = [codec["name"] for codec in codecs]
    kind = {("bytes", "blosc", "crc32c"): "blosc", ("bytes", "crc32c"): "plain"}.get(tuple(names))
    if (
        metadata.get("storage_transformers")
        or array.dtype.kind not in "biuf"
        or (array.dtype.itemsize > 1 and codecs[0].get("configuration") != _LITTLE)
        or array.chunks[1:] != array.shape[1:]
        or (array.shards or array.chunks)[1:] != array.shape[1:]
    ):
        return None
    return kind


def cure_of(pack: Location) -> str:
    """Return what to do about a damaged pack; its receipt alone would be believed."""
    return f"remove {pack} and run the same `eventkit convert` again, which makes it anew"


@contextmanager
def damage_of(*files: Location) -> Iterator[None]:
    """Name the files where a checksum or the metadata is wrong; Zarr's own errors name none."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError, IndexError) as err:
        pack = next((p for p in (*files, *files[0].parents) if p.suffix == ".zarr"), files[0])
        names = " or ".join(map(str, files))
        msg = f"{names} is damaged: expected it as it was written, got {err}; {cure_of(pack)}"
        raise DamageError(msg) from err
