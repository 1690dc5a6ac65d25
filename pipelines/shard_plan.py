"""The plan of a set of shards: how many, and which clip goes where."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.location import Location
from eventkit.samples import encode_json, sample_key
from eventkit.store import Store
from pipelines.plan import differing_settings
from pipelines.quarantine import quarantined
from pipelines.receipts import PLAN, read_json, read_plan, receipt_path, write_plan
from pipelines.shard_count import count_shards
from pipelines.shard_sample import SampleMaker
from pipelines.shard_settings import MIXED_PACKS, ShardSettings
from pipelines.tally import total

_TOLD_OF_BAD = ("recording", "stage", "reason", "file", "offset", "time_us", "message", "attempts")
_TRIED = 16
"""Samples of a split that are encoded to learn how large they become."""
_RANK_BYTES = 36


@dataclass(frozen=True, slots=True)
class Order:
    """The clips of a split in the order of their samples; 8 bytes a clip.

    Parameters
    ----------
    packs : tuple of str
    pack : (N,) int32
        Position in ``packs``.
    number : (N,) int32
        Of the clip in its pack.
    """

    packs: tuple[str, ...]
    pack: NDArray[np.int32]
    number: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.pack)

    def clips(self, start: int, stop: int) -> tuple[tuple[str, int], ...]:
        """Return (pack, number in the pack) from ``start`` to ``stop``."""
        pairs = zip(self.pack[start:stop].tolist(), self.number[start:stop].tolist(), strict=True)
        return tuple((self.packs[pack], number) for pack, number in pairs)


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard holds: a stretch of the order of its split."""

    name: str
    order: Order
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def clips(self) -> tuple[tuple[str, int], ...]:
        """Return (pack, number in the pack) of every sample."""
        return self.order.clips(self.start, self.stop)


def plan_shards(store: Store, settings: ShardSettings, *, out: Location) -> dict[str, Any]:
    """Decide which clip goes where.

    Samples of a split are sorted by a hash of seed, recording and clip, so that sequential readers
    see mixed classes, and cut into shards that differ by at most one sample. How many shards a
    split has is kept in the plan of ``out`` and not worked out again by a later run.
    """
    converted = json.loads((store.path / PLAN).read_bytes())
    if settings.with_diffs and not converted["settings"]["diffs"]:
        msg = f"{store.path} was converted with --no-diffs; convert anew, or drop --with-diffs"
        raise SettingsError(msg)
    receipts = [read_json(receipt_path(store.path, name)) or {} for name in store.names]
    suffixes = {suffix for receipt in receipts for suffix in receipt["suffixes"]}
    decisive = {
        **converted["settings"],
        **settings.as_dict(),
        "rgb_suffix": "jpg" if suffixes == {"jpg"} else "png",
    }
    content = [[f["sha256"] for f in receipt["files"]] for receipt in receipts]
    identity = encode_json([converted["plan_id"], store.names, content, decisive])
    plan: dict[str, Any] = {
        "plan_id": hashlib.sha256(identity).hexdigest(),
        "store_plan_id": converted["plan_id"],
        "settings": decisive,
        "classes": converted["classes"],
        **_store_totals(store.path, converted),
    }
    orders = _orders(store, settings)
    plan["counts"] = _counts(out, orders, SampleMaker.of_plan(store.path, plan, settings))
    cut = (_cut(split, order, plan["counts"][split]) for split, order in orders.items())
    plan["parts"] = [part for parts in cut for part in parts]
    return plan


def _counts(out: Location, orders: dict[str, Order], maker: SampleMaker) -> dict[str, int]:
    """Return split -> number of shards, from the plan that is there where it is this one."""
    old = read_plan(out) or {}
    if old.get("plan_id") == maker.plan_id and set(old.get("counts", ())) == set(orders):
        return dict(old["counts"])
    return {
        split: count_shards(len(order), maker.settings, tar_bytes=partial(_estimate, order, maker))
        for split, order in orders.items()
    }


def _cut(split: str, order: Order, count: int) -> Iterator[Part]:
    edges = [len(order) * i // count for i in range(count + 1)]
    for i in range(count):
        yield Part(f"{split}/{split}-{i:06d}.tar", order, edges[i], edges[i + 1])


def _orders(store: Store, settings: ShardSettings) -> dict[str, Order]:
    """Return split -> its clips in order; refuses two clips of one key."""
    places: dict[str, list[tuple[int, int]]] = {}
    ranks: dict[str, list[bytes]] = {}
    keys: set[bytes] = set()
    groups = _groups(store.names, settings)
    for position, name in enumerate(store.names):
        for number, facts in enumerate(store.pack(name).facts):
            recording, clip = facts["recording"], facts["clip"]
            key = sample_key(recording, clip)
            digest = hashlib.sha256(key.encode()).digest()[:16]
            if digest in keys:
                msg = f"expected a key for every clip, got {key!r} twice; rename {recording}"
                raise SettingsError(msg)
            keys.add(digest)
            places.setdefault(facts["split"], []).append((position, number))
            rank = groups[name] + _rank(settings.seed, recording, clip)
            ranks.setdefault(facts["split"], []).append(rank)
    orders = {}
    for split in sorted(places):
        order = np.argsort(np.array(ranks[split], f"S{_RANK_BYTES}"), kind="stable")
        table = np.array(places[split], np.int32)[order]
        orders[split] = Order(tuple(store.names), table[:, 0], table[:, 1])
    return orders


def _groups(names: Sequence[str], settings: ShardSettings) -> dict[str, bytes]:
    """Return what comes first in the ranks of a pack's clips: the number of its group of packs."""
    size = MIXED_PACKS if settings.mix == "packs" else max(1, len(names))
    shuffled = sorted(names, key=lambda name: _rank(settings.seed, name, 0))
    return {name: (place // size).to_bytes(4, "big") for place, name in enumerate(shuffled)}


def _rank(seed: int, recording: str, clip: int) -> bytes:
    return hashlib.sha256(f"{seed}:{recording}:{clip}".encode("utf-8", "surrogateescape")).digest()


def _estimate(order: Order, maker: SampleMaker) -> int:
    """Return about how many bytes the samples of a split take, from the first ones of the order."""
    tried = order.clips(0, _TRIED)
    sizes = [maker.tar_bytes(pack, number) for pack, number in tried]
    return sum(sizes) * len(order) // len(sizes)


def _store_totals(store: Location, plan: dict[str, Any]) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    receipts = [read_json(receipt_path(store, pack["name"])) or {} for pack in plan["packs"]]
    for receipt in receipts:
        totals.update(receipt["totals"])
        totals["clips"] += receipt["clips"]
        dropped.update(receipt["dropped"])
    listed = [{k: e[k] for k in _TOLD_OF_BAD} for e in quarantined(store, plan)]
    return {
        "totals": {**dict(sorted(totals.items())), "dropped": dict(sorted(dropped.items()))},
        "histograms": total(receipts).histograms(),
        "layout": plan["layout"],
        "split_rule": plan["split_rule"],
        "recordings": plan["recordings"],
        "quarantine": listed,
    }


def freeze_shards(out: Location, plan: dict[str, Any]) -> None:
    """Write the plan, or refuse a folder that belongs to another one."""
    refuse_other_shards(out, plan)
    if read_plan(out) is None:
        kept = {key: plan[key] for key in ("plan_id", "store_plan_id", "settings", "counts")}
        write_plan(out, kept)


def refuse_other_shards(out: Location, plan: dict[str, Any]) -> None:
    """Refuse a folder that belongs to another plan.

    Raises
    ------
    SettingsError
        Lists what differs.
    """
    old = read_plan(out)
    if old is None or old["plan_id"] == plan["plan_id"]:
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
