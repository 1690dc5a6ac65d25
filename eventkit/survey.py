"""Lay out the clips of a recording: time range, spans.

The first of two passes over a recording; `eventkit.clips` makes the second.
"""

from __future__ import annotations

from dataclasses import dataclass

from eventkit.align import on_event_clock
from eventkit.clip_settings import ClipSettings as ClipSettings
from eventkit.errors import FormatError
from eventkit.frames import Frames
from eventkit.ledger import Ledger
from eventkit.preprocess import preprocess
from eventkit.recording import Recording

LONG_CLIP_US = 10_000_000
MAX_CLIPS = 1_000_000


@dataclass(frozen=True, slots=True)
class Survey:
    """What the first pass found: the events' time range and the clips to cut.

    Parameters
    ----------
    spans : tuple of (start, stop), microseconds
    event_range : (first, last), microseconds, or None without events
    frames : Frames or None
        On the clock of the events.
    rgb_times : str
        How the frame times came about.
    ledger : Ledger
    """

    spans: tuple[tuple[int, int], ...]
    event_range: tuple[int, int] | None
    frames: Frames | None
    rgb_times: str
    ledger: Ledger

    @property
    def has_events(self) -> bool:
        """Whether any event was found."""
        return self.event_range is not None


def survey(recording: Recording, settings: ClipSettings) -> Survey:
    """Read the recording once and lay out its clips.

    Raises
    ------
    FormatError
        If there is neither an event nor a frame, no geometry, or the frames lie at another time.
    """
    ledger = Ledger()
    first: int | None = None
    last = 0
    for chunk in preprocess(recording, settings.preprocessing).stream(ledger):
        if len(chunk.events):
            first = int(chunk.events.t[0]) if first is None else first
            last = int(chunk.events.t[-1])
        del chunk  # the chunk after the next one is decoded into its memory
    return lay_out(
        recording, settings, event_range=None if first is None else (first, last), ledger=ledger
    )


def lay_out(
    recording: Recording,
    settings: ClipSettings,
    *,
    event_range: tuple[int, int] | None,
    ledger: Ledger,
) -> Survey:
    """Lay out the clips of a recording whose first and last event times are known.

    Parameters
    ----------
    recording : Recording
        As it was opened; what `ClipSettings.preprocessing` asks for is done here.
    settings : ClipSettings
    event_range : (first, last), microseconds, or None without events
    ledger : Ledger
        Of the pass that found them.
    """
    recording = preprocess(recording, settings.preprocessing)
    frames, rgb_times = recording.frames, ""
    if event_range is None and (frames is None or not len(frames)):
        msg = "expected events or frames, got neither; is the file empty?"
        if ledger.decoded:
            msg = f"expected events, all {ledger.decoded} were dropped ({_reasons(ledger)})"
        raise FormatError(msg, path=recording.path, offset=0, reason="empty")
    if event_range is not None and recording.sensor_size is None:
        msg = "the file does not say how large the sensor is; give --sensor-size WxH"
        raise FormatError(msg, path=recording.path, offset=0, reason="no_geometry")
    first, last = event_range or _frame_range(frames)
    # Pictures without times are an order, which cannot be cut by microseconds.
    timeless = event_range is None and frames is not None and frames.timing == "none"
    if frames is not None:
        offset = settings.rgb_offset_us
        frames, rgb_times = on_event_clock(frames, first_us=first, last_us=last, offset_us=offset)
        if event_range is not None:
            _check_overlap(recording, frames, first, last)
    return Survey(
        spans=tuple(cut_spans(first, last + 1, None if timeless else settings.clip_us)),
        event_range=event_range,
        frames=frames,
        rgb_times=rgb_times,
        ledger=ledger,
    )


def _reasons(ledger: Ledger) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(ledger.dropped.items()))


def _frame_range(frames: Frames | None) -> tuple[int, int]:
    assert frames is not None
    return int(frames.start_us[0]), int(frames.stop_us[-1])


def cut_spans(start: int, stop: int, clip_us: int | None) -> list[tuple[int, int]]:
    """Cut ``[start, stop)`` into clips; a tail of at least half a clip is kept, at full length.

    A recording shorter than half a clip is one clip of its own length.

    Examples
    --------
    >>> cut_spans(0, 25, 10), cut_spans(0, 24, 10), cut_spans(0, 3, 10)
    ([(0, 10), (10, 20), (20, 30)], [(0, 10), (10, 20)], [(0, 3)])
    """
    if clip_us is None or 2 * (stop - start) < clip_us:
        return [(start, stop)]
    whole, rest = divmod(stop - start, clip_us)
    count = whole + (2 * rest >= clip_us and rest > 0)
    if count > MAX_CLIPS:
        msg = (
            f"expected at most {MAX_CLIPS} clips, {start} .. {stop} us makes {count} "
            f"of {clip_us} us; is a time damaged?"
        )
        raise FormatError(msg, reason="bad_value")
    return [(start + k * clip_us, start + (k + 1) * clip_us) for k in range(count)]


def _check_overlap(recording: Recording, frames: Frames, first: int, last: int) -> None:
    """Refuse frames that lie wholly before or after the events by more than their own length."""
    begin, end = int(frames.start_us[0]), int(frames.stop_us[-1])
    slack = last - first
    if end < first - slack or begin > last + slack:
        msg = (
            f"expected frames at the time of the events {first}..{last} us, got {begin}..{end} us; "
            "--rgb-offset-us moves them"
        )
        raise FormatError(msg, path=recording.path, reason="no_rgb_overlap")
