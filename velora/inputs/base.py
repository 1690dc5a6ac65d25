"""What an event input is.

U frames, C channels, H, W
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from eventkit.errors import DamageError
from velora.inputs.content import Content, Kind


@dataclass(frozen=True, kw_only=True)
class EventInput(ABC):
    """One way to see event frames as pictures. Fields beside ``content`` are its settings.

    Parameters
    ----------
    content : Content
        What the frames hold.

    Attributes
    ----------
    name : str
    kinds : tuple of Kind
        What it paints.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]]
    content: Content

    @classmethod
    def accepts(cls, content: Content) -> bool:
        """Tell whether this input can paint such frames."""
        return content.kind in cls.kinds

    @property
    @abstractmethod
    def ground(self) -> float | None:
        """The gray of a pixel without events, 0 to 1; None where it is not known."""

    @property
    def linear(self) -> bool:
        """Whether a difference of pictures is a scaled difference of frames, channel by channel.

        Up to where values are cut off.
        """
        return False

    @abstractmethod
    def _paint(self, frames: Tensor) -> Tensor:
        """Return (U, 3, H, W) float32 in [0, 1] of (U, C, H, W) frames of the right C."""

    def _paint_differences(self, differences: Tensor) -> Tensor:
        """Return what `paint_differences` does; for inputs that are linear."""
        raise NotImplementedError

    def paint(self, frames: Tensor) -> Tensor:
        """Turn event frames into pictures.

        Parameters
        ----------
        frames : (U, C, H, W) of any real type

        Returns
        -------
        (U, 3, H, W) float32 in [0, 1]

        Raises
        ------
        DamageError
            If C is not that of the representation.
        """
        self._check(frames)
        return self._paint(frames)

    def paint_differences(self, differences: Tensor) -> Tensor:
        """Turn absolute differences of frames into those of their pictures.

        Equal to ``(paint(b) - paint(a)).abs()`` for ``differences = (b - a).abs()`` where no value
        of a or b is cut off. Only of inputs that are ``linear``.

        Parameters
        ----------
        differences : (U, C, H, W) of any real type, not negative

        Returns
        -------
        (U, 3, H, W) float32 in [0, 1]
        """
        self._check(differences)
        return self._paint_differences(differences)

    def _check(self, frames: Tensor) -> None:
        if frames.ndim != 4 or frames.shape[1] != self.content.channels:
            msg = (
                f"expected event frames (U, {self.content.channels}, H, W) of "
                f"{self.content.representation}, got {tuple(frames.shape)}; run `eventkit verify` "
                "on the shards"
            )
            raise DamageError(msg)
