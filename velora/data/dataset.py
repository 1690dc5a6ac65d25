"""The samples of a split as a plain PyTorch dataset: no model, no `pipelines`, no webdataset."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from eventkit.errors import DamageError, SettingsError
from eventkit.samples import decode_array, decode_images
from eventkit.shard_arrays import ArrayReader
from eventkit.shards import ShardSet

Item = dict[str, Any]

_KNOWN = ("events", "rgb", "diff_events", "diff_rgb", "json")


class Padding(int):
    """The number of a sample that only fills a batch up: its item has ``valid`` False."""


class ShardDataset(Dataset[Item]):
    """A split of a shard set, by number; for `torch.utils.data.DataLoader` or `ShardLoader`.

    Threads may share it. Pickling sends the path, and every process opens its own files, so that
    workers may be forked or spawned.

    Parameters
    ----------
    path : str, Path or ShardSet
        A folder or URL, or an opened set (which says how it is cached and checked).
    split : str
    members : sequence of str
        Among ``events`` (T, C, H, W), ``rgb`` (T, H, W, C) uint8, ``diff_events``, ``diff_rgb``
        and ``json``. What is not asked for is not read.
    transform : callable, optional
        Item -> anything, in the thread or process that decodes. Must be picklable for `spawn`.

    Raises
    ------
    SettingsError
        If the samples have no such member.

    Examples
    --------
    >>> ShardDataset("shards", "train")[0]["events"].shape     # doctest: +SKIP
    torch.Size([8, 2, 34, 34])
    """

    def __init__(
        self,
        path: str | Path | ShardSet,
        split: str = "train",
        *,
        members: Sequence[str] = ("events",),
        transform: Callable[[Item], Any] | None = None,
    ) -> None:
        self.shards = path if isinstance(path, ShardSet) else ShardSet.open(path)
        self.split = split
        self.members = tuple(members)
        self.transform = transform
        self._suffixes = {name: self._suffixes_of(name) for name in members}
        self._readers: dict[str, ArrayReader] = {}

    def __len__(self) -> int:
        return self.shards.num_samples(self.split)

    def __getitem__(self, i: int) -> Any:
        if not 0 <= i < len(self):
            msg = f"expected a sample of 0 to {len(self) - 1}, got {i}"
            raise IndexError(msg)
        item: Item = self.facts(i)
        for name in self.members:
            value = self._decoded(name, i)
            item[name] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        return item if self.transform is None else self.transform(item)

    def facts(self, i: int) -> Item:
        """Return what the index alone says of a sample: key, index, label, valid."""
        index = self.shards.index(self.split)
        return {
            "key": index.keys[i].decode(),
            "index": int(i),
            "label": int(index.labels[i]),
            "valid": not isinstance(i, Padding),
        }

    def reader(self, name: str) -> ArrayReader | None:
        """Return what reads a member straight into arrays; None for one that is no array."""
        if name in ("rgb", "json"):
            return None
        if name not in self._readers:
            self._readers[name] = ArrayReader(self.shards, self.split, name)
        return self._readers[name]

    def rgb(self, i: int) -> NDArray[np.uint8]:
        """Return the decoded pictures of a sample: (T, H, W, C) uint8."""
        pictures: NDArray[np.uint8] = self._decoded("rgb", i)
        return pictures

    def json(self, i: int) -> dict[str, Any]:
        """Return the json member of a sample: times, mass balance, names."""
        meta: dict[str, Any] = self._decoded("json", i)
        return meta

    def _decoded(self, name: str, i: int) -> Any:
        suffixes = self._suffixes[name]
        data = self.shards.members(self.split, i, suffixes=suffixes)
        try:
            if name == "rgb":
                return decode_images([data[suffix] for suffix in suffixes])
            if name == "json":
                return _json(data["json"])
            return decode_array(data[suffixes[0]], codec=suffixes[0].partition(".")[2])
        except DamageError as err:
            index = self.shards.index(self.split)
            shard = index.shards[int(index.shard[i])]
            msg = (
                f"sample {index.keys[i].decode()} in {self.shards.path}/{shard}: {name}: {err}; "
                "run `eventkit verify` on the shards"
            )
            raise DamageError(msg) from err

    def _suffixes_of(self, name: str) -> list[str]:
        fields = self.shards.index(self.split).fields
        pattern = rf"{name}[0-9]*\.(png|jpg)" if name == "rgb" else rf"{name}(\.npy(\.\w+)?)?"
        found = sorted(field for field in fields if re.fullmatch(pattern, field))
        if name not in _KNOWN or not found:
            msg = (
                f"{self.shards.path}: expected members among {', '.join(_KNOWN)} that the samples "
                f"have ({', '.join(fields)}), got {name!r}"
            )
            raise SettingsError(msg)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as err:
        raise DamageError(str(err)) from err
