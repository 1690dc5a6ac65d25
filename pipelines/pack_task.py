"""The task of convert: one pack of recordings -> one Zarr group, committed by its receipt."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from eventkit.atomic import named
from eventkit.clip_settings import ClipSettings
from eventkit.clips import Clip, clip_recording
from eventkit.errors import DamageError, EventKitError
from eventkit.ledger import Ledger
from eventkit.location import Location, location
from eventkit.packs import SHARD_BYTES, ClipRecord, PackWriter
from eventkit.survey import lay_out
from pipelines.datasets.discover import RecordingSpec
from pipelines.fetch import at_hand
from pipelines.opening import ReadSettings, open_spec
from pipelines.plan import pack_file, read_list
from pipelines.put import bring, workplace
from pipelines.receipts import (
    describe_tree,
    read_receipt,
    withdraw_receipt,
    write_receipt,
)
from pipelines.reuse import LentClips, Loan, link_pack
from pipelines.scan import fault_of, raw_clip_bytes
from pipelines.tally import Tally
from pipelines.turns import in_turn
from pipelines.versions import code_versions

logger = logging.getLogger(__name__)

_TOTALS = ("decoded", "binned", "clipped", "both", "empty", "rgb_fallback")


@dataclass(frozen=True, slots=True)
class PackJob:
    """One pack to convert; small enough to travel to a worker."""

    root: str
    store: str
    name: str
    plan_id: str
    clip: ClipSettings
    read: ReadSettings
    set_aside: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Recordings that are left out, and why: they take the process down."""
    loan: Loan | None = None
    """Clips that another store has already."""


class RecordingFailed(Exception):
    """A recording that broke after some of its clips had been written."""

    def __init__(self, recording: str, fault: dict[str, Any]) -> None:
        super().__init__(recording)
        self.recording, self.fault = recording, fault


def convert_pack(job: PackJob) -> dict[str, Any]:
    """Write one pack; returns its receipt. A finished pack is left as it is.

    A recording that breaks is left out and named in the receipt. If clips of it had been written
    already (a long one), the pack is begun again without it, so the bytes do not depend on where
    it broke.
    """
    store = location(job.store)
    listed = pack_file(store, job.name)
    with in_turn(listed):
        done = read_receipt(store, job.name, plan_id=job.plan_id)
        if done is not None:
            return done
        withdraw_receipt(store, job.name)
        with workplace(store) as here:
            content = _convert(job, here, load_entries(listed))
            bring(here, store, content["files"], below=f"{job.name}.zarr")
        write_receipt(store, job.name, content)
    folder = store / f"{job.name}.zarr"
    logger.info("%s: %d clips, %d set aside", folder, content["clips"], len(content["quarantine"]))
    return content


def _convert(
    job: PackJob, here: Path, entries: list[tuple[RecordingSpec, dict[str, Any]]]
) -> dict[str, Any]:
    """Write the files of a pack below ``here``; returns what its receipt says."""
    broken = dict(job.set_aside)
    folder = here / f"{job.name}.zarr"
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            if job.loan is not None and job.loan.same is not None and not broken:
                content = link_pack(job.loan, store=here, name=job.name, plan_id=job.plan_id)
            else:
                content = _write_pack(job, folder, entries, broken)
            break
        except RecordingFailed as failed:
            broken[failed.recording] = failed.fault
        except DamageError as err:
            if job.loan is None:
                raise
            logger.warning("%s: %s; its recordings are converted", folder, err)
            job = replace(job, loan=None)
    content["files"] = describe_tree(folder, relative_to=here) if folder.exists() else []
    content["quarantine"] = [
        {"recording": name, "stage": "convert", **fault} for name, fault in sorted(broken.items())
    ]
    return content


def decode_recordings(job: PackJob, recordings: tuple[str, ...]) -> None:
    """Decode recordings of a pack as they are converted, only to see whether they can be."""
    for spec, scan in load_entries(pack_file(location(job.store), job.name)):
        if spec.id in recordings:
            with suppress(RecordingFailed):  # that is told when the pack is converted
                for _ in recording_clips(job, spec, scan):
                    pass


def load_entries(path: Location) -> list[tuple[RecordingSpec, dict[str, Any]]]:
    """Return the recordings of a pack, each with what the scan found."""
    return [(RecordingSpec(**e["spec"]), e["scan"]) for e in read_list(path)]


def _write_pack(
    job: PackJob,
    folder: Path,
    entries: list[tuple[RecordingSpec, dict[str, Any]]],
    broken: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    planned = sum(scan["clips"] for _, scan in entries)
    totals: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    tally = Tally()
    sources = []
    lent = LentClips(job.loan)
    attributes = {
        "plan_id": job.plan_id,
        "settings": {**job.clip.as_dict(), **asdict(job.read)},
        "code": code_versions(),
        "sources": sources,
    }
    writer = PackWriter(folder, attributes=attributes, clips=planned)
    for spec, scan in entries:
        if spec.id in broken:
            continue
        clips = lent.of(spec.id) if spec.id in lent else recording_clips(job, spec, scan)
        if scan["clips"] * raw_clip_bytes(scan) <= SHARD_BYTES:
            # Small enough to be held: a fault then costs nothing that was written.
            try:
                clips = iter(list(clips))
            except RecordingFailed as failed:
                broken[spec.id] = failed.fault
                continue
        in_clips = 0
        for clip in clips:
            in_clips += clip.decoded
            dropped.update(clip.dropped)
            if clip.has_events or clip.has_rgb:
                writer.append(ClipRecord(clip, spec.label, _clip_facts(spec, scan)))
                tally.add(clip, split=spec.split, label=spec.label)
                totals["binned"] += int(clip.binned.sum())
                totals["clipped"] += int(clip.clipped.sum())
                totals["rgb_fallback"] += "rgb_fallback" in clip.flags
                totals["both"] += clip.has_events and clip.has_rgb
            else:
                totals["empty"] += 1
            del clip  # else it stays while the next one is made
        totals["decoded"] += scan["ledger"]["decoded"]
        dropped["tail"] += scan["ledger"]["decoded"] - in_clips
        sources.append(
            {
                "recording": spec.id,
                "files": scan["files"],
                "format": scan["format"],
                "geometry_source": scan["geometry_source"],
                "ledger": scan["ledger"],
                "tail": scan["ledger"]["decoded"] - in_clips,
                "notes": scan["notes"],
            }
        )
    with named(folder):
        count = writer.close()
    return {
        "name": job.name,
        "plan_id": job.plan_id,
        "clips": count,
        "totals": {name: totals[name] for name in _TOTALS},
        "dropped": {reason: n for reason, n in sorted(dropped.items()) if n},
        "tally": tally.as_dict(),
        "suffixes": sorted({scan["rgb_suffix"] for _, scan in entries if scan["rgb_times"]}),
    }


def recording_clips(job: PackJob, spec: RecordingSpec, scan: dict[str, Any]) -> Iterator[Clip]:
    """Yield the clips of one recording; what goes wrong becomes `RecordingFailed`."""
    span = tuple(scan["event_range"]) if scan["event_range"] else None
    with at_hand(location(job.root), spec) as root:
        try:
            recording = open_spec(root, spec, job.read)
            found = lay_out(recording, job.clip, event_range=span, ledger=Ledger())
            yield from clip_recording(recording, job.clip, surveyed=found)
        except (EventKitError, OSError) as err:
            raise RecordingFailed(spec.id, fault_of(err, root, spec)) from err


def _clip_facts(spec: RecordingSpec, scan: dict[str, Any]) -> dict[str, Any]:
    return {
        "recording": spec.id,
        "split": spec.split,
        "label_name": spec.label_name,
        "sensor_size": scan["sensor_size"],
        "format": scan["format"],
    }
