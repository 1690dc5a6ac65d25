"""Scan: look at every recording once; what it holds, its hashes, or why it cannot be used.

Results are kept by path, size and time of change, so a scan that was stopped goes on, and a second
run only looks at what changed.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import eventkit
from eventkit.clip_settings import ClipSettings, stored_form
from eventkit.errors import EventKitError, FormatError
from eventkit.events import TimeUnit
from eventkit.preprocess import preprocess
from eventkit.recording import OnError, Recording
from eventkit.samples import encode_json
from eventkit.survey import LONG_CLIP_US, Survey, survey
from pipelines.datasets.discover import RecordingSpec
from pipelines.executors import Pool
from pipelines.progress import progress
from pipelines.receipts import HIDDEN, hash_file

logger = logging.getLogger(__name__)

RAW_EVENT_BYTES = 13
SCAN_FILE = f"{HIDDEN}/scan.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """What the readers are told."""

    on_error: OnError = "raise"
    sensor_size: tuple[int, int] | None = None
    time_unit: TimeUnit | None = None
    rgb_time_unit: TimeUnit | None = None
    columns: str | None = None
    topic: str | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class ScanJob:
    """One recording to look at; small enough to travel to a worker."""

    root: str
    spec: RecordingSpec
    clip: ClipSettings
    read: ReadSettings


def open_spec(root: Path, spec: RecordingSpec, read: ReadSettings) -> Recording:
    """Open both sides of a recording."""
    main = spec.events or spec.rgb
    assert main is not None
    return eventkit.open(
        root / main,
        rgb=root / spec.rgb if spec.events and spec.rgb else None,
        on_error=read.on_error,
        sensor_size=read.sensor_size,
        time_unit=read.time_unit,
        rgb_time_unit=read.rgb_time_unit,
        columns=read.columns,
        topic=read.topic,
        format=read.format if spec.events else None,
    )


def input_files(root: Path, spec: RecordingSpec) -> list[Path]:
    """Return every file a recording consists of, sorted."""
    found: list[Path] = []
    for side in (spec.events, spec.rgb):
        if side is None:
            continue
        path = root / side
        found.extend(sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path])
    return found


def scan_recording(job: ScanJob) -> dict[str, Any]:
    """Look at one recording; never raises for what is wrong with it."""
    root = Path(job.root)
    result: dict[str, Any] = {"id": job.spec.id, "files": [], "fault": None}
    try:
        result["files"] = [
            {
                "path": p.relative_to(root).as_posix(),
                "bytes": p.stat().st_size,
                "sha256": hash_file(p),
            }
            for p in input_files(root, job.spec)
        ]
        _refuse_empty(root, result["files"])
        recording = open_spec(root, job.spec, job.read)
        result.update(_facts(recording, survey(recording, job.clip), job.clip))
    except (EventKitError, OSError) as err:
        result["fault"] = fault_of(err, root, job.spec)
    return result


def fault_of(err: EventKitError | OSError, root: Path, spec: RecordingSpec) -> dict[str, Any]:
    """Return what is wrong with a recording, as it stands in the quarantine.

    Paths are relative to the root, so that the same damage gives the same bytes anywhere. What is
    no fault of the recording (a missing library, a full disk) is raised again.
    """
    fault = {"file": spec.events or spec.rgb, "reason": "unusable", "offset": None}
    if isinstance(err, FormatError):
        if err.path is not None and Path(err.path).is_relative_to(root):
            fault["file"] = Path(err.path).relative_to(root).as_posix()
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
    jobs: list[ScanJob], store: Path, pool: Pool, *, strict: bool = False
) -> list[dict[str, Any]]:
    """Scan every recording, taking results of an earlier scan where nothing changed.

    With ``strict`` the first recording that cannot be used is raised at once.

    Returns
    -------
    list of dict
        In the order of ``jobs``.
    """
    kept = _read_kept(store / SCAN_FILE)
    stamps = {job.spec.id: _stamp(job) for job in jobs}
    results = {
        job.spec.id: kept[stamps[job.spec.id]] for job in jobs if stamps[job.spec.id] in kept
    }
    todo = [job for job in jobs if job.spec.id not in results]
    logger.info("scan: %d recordings, %d known from before", len(jobs), len(results))
    if todo:
        (store / HIDDEN).mkdir(parents=True, exist_ok=True)
        with (
            (store / SCAN_FILE).open("ab") as log,
            progress("scan", len(todo), "recordings") as bar,
        ):
            for job, result in pool.run(scan_recording, todo):
                results[job.spec.id] = result
                log.write(encode_json({"stamp": stamps[job.spec.id], **result}) + b"\n")
                log.flush()
                bar.advance(1)
                if strict and result["fault"] is not None:
                    raise_fault(result["fault"])
    scans = [dict(results[job.spec.id]) for job in jobs]
    settle_geometry(scans)
    return scans


def _stamp(job: ScanJob) -> str:
    """Return what a result depends on: settings, names, sizes and times of change."""
    root = Path(job.root)
    try:
        states = [
            (p.relative_to(root).as_posix(), (s := p.stat()).st_size, s.st_mtime_ns)
            for p in input_files(root, job.spec)
        ]
    except OSError as err:
        states = [(str(err), 0, 0)]
    return encode_json([states, asdict(job.clip), asdict(job.read)]).decode()


def _read_kept(path: Path) -> dict[str, dict[str, Any]]:
    return {entry.pop("stamp"): entry for entry in _lines(path)}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a killed scan
                continue
            if isinstance(entry, dict) and "stamp" in entry:
                yield entry
