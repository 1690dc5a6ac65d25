"""Convert: raw recordings -> Zarr store. Scan, plan, run the packs, collect what was set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventkit.atomic import write_atomic
from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from eventkit.readers import readers
from eventkit.samples import encode_json
from pipelines.datasets.discover import Discovery, Layout, discover
from pipelines.executors import Pool, RunSettings, open_pool
from pipelines.lock import locked
from pipelines.pack_task import PackJob, convert_pack
from pipelines.plan import freeze, settings_dict
from pipelines.progress import progress
from pipelines.receipts import (
    HIDDEN,
    read_json,
    read_plan,
    read_receipt,
    receipt_path,
    remove_temporaries,
)
from pipelines.scan import ReadSettings, ScanJob, raise_fault, scan_all
from pipelines.scan_notes import scan_notes


@dataclass(slots=True)
class Outcome:
    """What a command did.

    ``quarantine`` lists recordings that were set aside; ``did_nothing`` is true for finished work.
    """

    clips: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    did_nothing: bool = False
    notes: list[str] = field(default_factory=list)
    mass: str = "counts"


def convert_raw(
    sources: Sequence[Path],
    store: Path,
    *,
    clip: ClipSettings,
    read: ReadSettings,
    layout: Layout,
    run: RunSettings,
    say: Callable[[str], None],
) -> Outcome:
    """Raw recordings to a Zarr store: scan, plan, convert.

    Raises
    ------
    SettingsError
        If the store belongs to other settings or inputs.
    LockedError
        If another run works on the store.
    """
    _check_outside(store, sources)
    _check_format(read)
    found = discover(sources, layout=layout)
    describe(found, say)
    with locked(store):
        remove_temporaries(store)
        had_plan = read_plan(store) is not None
        jobs = [ScanJob(str(found.root), spec, clip, read) for spec in found.recordings]
        with open_pool(run.executor, workers=run.workers, tasks=len(jobs)) as pool:
            scans = scan_all(jobs, store, pool, strict=run.strict)
            plan = freeze(store, settings_dict(clip, read, layout), found, scans)
            total = len(found.recordings) + len(found.missing)
            _stop_if_strict(plan["quarantine"], run)
            _check_max_bad(len(plan["quarantine"]), total, run)
            did_work = _run_packs(found.root, store, plan, clip, read, run, pool)
        bad = collect_quarantine(store, plan)
        _check_max_bad(len(bad), total, run)
    outcome = _convert_outcome(store, plan, bad, scans)
    outcome.did_nothing = had_plan and not did_work
    return outcome


def describe(found: Discovery, say: Callable[[str], None]) -> None:
    """Say what was understood, before anything starts."""
    sides = Counter(
        "event files"
        if r.rgb is None
        else "RGB alone"
        if r.events is None
        else "event files with RGB"
        for r in found.recordings
    )
    splits = Counter(r.split for r in found.recordings)
    say(f"{found.root}: {len(found.recordings):,} recordings ({found.layout})")
    say("  files: " + ", ".join(f"{n:,} {kind}" for kind, n in sorted(sides.items())))
    labels = ", ".join(found.classes[label] for label in sorted(found.classes)[:8])
    more = ", ..." if len(found.classes) > 8 else ""
    say(
        f"  classes: {len(found.classes)} ({labels}{more})"
        if found.classes
        else "  classes: none, label -1"
    )
    counts = ", ".join(f"{splits[s]:,} {s}" for s in ("train", "val", "test") if splits[s])
    say(f"  splits: {counts} ({found.split_rule})")
    if found.recordings and not any(r.events for r in found.recordings):
        say("  no event file found: a folder of images is taken for the frames of one recording")
    if found.unlisted:
        say(f"  left out: {found.unlisted:,} recordings that no list file names")
    if found.unknown:
        kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in found.unknown.items())
        say(f"  left out: files that no reader knows ({kinds})")
    if found.missing:
        name, where = found.missing[0]
        say(f"  missing: {len(found.missing):,} listed recordings, the first is {name} ({where})")


def _check_outside(store: Path, sources: Sequence[Path]) -> None:
    for source in sources:
        if source.is_dir() and store.resolve().is_relative_to(source.resolve()):
            msg = f"--out {store} lies inside {source}, where nothing is written; choose another"
            raise SettingsError(msg)


def _check_format(read: ReadSettings) -> None:
    """Refuse a reader that is none before every recording is set aside for it."""
    names = [reader.name for reader in readers()]
    if read.format is not None and read.format not in names:
        msg = f"expected --format among {', '.join(names)}, got {read.format!r}"
        raise SettingsError(msg)


def _run_packs(
    root: Path,
    store: Path,
    plan: dict[str, Any],
    clip: ClipSettings,
    read: ReadSettings,
    run: RunSettings,
    pool: Pool,
) -> bool:
    """Convert the packs that have no receipt; returns whether there were any."""
    identity = plan["plan_id"]
    todo = [p for p in plan["packs"] if read_receipt(store, p["name"], plan_id=identity) is None]
    jobs = [
        PackJob(str(root), str(store.resolve()), pack["name"], plan["plan_id"], clip, read)
        for pack in todo
    ]
    clips = {pack["name"]: pack["clips"] for pack in todo}
    with progress("convert", sum(clips.values()), "clips") as bar:
        for job, receipt in pool.run(convert_pack, jobs):
            bar.advance(clips[job.name])
            _stop_if_strict(receipt["quarantine"], run)
    return bool(jobs)


def _stop_if_strict(quarantine: list[dict[str, Any]], run: RunSettings) -> None:
    if run.strict and quarantine:
        raise_fault(quarantine[0])


def _check_max_bad(bad: int, total: int, run: RunSettings) -> None:
    if total and 100 * bad / total > run.max_bad:
        msg = f"{bad} of {total} recordings are bad, more than --max-bad {run.max_bad:g}%"
        raise TooManyBadError(msg)


class TooManyBadError(SettingsError):
    """More quarantined recordings than ``--max-bad`` allows."""

    exit_code = 3


def _convert_outcome(
    store: Path, plan: dict[str, Any], bad: list[dict[str, Any]], scans: list[dict[str, Any]]
) -> Outcome:
    totals: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    clips = 0
    for pack in plan["packs"]:
        receipt = read_json(receipt_path(store, pack["name"])) or {}
        totals.update(receipt["totals"])
        dropped.update(receipt["dropped"])
        clips += receipt["clips"]
    notes = []
    long = sum(bool(scan.get("long")) for scan in scans)
    if long:
        notes.append(
            f"{long} recordings last over 10 s and became one clip each; --clip-us cuts them"
        )
    if totals["clipped"]:
        share = totals["clipped"] / max(totals["binned"], 1)
        cure = "; --dtype u2 keeps them" if plan["settings"]["mass"] == "counts" else ""
        notes.append(f"{totals['clipped']:,} events ({share:.3%}) met a full cell{cure}")
    blind = sum(bool(scan.get("event_side")) and not scan["event_range"] for scan in scans)
    if blind:
        notes.append(f"{blind} recordings have an event side without events: RGB only")
    if totals["empty"]:
        notes.append(f"{totals['empty']} clips hold neither events nor RGB and were left out")
    if totals["rgb_fallback"]:
        notes.append(
            f"{totals['rgb_fallback']} clips have too few exposures for --windows rgb: equal time"
        )
    assumed = Counter(
        scan["geometry_source"] for scan in scans if "assumed" in scan.get("geometry_source", "")
    )
    notes.extend(
        f"{n} recordings: sensor {why}; --sensor-size overrides" for why, n in assumed.items()
    )
    notes.extend(scan_notes(scans, store))
    mass = plan["settings"]["mass"]
    return Outcome(clips, dict(totals), dict(dropped), bad, notes=notes, mass=mass)


def collect_quarantine(store: Path, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Join what the scan and the packs set aside, and write ``quarantine.jsonl``."""
    bad = list(plan["quarantine"])
    for pack in plan["packs"]:
        receipt = read_json(receipt_path(store, pack["name"]))
        bad.extend(receipt["quarantine"] if receipt else [])
    bad.sort(key=lambda entry: str(entry["recording"]))
    path = store / HIDDEN / "quarantine.jsonl"
    data = b"".join(encode_json(entry) + b"\n" for entry in bad)
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)
    return bad
