"""The inputs of this package.

U frames, C channels, K values of each pixel and polarity, H, W
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eventkit.errors import SettingsError
from velora.inputs.base import EventInput
from velora.inputs.content import Content, Kind

# The colours of scripts/read_aedat4.py, with which PokerEvent and HARDVS were drawn.
ON_RGB = (220 / 255, 30 / 255, 30 / 255)
OFF_RGB = (30 / 255, 30 / 255, 200 / 255)
WHITE = 1.0


@dataclass(frozen=True, kw_only=True)
class RedBlue(EventInput):
    """The look of the authors' data sets: white ground, ON red, OFF blue, OFF over ON.

    A count paints its pixel fully. A signed sum paints red where positive and blue where negative,
    as strongly as its absolute value, at most fully.
    """

    name: ClassVar[str] = "redblue"
    kinds: ClassVar[tuple[Kind, ...]] = ("counts", "signed")

    @classmethod
    def accepts(cls, content: Content) -> bool:
        """Counts of both polarities together have no colour."""
        return content.kind == "signed" or (content.kind == "counts" and content.channels == 2)

    @property
    def ground(self) -> float:
        """White."""
        return WHITE

    def _paint(self, frames: Tensor) -> Tensor:
        if self.content.kind == "signed":
            values = frames.float()
            on, off = values.clamp(0, 1), (-values).clamp(0, 1)
        else:
            off, on = (frames[:, i : i + 1].ne(0).float() for i in (0, 1))
        white = on.new_ones((1, 3, 1, 1))
        red, blue = (on.new_tensor(rgb).view(1, 3, 1, 1) for rgb in (ON_RGB, OFF_RGB))
        return torch.lerp(torch.lerp(white, red, on), blue, off)


@dataclass(frozen=True, kw_only=True)
class Counts(EventInput):
    """Linear in the counts, up to ``cap`` events: ON takes green and blue away, OFF red.

    Parameters
    ----------
    cap : float, events, at most 255
        So many are drawn fully: ON red, OFF cyan, both black.
    """

    name: ClassVar[str] = "counts"
    kinds: ClassVar[tuple[Kind, ...]] = ("counts",)
    cap: float = 4.0

    def __post_init__(self) -> None:
        # Decoded counts are kept in a byte.
        _check_cap(self.cap, most=255)

    @property
    def ground(self) -> float:
        """White."""
        return WHITE

    @property
    def linear(self) -> bool:
        """Every channel of a picture comes from one of the frame."""
        return True

    def _paint(self, frames: Tensor) -> Tensor:
        return 1 - self._paint_differences(frames)

    def _paint_differences(self, differences: Tensor) -> Tensor:
        most = self.content.most
        full = self.cap if most is None else min(self.cap, most)
        return _by_polarity((differences.float() / full).clamp(0, 1))


@dataclass(frozen=True, kw_only=True)
class Voxel(EventInput):
    """Signed sums as gray around the middle: ON is bright, OFF is dark.

    Parameters
    ----------
    cap : float, events
        So many of one sign are white or black.
    """

    name: ClassVar[str] = "voxel"
    kinds: ClassVar[tuple[Kind, ...]] = ("signed",)
    cap: float = 2.0

    def __post_init__(self) -> None:
        _check_cap(self.cap, most=1e6)

    @property
    def ground(self) -> float:
        """The middle."""
        return 0.5

    @property
    def linear(self) -> bool:
        """Gray follows the sum."""
        return True

    def _paint(self, frames: Tensor) -> Tensor:
        return (0.5 + frames.float() / (2 * self.cap)).clamp(0, 1).expand(-1, 3, -1, -1)

    def _paint_differences(self, differences: Tensor) -> Tensor:
        return (differences.float() / (2 * self.cap)).clamp(0, 1).expand(-1, 3, -1, -1)


@dataclass(frozen=True, kw_only=True)
class Surface(EventInput):
    """How recently each pixel fired, by polarity, in the colours of `Counts`: now is full.

    Where a representation has K ages of a pixel and polarity their mean is drawn.
    """

    name: ClassVar[str] = "surface"
    kinds: ClassVar[tuple[Kind, ...]] = ("recency",)

    @property
    def ground(self) -> float:
        """White: never."""
        return WHITE

    @property
    def linear(self) -> bool:
        """The difference of means is not the mean of absolute differences."""
        return self.content.channels <= 2

    def _paint(self, frames: Tensor) -> Tensor:
        none = self.content.none
        freshness = ((frames.float() - none) / (self._most - none)).clamp(0, 1)
        if self.content.channels > 2:
            freshness = freshness.unflatten(1, (2, -1)).mean(dim=2)
        return 1 - _by_polarity(freshness)

    def _paint_differences(self, differences: Tensor) -> Tensor:
        return _by_polarity((differences.float() / abs(self._most - self.content.none)).clamp(0, 1))

    @property
    def _most(self) -> float:
        return 1.0 if self.content.most is None else self.content.most


@dataclass(frozen=True, kw_only=True)
class Picture(EventInput):
    """Pictures of events as they come."""

    name: ClassVar[str] = "picture"
    kinds: ClassVar[tuple[Kind, ...]] = ("picture",)

    @property
    def ground(self) -> float | None:
        """That of the representation."""
        return self.content.ground

    @property
    def linear(self) -> bool:
        """Nothing is changed."""
        return True

    def _paint(self, frames: Tensor) -> Tensor:
        return frames.float() / 255

    def _paint_differences(self, differences: Tensor) -> Tensor:
        return differences.float() / 255


def _by_polarity(strength: Tensor) -> Tensor:
    """Give OFF to red and ON to green and blue: (U, 1 or 2, H, W) -> (U, 3, H, W)."""
    off, on = strength[:, :1], strength[:, -1:]
    return torch.cat([off, on, on], dim=1)


def _check_cap(cap: float, *, most: float) -> None:
    if not 0 < cap <= most:
        msg = f"expected cap as a number of events above 0, at most {most:g}, got {cap}"
        raise SettingsError(msg)
