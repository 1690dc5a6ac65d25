"""Compare recordings: the same content twice, another sensor, another length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.check.findings import Finding
from pipelines.check.look import Look
from pipelines.datasets.discover import RecordingSpec
from pipelines.datasets.lists import SPLITS
from pipelines.receipts import hash_file
from pipelines.scan import input_files

FEWEST = 8
"""Recordings from which a usual length can be told."""
_DEVIATIONS = 6.0
_NORMAL = 1.4826
"""Standard deviations in a median absolute deviation, of normal numbers."""
_WIDER = 1.25
"""An extent of so many usual ones is another sensor."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A recording and what was seen of it."""

    spec: RecordingSpec
    look: Look

    @property
    def path(self) -> str:
        """The file that names it."""
        return str(self.spec.events or self.spec.rgb)

    @property
    def is_sound(self) -> bool:
        """Whether it can stand for itself: half a recording would be an outlier as well."""
        return all(finding.severity != "error" for finding in self.look.findings)


def compare(root: Path, recordings: Sequence[Seen]) -> Iterator[Finding]:
    """Yield what only the set as a whole tells."""
    sound = [recording for recording in recordings if recording.is_sound]
    yield from _copies(root, sound)
    yield from _sizes(sound, "sensor", lambda recording: recording.look.size)
    yield from _sizes(sound, "picture", lambda recording: recording.look.picture_size)
    yield from _extents(sound)
    yield from _durations(sound)
    yield from _strides(sound)


def _copies(root: Path, recordings: Sequence[Seen]) -> Iterator[Finding]:
    """Yield a finding for each group of the same content; copies of a copy are not told again."""
    told: set[str] = set()
    groups: dict[bytes, list[Seen]] = {}
    for recording in recordings:
        if recording.look.content is not None:
            groups.setdefault(recording.look.content, []).append(recording)
    for group in groups.values():
        # Two files of one name are told as such.
        if len({recording.spec.id for recording in group}) > 1:
            same = len({_digest(root, recording.spec.events) for recording in group}) == 1
            told.update(recording.path for recording in group)
            yield _copy(group, "the same bytes" if same else "the same events in other files")
    groups.clear()
    for recording in recordings:
        if recording.look.picture_content is not None and recording.path not in told:
            groups.setdefault(recording.look.picture_content, []).append(recording)
    for group in groups.values():
        if len(group) > 1:
            yield from _same_pictures(root, group)


def _same_pictures(root: Path, group: list[Seen]) -> Iterator[Finding]:
    """A checksum of pixels is 32 bits: of 100,000 recordings two agree by chance."""
    by_digest: dict[str, list[Seen]] = {}
    for recording in group:
        side = recording.spec.rgb or recording.spec.events
        by_digest.setdefault(_digest(root, side), []).append(recording)
    for same in by_digest.values():
        if len(same) > 1:
            yield _copy(same, "the same pictures")


def _digest(root: Path, side: str | None) -> str:
    spec = RecordingSpec("", side, None, "", -1, "")
    return " ".join(hash_file(path) for path in input_files(root, spec))


def _copy(group: list[Seen], what: str) -> Finding:
    first, *rest = sorted(group, key=lambda recording: recording.path)
    others = tuple(recording.path for recording in rest)
    more = f" and {len(rest) - 1:,} more" if len(rest) > 1 else ""
    got = f"{what} as {others[0]}{more}"
    labels = sorted({recording.spec.label_name for recording in group})
    if len(labels) > 1:
        got += f", with the labels {', '.join(labels)}"
    among = {recording.spec.split for recording in group}
    splits = [split for split in SPLITS if split in among]
    if len(splits) > 1:
        message = (
            f"expected recordings of {' and '.join(splits)} that differ, got {got}: scores would "
            "count what was trained on; keep it in one split"
        )
        return Finding("shared", first.path, message, others=others)
    message = f"expected recordings that differ, got {got}; keep one of them"
    return Finding("duplicate", first.path, message, others=others)


def _sizes(
    recordings: Sequence[Seen], what: str, size_of: Callable[[Seen], tuple[int, int] | None]
) -> Iterator[Finding]:
    sizes = Counter(size for recording in recordings if (size := size_of(recording)) is not None)
    if len(sizes) < 2:
        return
    usual, most = max(sizes.items(), key=lambda item: (item[1], item[0]))
    # A set of several cameras is no fault; a few of another size are.
    rare = {size for size, count in sizes.items() if 3 * count <= most}
    for recording in recordings:
        size = size_of(recording)
        if size is not None and size in rare:
            message = (
                f"expected a {what} of {_times(usual)} as in {most:,} other recordings, got "
                f"{_times(size)}; give the true --sensor-size, or keep it out of this set"
            )
            yield Finding("sensor", recording.path, message)
    common = {size: count for size, count in sizes.items() if size not in rare}
    if len(common) > 1:
        listed = ", ".join(f"{_times(s)} in {n:,}" for s, n in sorted(common.items()))
        message = f"expected one size of the {what}, got {listed} recordings; convert each apart"
        yield Finding("sizes", ".", message)


def _times(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _extents(recordings: Sequence[Seen]) -> Iterator[Finding]:
    """Judge recordings whose files do not say how large the sensor is by where events are."""
    bare = [r for r in recordings if r.look.size is None and r.look.extent is not None]
    if not bare:
        return
    extents = np.array([recording.look.extent for recording in bare])
    width, height = (int(side) for side in np.median(extents, axis=0))
    larger = (extents > _WIDER * np.array([width, height])).any(axis=1) & (len(bare) > 2)
    for i in np.flatnonzero(larger).tolist():
        message = (
            f"expected events within about {width}x{height}, the median of {len(bare):,} "
            f"recordings, got some that need {_times(extents[i])}; keep it out of this set, or "
            "give the true --sensor-size"
        )
        yield Finding("sensor", bare[i].path, message)
    need = _times(extents[~larger].max(axis=0))
    message = (
        f"expected the size of the sensor, got none in {len(bare):,} recordings; their events need "
        f"{need}, give --sensor-size WxH here and to convert"
    )
    yield Finding("no_size", ".", message)


def _durations(recordings: Sequence[Seen]) -> Iterator[Finding]:
    """Yield recordings far off the median; lengths are compared by their ratio."""
    timed = [r for r in recordings if r.look.duration_us is not None]
    if len(timed) < FEWEST:
        return
    lengths = np.maximum(1, np.array([r.look.duration_us for r in timed], np.float64))
    logs = np.log2(lengths)
    middle = float(np.median(logs))
    deviation = float(np.median(np.abs(logs - middle)))
    # Recordings that a clock cuts are as good as equal: up to twice or half is no outlier.
    reach = max(1.0, _DEVIATIONS * _NORMAL * deviation)
    low, high = 2 ** (middle - reach) / 1e6, 2 ** (middle + reach) / 1e6
    spread = float(np.median(np.abs(lengths - np.median(lengths)))) / 1e6
    for i in np.flatnonzero(np.abs(logs - middle) > reach).tolist():
        message = (
            f"expected {low:.3g} to {high:.3g} s (median {2**middle / 1e6:.3g} s, MAD "
            f"{spread:.2g} s of {len(timed):,} recordings), got {lengths[i] / 1e6:.3g} s; look "
            "whether it was cut or holds more than one take, or give --clip-us to convert"
        )
        yield Finding("duration", timed[i].path, message)


def _strides(recordings: Sequence[Seen]) -> Iterator[Finding]:
    strides = Counter(r.look.stride for r in recordings if r.look.stride > 0)
    if set(strides) <= {1}:
        return
    listed = ", ".join(
        f"in steps of {step} in {count:,}" for step, count in sorted(strides.items())
    )
    message = (
        f"expected pictures numbered one by one, got numbers {listed} recordings; if the camera "
        "wrote all of them, ask for the others"
    )
    yield Finding("stride", ".", message)
