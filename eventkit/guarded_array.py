"""An array of a pack whose chunks must be there: what is lost or damaged never reads as zeros.

Zarr takes a chunk that is not there for one of zeros, which would look like "no events". So before
a chunk is read its shard's file must be there, and the index at the file's end, which is looked at
once, must name every chunk that the shape asks for. What is in a chunk is held by its crc32c.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import DamageError

_INDEX_ENTRY = 16
_CRC = 4
_NO_CHUNK = np.iinfo(np.uint64).max


class GuardedArray:
    """An array of a pack.

    Parameters
    ----------
    pack : Path
        Folder of the group.
    name : str
    array : zarr.Array
    """

    def __init__(self, pack: Path, name: str, array: Any) -> None:
        self._pack, self._name, self._array = pack, name, array
        self._rows = max(1, (array.shards or array.chunks)[0])
        self._inner = max(1, array.chunks[0])
        self._seen: dict[int, tuple[int, int]] = {}

    def words(self) -> str:
        """Return shape of a clip and type."""
        return f"{self._array.shape[1:]} {self._array.dtype}"

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows of the first axis."""
        stop = self._array.shape[0] if stop is None else stop
        with damage_of(self._pack / self._name):
            shards = range(start // self._rows, -(-stop // self._rows)) if stop > start else ()
            files = [self._file(shard) for shard in shards]
            for shard, file in zip(shards, files, strict=True):
                self._check(shard, file)
        with damage_of(*files or (self._pack / self._name,)):
            values: NDArray[Any] = self._array[start:stop]
        return values

    def _file(self, shard: int) -> Path:
        place = (shard, *(0 for _ in self._array.shape[1:]))
        return Path(self._pack, self._name, self._array.metadata.encode_chunk_key(place))

    def _check(self, shard: int, file: Path) -> None:
        """Require the file, and that its index names every chunk; the latter once a file."""
        try:
            status = file.stat()
        except FileNotFoundError as err:
            msg = f"{file}: expected a part of the pack, it is missing; {cure_of(self._pack)}"
            raise DamageError(msg) from err
        state = status.st_size, status.st_mtime_ns
        if self._array.shards is None or self._seen.get(shard) == state:
            return
        self._check_index(shard, file, status.st_size)
        self._seen[shard] = state

    def _check_index(self, shard: int, file: Path, size: int) -> None:
        count = self._rows // self._inner
        length = count * _INDEX_ENTRY + _CRC
        with file.open("rb") as opened:
            opened.seek(max(0, size - length))
            data = opened.read(length)
        crc32c = require("google_crc32c", extra="zarr", purpose="reading the store").value
        if len(data) != length or crc32c(data[:-_CRC]) != int.from_bytes(data[-_CRC:], "little"):
            msg = (
                f"{file} is damaged: expected the index of its chunks at its end, got none; "
                f"{cure_of(self._pack)}"
            )
            raise DamageError(msg)
        left = self._array.shape[0] - shard * self._rows
        wanted = min(count, -(-left // self._inner))
        index = np.frombuffer(data, "<u8", 2 * count).reshape(count, 2)[:wanted]
        if (index == _NO_CHUNK).any() or index.sum(axis=1).max(initial=0) > size - length:
            msg = (
                f"{file} is damaged: expected {wanted} chunks, got an index of fewer or beyond its "
                f"end; {cure_of(self._pack)}"
            )
            raise DamageError(msg)


def cure_of(pack: Path) -> str:
    """Return what to do about a damaged pack; its receipt alone would be believed."""
    return f"remove {pack} and run the same `eventkit convert` again, which makes it anew"


@contextmanager
def damage_of(*files: Path) -> Iterator[None]:
    """Name the files where a checksum or the metadata is wrong; Zarr's own errors name none."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError, IndexError) as err:
        pack = next((p for p in (*files, *files[0].parents) if p.suffix == ".zarr"), files[0])
        names = " or ".join(map(str, files))
        msg = f"{names} is damaged: expected it as it was written, got {err}; {cure_of(pack)}"
        raise DamageError(msg) from err
