"""Finish: sample index, data card and, last of all, the manifest."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from eventkit.atomic import write_atomic
from eventkit.samples import SCHEMA_VERSION, encode_json
from eventkit.shards import MANIFEST, MANIFEST_KIND, SampleIndex, manifest_digest
from pipelines.receipts import hash_file
from pipelines.versions import code_versions


def finish(out: Path, plan: dict[str, Any], receipts: list[dict[str, Any]]) -> dict[str, Any]:
    """Write index, README and manifest of a finished set; returns the manifest.

    Parameters
    ----------
    out : Path
    plan : dict
        See `pipelines.shard_plan.plan_shards`.
    receipts : list of dict
        Of every shard, in the order of their names.
    """
    splits: dict[str, Any] = {}
    for split in sorted({_split(receipt["name"]) for receipt in receipts}):
        members = [r for r in receipts if _split(r["name"]) == split]
        index = _index(members)
        write_atomic(out / "index" / f"{split}.npz", _npz(index))
        splits[split] = _summary(members, index, out / "index" / f"{split}.npz")
    manifest: dict[str, Any] = {
        "kind": MANIFEST_KIND,
        "schema": SCHEMA_VERSION,
        "plan_id": plan["plan_id"],
        "store_plan_id": plan["store_plan_id"],
        "settings": plan["settings"],
        "code": code_versions(),
        "classes": plan["classes"],
        "members": receipts[0]["fields"],
        "splits": splits,
        "shards": [_entry(receipt) for receipt in receipts],
        "clips": plan["totals"],
        "quarantine": plan["quarantine"],
    }
    manifest["digest"] = manifest_digest(manifest)
    write_atomic(out / "README.md", _card(manifest).encode())
    write_atomic(out / MANIFEST, encode_json(manifest) + b"\n")
    return manifest


def _split(name: str) -> str:
    return name.split("/")[0]


def _index(receipts: list[dict[str, Any]]) -> SampleIndex:
    rows = [(number, row) for number, r in enumerate(receipts) for row in r["rows"]]
    return SampleIndex(
        keys=np.array([row["key"].encode() for _, row in rows], np.bytes_),
        shard=np.array([number for number, _ in rows], np.int64),
        offset=np.array([row["offset"] for _, row in rows], np.int64),
        size=np.array([row["size"] for _, row in rows], np.int64),
        labels=np.array([row["label"] for _, row in rows], np.int64),
        fields=tuple(receipts[0]["fields"]),
        shards=tuple(receipt["name"] for receipt in receipts),
    )


def _npz(index: SampleIndex) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **index.to_arrays())  # zip entries carry the fixed date 1980-01-01
    return buffer.getvalue()


def _summary(receipts: list[dict[str, Any]], index: SampleIndex, path: Path) -> dict[str, Any]:
    counts = Counter(index.labels.tolist())
    per_shard = [len(receipt["rows"]) for receipt in receipts]
    return {
        "samples": int(index.labels.size),
        "shards": len(receipts),
        "bytes": sum(receipt["files"][0]["bytes"] for receipt in receipts),
        "samples_min": min(per_shard),
        "samples_max": max(per_shard),
        "classes": {str(label): counts[label] for label in sorted(counts)},
        "index": f"index/{path.name}",
        "index_sha256": hash_file(path),
    }


def _entry(receipt: dict[str, Any]) -> dict[str, Any]:
    file = receipt["files"][0]
    return {
        "name": receipt["name"],
        "samples": len(receipt["rows"]),
        "bytes": file["bytes"],
        "sha256": file["sha256"],
        "crc32c": receipt["crc32c"],
    }


def _card(manifest: dict[str, Any]) -> str:
    """Return the data card; `configs` keeps Hugging Face datasets to the tars."""
    files = "\n".join(
        f"      - split: {'validation' if split == 'val' else split}\n        path: {split}/*.tar"
        for split in manifest["splits"]
    )
    table = "\n".join(
        f"| {split} | {facts['samples']} | {facts['shards']} | {facts['bytes']} |"
        for split, facts in manifest["splits"].items()
    )
    settings = "\n".join(f"- {key}: {value}" for key, value in sorted(manifest["settings"].items()))
    first = next(iter(manifest["splits"]), "train")
    return f"""---
configs:
  - config_name: default
    data_files:
{files}
---
# RGB-Event clips

WebDataset tars made by velora-eventkit {manifest["code"]["eventkit"]}, plan
{manifest["plan_id"][:12]}.

| split | samples | shards | bytes |
|---|---|---|---|
{table}

Members of a sample: {", ".join(manifest["members"])}. `events` is (T, C, H, W), the
representation below (of counts channel 0 is OFF, 1 is ON); `rgbNN` is the picture of window NN;
`cls` the class id (-1: none); `json` the times and the mass balance `decoded = binned + dropped`.

    import webdataset as wds
    for sample in wds.WebDataset("{first}/{first}-000000.tar", shardshuffle=False).decode():
        print(sample["__key__"], sample["cls"])

`eventkit verify` checks every byte against manifest.json.

## Settings
{settings}
"""
