"""An opened folder of shards: manifest, index, and random access to samples.

The index holds the offset of every member, so a sample is one `os.pread` a member and no tar has
to be walked. It is written in the same pass as the tars. `shard_files` opens and checks the tars,
`shard_cache` keeps those of a URL on this disk, `shard_arrays` reads straight into arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError, MissingDataError
from eventkit.location import Location
from eventkit.samples import SCHEMA_VERSION, Sample, decode_sample, encode_json
from eventkit.shard_cache import CACHE_BYTES, Folder, Place, ShardCache
from eventkit.shard_files import OpenTar, ShardFiles
from eventkit.shard_index import SampleIndex as SampleIndex

MANIFEST = "manifest.json"
MANIFEST_KIND = "eventkit-manifest"


class ShardSet:
    """Samples of a shards folder by split and number.

    Threads may share one; pickling sends the path only, so worker processes open their own files,
    and so does a process that was forked.

    Examples
    --------
    >>> shards = ShardSet.open("shards")            # doctest: +SKIP
    >>> shards.sample("train", 0).events.shape      # doctest: +SKIP
    (8, 2, 34, 34)
    """

    def __init__(
        self, path: Path | str, manifest: dict[str, Any], *, place: Place, verify_on_read: bool
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.splits: tuple[str, ...] = tuple(sorted(manifest["splits"]))
        self.class_names: dict[int, str] = {
            int(label): str(name) for label, name in manifest["classes"].items()
        }
        self.digest = manifest_digest(manifest)
        self._place = place
        self._entries = {entry["name"]: entry for entry in manifest["shards"]}
        self._indexes: dict[str, SampleIndex] = {}
        self._files = ShardFiles(place.path, verify_on_read=verify_on_read)
        self._options: dict[str, Any] = {"verify_on_read": verify_on_read}

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        verify_on_read: bool = False,
        cache: str | Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> ShardSet:
        """Open what `eventkit shard` finished.

        Parameters
        ----------
        path : str or Path
            A folder, or a URL that fsspec opens; its shards are then fetched whole, when they are
            first read, and checked against their sha256.
        verify_on_read : bool
            Hash every shard when a process first reads it. Size, last member and last block are
            looked at always.
        cache : path, optional
            Of fetched shards; by default ``~/.cache/velora-eventkit``.
        cache_bytes : int
            What the cache may hold; a process that shuffles reads 8 shards a lane at a time.

        Raises
        ------
        MissingDataError
            If there is no folder or no manifest.
        DamageError
            If the manifest is not what was written; later, if an index or a shard is not.
        """
        options: dict[str, Any] = {"verify_on_read": verify_on_read}
        if "://" in str(path):
            options |= {"cache": cache, "cache_bytes": cache_bytes}
            folder = None if cache is None else Path(cache)
            remote = ShardCache(str(path), folder=folder, max_bytes=cache_bytes)
            manifest = parse_manifest(remote.read(MANIFEST), where=f"{path}/{MANIFEST}")
            made = cls(str(path), manifest, place=remote, verify_on_read=verify_on_read)
        else:
            place = Folder(Path(path))
            manifest = load_manifest(_manifest_of(Path(path)))
            made = cls(Path(path), manifest, place=place, verify_on_read=verify_on_read)
        made._options = options
        return made

    def num_samples(self, split: str) -> int:
        """Return the number of samples of a split."""
        return int(self.index(split).labels.size)

    def keys(self, split: str) -> NDArray[np.str_]:
        """Return the keys of a split, in shard order."""
        return self.index(split).keys.astype(np.str_)

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class ids of a split, -1 without a label."""
        return self.index(split).labels

    def shard_sizes(self, split: str) -> NDArray[np.int64]:
        """Return the number of samples of each shard of a split, for `eventkit.lanes`."""
        index = self.index(split)
        return np.bincount(index.shard, minlength=len(index.shards)).astype(np.int64)

    def members(
        self, split: str, i: int, *, suffixes: Collection[str] | None = None
    ) -> dict[str, bytes]:
        """Return the members of sample ``i``, suffix -> bytes; all, or those wanted."""
        tar = self.tar(split, i)
        index = self.index(split)
        wanted = index.fields if suffixes is None else suffixes
        return {s: tar.read(index.member(i, index.fields.index(s))) for s in wanted}

    def sample(self, split: str, i: int) -> Sample:
        """Return sample ``i`` of a split."""
        key = self.index(split).keys[i].decode()
        return decode_sample(key, self.members(split, i))

    def tar(self, split: str, i: int) -> OpenTar:
        """Return the opened shard of sample ``i``; checked when it is opened."""
        index = self.index(split)
        number = int(index.shard[i])
        entry = self._entries.get(index.shards[number])
        if entry is None:
            msg = f"{self.path}: expected {index.shards[number]} in the manifest, it is not there"
            raise DamageError(msg)
        return self._files.get(entry, index.last_member(number))

    def index(self, split: str) -> SampleIndex:
        """Return the index of a split, read when it is first asked for."""
        if split not in self.splits:
            known = ", ".join(self.splits) or "none"
            msg = f"{self.path}: expected a split among {known}, got {split!r}"
            raise MissingDataError(msg)
        if split not in self._indexes:
            facts = self.manifest["splits"][split]
            name = str(facts.get("index", f"index/{split}.npz"))
            entry = {"name": name, "sha256": facts.get("index_sha256")}
            self._indexes[split] = SampleIndex.load(self._place.path(entry))
        return self._indexes[split]

    def close(self) -> None:
        """Close the tars that were opened."""
        self._files.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_open_again, (self.path, self.digest, self._options))


def _open_again(path: Path | str, digest: str, options: dict[str, Any]) -> ShardSet:
    """Open a set in another process, which must find what the first one found."""
    shards = ShardSet.open(path, **options)
    if shards.digest != digest:
        msg = (
            f"{path}: expected the set of digest {digest}, got {shards.digest}: made anew meanwhile"
        )
        raise DamageError(msg)
    return shards


def _manifest_of(folder: Path) -> Path:
    if not folder.is_dir():
        msg = f"{folder}: no such folder; `eventkit convert RAW` and `eventkit shard` make it"
        raise MissingDataError(msg)
    file = folder / MANIFEST
    if not file.is_file():
        msg = f"{folder}: no {MANIFEST}: {_what_else(folder)}"
        raise MissingDataError(msg)
    return file


def _what_else(folder: Path) -> str:
    """Say what a folder without a manifest is, and what is to be done."""
    if any(folder.glob("*.zarr")):
        return "this is a store of `eventkit convert`; `eventkit shard` makes shards of it"
    if (folder / ".eventkit").is_dir():
        return "the shards are not finished; run `eventkit shard` again"
    return "expected a folder that `eventkit shard` made"


def load_manifest(file: Location) -> dict[str, Any]:
    """Read a manifest and check that this version can read it."""
    return parse_manifest(file.read_bytes(), where=str(file))


def parse_manifest(data: bytes, *, where: str) -> dict[str, Any]:
    """Return the manifest in ``data``; ``where`` is named if it is none.

    Raises
    ------
    DamageError
    """
    try:
        manifest: dict[str, Any] = json.loads(data)
        kind, schema = manifest["kind"], manifest["schema"]
        if kind == MANIFEST_KIND and schema == SCHEMA_VERSION:
            _check_parts(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        msg = f"{where}: expected a manifest, got a damaged one ({err}); run `eventkit shard` again"
        raise DamageError(msg) from err
    if kind != MANIFEST_KIND or schema != SCHEMA_VERSION:
        msg = (
            f"{where}: expected {MANIFEST_KIND} schema {SCHEMA_VERSION}, got {kind} {schema}; "
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
        place = PurePosixPath(entry["name"])
        if place.is_absolute() or ".." in place.parts:
            msg = f"it names {str(place)!r}, which is outside its folder"
            raise ValueError(msg)
        int(entry["bytes"])
