"""Array members of a split, read straight into arrays of the caller.

A batch is one array and its clips are its rows: bytes go from the file to the row and nowhere else
(`.npy`), or are inflated once and copied once. All arrays of a split have one header, so it is
compared and not parsed.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError, EventKitError, SettingsError
from eventkit.npy import BadArrayError, Header, check_size, read_header
from eventkit.samples import CODECS, inflate
from eventkit.shard_files import Member, OpenTar
from eventkit.shards import ShardSet


class ArrayReader:
    """One array of every sample of a split; threads may share it.

    Parameters
    ----------
    shards : ShardSet
    split : str
        With at least one sample.
    name : str
        ``events``, ``diff_events`` or ``diff_rgb``.

    Raises
    ------
    SettingsError
        If the samples have no such array.

    Examples
    --------
    >>> reader = ArrayReader(shards, "train", "events")     # doctest: +SKIP
    >>> batch = np.empty((16, *reader.shape), reader.dtype) # doctest: +SKIP
    >>> for row, i in zip(batch, range(16)):                # doctest: +SKIP
    ...     reader.read_into(i, row)
    """

    def __init__(self, shards: ShardSet, split: str, name: str) -> None:
        self._shards = shards
        self._split = split
        self._index = shards.index(split)
        fields = self._index.fields
        self.codec = next((c for c in CODECS if f"{name}.{c}" in fields), "")
        if not self.codec:
            msg = f"{shards.path}: expected one of the members {', '.join(fields)}, got {name!r}"
            raise SettingsError(msg)
        self._field = fields.index(f"{name}.{self.codec}")
        tar, member = shards.tar(split, 0), self._index.member(0, self._field)
        first = self._content(tar, member)
        self._header = self._parsed(tar, member, first)
        self._head = first[: self._header.start]
        self.shape: tuple[int, ...] = self._header.shape
        self.dtype: np.dtype[Any] = self._header.dtype

    def read_into(self, i: int, out: NDArray[Any]) -> None:
        """Read the array of sample ``i`` into a C-contiguous array of the same shape and type.

        Raises
        ------
        DamageError
            If it is damaged; names sample and shard.
        SettingsError
            If it has another shape or type than that of the first sample.
        """
        tar = self._shards.tar(self._split, i)
        member = self._index.member(i, self._field)
        size = len(self._head) + out.nbytes
        if self.codec == "npy" and member.size == size and not self._header.fortran:
            head = bytearray(len(self._head))
            tar.read_into(member, [memoryview(head), out.data])
            if head == self._head:
                return
        content = self._content(tar, member)
        if len(content) != size or not content.startswith(self._head):
            raise self._unlike_the_first(tar, member, content)
        flat = np.frombuffer(content, self.dtype, offset=len(self._head))
        np.copyto(out, flat.reshape(self.shape, order="F" if self._header.fortran else "C"))

    def _content(self, tar: OpenTar, member: Member) -> bytes:
        try:
            return inflate(tar.read(member), codec=self.codec)
        except DamageError as err:
            msg = f"{member.name} in {tar.path}: {err}; run `eventkit verify`"
            raise DamageError(msg) from err

    def _parsed(self, tar: OpenTar, member: Member, content: bytes) -> Header:
        try:
            header = read_header(io.BytesIO(content))
            check_size(header, len(content))
        except BadArrayError as err:
            msg = (
                f"{member.name} in {tar.path}: expected an array, got: {err}; run `eventkit verify`"
            )
            raise DamageError(msg) from err
        return header

    def _unlike_the_first(self, tar: OpenTar, member: Member, content: bytes) -> EventKitError:
        found = self._parsed(tar, member, content)
        msg = (
            f"{member.name} in {tar.path}: expected {self.shape} {self.dtype} as in the first "
            f"sample of {self._split}, got {found.shape} {found.dtype}; give the dataset a "
            "transform that brings clips to one shape"
        )
        return SettingsError(msg)
