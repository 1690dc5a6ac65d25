"""What one clip shows: its pictures by row, and where they are in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.clips import event_difference
from eventkit.differences import frame_difference
from eventkit.errors import SettingsError
from eventkit.frames import to_uint8
from eventkit.render.canvas import resized
from eventkit.render.colours import over, paint


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One clip to be drawn.

    Parameters
    ----------
    rgb : (T, H, W, 1 or 3) uint8 or uint16, or None
    events : (T, C, H, W), or None
        Frames of any representation, as they are stored.
    diff_events, diff_rgb : (T - 1, ...), optional
        As stored; computed from the frames where they are not given.
    windows_us : (T, 2) int64, microseconds, optional
        Of the bins, on the clock that is to be shown.
    stacked : bool
        The bins of the events are those of a stack (voxels), not the windows.
    shaded : bool
        See `eventkit.render.paint`.
    title : str
    """

    rgb: NDArray[Any] | None
    events: NDArray[Any] | None
    diff_events: NDArray[Any] | None = None
    diff_rgb: NDArray[Any] | None = None
    windows_us: NDArray[np.int64] | None = None
    stacked: bool = False
    shaded: bool = False
    title: str = ""

    @property
    def bins(self) -> int:
        """The number of bins, T.

        Raises
        ------
        SettingsError
            If both senses are missing, or they or the windows differ in T.
        """
        sides = {len(side) for side in (self.rgb, self.events) if side is not None}
        if len(sides) != 1 or 0 in sides:
            got = " and ".join(map(str, sorted(sides))) or "none"
            msg = f"expected RGB or events, or both with the same number of bins, got {got}"
            raise SettingsError(msg)
        bins = sides.pop()
        if self.windows_us is not None and np.shape(self.windows_us) != (bins, 2):
            msg = f"expected windows of shape ({bins}, 2), got {np.shape(self.windows_us)}"
            raise SettingsError(msg)
        return bins


def is_shaded(spec: str) -> bool:
    """Whether the numbers of a representation are shades rather than counts, by its family."""
    return spec.split(":")[0].strip() == "surface"


@dataclass(frozen=True, slots=True)
class Row:
    """The pictures of one kind, (n, H, W, 3); n is T, or T - 1 of differences.

    ``ink`` pictures are sparse marks on white, which shrinking must keep; ``stacked`` ones do not
    belong to the windows; ``tiled`` ones show channels side by side.
    """

    name: str
    pictures: NDArray[np.uint8]
    ink: bool
    stacked: bool = False
    tiled: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a picture."""
        return self.pictures.shape[1], self.pictures.shape[2]


def sizes_of(rows: list[Row]) -> list[tuple[int, int]]:
    """Return the sizes that cells are made for: tiles are small where there is anything else."""
    return [row.size for row in rows if not row.tiled] or [row.size for row in rows]


def rows_of(scene: Scene, *, overlay: bool = False) -> list[Row]:
    """Return RGB, events and the difference of either to the bin before; or events over RGB."""
    several = scene.bins > 1
    rgb = None if scene.rgb is None else _colour(scene.rgb)
    rows: list[Row] = []
    if rgb is not None:
        rows.append(Row("RGB", rgb, ink=False))
    if scene.events is not None:
        rows.append(_event_row("events", scene.events, scene))
    if rgb is not None and several:
        difference = frame_difference(rgb) if scene.diff_rgb is None else scene.diff_rgb
        rows.append(Row("|dRGB|", _stretched(_colour(difference)), ink=False))
    if scene.events is not None and several:
        difference = (
            event_difference(scene.events) if scene.diff_events is None else scene.diff_events
        )
        rows.append(_event_row("|devents|", difference, scene))
    return _overlaid(scene, rows) if overlay else rows


def _event_row(name: str, frames: NDArray[Any], scene: Scene) -> Row:
    picture = frames.shape[1] == 3 and frames.dtype == np.uint8
    painted = paint(frames, shaded=scene.shaded)
    tiled = painted.shape[1:3] != frames.shape[2:]
    return Row(name, painted, ink=not picture, stacked=scene.stacked, tiled=tiled)


def _overlaid(scene: Scene, rows: list[Row]) -> list[Row]:
    if scene.rgb is None or scene.events is None:
        have = "RGB" if scene.events is None else "events"
        msg = f"expected RGB and events to lay one over the other, got {have}; leave --overlay out"
        raise SettingsError(msg)
    if rows[1].tiled:
        channels = scene.events.shape[1]
        msg = f"expected 1 to 3 channels to lay over RGB, got {channels}; leave --overlay out"
        raise SettingsError(msg)
    names = ("events over RGB", "differences")
    half = len(rows) // 2
    # RGB, events, then the differences in the same order.
    pairs = [(rows[2 * k], rows[2 * k + 1]) for k in range(half)]
    return [
        Row(name, _over(events, rgb), ink=False, stacked=events.stacked)
        for name, (rgb, events) in zip(names, pairs, strict=False)
    ]


def _over(events: Row, rgb: Row) -> NDArray[np.uint8]:
    below = np.stack([resized(picture, events.size, ink=False) for picture in rgb.pictures])
    pictures = events.pictures if events.ink else _without_ground(events.pictures)
    return over(pictures, below)


def _without_ground(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make a black ground white, where there is more black than white."""
    black = (pictures == 0).all(axis=-1)
    if black.sum() <= (pictures == 255).all(axis=-1).sum():
        return pictures
    return np.where(black[..., None], np.uint8(255), pictures)


def _colour(frames: NDArray[Any]) -> NDArray[np.uint8]:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] not in (1, 3):
        msg = f"expected RGB frames of shape (T, H, W, 1 or 3), got {frames.shape}"
        raise SettingsError(msg)
    pixels = to_uint8(frames)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def _stretched(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brighten so that the largest value is white; differences are faint as they are."""
    brightest = max(1, int(frames.max(initial=0)))
    return (frames.astype(np.uint16) * 255 // brightest).astype(np.uint8)
