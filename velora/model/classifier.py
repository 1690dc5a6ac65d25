"""What the trainer, the evaluation and the export know of a model.

B clips, C classes
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from velora.frames.frames import Frames


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
    #: The senses whose changes make the difference stream.
    moving: tuple[str, ...]
    num_classes: int
    #: Share of the patches of a clip that the model looks at.
    keep_tokens: float = 1.0
    #: Keep less of the forward pass and compute it again in the backward pass.
    checkpointing: bool = False
    #: Whether a clip must have all senses: none can be masked.
    needs_all_senses: bool = False

    @property
    @abstractmethod
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""

    @abstractmethod
    def parts(self, name: str, count: int) -> list[tuple[str, int]]:
        """Say which parts of the model the ``count`` numbers of a parameter belong to."""

    @abstractmethod
    def compile_blocks(self) -> None:
        """Let ``torch.compile`` make the blocks of the trunk faster, in place."""

    @abstractmethod
    def forward(self, frames: dict[str, Frames]) -> Output:
        """Classify clips; ``frames`` has "rgb" and "event", and "diff" where it was stored."""


def logits_of(head: nn.Linear, features: Tensor) -> Tensor:
    """Apply a head in float32 or better, whatever autocast says: (B, F) -> (B, C).

    bf16 has 8 bits for a logit: of 114 classes two share the first place in 1.4 % of clips, and
    the lower class id would win.
    """
    wide = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        logits: Tensor = head(features.to(wide))
    return logits


def kept_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what a run keeps: all that trains, and the half of adapters that stays as drawn."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or ".lora_" in name
    }
