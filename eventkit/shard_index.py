"""Where the members of the samples are: the index that is written with the tars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError
from eventkit.npy import read_npz
from eventkit.shard_files import Member


@dataclass(frozen=True, slots=True)
class SampleIndex:
    """Where the members of a split's samples are.

    Parameters
    ----------
    keys : (N,) bytes
    shard : (N,) int64
        Position in ``shards``.
    offset, size : (N, F) int64, bytes
        Of each member's data within its tar.
    labels : (N,) int64
    fields : tuple of F str
        Member suffixes, the same for all samples.
    shards : tuple of str
        Paths relative to the folder.
    """

    keys: NDArray[np.bytes_]
    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    labels: NDArray[np.int64]
    fields: tuple[str, ...]
    shards: tuple[str, ...]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return plain arrays for ``np.savez``."""
        return {
            "keys": self.keys,
            "shard": self.shard,
            "offset": self.offset,
            "size": self.size,
            "labels": self.labels,
            "fields": np.array(self.fields),
            "shards": np.array(self.shards),
        }

    def member(self, i: int, field: int) -> Member:
        """Return where a member of sample ``i`` lies in its tar."""
        name = f"{self.keys[i].decode()}.{self.fields[field]}"
        return Member(name, int(self.offset[i, field]), int(self.size[i, field]))

    def last_member(self, shard: int) -> Member:
        """Return the member that a shard ends with."""
        i = int(np.searchsorted(self.shard, shard, side="right")) - 1
        return self.member(i, int(self.offset[i].argmax()))

    @classmethod
    def load(cls, path: Path) -> SampleIndex:
        """Read an index file."""
        try:
            arrays = read_npz(path)
            index = cls(
                keys=arrays["keys"],
                shard=arrays["shard"],
                offset=arrays["offset"],
                size=arrays["size"],
                labels=arrays["labels"],
                fields=tuple(str(name) for name in arrays["fields"]),
                shards=tuple(str(name) for name in arrays["shards"]),
            )
            index.check()
        except Exception as err:  # zipfile raises by what the damage happens to look like
            msg = (
                f"{path}: expected a sample index, got a damaged one ({err}); run `eventkit verify`"
            )
            raise DamageError(msg) from err
        return index

    def check(self) -> None:
        """Touch what readers rely on.

        Raises
        ------
        ValueError
        """
        num, fields = self.labels.size, len(self.fields)
        shapes = {self.offset.shape, self.size.shape}
        if shapes != {(num, fields)} or not self.keys.size == self.shard.size == num:
            msg = f"expected {num} samples of {fields} members in every column"
            raise ValueError(msg)
        order = np.concatenate([[0], self.shard, [len(self.shards) - 1]])
        if num and np.any(np.diff(order) < 0):
            msg = "expected samples in the order of their shards"
            raise ValueError(msg)
