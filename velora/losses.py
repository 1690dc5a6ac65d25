"""The loss of a batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from velora.classifier import Output


def loss_terms(
    output: Output, labels: Tensor, *, rec_weight: float, label_smoothing: float = 0.0
) -> Tensor:
    """Cross entropy plus ``rec_weight`` times the reconstruction loss."""
    loss = F.cross_entropy(output.logits.float(), labels, label_smoothing=label_smoothing)
    if output.rec_loss is not None:
        loss = loss + rec_weight * output.rec_loss
    return loss
