"""Finish: the indexes of a set, its data card and, last of all, the manifest."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError
from eventkit.faults import at
from eventkit.location import Location, now
from eventkit.samples import SCHEMA_VERSION, encode_json
from eventkit.shards import MANIFEST, MANIFEST_KIND, SampleIndex, manifest_digest
from pipelines.indexes.card import data_card
from pipelines.indexes.energon import energon_metadata
from pipelines.indexes.wids import wids_index, wids_path
from pipelines.put import put
from pipelines.shard_task import check_fields, read_shard_receipt, write_described
from pipelines.tar import member_offsets
from pipelines.versions import code_versions


@dataclass(slots=True)
class _Split:
    """What the receipts of one split say; arrays, so that 10^7 samples fit into memory."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    keys: list[NDArray[np.bytes_]] = field(default_factory=list)
    labels: list[NDArray[np.int64]] = field(default_factory=list)
    sizes: list[NDArray[np.int64]] = field(default_factory=list)
    offsets: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, receipt: dict[str, Any]) -> None:
        sizes = np.array(receipt["sizes"], np.int64)
        self.entries.append(_entry(receipt))
        self.keys.append(np.array([key.encode() for key in receipt["keys"]], np.bytes_))
        self.labels.append(np.array(receipt["labels"], np.int64))
        self.sizes.append(sizes)
        self.offsets.append(member_offsets(sizes))


def finish(out: Location, plan: dict[str, Any]) -> dict[str, Any]:
    """Write indexes, README and manifest of a set whose shards are all there.

    Nothing is read but the receipts: what the indexes say was noted while the tars were written.

    Parameters
    ----------
    out : Path or RemotePath
    plan : dict
        See `pipelines.shard_plan.plan_shards`.

    Returns
    -------
    dict
        The manifest.
    """
    splits: dict[str, _Split] = {}
    fields: list[str] = []
    for receipt in _receipts(out, plan):
        fields = fields or receipt["fields"]
        check_fields(receipt["name"], receipt["fields"], fields)
        splits.setdefault(_split(receipt["name"]), _Split()).add(receipt)
    files = []
    facts = {}
    for name, split in splits.items():
        index = _index(split, fields)
        described = write_described(out, f"index/{name}.npz", _npz(index))
        facts[name] = _summary(split, index, described)
        wids = write_described(out, wids_path(name), wids_index(name, split.entries))
        files += [described, wids]
    entries = [entry for split in splits.values() for entry in split.entries]
    metadata = energon_metadata(
        {entry["name"]: entry["samples"] for entry in entries},
        {name: [entry["name"] for entry in split.entries] for name, split in splits.items()},
        plan_id=plan["plan_id"],
    )
    files += [write_described(out, path, data) for path, data in metadata.items()]
    manifest: dict[str, Any] = {
        "kind": MANIFEST_KIND,
        "schema": SCHEMA_VERSION,
        "plan_id": plan["plan_id"],
        "store_plan_id": plan["store_plan_id"],
        "settings": plan["settings"],
        "code": code_versions(),
        "classes": plan["classes"],
        "members": fields,
        "splits": facts,
        "shards": entries,
        "clips": plan["totals"],
        "histograms": plan["histograms"],
        "layout": plan["layout"],
        "split_rule": plan["split_rule"],
        "recordings": plan["recordings"],
        "quarantine": plan["quarantine"],
    }
    files.append(write_described(out, "README.md", data_card(manifest).encode()))
    manifest["files"] = files
    manifest["digest"] = manifest_digest(manifest)
    at("manifest")
    put(out / MANIFEST, encode_json(manifest) + b"\n")
    return manifest


def listed_files(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield path, bytes and sha256 of every file of a set but the manifest itself."""
    for shard in manifest["shards"]:
        yield {"path": shard["name"], "bytes": shard["bytes"], "sha256": shard["sha256"]}
    yield from index_files(manifest)


def index_files(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield path, bytes and sha256 of the indexes, the data card and whatever else is no tar."""
    for shard in manifest["shards"]:
        yield from shard.get("indexes", ())  # sets of before have one index, in their splits
    yield from manifest.get("files", ())


def _receipts(out: Location, plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    out = now(out)
    for part in plan["parts"]:
        receipt = read_shard_receipt(out, part.name, plan_id=plan["plan_id"])
        if receipt is None:
            msg = f"{out / part.name}: expected it as it was written, it is gone; run shard again"
            raise DamageError(msg)
        yield receipt


def _split(name: str) -> str:
    return name.split("/")[0]


def _entry(receipt: dict[str, Any]) -> dict[str, Any]:
    tar, *indexes = receipt["files"]
    return {
        "name": receipt["name"],
        "samples": len(receipt["keys"]),
        "bytes": tar["bytes"],
        **receipt["hashes"],
        "indexes": indexes,
    }


def _index(split: _Split, fields: list[str]) -> SampleIndex:
    counts = [entry["samples"] for entry in split.entries]
    return SampleIndex(
        keys=np.concatenate(split.keys),
        shard=np.repeat(np.arange(len(counts)), counts),
        offset=np.concatenate(split.offsets),
        size=np.concatenate(split.sizes),
        labels=np.concatenate(split.labels),
        fields=tuple(fields),
        shards=tuple(entry["name"] for entry in split.entries),
    )


def _npz(index: SampleIndex) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **index.to_arrays())  # zip entries carry the fixed date 1980-01-01
    return buffer.getvalue()


def _summary(split: _Split, index: SampleIndex, file: dict[str, Any]) -> dict[str, Any]:
    counts = Counter(index.labels.tolist())
    per_shard = [entry["samples"] for entry in split.entries]
    return {
        "samples": int(index.labels.size),
        "shards": len(per_shard),
        "bytes": sum(entry["bytes"] for entry in split.entries),
        "samples_min": min(per_shard),
        "samples_max": max(per_shard),
        "classes": {str(label): counts[label] for label in sorted(counts)},
        "index": file["path"],
        "index_sha256": file["sha256"],
    }
