"""Scan: look at every recording once; what it holds, its hashes, or why it cannot be used.

Results are kept by path, size and time of change, so a scan that was stopped goes on, and a second
run only looks at what changed.
"""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from eventkit.clip_settings import ClipSettings, stored_form
from eventkit.errors import EventKitError, FormatError
from eventkit.location import Location, location
from eventkit.parts import state_of
from eventkit.preprocess import preprocess
from eventkit.recording import Recording
from eventkit.samples import encode_json
from eventkit.survey import LONG_CLIP_US, Survey, survey
from pipelines.datasets.discover import RecordingSpec
from pipelines.datasets.tonic_samples import describe_sample, sample_files
from pipelines.datasets.tonic_sets import is_sample
from pipelines.executors import Death, Pool
from pipelines.fetch import at_hand
from pipelines.opening import ReadSettings, open_spec
from pipelines.progress import progress
from pipelines.receipts import hash_file
from pipelines.scan_log import SCAN_FILE as SCAN_FILE
from pipelines.scan_log import kept_scans, noting, put_in_order, scan_line

logger = logging.getLogger(__name__)

RAW_EVENT_BYTES = 13


@dataclass(frozen=True, slots=True)
class ScanJob:
    """One recording to look at; small enough to travel to a worker."""

    root: str
    spec: RecordingSpec
    clip: ClipSettings
    read: ReadSettings


def input_files(root: Location, spec: RecordingSpec) -> list[Location]:
    """Return every file a recording consists of, sorted."""
    if spec.events is not None and is_sample(spec.events):
        return sample_files(root, spec.events)
    found: list[Location] = []
    for side in (spec.events, spec.rgb):
        if side is None:
            continue
        path = root / side
        found.extend(sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path])
    return found


def scan_recording(job: ScanJob) -> dict[str, Any]:
    """Look at one recording; never raises for what is wrong with it."""
    result: dict[str, Any] = {"id": job.spec.id, "files": [], "fault": None}
    with at_hand(location(job.root), job.spec) as root:
        try:
            result["files"] = _describe_files(root, job.spec)
            _refuse_empty(root, result["files"])
            recording = open_spec(root, job.spec, job.read)
            result.update(_facts(recording, survey(recording, job.clip), job.clip))
        except (EventKitError, OSError) as err:
            result["fault"] = fault_of(err, root, job.spec)
    return result


def set_aside(job: ScanJob, death: Death) -> dict[str, Any]:
    """Return the result for a recording that takes the process of its scan down."""
    # What tonic makes of a sample is known by decoding it, which is what ended the process.
    untold = is_sample(job.spec.events)
    with at_hand(location(job.root), job.spec) as root:
        files = [] if untold else _describe_files(root, job.spec)
    return {"id": job.spec.id, "files": files, "fault": death_fault(job.spec, death)}


def _describe_files(root: Path, spec: RecordingSpec) -> list[dict[str, Any]]:
    if spec.events is not None and is_sample(spec.events):
        return [describe_sample(root, spec.events)]
    return [
        {
            "path": p.relative_to(root).as_posix(),
            "bytes": file_size(p),
            "sha256": hash_file(p),
        }
        for p in input_files(root, spec)
    ]


def file_size(path: Path) -> int:
    """Return the bytes of a file; whoever opens a pipe waits for ever.

    Raises
    ------
    FormatError
        If it is none.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        msg = "expected a file, got a pipe or device; write it to a file first"
        raise FormatError(msg, path=path, reason="no_file")
    return status.st_size


def death_fault(spec: RecordingSpec, death: Death) -> dict[str, Any]:
    """Return what stands in the quarantine for a recording whose decoder ends its process."""
    why = "out of memory, or ended from outside" if death.reason == "killed" else "a crash"
    message = (
        f"expected its events, got the end of the process that decodes it: {death}, {why}; it was "
        "tried alone; copy the file again, or report it"
    )
    file = spec.events or spec.rgb
    return {"file": file, "reason": death.reason, "offset": None, "message": message}


def fault_of(err: EventKitError | OSError, root: Path, spec: RecordingSpec) -> dict[str, Any]:
    """Return what is wrong with a recording, as it stands in the quarantine.

    Paths are relative to the root, so that the same damage gives the same bytes anywhere. What is
    no fault of the recording (a missing library, a full disk) is raised again.
    """
    fault = {"file": spec.events or spec.rgb, "reason": "unusable", "offset": None}
    if isinstance(err, FormatError):
        if err.path is not None and Path(err.path).is_relative_to(root):
            fault["file"] = Path(err.path).relative_to(root).as_posix()
        fault["time_us"] = err.time_us
        return {**fault, "reason": err.reason, "offset": err.offset, "message": err.message}
    if isinstance(err, OSError) and not isinstance(err, EventKitError):
        if err.filename is None or not Path(os.fsdecode(err.filename)).is_relative_to(root):
            raise err
        return {**fault, "reason": "io", "message": err.strerror or "cannot be read"}
    if err.exit_code != 2 or isinstance(err, ImportError):
        raise err
    return {**fault, "message": str(err).replace(f"{root}{os.sep}", "")}


def _refuse_empty(root: Path, files: list[dict[str, Any]]) -> None:
    """Set a recording aside for a file of no bytes: a lost copy, not a recording without events."""
    for entry in files:
        if not entry["bytes"]:
            msg = "expected a recording, the file is empty; copy it again, or remove it"
            raise FormatError(msg, path=root / entry["path"], offset=0, reason="empty")


def _facts(recording: Recording, found: Survey, settings: ClipSettings) -> dict[str, Any]:
    frames = found.frames
    recorded = recording.sensor_size
    grid = preprocess(recording, settings.preprocessing).sensor_size
    size = grid or (frames.size if frames is not None else (0, 0))
    shape, kind = stored_form(
        settings.make_representation(), bins=settings.bins, sensor_size=(size[0], size[1])
    )
    if frames is None:
        rgb_shape = [settings.bins, size[1], size[0], 1]
    else:
        rgb_shape = [settings.bins, frames.size[1], frames.size[0], frames.channels]
    start, stop = found.spans[0][0], found.spans[-1][1]
    return {
        "format": recording.format,
        "sensor_size": list(size),
        "recorded_size": list(recorded or size),
        "geometry_source": recording.geometry_source,
        "event_side": recording.has_events,
        "event_range": list(found.event_range) if found.event_range else None,
        "ledger": {**found.ledger.as_dict(), "side_faults": recording.side_faults},
        "clips": len(found.spans),
        "long": settings.clip_us is None and stop - start > LONG_CLIP_US and found.has_events,
        "events_shape": list(shape),
        "events_dtype": kind.str[1:],
        "rgb_shape": rgb_shape,
        "raw_bytes": RAW_EVENT_BYTES * found.ledger.kept if settings.raw_events else 0,
        "rgb_suffix": frames.suffix if frames is not None else "",
        "rgb_times": found.rgb_times,
        "notes": recording.notes,
    }


def settle_geometry(scans: list[dict[str, Any]]) -> None:
    """Set aside recordings whose assumed sensor is not the one assumed for most of the set.

    A format without geometry is given the smallest published sensor that holds every event, so one
    damaged event would move its recording to another sensor. Changes ``scans`` in place.
    """
    assumed = [s for s in scans if s["fault"] is None and "assumed" in s["geometry_source"]]
    counts = Counter(tuple(scan["recorded_size"]) for scan in assumed)
    if len(counts) < 2:
        return
    usual = max(counts, key=lambda size: (counts[size], -size[0] * size[1]))
    for scan in assumed:
        if tuple(scan["recorded_size"]) != usual:
            width, height = scan["recorded_size"]
            message = (
                f"expected events inside {usual[0]}x{usual[1]} as in {counts[usual]} other "
                f"recordings without geometry, got events that need {width}x{height}; "
                "give --sensor-size WxH"
            )
            scan["fault"] = {
                "file": scan["files"][0]["path"],
                "reason": "outside_sensor",
                "offset": None,
                "message": message,
            }


def raw_clip_bytes(facts: dict[str, Any]) -> int:
    """Return the raw bytes of one clip of a scanned recording, differences and events included."""
    events = int(np.prod(facts["events_shape"])) * np.dtype(facts["events_dtype"]).itemsize
    pixels = int(np.prod(facts["rgb_shape"]))
    raw = int(facts["raw_bytes"]) // max(1, int(facts["clips"]))
    return int(2 * (events + pixels) + raw)


def raise_fault(fault: dict[str, Any]) -> NoReturn:
    """Raise what was found wrong with a recording, for runs that stop at it."""
    where = fault["file"] or fault.get("recording")
    raise FormatError(fault["message"], path=where, offset=fault["offset"], reason=fault["reason"])


def scan_all(
    jobs: list[ScanJob],
    store: Location,
    pool: Pool,
    *,
    strict: bool = False,
    again: Collection[str] = (),
    reuse: Location | None = None,
    root: Location | None = None,
) -> list[dict[str, Any]]:
    """Scan every recording, taking results of an earlier scan where nothing changed.

    With ``strict`` the first recording that cannot be used is raised at once. Recordings of the
    ids in ``again`` are looked at whether they changed or not: a decoder may have been mended.
    ``reuse`` is another store whose scan counts as an earlier one, ``root`` the folder of the jobs
    as it was listed.

    Returns
    -------
    list of dict
        In the order of ``jobs``.
    """
    kept = kept_scans(store)
    known = {**kept_scans(reuse), **kept}
    stamps = {job.spec.id: stamp_of(job, root or location(job.root)) for job in jobs}
    results = {
        job.spec.id: known[stamps[job.spec.id]]
        for job in jobs
        if stamps[job.spec.id] in known and job.spec.id not in again
    }
    todo = [job for job in jobs if job.spec.id not in results]
    logger.info("scan: %d recordings, %d known from before", len(jobs), len(results))
    if todo:
        with noting(store) as note, progress("scan", len(todo), "recordings") as bar:
            for job, result in pool.run(scan_recording, todo, died=set_aside):
                results[job.spec.id] = result
                note(scan_line(stamps[job.spec.id], result))
                bar.advance(1)
                if strict and result["fault"] is not None:
                    raise_fault(result["fault"])
    ordered = {stamps[job.spec.id]: results[job.spec.id] for job in jobs}
    if todo or list(kept)[: len(ordered)] != list(ordered):
        put_in_order(store, ordered)
    scans = [dict(results[job.spec.id]) for job in jobs]
    settle_geometry(scans)
    return scans


def stamp_of(job: ScanJob, root: Location) -> str:
    """Return what a result depends on: settings, names, sizes and times of change.

    ``root`` is that of the job, behind a URL best as it was listed.
    """
    try:
        states = [
            (p.relative_to(root).as_posix(), *state_of(p)) for p in input_files(root, job.spec)
        ]
    except OSError as err:
        states = [(str(err), 0, 0)]
    # Several recordings may share a file.
    spec = [job.spec.id, job.spec.start_us, job.spec.stop_us]
    return f"{encode_json([spec, states]).decode()[:-1]},{_settings_json(job.clip, job.read)}]"


@lru_cache(maxsize=8)
def _settings_json(clip: ClipSettings, read: ReadSettings) -> str:
    """Return both as they stand in a list of JSON; once for all recordings, 0.2 ms each."""
    return encode_json([asdict(clip), asdict(read)]).decode()[1:-1]
