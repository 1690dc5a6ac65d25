"""What class weights do to mixtures: each part weighs what its own class does, as in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from velora.training.losses import balanced_weights, clip_losses, targets_of

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])
LABELS = torch.tensor([0, 1, 2, 0, 2])
OTHERS = torch.tensor([2, 1, 0, 1, 2])
SHARE = np.array([0.7, 0.6, 0.9, 1.0, 0.5])


def logits() -> Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def soft_targets() -> Tensor:
    share = torch.from_numpy(SHARE)[:, None]
    return share * F.one_hot(LABELS, 3) + (1 - share) * F.one_hot(OTHERS, 3)


def test_the_parts_of_a_mixture_weigh_what_their_classes_do_as_soft_targets_of_torch() -> None:
    targets = targets_of(LABELS, OTHERS, SHARE, WEIGHTS)

    losses = clip_losses(logits(), targets)

    expected = F.cross_entropy(logits(), soft_targets(), weight=WEIGHTS.double(), reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)  # shares are float32


def test_smoothing_is_weighed_with_the_label_that_it_smooths() -> None:
    targets = targets_of(LABELS, OTHERS, SHARE, WEIGHTS)

    losses = clip_losses(logits(), targets, label_smoothing=0.1)

    own, other = (
        WEIGHTS[labels] * F.cross_entropy(logits(), labels, label_smoothing=0.1, reduction="none")
        for labels in (LABELS, OTHERS)
    )
    share = torch.from_numpy(SHARE)
    torch.testing.assert_close(losses, share * own + (1 - share) * other, rtol=1e-6, atol=0)


def test_the_divisor_is_the_weight_of_all_parts_which_for_plain_clips_is_that_of_torch() -> None:
    plain = targets_of(LABELS, LABELS, np.ones(5), WEIGHTS)
    mixed = targets_of(LABELS, OTHERS, SHARE, WEIGHTS)

    mean = clip_losses(logits(), plain).sum() / plain.total_weight

    expected = F.cross_entropy(logits(), LABELS, weight=WEIGHTS.double())
    assert float(mean) == pytest.approx(float(expected), rel=1e-6)
    assert mixed.total_weight == pytest.approx(float((soft_targets() @ WEIGHTS.double()).sum()))


def test_mixtures_leave_a_rare_class_the_share_of_the_loss_that_its_weight_gives_it() -> None:
    labels = np.repeat([0, 1], [950, 50])
    weights = balanced_weights(labels, 2)
    rng = np.random.default_rng(0)
    own, other = torch.from_numpy(labels), torch.from_numpy(rng.permutation(labels))

    targets = targets_of(own, other, np.full(1000, 0.5), weights)

    # Of logits that are equal a label gets the gradient that its weight says.
    zeros = torch.zeros(1000, 2, dtype=torch.float64, requires_grad=True)
    clip_losses(zeros, targets).sum().backward()
    assert zeros.grad is not None
    assert abs(float(zeros.grad.sum(0)[0])) < 1e-3 * targets.total_weight


def test_weights_of_no_clip_at_all_are_one() -> None:
    assert balanced_weights(np.zeros(0, np.int64), 3).tolist() == [1.0, 1.0, 1.0]
