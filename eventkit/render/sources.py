"""Scenes out of recordings; what kind of source a path is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from eventkit.align import on_event_clock
from eventkit.clip_settings import ClipSettings, stored_form
from eventkit.clips import Clip, clip_recording
from eventkit.errors import MissingDataError, SettingsError, UnsupportedFormatError
from eventkit.ledger import Ledger
from eventkit.readers import find_reader
from eventkit.recording import Chunk, Recording
from eventkit.render.scene import Scene, is_shaded
from eventkit.render.times import milliseconds
from eventkit.shards import MANIFEST
from eventkit.sources import Source
from eventkit.survey import Survey, survey

Kind = Literal["recording", "store", "shards"]
MAX_BYTES = 2 << 30


def kind_of(path: Path) -> Kind:
    """Say what is at a path.

    Raises
    ------
    MissingDataError
        If there is nothing, or a folder that is none of the three.
    """
    if not path.exists():
        msg = (
            f"{path}: no such file or folder; expected a recording, a store (`eventkit convert "
            "RAW` makes one) or shards (`eventkit shard`)"
        )
        raise MissingDataError(msg)
    if not path.is_dir():
        return "recording"
    if (path / MANIFEST).is_file():
        return "shards"
    hidden = path / ".eventkit"
    if (hidden / "plan.json").is_file():
        return "store" if (hidden / "packs").is_dir() else "shards"
    try:
        find_reader(Source(path))
    except UnsupportedFormatError as err:
        msg = (
            f"{path}: expected a recording, a store of `eventkit convert` or shards of "
            "`eventkit shard`, got a folder with none of them"
        )
        raise MissingDataError(msg) from err
    return "recording"


def scene_of_recording(
    recording: Recording,
    settings: ClipSettings,
    *,
    start_us: int = 0,
    stop_us: int | None = None,
    index: int = 0,
) -> Scene:
    """Read a part of a recording; memory is that of its frames.

    Parameters
    ----------
    recording : Recording
    settings : ClipSettings
        With ``clip_us``, the clip is number ``index`` of those that `eventkit convert` would cut.
    start_us, stop_us : int, microseconds
        From the first event (without events: the first picture), where there is no ``clip_us``;
        ``stop_us`` defaults to the end, and events from it on are not read.
    index : int

    Raises
    ------
    SettingsError
        If there is no such part, or no event in it.
    """
    _check_span(start_us, stop_us)
    size = recording.sensor_size
    if size is not None:
        _check_memory(settings, size)
    zero, found = _laid_out(recording, settings, start_us, stop_us)
    if index >= len(found.spans):
        msg = (
            f"expected --index below {len(found.spans)}, the clips of {recording.path}, got {index}"
        )
        raise SettingsError(msg)
    start, stop = found.spans[index]
    part = replace(found, spans=((start, stop),))
    clip = next(clip_recording(_within(recording, start, stop), settings, surveyed=part))
    if found.has_events and not clip.has_events:
        msg = (
            f"{recording.path}: expected events from {start - zero} to {stop - zero} us after the "
            "first, got none; choose another --start-us"
        )
        raise SettingsError(msg)
    return _scene_of_clip(recording, settings, clip, zero)


def _check_span(start_us: int, stop_us: int | None) -> None:
    if start_us < 0 or (stop_us is not None and stop_us <= start_us):
        msg = (
            "expected --start-us of at least 0 and --stop-us above it, "
            f"got {start_us} and {stop_us if stop_us is not None else 'the end'}"
        )
        raise SettingsError(msg)


def _check_memory(settings: ClipSettings, size: tuple[int, int]) -> None:
    shape, kind = stored_form(settings.make_representation(), bins=settings.bins, sensor_size=size)
    need = int(np.prod(shape, dtype=np.float64) * kind.itemsize)
    if need > MAX_BYTES:
        msg = (
            f"expected frames of at most {MAX_BYTES >> 20} MiB, {settings.bins} bins of "
            f"{settings.representation} take {need >> 20} MiB; take fewer --bins"
        )
        raise SettingsError(msg)


def _laid_out(
    recording: Recording, settings: ClipSettings, start_us: int, stop_us: int | None
) -> tuple[int, Survey]:
    """Return the time that counts as zero, and the spans to choose from."""
    # Pictures without times are spread over all events, so the last one has to be known.
    timeless = recording.frames is not None and recording.frames.timing == "none"
    first = None if stop_us is None or timeless else _first_time(recording)
    if first is None or stop_us is None or settings.clip_us is not None:
        found = survey(recording, settings)
        zero, end = found.spans[0][0], found.spans[-1][1]
        if settings.clip_us is not None:
            return zero, found
        stop = end if stop_us is None else zero + stop_us
        if zero + start_us >= min(stop, end):
            msg = (
                f"expected --start-us below {milliseconds(end - zero, 3)} ms, the length of "
                f"{recording.path}, got {milliseconds(start_us, 3)} ms"
            )
            raise SettingsError(msg)
        return zero, replace(found, spans=((zero + start_us, stop),))
    if recording.sensor_size is None:
        # survey() has the words for this; the file need not be read to its end to hear them.
        survey(replace(recording, source=lambda ledger: _head(recording, ledger)), settings)
    spans = ((first + start_us, first + stop_us),)
    frames, rgb_times = recording.frames, ""
    if frames is not None:
        frames, rgb_times = on_event_clock(
            frames, first_us=first, last_us=first + stop_us - 1, offset_us=settings.rgb_offset_us
        )
    return first, Survey(spans, (first, first + stop_us - 1), frames, rgb_times, Ledger())


def _head(recording: Recording, ledger: Ledger) -> Iterator[Chunk]:
    for chunk in recording.stream(ledger):
        if len(chunk.events):
            yield chunk
            return


def _first_time(recording: Recording) -> int | None:
    for chunk in _head(recording, Ledger()):
        return int(chunk.events.t[0])
    return None


def _within(recording: Recording, start: int, stop: int) -> Recording:
    """Return the recording with the events of ``[start, stop)``; reading ends at ``stop``."""
    if recording.source is None:
        return recording
    whole = recording.source

    def source(ledger: Ledger) -> Iterator[Chunk]:
        for chunk in whole(ledger):
            first, last = np.searchsorted(chunk.events.t, [start, stop]).tolist()
            yield Chunk(chunk.events[first:last])
            if last < len(chunk.events):
                return

    return replace(recording, source=source)


def _scene_of_clip(recording: Recording, settings: ClipSettings, clip: Clip, zero: int) -> Scene:
    windows = clip.windows_us - zero
    start, stop = (milliseconds(int(t), 3) for t in (windows[0, 0], windows[-1, 1]))
    parts = [recording.path.name]
    if clip.has_events:
        width, height = recording.sensor_size or (0, 0)
        parts += [
            f"{width}x{height}",
            f"{start} - {stop} ms",
            f"{int(clip.binned.sum()):,} events",
            settings.representation,
        ]
    return Scene(
        rgb=clip.rgb if clip.has_rgb else None,
        events=clip.events if clip.has_events else None,
        diff_events=clip.diff_events if clip.has_events else None,
        diff_rgb=clip.diff_rgb if clip.has_rgb else None,
        windows_us=windows,
        stacked=settings.make_representation().stack,
        shaded=is_shaded(settings.representation),
        title=", ".join(parts),
    )
