"""Mirror a clip: left and right, top and bottom, first and last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.augment.base import (
    COUNTS,
    Augmentation,
    Of,
    Size,
    Span,
    Transform,
    Unchanged,
    check_amount,
    check_draw,
    check_events,
    check_frames,
    check_in_span,
)
from eventkit.differences import Kind, Order
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.registry import parse


@dataclass(frozen=True, slots=True)
class Flip(Transform):
    """Mirrors columns (``x`` becomes ``W - 1 - x``) or rows of every array."""

    axis: Literal["x", "y"]
    sensor_size: Size

    def events(self, events: Events) -> Events:
        """Return the mirrored events, in the same order."""
        check_events(events, self.sensor_size)
        width, height = self.sensor_size
        x, y = events.x, events.y
        if self.axis == "x":
            x = np.uint16(width - 1) - x
        else:
            y = np.uint16(height - 1) - y
        return Events.from_checked(x, y, events.t, events.p)

    def frames(self, frames: NDArray[Any], *, representation: str = COUNTS) -> NDArray[Any]:
        """Return the mirrored frames."""
        check_frames(frames, self.sensor_size)
        return _mirrored(frames, 3 if self.axis == "x" else 2)

    def rgb(self, pictures: NDArray[Any]) -> NDArray[Any]:
        """Return the mirrored pictures."""
        return _mirrored(pictures, 2 if self.axis == "x" else 1)

    def differences(
        self,
        differences: NDArray[Any],
        *,
        of: Of,
        kind: Kind = "absolute",
        order: Order = "consecutive",
        representation: str = COUNTS,
    ) -> NDArray[Any]:
        """Return the mirrored differences."""
        return self.frames(differences) if of == "events" else self.rgb(differences)


@dataclass(frozen=True)
class FlipX(Augmentation):
    """Mirror left and right.

    Parameters
    ----------
    chance : float, 0 to 1

    Examples
    --------
    >>> ev = Events(x=[0, 3], y=[0, 1], t=[0, 9], p=[0, 1])
    >>> FlipX(chance=1)(ev, sensor_size=(4, 2), rng=np.random.default_rng(0)).x.tolist()
    [3, 0]
    """

    chance: float = 0.5

    def __post_init__(self) -> None:
        check_amount("chance", self.chance, 0, 1)

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw whether to mirror."""
        size, _ = check_draw(rng, sensor_size, span)
        return Flip("x", size) if rng.random() < self.chance else Unchanged()


@dataclass(frozen=True)
class FlipY(Augmentation):
    """Mirror top and bottom.

    Parameters
    ----------
    chance : float, 0 to 1

    Examples
    --------
    >>> ev = Events(x=[0, 3], y=[0, 1], t=[0, 9], p=[0, 1])
    >>> FlipY(chance=1)(ev, sensor_size=(4, 2), rng=np.random.default_rng(0)).y.tolist()
    [1, 0]
    """

    chance: float = 0.5

    def __post_init__(self) -> None:
        check_amount("chance", self.chance, 0, 1)

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw whether to mirror."""
        size, _ = check_draw(rng, sensor_size, span)
        return Flip("y", size) if rng.random() < self.chance else Unchanged()


@dataclass(frozen=True, slots=True)
class Reversal(Transform):
    """Plays a clip backwards: ``t`` becomes ``start + stop - 1 - t``.

    Frames are reversed, and with ``invert`` the two channels of counts change places and voxels
    their sign. That is what the reversed events give where the span is a multiple of T; otherwise
    inner edges lie up to 1 us apart. Only representations that keep the number of events or the
    sum of their signs (``mass``) are reversed so: others tell late from early and are refused.
    """

    span: Span
    invert: bool

    def events(self, events: Events) -> Events:
        """Return the events in reverse order; those at one time too."""
        check_in_span(events, self.span)
        start, stop = self.span
        # The sum may pass 2^63, the difference does not: both wrap to the right number.
        mirror = np.array((start + stop - 1 + (1 << 63)) % (1 << 64) - (1 << 63), np.int64)
        p = events.p[::-1]
        return Events.from_checked(
            events.x[::-1],
            events.y[::-1],
            np.asarray(mirror - events.t[::-1]),
            np.int8(1) - p if self.invert else p,
        )

    def frames(self, frames: NDArray[Any], *, representation: str = COUNTS) -> NDArray[Any]:
        """Return the frames from last to first."""
        counts = _counts_polarities(representation, frames)
        if not self.invert:
            return _mirrored(frames, 0)
        return _mirrored(frames, 0, 1) if counts else -_mirrored(frames, 0)

    def rgb(self, pictures: NDArray[Any]) -> NDArray[Any]:
        """Return the pictures from last to first."""
        return _mirrored(pictures, 0)

    def differences(
        self,
        differences: NDArray[Any],
        *,
        of: Of,
        kind: Kind = "absolute",
        order: Order = "consecutive",
        representation: str = COUNTS,
    ) -> NDArray[Any]:
        """Return the differences from last to first, signed ones negated.

        Raises
        ------
        SettingsError
            For ``order="first"``: the frame that all are compared with is another one then.
        """
        if order != "consecutive":
            msg = "differences to the first frame cannot be reversed; reverse the frames instead"
            raise SettingsError(msg)
        counts = of == "events" and _counts_polarities(representation, differences)
        invert = self.invert and of == "events"
        back = _mirrored(differences, 0, 1) if invert and counts else _mirrored(differences, 0)
        # Voxels that change their sign change that of their differences: twice is not at all.
        negated = kind == "signed" and (counts or not invert)
        return -back if negated else back


def _counts_polarities(representation: str, frames: NDArray[Any]) -> bool:
    """Return whether frames count by polarity or sum signs; refuse those that do neither."""
    mass = parse(representation).mass
    channels = {"counts": 2, "signs": 1}.get(mass)
    if channels is None:
        msg = f"{representation} tells late from early; make it from the reversed events"
        raise SettingsError(msg)
    if frames.ndim != 4 or frames.shape[1] != channels:
        msg = (
            f"expected {representation} as (T, {channels}, H, W), got {frames.shape}; "
            "say what it is by representation="
        )
        raise SettingsError(msg)
    return mass == "counts"


@dataclass(frozen=True)
class TimeReversal(Augmentation):
    """Play the clip backwards.

    Parameters
    ----------
    chance : float, 0 to 1
    invert : bool
        Whether ON becomes OFF: what brightens forwards darkens backwards, so a scene played
        backwards has the other polarity. tonic's ``RandomTimeReversal`` does so too by default;
        its times are ``max(t) - t``, here the clip's window stays where it was.

    Examples
    --------
    >>> ev = Events(x=[0, 3], y=[0, 1], t=[10, 12], p=[0, 0])
    >>> back = TimeReversal(chance=1)(ev, sensor_size=(4, 2), rng=np.random.default_rng(0))
    >>> back.x.tolist(), back.t.tolist(), back.p.tolist()
    ([3, 0], [10, 12], [1, 1])
    """

    chance: float = 0.5
    invert: bool = True

    def __post_init__(self) -> None:
        check_amount("chance", self.chance, 0, 1)

    def draw(self, *, rng: np.random.Generator, sensor_size: Size, span: Span) -> Transform:
        """Draw whether to reverse."""
        _, interval = check_draw(rng, sensor_size, span)
        return Reversal(interval, self.invert) if rng.random() < self.chance else Unchanged()


def _mirrored(array: NDArray[Any], *axes: int) -> NDArray[Any]:
    """Return a contiguous copy, mirrored along the axes."""
    return np.flip(array, axes).copy()
