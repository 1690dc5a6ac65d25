"""A recording and settings -> clips: frames, RGB, differences, times and the mass balance.

Two passes over a recording, so that memory holds one clip whatever the length: `survey` finds the
time range and lays out the clips, `clip_recording` fills them one after the other. Adaptive windows
take a pass between, see `eventkit.clip_windows`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.align import Alignment, align
from eventkit.clip_settings import ClipSettings
from eventkit.clip_windows import adaptive_windows, by_clip
from eventkit.differences import frame_difference
from eventkit.events import Events
from eventkit.frames import Picture, to_uint8
from eventkit.ledger import Ledger
from eventkit.preprocess import preprocess
from eventkit.recording import Chunk, Recording
from eventkit.representations import Representation
from eventkit.representations.clip import own_windows
from eventkit.survey import Survey, survey
from eventkit.windows import Windows, index_ranges


@dataclass(slots=True)
class Clip:
    """One clip, ready to be stored.

    Parameters
    ----------
    index : int
        Position within the recording.
    events : (T, C, H, W)
        Frames of the representation, as it is stored: counts have C = 2, OFF and ON.
    rgb : (T, H, W, C) uint8
        C is 1 or 3; where ``has_rgb`` is false one zero of stride 0 and no memory, read-only.
    encoded : tuple of T bytes, optional
        The files the pictures came from, where all of them are PNG or all JPEG.
    rgb_suffix : {"png", "jpg", ""}
    windows_us, exposure_us : (T, 2) int64, microseconds
    rgb_index : (T,) int64
    binned, clipped : (T,) int64
        Events met in each window, and those that found a full cell. A stack knows the latter as a
        total of the clip, which stands in the first window.
    decoded : int
        ``decoded == binned.sum() + sum(dropped.values())``; for representations whose ``mass`` is
        ``counts`` also ``events.sum() + clipped.sum() == binned.sum()``.
    diff_events : (T - 1, C, H, W), optional
        Absolute; of frames of signed integers in the unsigned type of the same width, which holds
        every difference.
    flags : tuple of str
        ``rgb_fallback``: windows "rgb" found too few exposures.
    raw_events : Events, optional
        What the frames were made of, and the events in no window.
    span_us : (start, stop), microseconds, optional
        The clip is ``[start, stop)``; windows may leave parts of it out.
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
    raw_events: Events | None = None
    span_us: tuple[int, int] | None = None


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
    recording = preprocess(recording, settings.preprocessing)
    representation = settings.make_representation()
    alignments = _alignments(recording, found, settings, representation)
    pictures = _pictures(found, alignments)
    windows = [alignment.windows for alignment in alignments]
    sides = _accumulate(recording, found, windows, representation, keep=settings.raw_events)
    for index, alignment in enumerate(alignments):
        # What is made here has no name: it would stay beside the clip that comes next.
        yield _finish(index, next(sides), alignment, next(pictures), found, recording, settings)


def _alignments(
    recording: Recording, found: Survey, settings: ClipSettings, representation: Representation
) -> list[Alignment]:
    """Lay the windows of every clip and pair them with frames."""
    rule, cut = settings.bisection, None
    if rule is not None and found.has_events:
        size = _event_size(recording, found)
        cut = adaptive_windows(recording, rule, spans=found.spans, sensor_size=size)
    return [
        align(
            found.frames,
            start=start,
            stop=stop,
            bins=settings.bins,
            rule="rgb" if settings.windows == "rgb" else "time",
            event_window=settings.event_window,
            spans=own_windows(representation, start=start, stop=stop, bins=settings.bins)
            if cut is None
            else cut[k],
        )
        for k, (start, stop) in enumerate(found.spans)
    ]


class _EventSide:
    """The event side of one clip while it fills.

    Frames of windows take the clip's windows. A stack takes the clip as one window and has bins of
    its own in it; its events are counted in T equal times.
    """

    def __init__(
        self,
        representation: Representation,
        span: tuple[int, int],
        windows: NDArray[np.int64],
        size: tuple[int, int],
        *,
        keep: bool,
    ) -> None:
        self._representation = representation
        self._windows = windows
        spans = np.array([span], np.int64) if representation.stack else windows
        self._filling = representation.accumulator(Windows(spans), sensor_size=size)
        self.binned = np.zeros(len(windows), np.int64)
        self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.raw: list[Events] | None = [] if keep else None

    def add(self, events: Events) -> None:
        """Add events of this clip; they come in time order, in any number of parts."""
        self._filling.update(events)
        ranges = index_ranges(events.t, self._windows)
        self.binned += ranges[:, 1] - ranges[:, 0]
        self.kept += len(events)
        if self.raw is not None:
            self.raw.append(events)

    def finish(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Give away the frames as they are stored, and the events that found a full cell.

        Returns
        -------
        (T, C, H, W)
        (T,) int64
            Those of a stack are known as a total, which stands in the first bin.
        """
        filling = self._filling
        del self._filling  # the next clip is made in the memory of the frames
        stored = np.ascontiguousarray(self._representation.as_stored(filling.finish()))
        clipped = np.zeros(len(self._windows), np.int64)
        clipped[: filling.clipped.size] = filling.clipped
        return stored, clipped


def _accumulate(
    recording: Recording,
    found: Survey,
    windows: list[NDArray[np.int64]],
    representation: Representation,
    *,
    keep: bool,
) -> Iterator[_EventSide]:
    """Yield the filled event side of each clip, in order, in one pass over the chunks.

    Drops are kept until the end: a damaged word has a damaged time, so a drop may lie ahead of
    events that are still to come, and must not make the clip in between end early.
    """
    starts = np.array([start for start, _ in found.spans], np.int64)
    dropped: dict[int, Counter[str]] = {}
    current = 0
    size = _event_size(recording, found)

    def begin(clip: int) -> _EventSide:
        return _EventSide(representation, found.spans[clip], windows[clip], size, keep=keep)

    active = begin(current)
    for chunk in recording.stream(Ledger()):
        _book_drops(chunk, starts, dropped, first_open=current)
        for clip, events in by_clip(chunk.events, starts, found.spans[-1][1]):
            while current < clip:
                active.dropped = dropped.pop(current, Counter())
                yield active
                current += 1
                active = begin(current)
            active.add(events)
            del events
        del chunk  # the chunk after the next one is decoded into its memory
    for clip in range(current, len(found.spans)):
        active.dropped = dropped.pop(clip, Counter())
        yield active
        if clip + 1 < len(found.spans):
            active = begin(clip + 1)


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
    side: _EventSide,
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
    stored, clipped = side.finish()
    frames, pick = found.frames, alignment.rgb_index
    if frames is not None:
        exposure = np.stack([frames.start_us[pick], frames.stop_us[pick]], axis=1)
    else:
        exposure = np.full((settings.bins, 2), -1, np.int64)
    return Clip(
        index=index,
        events=stored,
        rgb=rgb,
        windows_us=alignment.windows,
        exposure_us=exposure,
        rgb_index=pick,
        binned=side.binned,
        clipped=clipped,
        decoded=side.kept + sum(side.dropped.values()),
        dropped=dict(sorted(dropped.items())),
        has_events=bool(side.binned.any()),
        has_rgb=bool(pictures),
        rgb_static=found.rgb_times == "static",
        rgb_times=found.rgb_times,
        encoded=encoded,
        rgb_suffix=frames.suffix if frames is not None else "",
        diff_events=event_difference(stored) if settings.diffs else None,
        diff_rgb=_rgb_difference(rgb) if settings.diffs else None,
        flags=("rgb_fallback",) if alignment.fell_back else (),
        raw_events=None if side.raw is None else Events.concatenate(side.raw),
        span_us=found.spans[index],
    )


def event_difference(frames: NDArray[Any]) -> NDArray[Any]:
    """Return ``|frames[i + 1] - frames[i]|`` of event frames of any type; it never wraps.

    Parameters
    ----------
    frames : (T, C, H, W)

    Returns
    -------
    (T - 1, C, H, W)
        The same dtype; unsigned of the same width for signed integers, uint8 for bool, float32
        for float16.

    Examples
    --------
    >>> event_difference(np.array([[-128], [127]], np.int8))
    array([[255]], dtype=uint8)
    """
    kind = frames.dtype
    if kind == np.bool_:
        return frame_difference(frames.view(np.uint8))
    if kind == np.float16:
        return frame_difference(frames.astype(np.float32))
    if kind.kind == "i":
        # Moved up by half of the range, signed becomes unsigned and no difference changes.
        unsigned = np.dtype(f"u{kind.itemsize}")
        half = unsigned.type(1 << (8 * kind.itemsize - 1))
        return frame_difference(frames.view(unsigned) ^ half)
    return frame_difference(frames)


def _rgb(
    pictures: list[Picture], bins: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[bytes, ...] | None]:
    if not pictures:
        return np.broadcast_to(np.uint8(0), (bins, size[1], size[0], 1)), None
    pixels = np.stack([to_uint8(picture.pixels) for picture in pictures])
    kept = tuple(picture.encoded for picture in pictures if picture.encoded is not None)
    return pixels, kept if len(kept) == len(pictures) else None


def _rgb_difference(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the difference of pictures; of a placeholder without its memory, either."""
    return frame_difference(rgb) if any(rgb.strides) else rgb[1:]
