"""The loss of a batch, as sums that are divided by counts over the whole batch.

A batch may be computed in parts, by several processes, and the parts may be unequal. So a part
gives sums, and what they are divided by is counted first, over all parts and processes: the
gradients of the parts add up to that of the whole batch.

    B clips, C classes
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from velora.model.classifier import Output


class Targets(NamedTuple):
    """What the logits of B clips should say.

    labels : (B,) int64
    weights : (B,) float32
        How much ``labels`` count: their share of the clip times the weight of their class.
    others : (B,) int64, optional
        Labels of what is mixed in; None where nothing is.
    other_weights : (B,) float32, optional
        How much ``others`` count, likewise.
    """

    labels: Tensor
    weights: Tensor
    others: Tensor | None = None
    other_weights: Tensor | None = None

    @property
    def total_weight(self) -> float:
        """What the sum of the losses is divided by, added up over the parts of a batch."""
        weights = [w for w in (self.weights, self.other_weights) if w is not None]
        return sum(float(w.double().sum()) for w in weights)

    def to(self, device: torch.device) -> Targets:
        """Return them on a device."""
        labels, weights = self.labels.to(device), self.weights.to(device)
        if self.others is None or self.other_weights is None:
            return Targets(labels, weights)
        return Targets(labels, weights, self.others.to(device), self.other_weights.to(device))


class Counts(NamedTuple):
    """What the sums of a batch are divided by.

    weight : float
        Sum of the weights of all that the clips are mixed of.
    rec_clips : float
        Clips whose senses rebuild each other.
    """

    weight: float
    rec_clips: float


def targets_of(
    labels: Tensor, others: Tensor, share: NDArray[np.float64], class_weights: Tensor
) -> Targets:
    """Return targets; each part of a mixture weighs its share times what its own class does."""
    own = torch.from_numpy(share).float()
    weights = own * class_weights[labels]
    if not (share < 1).any():
        return Targets(labels, weights)
    return Targets(labels, weights, others, (1 - own) * class_weights[others])


def clip_losses(logits: Tensor, targets: Targets, *, label_smoothing: float = 0.0) -> Tensor:
    """(B,) weighted cross entropy of each clip, mixed as the clips are.

    ``share * w[label] * CE(label) + (1 - share) * w[other] * CE(other)``, as torch has it for soft
    targets with ``weight=w``; were a clip to weigh what its parts do on average, mixing would take
    a rare class the weight that it was given. A weight multiplies the whole cross entropy of its
    label, smoothing included.

    The sum is divided by the sum of all these weights (`Targets.total_weight`), which is what torch
    divides by for plain labels. Torch divides that of soft targets by the number of clips; the two
    are equal on average, since the weights of a split have a mean of 1.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    entropy = partial(F.cross_entropy, wide, label_smoothing=label_smoothing, reduction="none")
    losses: Tensor = entropy(targets.labels) * targets.weights
    if targets.others is not None and targets.other_weights is not None:
        losses = losses + entropy(targets.others) * targets.other_weights
    return losses


def part_loss(
    output: Output, losses: Tensor, *, counts: Counts, rec_weight: float
) -> tuple[Tensor, Tensor]:
    """Return what a part adds to the loss of its batch, and to the reconstruction loss in it.

    Summed over the parts: the mean of the clips' losses by weight, plus ``rec_weight`` times the
    mean reconstruction loss.
    """
    loss = losses.sum() / counts.weight
    rec_loss = losses.new_zeros(())
    if output.rec_loss is not None:
        rec_loss = output.rec_loss * (output.rec_clips / counts.rec_clips)
        loss = loss + rec_weight * rec_loss
    return loss, rec_loss.detach()


def loss_terms(
    output: Output, labels: Tensor, *, rec_weight: float, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss of a whole batch of plain clips: the mean, and the reconstruction loss."""
    ones = torch.ones(len(labels), device=labels.device)
    losses = clip_losses(output.logits, Targets(labels, ones), label_smoothing=label_smoothing)
    counts = Counts(float(len(labels)), float(output.rec_clips))
    return part_loss(output, losses, counts=counts, rec_weight=rec_weight)[0]


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """(C,) inverse frequency of the classes among ``labels``; a clip weighs 1 on average.

    A class without clips weighs 1, and nothing.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = max(np.count_nonzero(counts), 1)
    weights = np.where(counts > 0, labels.size / (present * np.maximum(counts, 1)), 1.0)
    return torch.from_numpy(weights).float()
