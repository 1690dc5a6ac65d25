"""An opened folder of shards: manifest, index, and random access to samples.

The index holds the offset of every member, so a sample is one `os.pread` a member and no tar has
to be walked. It is written in the same pass as the tars.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError, MissingDataError
from eventkit.npy import read_npz
from eventkit.samples import SCHEMA_VERSION, Sample, decode_sample, encode_json

MANIFEST = "manifest.json"
MANIFEST_KIND = "eventkit-manifest"


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

    @classmethod
    def load(cls, path: Path) -> SampleIndex:
        """Read an index file."""
        try:
            arrays = read_npz(path)
            return cls(
                keys=arrays["keys"],
                shard=arrays["shard"],
                offset=arrays["offset"],
                size=arrays["size"],
                labels=arrays["labels"],
                fields=tuple(str(name) for name in arrays["fields"]),
                shards=tuple(str(name) for name in arrays["shards"]),
            )
        except Exception as err:  # zipfile raises by what the damage happens to look like
            msg = (
                f"{path}: expected a sample index, got a damaged one ({err}); run `eventkit verify`"
            )
            raise DamageError(msg) from err


class ShardSet:
    """Samples of a shards folder by split and number.

    Threads may share one; pickling sends the path only, so worker processes open their own files.

    Examples
    --------
    >>> shards = ShardSet.open("shards")            # doctest: +SKIP
    >>> shards.sample("train", 0).events.shape      # doctest: +SKIP
    (8, 2, 34, 34)
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.splits: tuple[str, ...] = tuple(sorted(manifest["splits"]))
        self.class_names: dict[int, str] = {
            int(label): str(name) for label, name in manifest["classes"].items()
        }
        self._indexes: dict[str, SampleIndex] = {}
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | Path) -> ShardSet:
        """Open a folder that `eventkit shard` finished.

        Raises
        ------
        MissingDataError
            If there is no folder or no manifest.
        DamageError
            If the manifest or a shard is not what was written.
        """
        folder = Path(path)
        if not folder.is_dir():
            msg = f"{folder}: no such folder; `eventkit convert RAW` and `eventkit shard` make it"
            raise MissingDataError(msg)
        file = folder / MANIFEST
        if not file.is_file():
            msg = (
                f"{folder}: no {MANIFEST}: the shards are not finished; run `eventkit shard` again"
            )
            raise MissingDataError(msg)
        return cls(folder, load_manifest(file))

    def num_samples(self, split: str) -> int:
        """Return the number of samples of a split."""
        return int(self._index(split).labels.size)

    def keys(self, split: str) -> NDArray[np.str_]:
        """Return the keys of a split, in shard order."""
        return self._index(split).keys.astype(np.str_)

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class ids of a split, -1 without a label."""
        return self._index(split).labels

    def members(self, split: str, i: int) -> dict[str, bytes]:
        """Return the members of sample ``i``, suffix -> bytes."""
        index = self._index(split)
        name = index.shards[int(index.shard[i])]
        file = self._file(name)
        found: dict[str, bytes] = {}
        for suffix, offset, size in zip(
            index.fields, index.offset[i].tolist(), index.size[i].tolist(), strict=True
        ):
            data = os.pread(file, size, offset)
            if len(data) != size:
                msg = f"{self.path / name}: expected {size} bytes at {offset}, got {len(data)}: cut"
                raise DamageError(msg)
            found[suffix] = data
        return found

    def sample(self, split: str, i: int) -> Sample:
        """Return sample ``i`` of a split."""
        key = self._index(split).keys[i].decode()
        return decode_sample(key, self.members(split, i))

    def close(self) -> None:
        """Close the tars that were opened."""
        with self._lock:
            for file in self._files.values():
                os.close(file)
            self._files.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["manifest"])  # type: ignore[misc]

    def _index(self, split: str) -> SampleIndex:
        if split not in self.splits:
            known = ", ".join(self.splits) or "none"
            msg = f"{self.path}: expected a split among {known}, got {split!r}"
            raise MissingDataError(msg)
        if split not in self._indexes:
            self._indexes[split] = SampleIndex.load(self.path / "index" / f"{split}.npz")
        return self._indexes[split]

    def _file(self, name: str) -> int:
        with self._lock:
            if name not in self._files:
                self._files[name] = self._open_checked(name)
            return self._files[name]

    def _open_checked(self, name: str) -> int:
        """Open a tar; a size other than the manifest's means it was cut or replaced."""
        entry = next((s for s in self.manifest["shards"] if s["name"] == name), None)
        try:
            file = os.open(self.path / name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError as err:
            msg = f"{self.path / name}: the manifest lists this shard, it is not there"
            raise DamageError(msg) from err
        size = os.fstat(file).st_size
        if entry is None or size != entry["bytes"]:
            os.close(file)
            expected = entry["bytes"] if entry else "an entry in the manifest"
            msg = (
                f"{self.path / name}: expected {expected} bytes, got {size}; run `eventkit verify`"
            )
            raise DamageError(msg)
        return file


def load_manifest(file: Path) -> dict[str, Any]:
    """Read a manifest and check that this version can read it."""
    try:
        manifest: dict[str, Any] = json.loads(file.read_bytes())
        kind, schema = manifest["kind"], manifest["schema"]
        if kind == MANIFEST_KIND and schema == SCHEMA_VERSION:
            _check_parts(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        msg = f"{file}: expected a manifest, got a damaged one ({err}); run `eventkit shard` again"
        raise DamageError(msg) from err
    if kind != MANIFEST_KIND or schema != SCHEMA_VERSION:
        msg = (
            f"{file}: expected {MANIFEST_KIND} schema {SCHEMA_VERSION}, got {kind} {schema}; "
            "another version of velora-eventkit wrote it"
        )
        raise DamageError(msg)
    return manifest


def manifest_digest(manifest: dict[str, Any]) -> str:
    """Return the sha256 of everything in a manifest but its digest."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(encode_json(content)).hexdigest()


def _check_parts(manifest: dict[str, Any]) -> None:
    """Touch what readers rely on, so that damage shows here and not somewhere later."""
    if manifest.get("digest", manifest_digest(manifest)) != manifest_digest(manifest):
        msg = "its digest is not that of its content"
        raise ValueError(msg)
    for label, name in manifest["classes"].items():
        int(label), str(name)
    for facts in manifest["splits"].values():
        int(facts["samples"])
    for entry in manifest["shards"]:
        str(entry["name"]), int(entry["bytes"])
