"""The plan of a set of shards: how many, and which clip goes where."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eventkit.atomic import write_atomic
from eventkit.errors import SettingsError
from eventkit.samples import encode_json, sample_key
from eventkit.store import Store
from pipelines.plan import differing_settings
from pipelines.receipts import HIDDEN, read_json, read_plan, receipt_path
from pipelines.shard_task import ShardSettings

MANY_SHARDS = 64


def plan_shards(store: Store, settings: ShardSettings) -> dict[str, Any]:
    """Decide which clip goes where.

    Samples of a split are sorted by a hash of their key, so that sequential readers see mixed
    classes, and cut into shards that differ by at most one sample.
    """
    converted = json.loads((store.path / HIDDEN / "plan.json").read_bytes())
    if settings.with_diffs and not converted["settings"]["diffs"]:
        msg = f"{store.path} was converted with --no-diffs; convert anew, or drop --with-diffs"
        raise SettingsError(msg)
    receipts = [read_json(receipt_path(store.path, name)) or {} for name in store.names]
    suffixes = {suffix for receipt in receipts for suffix in receipt["suffixes"]}
    decisive = {
        **converted["settings"],
        **asdict(settings),
        "rgb_suffix": "jpg" if suffixes == {"jpg"} else "png",
    }
    content = [[f["sha256"] for f in receipt["files"]] for receipt in receipts]
    identity = encode_json([converted["plan_id"], store.names, content, decisive])
    by_split = _clips_by_split(store)
    size = _estimated_bytes(receipts, settings)
    total = sum(len(rows) for rows in by_split.values())
    shards = []
    for split, rows in sorted(by_split.items()):
        share = size * len(rows) // total
        count = settings.num_shards or _shard_count(len(rows), share, settings.shard_bytes)
        count = min(count, len(rows))
        for i in range(count):
            part = rows[len(rows) * i // count : len(rows) * (i + 1) // count]
            shards.append((f"{split}/{split}-{i:06d}.tar", part))
    return {
        "plan_id": hashlib.sha256(identity).hexdigest(),
        "store_plan_id": converted["plan_id"],
        "settings": decisive,
        "classes": converted["classes"],
        "shards": shards,
        **_store_totals(store.path, converted),
    }


def _clips_by_split(store: Store) -> dict[str, list[tuple[str, int, str]]]:
    """Return split -> (pack, number, key), in the order of the shards."""
    found: dict[str, list[tuple[str, int, str]]] = {}
    seen: set[str] = set()
    for name in store.names:
        for number, facts in enumerate(store.pack(name).facts):
            key = sample_key(facts["recording"], facts["clip"])
            if key in seen:
                msg = f"two clips have the key {key!r}; rename {facts['recording']}"
                raise SettingsError(msg)
            seen.add(key)
            found.setdefault(facts["split"], []).append((name, number, key))
    for rows in found.values():
        rows.sort(key=lambda row: hashlib.sha256(f"eventkit-order\0{row[2]}".encode()).digest())
    return found


def _estimated_bytes(receipts: list[dict[str, Any]], settings: ShardSettings) -> int:
    """Return about how many bytes the samples take: what they take in the store."""
    return sum(
        file["bytes"]
        for receipt in receipts
        for file in receipt["files"]
        if "/raw_" not in file["path"] and (settings.with_diffs or "/diff_" not in file["path"])
    )


def _store_totals(store: Path, plan: dict[str, Any]) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    bad = list(plan["quarantine"])
    for pack in plan["packs"]:
        receipt = read_json(receipt_path(store, pack["name"])) or {}
        totals.update(receipt["totals"])
        totals["clips"] += receipt["clips"]
        dropped.update(receipt["dropped"])
        bad.extend(receipt["quarantine"])
    listed = [{k: e[k] for k in ("recording", "reason", "message")} for e in bad]
    return {
        "totals": {**dict(sorted(totals.items())), "dropped": dict(sorted(dropped.items()))},
        "quarantine": sorted(listed, key=lambda e: str(e["recording"])),
    }


def _shard_count(samples: int, size: int, shard_bytes: int) -> int:
    """Return enough shards for the size, and up to 64 where each still holds 64 samples."""
    count = max(1, -(-size // shard_bytes), min(MANY_SHARDS, samples // MANY_SHARDS))
    return -(-count // MANY_SHARDS) * MANY_SHARDS if count > MANY_SHARDS else count


def freeze_shards(out: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or refuse a folder that belongs to another one."""
    old = read_plan(out)
    if old is None:
        kept = {key: plan[key] for key in ("plan_id", "store_plan_id", "settings")}
        write_atomic(out / HIDDEN / "plan.json", encode_json(kept))
        return
    if old["plan_id"] == plan["plan_id"]:
        return
    differing = differing_settings(old["settings"], plan["settings"])
    if old["store_plan_id"] != plan["store_plan_id"]:
        differing.append("the store")
    if not differing:
        differing.append("the clips of the store")
    msg = (
        f"{out} was made from something else: {'; '.join(differing)}. "
        "Choose another --out, or remove it"
    )
    raise SettingsError(msg)
