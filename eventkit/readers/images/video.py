"""Video files through PyAV: the RGB side of a recording, with exact frame times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

from eventkit._optional import require
from eventkit.errors import EventKitError, FormatError
from eventkit.frames import Frames, Picture
from eventkit.readers.base import ReadOptions
from eventkit.recording import Recording
from eventkit.sources import Source

SLACK_US = 100_000
"""By which a container may claim more than its frames span."""

MOST_PIXELS = 1 << 26
"""Of one frame; a damaged header must not take the memory for a larger one."""

_PURPOSE = "reading video files"
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_USUAL = {
    ".mp4": "mov",
    ".m4v": "mov",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".avi": "avi",
}
_WORDS = {"mov": "an MP4 or QuickTime", "matroska": "a Matroska or WebM", "avi": "an AVI"}


class VideoReader:
    """Reader of video files."""

    name = "video"
    suffixes = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
    holds = ("frames",)
    takes = ()

    def recognise(self, source: Source) -> str | None:
        """Go by the first bytes of the container, then by suffix."""
        if source.is_dir:
            return None
        kind = container(source.head)
        if kind:
            return f"first bytes of {_WORDS[kind]} file"
        return f"suffix {source.suffix}" if source.suffix in self.suffixes else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the video; one decoding pass finds the times of its frames."""
        times: list[int] = []
        end = 0
        size = (0, 0)
        notes = ["video clock: its first frame is taken to be at the first event"]
        try:
            for time, frame in _decode(source):
                times.append(time)
                # The last frame may be shown for long: the film ends after it.
                end = time + round((frame.duration or 0) * frame.time_base * 1_000_000)
                size = size if size != (0, 0) else (int(frame.width), int(frame.height))
            _check_length(source, times, end)
        except FormatError as fault:
            if options.strict or not times:
                raise
            notes.append(f"the {len(times)} frames before the damage are kept: {fault.message}")
        if not times:
            msg = "expected a video with at least one frame, got none"
            raise FormatError(msg, path=source, offset=0, reason="empty")
        t = np.array(times, np.int64)
        t -= t[0]
        if (t[1:] < t[:-1]).any():
            msg = "expected frame times that do not decrease; rewrite the container"
            raise FormatError(msg, path=source, offset=0, reason="backwards_time")

        def reader(indices: Sequence[int]) -> Iterator[Picture]:
            # `source` is held here: a temporary copy lives as long as the frames.
            return _pictures(source, list(indices), size)

        frames = Frames(t, t, t, size, 3, "own-clock", reader)
        return Recording(path=source.path, format=self.name, frames=frames, notes=notes)


def container(head: bytes) -> str | None:
    """Return ``mov``, ``matroska`` or ``avi`` by the first bytes, or None.

    ISO 14496-12 and QuickTime start with the size and type of an atom, Matroska with an EBML
    header that names it, AVI with RIFF.
    """
    if head[4:8] in _ATOMS and (head[:3] == bytes(3) or head[4:8] in (b"ftyp", b"mdat")):
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3") and any(
        word in head[:4096] for word in (b"matroska", b"webm")
    ):
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def _check_length(source: Source, times: list[int], end: int) -> None:
    """Refuse a film that is shorter than its header says: some containers just end when cut."""
    with _faults(source), _opened(source) as file:
        stream = file.streams.video[0]
        if stream.duration is not None:
            claimed = round(stream.duration * stream.time_base * 1_000_000)
        elif file.duration is not None and len(file.streams) == 1:
            claimed = int(file.duration)
        else:
            return
    if not times:
        return
    step = (times[-1] - times[0]) // max(len(times) - 1, 1)
    if claimed > end + 3 * step + SLACK_US:
        msg = f"expected {claimed} us of video, it ends after {end} us: the file is cut"
        raise FormatError(
            msg, path=source, offset=source.local().stat().st_size, reason="truncated"
        )


def _opened(source: Source) -> Any:
    """Open with one demuxer and no other files: a playlist must not make FFmpeg read elsewhere."""
    av = require("av", extra="images", purpose=_PURPOSE)
    kind = container(source.head) or _USUAL.get(source.suffix)
    if kind is None:
        known = ", ".join(VideoReader.suffixes)
        msg = f"expected an MP4, Matroska or AVI file ({known}), got {source.head[:12]!r}"
        raise FormatError(msg, path=source, offset=0, reason="bad_header")
    return av.open(
        str(source.local()),
        format=kind,
        options={"protocol_whitelist": "file"},
        metadata_errors="replace",
    )


@contextmanager
def _faults(source: Source) -> Iterator[None]:
    """Turn FFmpeg's errors, and whatever PyAV makes of odd values, into `FormatError`."""
    require("av", extra="images", purpose=_PURPOSE)
    try:
        yield
    except EventKitError:
        raise
    except Exception as err:
        msg = f"expected a video, got one that cannot be decoded ({err})"
        raise FormatError(msg, path=source, offset=0, reason="corrupt") from err


def _decode(source: Source) -> Iterator[tuple[int, Any]]:
    with _faults(source), _opened(source) as file:
        if not file.streams.video:
            msg = "expected a video stream, the file has none"
            raise FormatError(msg, path=source, offset=0, reason="empty")
        stream = file.streams.video[0]
        if stream.width * stream.height > MOST_PIXELS:
            got = f"{stream.width}x{stream.height}"
            msg = f"expected frames of at most {MOST_PIXELS} pixels, got {got}"
            raise FormatError(msg, path=source, offset=0, reason="bad_header")
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        rate = stream.average_rate or Fraction(30)
        for number, frame in enumerate(file.decode(stream)):
            seconds = frame.pts * frame.time_base if frame.pts is not None else number / rate
            time = round(seconds * 1_000_000)
            if abs(time) >= 2**62:
                msg = f"expected a time of frame {number} within 2^62 us, got {time}"
                raise FormatError(msg, path=source, offset=0, reason="bad_value")
            yield time, frame


def _pictures(source: Source, wanted: list[int], size: tuple[int, int]) -> Iterator[Picture]:
    left = set(wanted)
    for number, (_, frame) in enumerate(_decode(source)):
        if not left:
            return
        if number in left:
            left.discard(number)
            yield Picture(_pixels(source, frame, size))


def _pixels(source: Source, frame: Any, size: tuple[int, int]) -> Any:
    if (frame.width, frame.height) != size:
        msg = f"expected frames of {size[0]}x{size[1]}, got {frame.width}x{frame.height}"
        raise FormatError(msg, path=source, offset=0, reason="bad_value")
    with _faults(source):
        return frame.to_ndarray(format="rgb24")
