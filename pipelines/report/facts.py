"""What a report says, gathered from a store or from shards without reading the data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from eventkit.errors import DamageError, MissingDataError
from eventkit.location import Location
from eventkit.shards import MANIFEST, load_manifest
from pipelines.kinds import kind_of
from pipelines.quarantine import QUARANTINE, too_many_bad
from pipelines.receipts import PLAN, read_json, read_plan, receipt_path
from pipelines.scratch import on_disk
from pipelines.tally import total, whole

MOST_SET_ASIDE = 100
"""Rows of the table of what was set aside; the file beside the set has the others."""


@dataclass(slots=True)
class SetAside:
    """What the quarantine holds: all by reason, and the first of them."""

    reasons: Counter[str] = field(default_factory=Counter)
    first: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[dict[str, Any]]) -> SetAside:
        """Go through all entries once."""
        found = cls()
        for entry in entries:
            found.reasons[str(entry["reason"])] += 1
            if len(found.first) < MOST_SET_ASIDE:
                found.first.append(entry)
        return found

    def __len__(self) -> int:
        return self.reasons.total()


@dataclass(slots=True, kw_only=True)
class Facts:
    """A store or a set of shards, in numbers.

    Parameters
    ----------
    kind : {"store", "shards"}
    plan_id : str
    recordings : int
        That were found.
    totals : dict
        Events ``decoded``, ``binned``, ``clipped``; clips ``both``, ``empty``.
    dropped : dict reason -> events
    splits : dict split -> dict
        ``clips``, of shards also ``shards`` and ``bytes``.
    classes : dict split -> label -> clips
    names : dict label -> class name
    durations_us, rates_hz : dict left edge -> clips
    warnings : list of str
        What a reader has to know before anything else.
    """

    kind: str
    plan_id: str
    recordings: int
    totals: dict[str, int]
    dropped: dict[str, int]
    splits: dict[str, dict[str, int]]
    classes: dict[str, dict[int, int]]
    names: dict[int, str]
    durations_us: dict[int, int]
    rates_hz: dict[int, int]
    settings: dict[str, Any]
    layout: str
    split_rule: str
    versions: dict[str, str]
    set_aside: SetAside
    warnings: list[str]

    @property
    def clips(self) -> int:
        """Number of clips of all splits."""
        return sum(facts["clips"] for facts in self.splits.values())


def gather(folder: Location) -> Facts:
    """Return the facts on a store or a shards folder.

    Raises
    ------
    MissingDataError
        If it is neither.
    DamageError
        If the plan, a receipt or the manifest cannot be read.
    """
    if kind_of(folder) == "store" and (folder / PLAN).is_file():
        return _of_store(folder)
    if not (folder / MANIFEST).is_file():
        msg = (
            f"{folder}: expected a store with .eventkit/plan.json or shards with {MANIFEST}, found "
            "neither; run `eventkit convert RAW` and `eventkit shard` to the end"
        )
        raise MissingDataError(msg)
    return _of_shards(folder)


def store_receipts(folder: Location, plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the receipts of the finished packs of a store."""
    for pack in plan["packs"]:
        receipt = read_json(receipt_path(folder, pack["name"]))
        if receipt is not None and receipt.get("plan_id") == plan["plan_id"]:
            yield receipt


def _of_store(folder: Location) -> Facts:
    plan = read_plan(folder) or {}
    receipts = list(store_receipts(folder, plan))
    totals: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for receipt in receipts:
        totals.update(receipt["totals"])
        dropped.update(receipt["dropped"])
    tally = total(receipts)
    warnings = []
    refused = too_many_bad(folder)
    if refused is not None:
        warnings.append(f"No shards are made of this store: {refused}.")
    if len(receipts) < len(plan["packs"]):
        warnings.append(
            f"Not finished: {len(receipts):,} of {len(plan['packs']):,} packs are there. Run the "
            "same convert again; what follows counts these packs only."
        )
    return Facts(
        kind="store",
        plan_id=plan["plan_id"],
        recordings=plan["recordings"],
        totals=dict(totals),
        dropped=dict(dropped),
        splits={split: {"clips": counts.total()} for split, counts in tally.classes.items()},
        classes={split: dict(counts) for split, counts in tally.classes.items()},
        names={int(label): name for label, name in plan["classes"].items()},
        durations_us=dict(tally.durations_us),
        rates_hz=dict(tally.rates_hz),
        settings=plan["settings"],
        layout=plan["layout"],
        split_rule=plan["split_rule"],
        versions=_versions_of_packs(folder, receipts),
        set_aside=SetAside.of(_lines(folder / QUARANTINE, plan["quarantine"])),
        warnings=warnings,
    )


def _versions_of_packs(folder: Location, receipts: list[dict[str, Any]]) -> dict[str, str]:
    """Return which code wrote the first pack that holds a clip."""
    for receipt in receipts:
        if receipt["files"]:
            group = read_json(folder / f"{receipt['name']}.zarr" / "zarr.json") or {}
            return dict(group.get("attributes", {}).get("code", {}))
    return {}


def _lines(path: Location, otherwise: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the entries of ``quarantine.jsonl``, one at a time, or those of an unfinished plan."""
    if not path.is_file():
        yield from otherwise
        return
    with on_disk(path) as here, here.open("rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError as err:
                msg = f"{path}: expected a JSON object a line, got {line[:40]!r}; convert again"
                raise DamageError(msg) from err


def _of_shards(folder: Location) -> Facts:
    manifest = load_manifest(folder / MANIFEST)
    clips = dict(manifest["clips"])
    dropped = clips.pop("dropped", {})
    histograms = manifest.get("histograms", {"durations_us": {}, "rates_hz": {}})
    return Facts(
        kind="shards",
        plan_id=manifest["plan_id"],
        recordings=manifest.get("recordings", 0),
        totals=clips,
        dropped=dropped,
        splits={
            split: {"clips": facts["samples"], "shards": facts["shards"], "bytes": facts["bytes"]}
            for split, facts in manifest["splits"].items()
        },
        classes={split: whole(facts["classes"]) for split, facts in manifest["splits"].items()},
        names={int(label): name for label, name in manifest["classes"].items()},
        durations_us=whole(histograms["durations_us"]),
        rates_hz=whole(histograms["rates_hz"]),
        settings=manifest["settings"],
        layout=manifest.get("layout", ""),
        split_rule=manifest.get("split_rule", ""),
        versions=manifest["code"],
        set_aside=SetAside.of(manifest["quarantine"]),
        warnings=[],
    )
