"""One transform for all arrays of a clip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from eventkit.augment.base import COUNTS, Transform
from eventkit.differences import Kind, Order
from eventkit.events import Events


@dataclass(frozen=True, kw_only=True)
class ClipArrays:
    """The arrays of one clip, named as in `eventkit.clips.Clip` and `eventkit.samples.Sample`.

    Parameters
    ----------
    stream : Events, optional
        The events themselves.
    events : (T, C, H, W), optional
        Event frames.
    rgb : (T, H, W, C), optional
        Pictures; their size may differ from the sensor's.
    diff_events : (T - 1, C, H, W), optional
    diff_rgb : (T - 1, H, W, C), optional
    diff_kind, diff_order
        How the differences were made, see `eventkit.differences.frame_difference`.
    representation : str
        The name or spec of what the event frames are.
    """

    stream: Events | None = None
    events: NDArray[Any] | None = None
    rgb: NDArray[Any] | None = None
    diff_events: NDArray[Any] | None = None
    diff_rgb: NDArray[Any] | None = None
    diff_kind: Kind = "absolute"
    diff_order: Order = "consecutive"
    representation: str = COUNTS


def augment_clip(clip: ClipArrays, transform: Transform) -> ClipArrays:
    """Apply one transform to every array that the clip has.

    Raises
    ------
    SettingsError
        If the transform treats single events and the clip has frames made of them: leave the
        frames out and make them from the stream that is returned.

    Examples
    --------
    >>> import numpy as np
    >>> from eventkit.augment import FlipX
    >>> transform = FlipX(chance=1).draw(
    ...     rng=np.random.default_rng(0), sensor_size=(3, 1), span=(0, 10)
    ... )
    >>> clip = ClipArrays(
    ...     events=np.array([[[[1, 0, 0]]]], np.uint16), rgb=np.array([[[[1], [2], [3]]]], np.uint8)
    ... )
    >>> flipped = augment_clip(clip, transform)
    >>> flipped.events.ravel().tolist(), flipped.rgb.ravel().tolist()
    ([0, 0, 1], [3, 2, 1])
    """
    changes: dict[str, Any] = {}
    kind, order, name = clip.diff_kind, clip.diff_order, clip.representation
    if clip.stream is not None:
        changes["stream"] = transform.events(clip.stream)
    if clip.events is not None:
        changes["events"] = transform.frames(clip.events, representation=name)
    if clip.rgb is not None:
        changes["rgb"] = transform.rgb(clip.rgb)
    if clip.diff_events is not None:
        changes["diff_events"] = transform.differences(
            clip.diff_events, of="events", kind=kind, order=order, representation=name
        )
    if clip.diff_rgb is not None:
        changes["diff_rgb"] = transform.differences(clip.diff_rgb, of="rgb", kind=kind, order=order)
    return replace(clip, **changes)
