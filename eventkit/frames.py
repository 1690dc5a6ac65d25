"""RGB (or gray) frames of a recording: times first, pixels only when asked for.

Reading the times of an hour of video costs little, its pixels do not fit in memory. So a source
gives the times at once and the pictures through a forward pass over the wanted indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError

Timing = Literal["recorded", "own-clock", "none"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame.

    Parameters
    ----------
    pixels : (H, W, C) uint8 or uint16
        C is 1 (gray) or 3 (RGB).
    encoded : bytes, optional
        The PNG or JPEG file it came from, kept so that nothing is compressed twice.
    """

    pixels: NDArray[Any]
    encoded: bytes | None = None


@dataclass(frozen=True, slots=True)
class Frames:
    """The frame side of a recording.

    Parameters
    ----------
    t_us : (N,) int64, microseconds
        Middle of the exposure where it is known, else the time of the frame.
    start_us, stop_us : (N,) int64, microseconds
        Exposure ``[start, stop)``; equal to ``t_us`` where the source does not say.
    size : (W, H)
    channels : 1 or 3
    timing : {"recorded", "own-clock", "none"}
        ``recorded``: the clock of the events. ``own-clock``: a video, zero at its first frame.
        ``none``: pictures without times (a folder, one still image).
    reader : callable
        ``reader(indices)`` yields a `Picture` for each of the increasing indices.
    suffix : {"png", "jpg", ""}
        Kind of file that each picture keeps; empty where there are pixels only.
    """

    t_us: NDArray[np.int64]
    start_us: NDArray[np.int64]
    stop_us: NDArray[np.int64]
    size: tuple[int, int]
    channels: int
    timing: Timing
    reader: Callable[[Sequence[int]], Iterator[Picture]]
    suffix: str = ""

    def __len__(self) -> int:
        return int(self.t_us.size)

    def pictures(self, indices: Iterable[int]) -> Iterator[Picture]:
        """Yield pictures for indices that do not decrease; each is decoded once."""
        wanted = list(indices)
        if any(b < a for a, b in pairwise(wanted)):
            msg = "expected frame indices that do not decrease"
            raise SettingsError(msg)
        source = self.reader(sorted(set(wanted)))
        last, current = -1, None
        for index in wanted:
            if index != last or current is None:
                last, current = index, next(source)
            yield current

    @property
    def images(self) -> NDArray[Any]:
        """All frames, (N, H, W, C); reads the whole source."""
        return np.stack([picture.pixels for picture in self.pictures(range(len(self)))])

    def shifted(self, offset_us: int) -> Frames:
        """Return the same frames with ``offset_us`` added to every time."""
        return self.at(self.t_us + offset_us, self.start_us + offset_us, self.stop_us + offset_us)

    def at(
        self,
        t_us: NDArray[np.int64],
        start_us: NDArray[np.int64],
        stop_us: NDArray[np.int64],
    ) -> Frames:
        """Return the same frames with these times, on the events' clock."""
        return replace(self, t_us=t_us, start_us=start_us, stop_us=stop_us, timing="recorded")


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring pixels to 8 bit: 16-bit values are divided by 257 and rounded, so 65535 becomes 255."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype != np.uint16:
        msg = f"expected uint8 or uint16 pixels, got {pixels.dtype}"
        raise SettingsError(msg)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
