"""A sample of the recordings, scanned and converted for real in a temporary folder.

It is taken evenly over the sizes and dealt to a few parts, each of which is a sample by itself:
their spread says how far to trust the whole. A pack costs something whatever is in it, so in each
part one recording is converted alone first, and the difference is what the others cost.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eventkit.clip_settings import ClipSettings
from eventkit.location import location
from pipelines.datasets.discover import RecordingSpec
from pipelines.opening import ReadSettings
from pipelines.pack_task import PackJob, convert_pack
from pipelines.plan import pack_file, write_packs
from pipelines.scan import ScanJob, scan_recording, stamp_of
from pipelines.scan_log import scan_line

PARTS = 4
MOST = 32
"""Recordings in a sample."""
MOST_BYTES = 512 << 20
BUDGET_S = 20.0
_PREFIX = "eventkit-dry-run-"


@dataclass(frozen=True, slots=True)
class Sampled:
    """A recording of a sample, and the bytes of its files."""

    spec: RecordingSpec
    num_bytes: int


@dataclass(frozen=True, slots=True)
class SampleJob:
    """Parts to measure, one after the other until time is up."""

    root: str
    parts: tuple[tuple[Sampled, ...], ...]
    clip: ClipSettings
    read: ReadSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a part cost.

    Parameters
    ----------
    scans : tuple of (Sampled, scan)
    scan_s, convert_s : float, seconds
        Of all of it; without what a pack costs by itself.
    pack_s : float, seconds
        Of a pack by itself.
    converted : int, bytes
        Of the files that were converted.
    data, fixed : int, bytes
        Written for these, and for a pack by itself.
    pictures : int, bytes
        Of ``data``, what is kept of the files of pictures.
    pictured : int
        Clips in packs that keep such files.
    """

    scans: tuple[tuple[Sampled, dict[str, Any]], ...]
    scan_s: float
    convert_s: float
    pack_s: float
    converted: int
    data: int
    fixed: int
    pictures: int
    pictured: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a sample cost; memory in bytes, of a process before and at its highest point."""

    parts: tuple[Part, ...]
    base: int
    peak: int


def choose_sample(recordings: Sequence[Sampled]) -> tuple[tuple[Sampled, ...], ...]:
    """Choose recordings evenly over their sizes, dealt to parts; fewer of large ones."""
    ordered = sorted(recordings, key=lambda each: (each.num_bytes, each.spec.id))
    count = min(len(ordered), MOST)
    usual = sum(each.num_bytes for each in ordered) / len(ordered)
    while count > PARTS and count * usual > MOST_BYTES:
        count //= 2
    chosen = [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]
    return tuple(tuple(chosen[i::PARTS]) for i in range(min(PARTS, count)))


def measure(job: SampleJob) -> Measured:
    """Scan and convert the parts of a sample; runs in a process of its own."""
    started = time.monotonic()
    _measure_part(job, job.parts[0][:1])  # compiles what is not compiled
    base = resident("VmRSS")
    parts: list[Part] = []
    for part in job.parts:
        if parts and time.monotonic() - started > BUDGET_S:
            break
        parts.append(_measure_part(job, part))
    return Measured(parts=tuple(parts), base=base, peak=resident("VmHWM"))


def _measure_part(job: SampleJob, part: tuple[Sampled, ...]) -> Part:
    jobs = [ScanJob(job.root, each.spec, job.clip, job.read) for each in part]
    begun = time.perf_counter()
    scans = [scan_recording(each) for each in jobs]
    scan_s = time.perf_counter() - begun
    good = [(s, scan) for s, scan in zip(part, scans, strict=True) if scan["fault"] is None]
    scanned = tuple(zip(part, scans, strict=True))
    took = sum(sampled.num_bytes for sampled, _ in good)
    if not good:
        nothing = dict.fromkeys(("converted", "data", "fixed", "pictures", "pictured"), 0)
        return Part(scans=scanned, scan_s=scan_s, convert_s=0.0, pack_s=0.0, **nothing)
    one_s, _ = _convert(job, good[:1])
    all_s, sizes = _convert(job, good)
    first = good[0][0].num_bytes
    rest = took - sizes.packs * first
    rate = max(0.0, all_s - sizes.packs * one_s) / rest if rest > 0 else all_s / max(took, 1)
    pack_s = max(0.0, one_s - rate * first) if rest > 0 else 0.0
    stamps = [stamp_of(each, location(each.root)) for each in jobs]
    noted = sum(len(scan_line(*each)) for each in zip(stamps, scans, strict=True))
    return Part(
        scans=scanned,
        scan_s=scan_s,
        convert_s=max(all_s - sizes.packs * pack_s, 0.0),
        pack_s=pack_s,
        converted=took,
        data=sizes.data + noted,
        fixed=sizes.fixed // sizes.packs,
        pictures=sizes.pictures,
        pictured=sizes.pictured,
    )


@dataclass(slots=True)
class _Sizes:
    """Bytes of some packs; see `Part`."""

    packs: int = 0
    data: int = 0
    fixed: int = 0
    pictures: int = 0
    pictured: int = 0

    def add(self, store: Path, receipt: dict[str, Any]) -> None:
        """Count the files of a pack: those that come with its clips, and those it has anyhow."""
        pack = store / f"{receipt['name']}.zarr"
        self.packs += 1
        self.data += pack_file(store, receipt["name"]).stat().st_size
        for entry in receipt["files"]:
            _, *parts = entry["path"].split("/")
            if len(parts) == 2 and parts[1] == "zarr.json":
                self.fixed += entry["bytes"]
            elif parts[0] != "rgb_bytes":
                self.data += entry["bytes"]
        if (pack / "rgb_bytes").is_dir():
            # Not its files, which are filled up to whole chunks.
            pictures = _length_of(pack / "rgb_bytes")
            self.data += pictures
            self.pictures += pictures
            self.pictured += receipt["clips"]


def _convert(
    job: SampleJob, good: Sequence[tuple[Sampled, dict[str, Any]]]
) -> tuple[float, _Sizes]:
    """Convert recordings; returns seconds and what was written."""
    sizes = _Sizes()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        store = Path(folder)
        packs = write_packs(store, [each.spec for each, _ in good], [scan for _, scan in good])
        how = (job.clip, job.read)
        begun = time.perf_counter()
        made = [convert_pack(PackJob(job.root, folder, p["name"], "", *how)) for p in packs]
        seconds = time.perf_counter() - begun
        for receipt in made:
            sizes.add(store, receipt)
    return seconds, sizes


def _length_of(array: Path) -> int:
    found = re.search(r'"shape":\s*\[\s*(\d+)', (array / "zarr.json").read_text())
    assert found is not None
    return int(found[1])


def nearest(sizes: np.ndarray[Any, np.dtype[np.int64]], size: int) -> int:
    """Return the position of the number that is nearest in a sorted array."""
    right = min(int(np.searchsorted(sizes, size)), len(sizes) - 1)
    left = max(0, right - 1)
    return left if abs(int(sizes[left]) - size) <= abs(int(sizes[right]) - size) else right


def resident(kind: str) -> int:
    """Return the memory of this process in bytes: VmRSS now, VmHWM at its highest point.

    `getrusage` begins with what the parent held at the fork.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{kind}:\s*(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
