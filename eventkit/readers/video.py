"""Video files through PyAV: the RGB side of a recording, with exact frame times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from eventkit._optional import require
from eventkit.errors import FormatError
from eventkit.frames import Frames, Picture
from eventkit.readers.base import ReadOptions
from eventkit.recording import Recording
from eventkit.sources import Source

SLACK_US = 100_000
"""By which a container may claim more than its frames span."""


class VideoReader:
    """Reader of video files."""

    name = "video"
    suffixes = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
    holds = ("frames",)

    def recognise(self, source: Source) -> str | None:
        """Go by suffix: containers are many, PyAV judges the content."""
        known = not source.is_dir and source.suffix in self.suffixes
        return f"suffix {source.suffix}" if known else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the video; one decoding pass finds the times of its frames."""
        path = source.local()
        times: list[int] = []
        end = 0
        size = (0, 0)
        notes = ["video clock: its first frame is taken to be at the first event"]
        try:
            for time, frame in _decode(path):
                times.append(time)
                # The last frame may be shown for long: the film ends after it.
                end = time + round((frame.duration or 0) * frame.time_base * 1_000_000)
                size = size if size != (0, 0) else (int(frame.width), int(frame.height))
            _check_length(path, times, end)
        except FormatError as fault:
            if options.on_error == "raise" or not times:
                raise
            notes.append(f"the {len(times)} frames before the damage are kept: {fault.message}")
        if not times:
            msg = "expected a video with at least one frame, got none"
            raise FormatError(msg, path=path, offset=0, reason="empty")
        t = np.array(times, np.int64)
        t -= t[0]
        if (t[1:] < t[:-1]).any():
            msg = "expected frame times that do not decrease; rewrite the container"
            raise FormatError(msg, path=path, offset=0, reason="backwards_time")

        def reader(indices: Sequence[int]) -> Iterator[Picture]:
            return _pictures(path, list(indices), size)

        frames = Frames(t, t, t, size, 3, "own-clock", reader)
        return Recording(path=source.path, format=self.name, frames=frames, notes=notes)


def _check_length(path: Path, times: list[int], end: int) -> None:
    """Refuse a film that is shorter than its header says: some containers just end when cut."""
    av = require("av", extra="images", purpose="reading video files")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.duration is not None:
            claimed = round(stream.duration * stream.time_base * 1_000_000)
        elif container.duration is not None and len(container.streams) == 1:
            claimed = int(container.duration)
        else:
            return
    if not times:
        return
    step = (times[-1] - times[0]) // max(len(times) - 1, 1)
    if claimed > end + 3 * step + SLACK_US:
        msg = f"expected {claimed} us of video, it ends after {end} us: the file is cut"
        raise FormatError(msg, path=path, offset=path.stat().st_size, reason="truncated")


def _decode(path: Path) -> Iterator[tuple[int, Any]]:
    av = require("av", extra="images", purpose="reading video files")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                msg = "expected a video stream, the file has none"
                raise FormatError(msg, path=path, offset=0, reason="empty")
            stream = container.streams.video[0]
            rate = stream.average_rate or Fraction(30)
            for number, frame in enumerate(container.decode(stream)):
                seconds = frame.pts * frame.time_base if frame.pts is not None else number / rate
                yield round(seconds * 1_000_000), frame
    except av.error.FFmpegError as err:
        msg = f"expected a video, got one that cannot be decoded ({err})"
        raise FormatError(msg, path=path, offset=0, reason="corrupt") from err


def _pictures(path: Path, wanted: list[int], size: tuple[int, int]) -> Iterator[Picture]:
    left = set(wanted)
    for number, (_, frame) in enumerate(_decode(path)):
        if not left:
            return
        if number in left:
            left.discard(number)
            pixels = frame.to_ndarray(format="rgb24")
            if pixels.shape[:2] != (size[1], size[0]):
                height, width = pixels.shape[:2]
                msg = f"expected frames of {size[0]}x{size[1]}, got {width}x{height}"
                raise FormatError(msg, path=path, offset=0, reason="bad_value")
            yield Picture(pixels)
