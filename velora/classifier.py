"""What the trainer, the evaluation and the export know of a model.

B clips, C classes
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from velora.frames import Frames


@dataclass(frozen=True, slots=True)
class Output:
    """What a model says of a batch.

    ``logits`` is (B, C). ``rec_loss``, the mean over the ``rec_clips`` clips that have both senses,
    is None in evaluation and where no clip has both.
    """

    logits: Tensor
    rec_loss: Tensor | None = None
    rec_clips: int = 0


class Classifier(nn.Module):
    """A model over the frames of clips."""

    #: In the order of the streams' adapters: "rgb", "event", "diff".
    streams: tuple[str, ...]
    #: The streams that are senses: what a clip must have one of.
    senses: tuple[str, ...]
    num_classes: int

    @property
    @abstractmethod
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""

    @abstractmethod
    def forward(self, frames: dict[str, Frames]) -> Output:
        """Classify clips; ``frames`` has "rgb" and "event", and "diff" where it was stored."""
