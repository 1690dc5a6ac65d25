"""A recording and settings -> clips: frames, RGB, differences, times and the mass balance.

Two passes over a recording, so that memory holds one clip whatever the length: `survey` finds the
time range and lays out the clips, `clip_recording` fills them one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.align import Alignment, align
from eventkit.differences import frame_difference
from eventkit.events import Events
from eventkit.frames import Picture, to_uint8
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.representations import (
    accumulate_counts,
    accumulate_voxels,
    empty_counts,
    empty_voxels,
)
from eventkit.survey import ClipSettings, Survey, survey


@dataclass(slots=True)
class Clip:
    """One clip, ready to be stored.

    Parameters
    ----------
    index : int
        Position within the recording.
    events : (T, C, H, W)
        Counts (C = 2, OFF and ON) or voxels (C = 1).
    rgb : (T, H, W, C) uint8
        C is 1 or 3; zeros where ``has_rgb`` is false.
    encoded : tuple of T bytes, optional
        The files the pictures came from, where all of them are PNG or all JPEG.
    rgb_suffix : {"png", "jpg", ""}
    windows_us, exposure_us : (T, 2) int64, microseconds
    rgb_index : (T,) int64
    binned, clipped : (T,) int64
    decoded : int
        ``decoded == binned.sum() + sum(dropped.values())``; for counts
        ``events.sum() + clipped.sum() == binned.sum()``.
    flags : tuple of str
        ``rgb_fallback``: windows "rgb" found too few exposures.
    """

    index: int
    events: NDArray[Any]
    rgb: NDArray[np.uint8]
    windows_us: NDArray[np.int64]
    exposure_us: NDArray[np.int64]
    rgb_index: NDArray[np.int64]
    binned: NDArray[np.int64]
    clipped: NDArray[np.int64]
    decoded: int
    dropped: dict[str, int]
    has_events: bool
    has_rgb: bool
    rgb_static: bool
    rgb_times: str
    encoded: tuple[bytes, ...] | None = None
    rgb_suffix: str = ""
    diff_events: NDArray[Any] | None = None
    diff_rgb: NDArray[np.uint8] | None = None
    flags: tuple[str, ...] = ()


def clip_recording(
    recording: Recording, settings: ClipSettings, *, surveyed: Survey | None = None
) -> Iterator[Clip]:
    """Yield the clips of a recording in order, holding one at a time.

    Parameters
    ----------
    recording : Recording
    settings : ClipSettings
    surveyed : Survey, optional
        From `survey` on the same recording and settings; made here otherwise.

    Yields
    ------
    Clip

    Notes
    -----
    Decoded events after the last clip are in none: ``surveyed.ledger.decoded`` minus the sum of
    ``clip.decoded`` is their number.
    """
    found = survey(recording, settings) if surveyed is None else surveyed
    alignments = [
        align(
            found.frames,
            start=start,
            stop=stop,
            bins=settings.bins,
            rule=settings.windows,
            event_window=settings.event_window,
        )
        for start, stop in found.spans
    ]
    pictures = _pictures(found, alignments)
    for index, accumulator in enumerate(_accumulate(recording, found, alignments, settings)):
        picked = list(next(pictures))
        yield _finish(index, accumulator, alignments[index], picked, found, recording, settings)


@dataclass(slots=True)
class _Accumulator:
    """The event side of one clip while it fills."""

    span: tuple[int, int]
    windows: NDArray[np.int64]
    out: NDArray[Any]
    voxel_range: tuple[int, int] | None
    binned: NDArray[np.int64]
    clipped: NDArray[np.int64]
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, events: Events) -> None:
        """Add events of this clip; they come in time order, in any number of parts."""
        if self.voxel_range is not None:
            accumulate_voxels(events, *self.voxel_range, self.out[:, 0])
            t = events.t
            self.binned += np.diff(np.searchsorted(t, np.append(self.windows[:, 0], self.span[1])))
        else:
            binned, clipped = accumulate_counts(events, self.windows, self.out)
            self.binned += binned
            self.clipped += clipped
        self.kept += len(events)


def _accumulate(
    recording: Recording,
    found: Survey,
    alignments: list[Alignment],
    settings: ClipSettings,
) -> Iterator[_Accumulator]:
    """Yield the filled event side of each clip, in order, in one pass over the chunks.

    Drops are kept until the end: a damaged word has a damaged time, so a drop may lie ahead of
    events that are still to come, and must not make the clip in between end early.
    """
    size = _event_size(recording, found)
    starts = np.array([start for start, _ in found.spans], np.int64)
    dropped: dict[int, Counter[str]] = {}
    current = 0
    active = _new_accumulator(found, alignments, settings, size, current)
    for chunk in recording.chunks(Ledger()):
        _book_drops(chunk, starts, dropped, first_open=current)
        for clip, events in _by_clip(chunk.events, starts, found.spans[-1][1]):
            while current < clip:
                active.dropped = dropped.pop(current, Counter())
                yield active
                current += 1
                active = _new_accumulator(found, alignments, settings, size, current)
            active.add(events)
    for clip in range(current, len(found.spans)):
        active.dropped = dropped.pop(clip, Counter())
        yield active
        if clip + 1 < len(found.spans):
            active = _new_accumulator(found, alignments, settings, size, clip + 1)


def _by_clip(events: Events, starts: NDArray[np.int64], end: int) -> Iterator[tuple[int, Events]]:
    """Split events at clip starts; before the first is its, from ``end`` on is no clip's."""
    cuts = np.searchsorted(events.t, np.append(starts, end))
    cuts[0] = 0
    for clip in np.flatnonzero(np.diff(cuts)).tolist():
        yield clip, events[int(cuts[clip]) : int(cuts[clip + 1])]


def _book_drops(
    chunk: Chunk,
    starts: NDArray[np.int64],
    dropped: dict[int, Counter[str]],
    *,
    first_open: int,
) -> None:
    """Count each drop on the clip its time lies in; on the nearest one that is not finished."""
    for reason, times in chunk.dropped.items():
        clips = (np.searchsorted(starts, times, side="right") - 1).clip(first_open)
        for clip, count in zip(*np.unique(clips, return_counts=True), strict=True):
            dropped.setdefault(int(clip), Counter())[reason] += int(count)


def _new_accumulator(
    found: Survey,
    alignments: list[Alignment],
    settings: ClipSettings,
    size: tuple[int, int],
    index: int,
) -> _Accumulator:
    start, stop = found.spans[index]
    bins = settings.bins
    voxel_range = None
    if settings.family == "voxel":
        out: NDArray[Any] = empty_voxels(bins, size)[:, None]
        voxel_range = (start, stop - 1)
    else:
        out = empty_counts(bins, size, settings.dtype)
    zeros = np.zeros(bins, np.int64)
    windows = alignments[index].windows
    return _Accumulator((start, stop), windows, out, voxel_range, zeros, zeros.copy())


def _event_size(recording: Recording, found: Survey) -> tuple[int, int]:
    if recording.sensor_size is not None:
        return recording.sensor_size
    assert found.frames is not None
    return found.frames.size


def _pictures(found: Survey, alignments: list[Alignment]) -> Iterator[list[Picture]]:
    """Yield the T pictures of each clip; one forward pass over the RGB side."""
    if found.frames is None:
        yield from ([] for _ in alignments)
        return
    wanted = np.concatenate([alignment.rgb_index for alignment in alignments])
    source = found.frames.pictures(wanted.tolist())
    for alignment in alignments:
        yield [next(source) for _ in alignment.rgb_index]


def _finish(
    index: int,
    side: _Accumulator,
    alignment: Alignment,
    pictures: list[Picture],
    found: Survey,
    recording: Recording,
    settings: ClipSettings,
) -> Clip:
    dropped = dict(side.dropped)
    unpaired = side.kept - int(side.binned.sum())
    if unpaired:
        dropped["unpaired"] = unpaired
    rgb, encoded = _rgb(pictures, settings.bins, _event_size(recording, found))
    frames, pick = found.frames, alignment.rgb_index
    if frames is not None:
        exposure = np.stack([frames.start_us[pick], frames.stop_us[pick]], axis=1)
    else:
        exposure = np.full((settings.bins, 2), -1, np.int64)
    return Clip(
        index=index,
        events=side.out,
        rgb=rgb,
        windows_us=alignment.windows,
        exposure_us=exposure,
        rgb_index=pick,
        binned=side.binned,
        clipped=side.clipped,
        decoded=side.kept + sum(side.dropped.values()),
        dropped=dict(sorted(dropped.items())),
        has_events=bool(side.binned.any()),
        has_rgb=bool(pictures),
        rgb_static=found.rgb_times == "static",
        rgb_times=found.rgb_times,
        encoded=encoded,
        rgb_suffix=frames.suffix if frames is not None else "",
        diff_events=frame_difference(side.out) if settings.diffs else None,
        diff_rgb=frame_difference(rgb) if settings.diffs else None,
        flags=("rgb_fallback",) if alignment.fell_back else (),
    )


def _rgb(
    pictures: list[Picture], bins: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[bytes, ...] | None]:
    if not pictures:
        return np.zeros((bins, size[1], size[0], 1), np.uint8), None
    pixels = np.stack([to_uint8(picture.pixels) for picture in pictures])
    kept = tuple(picture.encoded for picture in pictures if picture.encoded is not None)
    return pixels, kept if len(kept) == len(pictures) else None
