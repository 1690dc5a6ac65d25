"""A store against the raw recordings: files hashed, clips made again and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from eventkit.clip_settings import ClipSettings
from eventkit.clips import Clip
from eventkit.errors import DamageError
from eventkit.location import Location, location
from eventkit.store import Pack, StoredClip
from pipelines.datasets.discover import RecordingSpec
from pipelines.datasets.tonic_samples import changed_sample
from pipelines.datasets.tonic_sets import is_sample
from pipelines.executors import Pool
from pipelines.opening import ReadSettings
from pipelines.pack_task import PackJob, RecordingFailed, load_entries, recording_clips
from pipelines.plan import pack_file
from pipelines.progress import progress
from pipelines.receipts import hash_file, read_json, read_plan, receipt_path
from pipelines.verify.share import same_array, share_of
from pipelines.verify.verdict import Verdict

_COLUMNS = {
    "window_us": "windows_us",
    "exposure_us": "exposure_us",
    "rgb_index": "rgb_index",
    "binned": "binned",
    "clipped": "clipped",
    "decoded": "decoded",
    "has_events": "has_events",
    "has_rgb": "has_rgb",
}


@dataclass(frozen=True, slots=True)
class RawCheck:
    """Recordings of one pack to decode again."""

    job: PackJob
    recordings: tuple[str, ...]


def verify_against_raw(
    store: Location, raw: Location, pool: Pool, *, percent: float = 100.0
) -> Verdict:
    """Compare a store that is whole with the recordings it was made from.

    Parameters
    ----------
    store, raw : Path or RemotePath
    pool : Pool
    percent : float
        Share of the recordings that are looked at.
    """
    found = Verdict()
    jobs = _jobs(store, raw, percent)
    with progress("compare", sum(len(job.recordings) for job in jobs), "recordings") as bar:
        for job, (problems, totals) in pool.run(check_recordings, jobs):
            found.add(problems, totals)
            bar.advance(len(job.recordings))
    return found


def _jobs(store: Location, raw: Location, percent: float) -> list[RawCheck]:
    plan = read_plan(store) or {"packs": [], "settings": {}}
    clip = _settings(ClipSettings, plan["settings"])
    read = _settings(ReadSettings, plan["settings"])
    packs = {
        pack["name"]: [spec.id for spec, _ in load_entries(pack_file(store, pack["name"]))]
        for pack in plan["packs"]
    }
    chosen = share_of([name for names in packs.values() for name in names], percent)
    root, folder = str(raw.resolve()), str(store.resolve())
    return [
        RawCheck(PackJob(root, folder, pack, plan["plan_id"], clip, read), wanted)
        for pack, names in packs.items()
        if (wanted := tuple(name for name in names if name in chosen))
    ]


def _settings(kind: type[Any], plan: Mapping[str, Any]) -> Any:
    """Return settings as they were before they became JSON, which knows no tuples."""
    given = {field.name: plan[field.name] for field in fields(kind) if field.name in plan}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def check_recordings(check: RawCheck) -> tuple[list[str], dict[str, int]]:
    """Hash the files of recordings, make their clips again and compare them."""
    job, problems, totals = check.job, [], Counter[str]()
    store = location(job.store)
    receipt = read_json(receipt_path(store, job.name)) or {}
    left_out = {entry["recording"] for entry in receipt.get("quarantine", ())}
    stored = _stored(store / f"{job.name}.zarr") if receipt.get("files") else {}
    for spec, scan in load_entries(pack_file(store, job.name)):
        if spec.id not in check.recordings:
            continue
        totals["recordings compared"] += 1
        changed = list(_changed(location(job.root), scan))
        problems += changed
        if not changed and spec.id not in left_out:
            problems += _differences(job, spec, scan, stored.get(spec.id, {}), totals)
    return problems, dict(totals)


def _changed(root: Location, scan: dict[str, Any]) -> Iterator[str]:
    """Yield the files that are not those that were converted."""
    for entry in scan["files"]:
        if is_sample(entry["path"]):
            yield from changed_sample(root, entry)
            continue
        path = root / entry["path"]
        if not path.is_file():
            yield f"{path}: missing, it was there for convert"
        elif path.stat().st_size != entry["bytes"] or hash_file(path) != entry["sha256"]:
            yield f"{path}: expected the file that was converted, it has changed"


def _stored(folder: Location) -> dict[str, dict[int, tuple[Pack, int]]]:
    """Return recording -> clip -> where it is in the pack."""
    pack = Pack(folder)
    found: dict[str, dict[int, Any]] = {}
    for number, facts in enumerate(pack.facts):
        found.setdefault(facts["recording"], {})[facts["clip"]] = (pack, number)
    return found


def _differences(
    job: PackJob,
    spec: RecordingSpec,
    scan: dict[str, Any],
    stored: dict[int, Any],
    totals: Counter[str],
) -> Iterator[str]:
    where = f"{location(job.store) / job.name}.zarr: {spec.id}"
    met = set()
    try:
        for clip in recording_clips(job, spec, scan):
            if not (clip.has_events or clip.has_rgb):
                continue
            met.add(clip.index)
            totals["clips compared"] += 1
            if clip.index not in stored:
                yield f"{where} clip {clip.index}: the recording has it, the store has not"
                continue
            pack, number = stored[clip.index]
            differing = _differing(clip, pack.clip(number), spec.label)
            if differing:
                yield f"{where} clip {clip.index}: {', '.join(differing)} not as in the recording"
    except RecordingFailed as failed:
        yield f"{where}: it was converted and cannot be decoded: {failed.fault['message']}"
    except DamageError as err:
        yield str(err)
    for index in sorted(set(stored) - met):
        yield f"{where} clip {index}: the store has it, the recording has not"


def _differing(clip: Clip, stored: StoredClip, label: int) -> list[str]:
    """Return what of a clip differs from what is stored."""
    same = {
        "events": same_array(clip.events, stored.events),
        "pictures": (
            same_array(clip.rgb, stored.rgb)
            if clip.encoded is None
            else clip.encoded == stored.encoded
        ),
        "diff_events": same_array(clip.diff_events, stored.diff_events),
        "diff_rgb": same_array(clip.diff_rgb, stored.diff_rgb),
        "label": label == int(stored.columns["label"]),
        "dropped": dict(clip.dropped) == stored.facts["dropped"],
    }
    for column, name in _COLUMNS.items():
        same[column] = np.array_equal(getattr(clip, name), stored.columns[column])
    if clip.raw_events is not None:
        mine, theirs = clip.raw_events, stored.raw_events
        same["raw events"] = all(
            np.array_equal(getattr(mine, n), getattr(theirs, n)) for n in ("x", "y", "t", "p")
        )
    return [name for name, equal in same.items() if not equal]
