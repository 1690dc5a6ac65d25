"""A Zarr store: plan, lists of packs, receipts, every file, and the balance of every clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eventkit.errors import DamageError
from eventkit.location import Location, location
from eventkit.samples import encode_json
from eventkit.store import Pack, StoredClip
from pipelines.executors import Pool
from pipelines.plan import pack_file
from pipelines.progress import progress
from pipelines.quarantine import QUARANTINE, quarantined
from pipelines.receipts import PLAN, hash_file, read_json, receipt_path, seal_holds
from pipelines.verify.files import check_files, check_sealed, find_strays
from pipelines.verify.tars import keeps_counts, total_of
from pipelines.verify.verdict import Verdict

CURE = "run the same `eventkit convert` again"


@dataclass(frozen=True, slots=True)
class PackCheck:
    """One pack to check against its receipt, and its list against the plan."""

    store: str
    pack: dict[str, Any]
    plan_id: str
    settings: dict[str, Any]


def verify_store(folder: Location, pool: Pool) -> Verdict:
    """Check every byte and count of a store."""
    found = Verdict()
    plan, problems = check_sealed(folder / PLAN, cure=CURE)
    found.add(problems)
    if not plan:
        return found
    found.totals.update({"packs": 0, "clips": 0})  # told where there is none, too
    jobs = [
        PackCheck(str(folder), pack, plan["plan_id"], plan["settings"]) for pack in plan["packs"]
    ]
    with progress("verify", sum(pack["clips"] for pack in plan["packs"]), "clips") as bar:
        for job, (wrong, totals) in pool.run(check_pack, jobs):
            found.add(wrong, totals)
            bar.advance(job.pack["clips"])
    if not found.problems:
        found.add(_check_quarantine(folder, plan))
    found.include(_strays(folder, plan))
    receipts = [read_json(receipt_path(folder, pack["name"])) or {} for pack in plan["packs"]]
    found.tell_outside(
        sum(receipt.get("totals", {}).get("decoded", 0) for receipt in receipts),
        tail=sum(receipt.get("dropped", {}).get("tail", 0) for receipt in receipts),
    )
    return found


def check_pack(job: PackCheck) -> tuple[list[str], dict[str, int]]:
    """Check one pack: its list, its receipt, its files and, if they are whole, its clips."""
    store, name = location(job.store), str(job.pack["name"])
    listed = pack_file(store, name)
    problems = []
    if not listed.is_file():
        problems.append(f"{listed}: missing; {CURE}")
    elif hash_file(listed) != job.pack.get("sha256"):
        problems.append(f"{listed}: its sha256 is not the plan's; {CURE}")
    receipt, wrong = check_sealed(receipt_path(store, name), cure=CURE)
    problems += wrong
    if not receipt:
        return problems, {}
    if receipt["plan_id"] != job.plan_id:
        problems.append(f"{receipt_path(store, name)}: it is of another plan; {CURE}")
    problems += check_files(store, receipt["files"], noted_in="receipt", cure=CURE)
    if problems or not receipt["files"]:
        return problems, {"packs": 1}
    totals = Counter(packs=1)
    try:
        problems += _check_clips(Pack(store / f"{name}.zarr"), receipt, job.settings, totals)
    except DamageError as err:
        problems.append(str(err))
    return problems, dict(totals)


def _check_clips(
    pack: Pack, receipt: dict[str, Any], settings: dict[str, Any], totals: Counter[str]
) -> Iterator[str]:
    if len(pack) != receipt["clips"]:
        yield f"{pack.path}: expected {receipt['clips']} clips, got {len(pack)}"
    for i in range(len(pack)):
        clip = pack.clip(i)
        name = f"{pack.path}: {clip.facts['recording']} clip {clip.facts['clip']}"
        yield from (f"{name}: {text}" for text in _check_clip(clip, settings))
        totals["clips"] += 1
        totals["decoded"] += int(clip.columns["decoded"])


def _check_clip(clip: StoredClip, settings: dict[str, Any]) -> Iterator[str]:
    binned = int(clip.columns["binned"].sum())
    dropped = clip.facts["dropped"]
    if clip.columns["decoded"] != binned + sum(dropped.values()):
        yield "decoded is not binned + dropped"
    if keeps_counts(settings) and (
        total_of(clip.events) + int(clip.columns["clipped"].sum()) != binned
    ):
        yield "frames + clipped is not binned"
    if settings.get("raw_events"):
        kept, met = len(clip.raw_events), binned + dropped.get("unpaired", 0)
        if kept != met:
            yield f"{kept} raw events, {met} were binned or unpaired"


def _check_quarantine(folder: Location, plan: dict[str, Any]) -> Iterator[str]:
    path = folder / QUARANTINE
    data = b"".join(encode_json(entry) + b"\n" for entry in quarantined(folder, plan))
    if not path.is_file():
        yield f"{path}: missing; {CURE}"
    elif path.read_bytes() != data:
        yield f"{path}: it is not what plan and receipts say; {CURE}"


def _strays(folder: Location, plan: dict[str, Any]) -> Verdict:
    names = [pack["name"] for pack in plan["packs"]]
    receipts = {name: read_json(receipt_path(folder, name)) or {} for name in names}
    listed = {e["path"] for receipt in receipts.values() for e in receipt.get("files", ())}
    hidden = {f"{kind}/{name}.json" for name in names for kind in ("packs", "receipts")}
    return find_strays(
        folder,
        listed=listed,
        hidden=hidden,
        unlisted={f"{n}.zarr" for n, r in receipts.items() if not (r and seal_holds(r))},
        is_read=lambda path: path.split("/")[0].endswith(".zarr"),
    )
