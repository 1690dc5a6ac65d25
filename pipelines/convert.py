"""Convert: raw recordings -> Zarr store. Scan, plan, run the packs, collect what was set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from eventkit.cli.text import counted
from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from eventkit.location import Location, lies_in, now
from eventkit.readers import readers
from pipelines.choice import choose
from pipelines.datasets.discover import Discovery, Layout, discover
from pipelines.datasets.splits import SplitRule
from pipelines.deaths import convert_without_deadly
from pipelines.executors import Pool, RunSettings, Site, open_pool
from pipelines.keys import refuse_same_keys
from pipelines.kinds import refuse_kind
from pipelines.lock import locked
from pipelines.opening import ReadSettings, check_options, for_set
from pipelines.origin import note_origin
from pipelines.pack_task import PackJob, convert_pack, load_entries
from pipelines.plan import (
    differing_settings,
    freeze,
    pack_file,
    refuse_other_settings,
    replaceable,
    settings_dict,
)
from pipelines.progress import progress
from pipelines.quarantine import check_max_bad, collect_quarantine, quarantined, revise
from pipelines.receipts import (
    read_json,
    read_plan,
    read_receipt,
    receipt_path,
)
from pipelines.reuse import Lender, open_lender, tell_reuse
from pipelines.scan import ScanJob, input_files, raise_fault, scan_all
from pipelines.scan_notes import empty_splits, refuse_hopeless, scan_notes
from pipelines.tally import total


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
    sources: Sequence[Location],
    store: Location,
    *,
    clip: ClipSettings,
    read: ReadSettings,
    layout: Layout,
    rule: SplitRule,
    run: RunSettings,
    say: Callable[[str], None],
    retry: bool = False,
    dataset: str | None = None,
    reuse: Location | None = None,
) -> Outcome:
    """Raw recordings to a Zarr store: scan, plan, convert.

    With ``retry`` what an earlier run set aside is looked at again; see `pipelines.quarantine`.
    ``dataset`` names a published set; see `pipelines.datasets.discover.discover`. ``reuse`` is a
    store from which to take what would come out the same; see `pipelines.reuse`.

    Raises
    ------
    SettingsError
        If the store belongs to other settings or inputs.
    LockedError
        If another run works on the store.
    """
    found, read = understand(sources, store, read=read, layout=layout, rule=rule, dataset=dataset)
    describe(found, say)
    executor, why = choose(found, run)
    if why:
        say(f"  executor: {executor} ({why})")
    settings = settings_dict(clip, read, layout)
    lender = None if reuse is None else open_lender(reuse, settings, out=store)
    with locked(store):
        old = read_plan(store)
        if old is not None:
            refuse_other_settings(store, old, settings)
        other = old is not None and bool(differing_settings(old["settings"], settings))
        again = quarantined(store, old) if retry and old is not None and not other else []
        jobs = [ScanJob(str(found.root), spec, clip, read) for spec in found.recordings]
        site = Site(folder=store.resolve(), inputs=_some_inputs(found))
        with open_pool(executor, workers=run.workers, tasks=len(jobs), site=site) as pool:
            names = {entry["recording"] for entry in again}
            scans = scan_all(
                jobs, store, pool, strict=run.strict, again=names, reuse=reuse, root=found.root
            )
            refuse_same_keys([scan["id"] for scan in scans], [_clips(scan) for scan in scans])
            if old is not None and again:
                how = PackJob(str(found.root), str(store.resolve()), "", old["plan_id"], clip, read)
                plan = revise(store, old, settings, found, scans, job=how, pool=pool)
                left = len(quarantined(store, plan))
                say(f"  looked again at {counted(len(again), 'recordings')}: {left:,} set aside")
            else:
                if old is not None and replaceable(old, settings, found, scans):
                    say(f"  {store} holds no clips of its former plan: it is planned anew")
                    old = None
                if old is None:
                    refuse_hopeless(scans)
                plan = freeze(store, settings, found, scans)
            note_origin(store, found.root)
            total = len(found.recordings) + len(found.missing)
            _stop_if_strict(plan["quarantine"], run)
            bad = collect_quarantine(store, plan)
            check_max_bad(store, len(bad), total, max_bad=run.max_bad)
            how = PackJob(str(found.root), str(store.resolve()), "", plan["plan_id"], clip, read)
            todo = pack_jobs(store, plan, how, lender)
            if lender is not None:
                sizes = {pack["name"]: pack["recordings"] for pack in plan["packs"]}
                tell_reuse(lender, [(job.loan, sizes[job.name]) for job in todo], say)
            did_work = _run_packs(plan, todo, run, pool)
        bad = collect_quarantine(store, plan)
        check_max_bad(store, len(bad), total, max_bad=run.max_bad)
    outcome = _convert_outcome(store, plan, bad, scans)
    outcome.did_nothing = old is not None and not again and not did_work
    return outcome


def understand(
    sources: Sequence[Location],
    store: Location,
    *,
    read: ReadSettings,
    layout: Layout,
    rule: SplitRule,
    dataset: str | None,
) -> tuple[Discovery, ReadSettings]:
    """Return what the sources are and how to read them; refuses what cannot be."""
    refuse_kind(store, "shards", cure="choose another --out")
    _check_outside(store, sources)
    _check_format(read)
    found = discover(sources, layout=layout, rule=rule, dataset=dataset)
    check_options(found.root, found.recordings, read)
    return found, for_set(read, found)


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
    say(f"{found.root}: {counted(len(found.recordings), 'recordings')} ({found.layout})")
    for note in found.notes:
        say(f"  {note}")
    say("  files: " + ", ".join(counted(n, kind) for kind, n in sorted(sides.items())))
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
        why = "no list file names" if found.named is None else f"{found.named.title} does not name"
        say(f"  left out: {counted(len(found.unlisted), 'recordings')} that {why}")
    if found.unknown:
        kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in found.unknown.items())
        say(f"  left out: files that no reader knows ({kinds})")
    if found.missing:
        name, where = found.missing[0]
        missing = counted(len(found.missing), "recordings")
        say(f"  missing: {missing} of the lists, the first is {name} ({where})")


def _clips(scan: dict[str, Any]) -> int:
    return 0 if scan["fault"] is not None else int(scan["clips"])


def _check_outside(store: Location, sources: Sequence[Location]) -> None:
    for source in sources:
        if source.is_dir() and lies_in(store.resolve(), source.resolve()):
            msg = f"--out {store} lies inside {source}, where nothing is written; choose another"
            raise SettingsError(msg)


def _check_format(read: ReadSettings) -> None:
    """Refuse a reader that is none before every recording is set aside for it."""
    names = [reader.name for reader in readers()]
    if read.format is not None and read.format not in names:
        msg = f"expected --format among {', '.join(names)}, got {read.format!r}"
        raise SettingsError(msg)


def pack_jobs(
    store: Location, plan: dict[str, Any], how: PackJob, lender: Lender | None
) -> list[PackJob]:
    """Return a job for every pack that has no receipt; ``how`` is one without a name."""
    jobs = []
    there = now(store)
    for pack in plan["packs"]:
        name = pack["name"]
        if read_receipt(there, name, plan_id=plan["plan_id"]) is None:
            loan = None
            if lender is not None:
                entries = load_entries(pack_file(store, name))
                loan = lender.loan(entries, list_sha256=pack["sha256"])
            jobs.append(replace(how, name=name, loan=loan))
    return jobs


def _run_packs(plan: dict[str, Any], jobs: list[PackJob], run: RunSettings, pool: Pool) -> bool:
    """Convert packs; returns whether there were any."""
    clips = {pack["name"]: pack["clips"] for pack in plan["packs"]}
    deadly = partial(convert_without_deadly, pool)
    with progress("convert", sum(clips[job.name] for job in jobs), "clips") as bar:
        for job, receipt in pool.run(convert_pack, jobs, died=deadly):
            bar.advance(clips[job.name])
            _stop_if_strict(receipt["quarantine"], run)
    return bool(jobs)


def _some_inputs(found: Discovery) -> tuple[Location, ...]:
    """Return the first and the last file, for workers to show that they see the raw folder."""
    ends = (found.recordings[:1], found.recordings[-1:])
    files = [file for specs in ends for spec in specs for file in input_files(found.root, spec)]
    return tuple(sorted({*files[:1], *files[-1:]}))


def _stop_if_strict(quarantine: list[dict[str, Any]], run: RunSettings) -> None:
    if run.strict and quarantine:
        raise_fault(quarantine[0])


def _convert_outcome(
    store: Location, plan: dict[str, Any], bad: list[dict[str, Any]], scans: list[dict[str, Any]]
) -> Outcome:
    totals: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    clips = 0
    receipts = [read_json(receipt_path(store, pack["name"])) or {} for pack in plan["packs"]]
    for receipt in receipts:
        totals.update(receipt["totals"])
        dropped.update(receipt["dropped"])
        clips += receipt["clips"]
    notes = empty_splits(plan.get("splits", {}), total(receipts).classes)
    long = sum(bool(scan.get("long")) for scan in scans)
    if long:
        notes.append(
            f"{counted(long, 'recordings last')} over 10 s, one clip each; --clip-us cuts them"
        )
    if totals["clipped"]:
        share = totals["clipped"] / max(totals["binned"], 1)
        cure = "; --dtype u2 keeps them" if plan["settings"]["mass"] == "counts" else ""
        notes.append(f"{counted(totals['clipped'], 'events')} ({share:.3%}) met a full cell{cure}")
    blind = sum(bool(scan.get("event_side")) and not scan["event_range"] for scan in scans)
    if blind:
        notes.append(f"{counted(blind, 'recordings have')} an event side without events: RGB only")
    if totals["empty"]:
        notes.append(f"{counted(totals['empty'], 'clips hold')} neither events nor RGB; left out")
    if totals["rgb_fallback"]:
        notes.append(
            f"{counted(totals['rgb_fallback'], 'clips have')} too few exposures for --windows rgb: "
            "equal time"
        )
    assumed = Counter(
        scan["geometry_source"] for scan in scans if "assumed" in scan.get("geometry_source", "")
    )
    notes.extend(
        f"{counted(n, 'recordings')}: sensor {why}; --sensor-size overrides"
        for why, n in assumed.items()
    )
    notes.extend(scan_notes(scans, store))
    mass = plan["settings"]["mass"]
    return Outcome(clips, dict(totals), dict(dropped), bad, notes=notes, mass=mass)
