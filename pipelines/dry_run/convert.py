"""What `eventkit convert` would do: known, left, set aside, and a forecast from a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from eventkit.cli.text import counted
from eventkit.clip_settings import ClipSettings
from eventkit.location import Location
from eventkit.packs import BYTES_CHUNK, SHARD_BYTES
from pipelines.choice import choose
from pipelines.convert import describe, understand
from pipelines.datasets.discover import Discovery, Layout, RecordingSpec
from pipelines.datasets.splits import SplitRule
from pipelines.dry_run.forecast import Forecast, Span, estimate, side_by_side
from pipelines.dry_run.measure import (
    Measured,
    Part,
    Sampled,
    SampleJob,
    choose_sample,
    measure,
    nearest,
)
from pipelines.executors import Death, RunSettings, count_workers
from pipelines.executors.alone import run_alone
from pipelines.keys import refuse_same_keys
from pipelines.opening import ReadSettings
from pipelines.pack_task import load_entries
from pipelines.plan import (
    group_packs,
    pack_file,
    refuse_other_inputs,
    refuse_other_settings,
    settings_dict,
)
from pipelines.quarantine import quarantined
from pipelines.receipts import read_plan, read_receipt, receipt_path
from pipelines.report.words import size
from pipelines.reuse import Lender, open_lender
from pipelines.scan import ScanJob, input_files, settle_geometry, stamp_of
from pipelines.scan_log import SCAN_FILE, kept_scans

_HIDDEN_FILES = 5
"""Plan, scan, quarantine, origin and lock."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What there is, and what of it is done; ``set_aside`` has ids."""

    found: Discovery
    sizes: Mapping[str, int]
    known: Mapping[str, dict[str, Any]]
    to_scan: tuple[RecordingSpec, ...]
    to_convert: tuple[RecordingSpec, ...]
    lent: int
    set_aside: frozenset[str]
    done_bytes: int
    done_files: int

    def input_bytes(self, specs: Iterable[RecordingSpec]) -> int:
        return sum(self.sizes[spec.id] for spec in specs)


def forecast_convert(
    sources: Sequence[Location],
    store: Location,
    *,
    clip: ClipSettings,
    read: ReadSettings,
    layout: Layout,
    rule: SplitRule,
    run: RunSettings,
    say: Callable[[str], None],
    dataset: str | None = None,
    reuse: Location | None = None,
) -> Forecast:
    """Say what `pipelines.convert.convert_raw` would do with the same arguments; writes nothing.

    Raises
    ------
    SettingsError
        What the run would raise before it decodes anything.
    """
    found, read = understand(sources, store, read=read, layout=layout, rule=rule, dataset=dataset)
    describe(found, say)
    executor, _ = choose(found, run)
    settings = settings_dict(clip, read, layout)
    lender = None if reuse is None else open_lender(reuse, settings, out=store)
    jobs = [ScanJob(str(found.root), spec, clip, read) for spec in found.recordings]
    work = _look(store, found, jobs, settings, lender)
    workers = workers_of(executor, run, tasks=len(jobs))
    todo = {spec.id: spec for spec in (*work.to_scan, *work.to_convert)}
    if not todo:
        words = "nothing to measure: everything is there"
        return Forecast(
            plan=_words(work),
            measured=words,
            num_bytes=Span(work.done_bytes, work.done_bytes, work.done_bytes),
            num_files=work.done_files,
            seconds=Span(0.0, 0.0, 0.0),
            workers=workers,
        )
    parts = choose_sample([Sampled(spec, work.sizes[spec.id]) for spec in todo.values()])
    result = run_alone(measure, SampleJob(str(found.root), parts, clip, read))
    if isinstance(result, Death):
        ids = ", ".join(each.spec.id for part in parts for each in part)
        words = f"not measured: the process ended ({result}); one of these does it: {ids}"
        return Forecast(plan=_words(work), measured=words, workers=workers)
    return _forecast(work, result, clip, workers=workers, executor=executor)


def workers_of(executor: str, run: RunSettings, *, tasks: int) -> int:
    """Return how many tasks run at a time; a cluster is not asked, and counts as one worker."""
    if "://" in executor:
        return run.workers or 1
    return 1 if executor == "inline" else count_workers(run.workers, tasks=tasks)


def _look(
    store: Location,
    found: Discovery,
    jobs: Sequence[ScanJob],
    settings: dict[str, Any],
    lender: Lender | None,
) -> _Work:
    """Find out what is known and done."""
    kept = kept_scans(store)
    kept = {**kept_scans(lender.store), **kept} if lender is not None else kept
    stamps = {job.spec.id: stamp_of(job, found.root) for job in jobs}
    known = {name: dict(kept[stamp]) for name, stamp in stamps.items() if stamp in kept}
    scans = list(known.values())
    settle_geometry(scans)
    to_scan = tuple(spec for spec in found.recordings if spec.id not in known)
    aside = {name for name, scan in known.items() if scan["fault"] is not None}
    ids = [spec.id for spec in found.recordings]
    refuse_same_keys(ids, [int(name not in aside) for name in ids])
    plan = read_plan(store)
    done: set[str] = set()
    num_bytes = num_files = 0
    if plan is not None:
        refuse_other_settings(store, plan, settings)
        if not to_scan:
            refuse_other_inputs(store, plan, settings, found, scans)
        aside |= {str(entry["recording"]) for entry in quarantined(store, plan)}
        for pack in plan["packs"]:
            receipt = read_receipt(store, pack["name"], plan_id=plan["plan_id"])
            listed = pack_file(store, pack["name"])
            if receipt is not None and listed.is_file():
                done |= {spec.id for spec, _ in load_entries(listed)}
                beside = (listed, receipt_path(store, pack["name"]))
                num_bytes += sum(entry["bytes"] for entry in receipt["files"])
                num_bytes += sum(path.stat().st_size for path in beside)
                num_files += len(receipt["files"]) + len(beside)
        if (store / SCAN_FILE).is_file():
            num_bytes += (store / SCAN_FILE).stat().st_size * len(done) // len(jobs)
        num_files += _HIDDEN_FILES
    aside |= {name for name, _ in found.missing}
    left = tuple(s for s in found.recordings if s.id not in done and s.id not in aside)
    lent: set[str] = set()
    if lender is not None:
        loan = lender.loan([(spec, known[spec.id]) for spec in left if spec.id in known])
        lent = {name for name, _ in loan.packs} if loan is not None else set()
    return _Work(
        found=found,
        sizes={spec.id: _size(found.root, spec) for spec in found.recordings},
        known=known,
        to_scan=to_scan,
        to_convert=tuple(spec for spec in left if spec.id not in lent),
        lent=len(lent),
        set_aside=frozenset(aside),
        done_bytes=num_bytes,
        done_files=num_files,
    )


def _size(root: Location, spec: RecordingSpec) -> int:
    total = 0
    with suppress(OSError):  # a link to nothing is told by the scan
        for path in input_files(root, spec):
            total += path.stat().st_size
    return total


def _words(work: _Work) -> tuple[str, ...]:
    """Return what would be done."""
    every = len(work.found.recordings)
    aside, lent = len(work.set_aside), work.lent
    done = (
        every
        - len(work.to_convert)
        - lent
        - sum(s.id in work.set_aside for s in work.found.recordings)
    )
    words = [
        "dry run: nothing is written",
        f"scan: {every - len(work.to_scan):,} of {every:,} recordings known, "
        f"{len(work.to_scan):,} left ({size(work.input_bytes(work.to_scan))})",
        f"convert: {done:,} done, {len(work.to_convert):,} left "
        f"({size(work.input_bytes(work.to_convert))}), {aside:,} set aside",
    ]
    if lent:
        words.append(
            f"reuse: {counted(lent, 'recordings')} would be taken over, at the speed of the disk"
        )
    return tuple(words)


def _forecast(
    work: _Work, measured: Measured, clip: ClipSettings, *, workers: int, executor: str
) -> Forecast:
    sampled = [each for part in measured.parts for each in part.scans]
    bad = [scan["fault"]["reason"] for _, scan in sampled if scan["fault"] is not None]
    sample_bytes = sum(each.num_bytes for each, _ in sampled)
    words = f"measured: {counted(len(sampled), 'recordings')}, {size(sample_bytes)}"
    if bad:
        words += f"; {len(bad):,} of them would be set aside ({', '.join(sorted(set(bad)))})"
    usable = [part for part in measured.parts if part.converted]
    if not usable:
        return Forecast(plan=_words(work), measured=words, workers=workers)
    good = 1 - len(bad) / len(sampled)
    left = good * work.input_bytes(work.to_convert)
    packs = group_packs(*_as_scanned(work, sampled, clip))
    clips = [(sum(scan["clips"] for _, scan in members), members[0][1]) for members in packs]
    fixed = sum(part.fixed for part in usable) / len(usable)
    pack_s = sum(part.pack_s for part in usable) / len(usable)
    data = estimate([(part.converted, part.data) for part in usable], left)
    scan_s = estimate(
        [(sum(each.num_bytes for each, _ in part.scans), part.scan_s) for part in measured.parts],
        work.input_bytes(work.to_scan),
    )
    convert_s = estimate([(part.converted, part.convert_s) for part in usable], left)
    filled = _filling(clips, usable, clip)
    at_once = min(workers, len(clips))
    task = max(0, measured.peak - measured.base)
    processes = 1 if executor in ("inline", "threads") else workers + 1
    return Forecast(
        plan=_words(work),
        measured=words,
        num_bytes=data + (len(clips) * fixed + filled + work.done_bytes),
        num_files=work.done_files
        + sum(_num_files(count, scan, clip) for count, scan in clips)
        + (0 if work.done_files else _HIDDEN_FILES),
        seconds=scan_s.times(1 / side_by_side(workers))
        + (convert_s + len(clips) * pack_s).times(1 / side_by_side(at_once)),
        memory=processes * measured.base + workers * task,
        workers=workers,
    )


def _as_scanned(
    work: _Work, sampled: Sequence[tuple[Sampled, dict[str, Any]]], clip: ClipSettings
) -> tuple[list[RecordingSpec], list[dict[str, Any]]]:
    """Return what is left with a scan each: its own, or that of the sampled one nearest in size."""
    good = sorted(
        ((each.num_bytes, scan) for each, scan in sampled if scan["fault"] is None),
        key=lambda pair: pair[0],
    )
    sizes = np.array([num_bytes for num_bytes, _ in good], np.int64)
    scans = []
    for spec in work.to_convert:
        scan = work.known.get(spec.id)
        if scan is None:
            like, scan = good[nearest(sizes, work.sizes[spec.id])]
            if clip.clip_us is not None and like:
                scan = {**scan, "clips": max(1, round(scan["clips"] * work.sizes[spec.id] / like))}
        scans.append(scan)
    return list(work.to_convert), scans


def _filling(
    packs: Sequence[tuple[int, dict[str, Any]]], parts: Sequence[Part], clip: ClipSettings
) -> float:
    """Return the bytes that fill up the last chunks of the files of pictures."""
    pictured = sum(part.pictured for part in parts)
    each = sum(part.pictures for part in parts) / pictured if pictured else 0.0
    kept = [count * each for count, scan in packs if _keeps_files(scan, clip)]
    return sum(-(-num_bytes // BYTES_CHUNK) * BYTES_CHUNK - num_bytes for num_bytes in kept)


def _keeps_files(scan: Mapping[str, Any], clip: ClipSettings) -> bool:
    return scan["rgb_suffix"] in ("png", "jpg") and clip.homography is None


def _num_files(clips: int, scan: Mapping[str, Any], clip: ClipSettings) -> int:
    """Return the files of a pack, with its list and receipt."""
    events = int(np.prod(scan["events_shape"])) * np.dtype(scan["events_dtype"]).itemsize
    pixels = int(np.prod(scan["rgb_shape"]))
    as_files = _keeps_files(scan, clip)
    shards = -(-clips // max(1, SHARD_BYTES // max(events, pixels)))
    large = 1 + 2 * (clip.diffs and clip.bins > 1) + (not as_files)
    small = 9 + 2 * as_files + clip.raw_events
    flat = as_files + 4 * clip.raw_events
    return int(1 + large * (1 + shards) + 2 * small + 2 * flat + 2)
