"""Look at one recording: read all of it once, in bounded memory, and say what is wrong.

A recording that is sound is read once. One that is not is read a second time with what is wrong
dropped, for the counts.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eventkit.clip_settings import ClipSettings
from eventkit.errors import EventKitError, FormatError
from eventkit.events import Events
from eventkit.frames import Frames
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.survey import lay_out
from pipelines.check.findings import Finding
from pipelines.check.gaps import numbered_gaps, timed_gaps
from pipelines.datasets.discover import RecordingSpec
from pipelines.executors import Death
from pipelines.opening import ReadSettings, open_spec
from pipelines.scan import death_fault, fault_of, file_size, input_files

_KIND = {
    "truncated": "truncated",
    "backwards_time": "backwards",
    "outside_sensor": "outside",
    "no_geometry": "outside",
    "empty": "empty",
    "no_rgb_overlap": "rgb_apart",
}
"""Kinds of findings by the reasons of `FormatError`; any other reason is unreadable."""
_PICTURES = ("image", "images", "video")
_DROPPED = {"outside": ("outside",), "backwards": ("jitter", "backwards", "spike")}


@dataclass(frozen=True, slots=True)
class LookJob:
    """One recording to look at; small enough to travel to a worker."""

    root: str
    spec: RecordingSpec
    read: ReadSettings


@dataclass(slots=True)
class Look:
    """What was seen: findings, and what is compared with the rest of the set.

    Parameters
    ----------
    findings : list of Finding
    bytes, events, pictures : int
    size : (W, H) or None
        Of the sensor; None where nothing says so.
    extent : (W, H) or None
        The smallest sensor that would hold the events, where nothing says how large it is.
    duration_us : int or None
    content : bytes or None
        Equal for recordings of the same events, in whatever format and from whatever time on.
    picture_size : (W, H) or None
    picture_content : bytes or None
        Equal for RGB sides of the same pixels.
    stride : int
        Step of the numbers of the pictures, 0 without any.
    """

    findings: list[Finding] = field(default_factory=list)
    bytes: int = 0
    events: int = 0
    pictures: int = 0
    size: tuple[int, int] | None = None
    extent: tuple[int, int] | None = None
    duration_us: int | None = None
    content: bytes | None = None
    picture_size: tuple[int, int] | None = None
    picture_content: bytes | None = None
    stride: int = 0


def look(job: LookJob) -> Look:
    """Look at one recording; never raises for what is wrong with it."""
    root, seen = Path(job.root), Look()
    try:
        seen.bytes = _sizes(root, job.spec)
        recording = open_spec(root, job.spec, job.read)
        _refuse_pictures(root, job.spec, recording)
    except (EventKitError, OSError) as err:
        seen.findings += _told(job, fault_of(err, root, job.spec), None)
        return seen
    try:
        _events(recording, seen)
    except (EventKitError, OSError) as err:
        seen.findings += _told(job, fault_of(err, root, job.spec), Ledger())
    if recording.frames is not None:
        _frames(job, recording.frames, seen)
    return seen


def set_aside(job: LookJob, death: Death) -> Look:
    """Return what is told of a recording that takes its process down."""
    return Look(findings=[_finding(death_fault(job.spec, death))])


def _sizes(root: Path, spec: RecordingSpec) -> int:
    """Return the bytes of all files; one of none is a lost copy."""
    total = 0
    for path in input_files(root, spec):
        size = file_size(path)
        if not size:
            msg = "expected a recording, the file is empty; copy it again, or remove it"
            raise FormatError(msg, path=path, offset=0, reason="empty")
        total += size
    return total


def _refuse_pictures(root: Path, spec: RecordingSpec, recording: Recording) -> None:
    """Refuse a picture under the name of an event file."""
    if spec.events is not None and recording.format in _PICTURES:
        path = root / spec.events
        msg = f"expected events as {path.suffix} says, got {recording.evidence}; rename the file"
        raise FormatError(msg, path=path, offset=0, reason="bad_header")


@dataclass(slots=True)
class _Tally:
    """What one pass over the events tells, chunk by chunk."""

    has_size: bool
    first: int | None = None
    last: int = 0
    right: int = 0
    bottom: int = 0
    sums: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    def add(self, events: Events) -> None:
        self.first = int(events.t[0]) if self.first is None else self.first
        self.last = int(events.t[-1])
        if not self.has_size:
            self.right = max(self.right, int(events.x.max()) + 1)
            self.bottom = max(self.bottom, int(events.y.max()) + 1)
        # 4 ns an event; sha256 takes 7, more than most decoders.
        columns = (events.x, events.y, events.t - self.first, events.p)
        self.sums = [zlib.crc32(c, s) for c, s in zip(columns, self.sums, strict=True)]


def _events(recording: Recording, seen: Look) -> None:
    tally, ledger = _Tally(recording.sensor_size is not None), Ledger()
    for chunk in recording.stream(ledger):
        if len(chunk.events):
            tally.add(chunk.events)
    seen.events, seen.size = ledger.kept, recording.sensor_size
    found = tally.first is not None
    if tally.first is not None:
        seen.extent = None if tally.has_size else (tally.right, tally.bottom)
        seen.duration_us = tally.last - tally.first
        seen.content = struct.pack("<q4I", ledger.kept, *tally.sums)
    elif recording.has_events:
        msg = "expected events, the file holds none; record it again, or remove it"
        raise FormatError(msg, path=recording.path, offset=0, reason="empty")
    # What `convert` would refuse. A size that nothing says is told once for the whole set.
    sized = replace(recording, sensor_size=recording.sensor_size or seen.extent)
    times = (tally.first or 0, tally.last) if found else None
    lay_out(sized, ClipSettings(), event_range=times, ledger=ledger)


def _frames(job: LookJob, frames: Frames, seen: Look) -> None:
    """Decode every picture, one at a time, and look for gaps."""
    root = Path(job.root)
    side = job.spec.rgb or job.spec.events or "."
    folder = (root / side).is_dir() and job.spec.rgb is not None
    fault: dict[str, Any] | None = None
    done = total = bad = 0
    while done < len(frames):
        try:
            for picture in frames.pictures(range(done, len(frames))):
                total = zlib.crc32(picture.pixels.tobytes(), total)
                done += 1
        except (EventKitError, OSError) as err:
            fault = fault or fault_of(err, root, job.spec)
            if not folder:  # one file: what follows cannot be reached
                break
            done, bad = done + 1, bad + 1
    seen.pictures, seen.picture_size = len(frames), frames.size
    if fault is not None:
        more = f"; so are {bad - 1:,} more of its {len(frames):,} pictures" if bad > 1 else ""
        seen.findings.append(_finding(fault, more))
        return
    seen.picture_content = struct.pack("<qIII", len(frames), *frames.size, total)
    gap = timed_gaps(frames, side)
    if folder and frames.timing != "recorded":
        seen.stride, gap = numbered_gaps(root / side, side)
    if gap is not None:
        seen.findings.append(gap)


def _finding(fault: dict[str, Any], more: str = "", *, t_us: int | None = None) -> Finding:
    """Return the finding for what `fault_of` says."""
    kind = _KIND.get(str(fault["reason"]), "unreadable")
    return Finding(kind, fault["file"], f"{fault['message']}{more}", fault["offset"], t_us)


def _told(job: LookJob, fault: dict[str, Any], ledger: Ledger | None) -> Iterator[Finding]:
    """Yield what ended the reading and, where reading can go on, how much else is wrong.

    Parameters
    ----------
    job : LookJob
    fault : dict
    ledger : Ledger, optional
        To be filled by a second reading; None where the recording does not open.
    """
    first = _finding(fault)
    times: dict[str, int] = {}
    if ledger is None or first.kind in ("empty", "rgb_apart"):
        yield first
        return
    try:
        again = open_spec(Path(job.root), job.spec, replace(job.read, on_error="skip"))
        for chunk in again.stream(ledger):
            for reason, dropped in chunk.dropped.items():
                times.setdefault(reason, int(dropped[0]))
    except (EventKitError, OSError):
        yield first
        return
    counts = {kind: sum(ledger.dropped[r] for r in rs) for kind, rs in _DROPPED.items()}
    when = {
        kind: min((times[r] for r in rs if r in times), default=None)
        for kind, rs in _DROPPED.items()
    }
    many = counts.get(first.kind, 0)
    share = f"; {many:,} of {ledger.decoded:,} events are so" if many else ""
    yield _finding(fault, share, t_us=when.get(first.kind))
    for kind, count in counts.items():
        if count and kind != first.kind:
            yield Finding(
                kind, first.path, _MORE[kind].format(count, ledger.decoded), t_us=when[kind]
            )
    for other in ledger.faults:
        found = _finding({**other, "file": first.path})
        if found.kind != first.kind:
            yield found


_MORE = {
    "outside": "expected events inside the sensor, got {:,} of {:,} outside; --on-error skip drops "
    "and counts them",
    "backwards": "expected times that do not decrease, got {:,} of {:,} events at earlier ones; "
    "--on-error skip drops them",
}
