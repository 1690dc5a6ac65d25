"""A batch gives the same update in whatever parts it is computed, with the loss described."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from velora_helpers import make_sample, write_shards

from eventkit.shards import ShardSet
from velora.build import build_model
from velora.config import load_settings
from velora.data import Batch, ClipDataset, ClipLoader, describe
from velora.data.clip_frames import clip_frames
from velora.frames.frames import Frames
from velora.parallel import ALONE
from velora.settings import Settings
from velora.training.ema import MovingAverage
from velora.training.losses import balanced_weights
from velora.training.optim import make_optimizer
from velora.training.update import Outcome, Updater

CPU = torch.device("cpu")
WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    """Clips of which some lack RGB and some events, with uneven classes."""
    senses = [("rgb", "event"), ("rgb", "event"), ("event",), ("rgb", "event"), ("rgb",)]
    rng = np.random.default_rng(0)
    samples = [
        make_sample(f"k{i:02d}_000000", label=(0, 1, 0, 2, 0)[i % 5], rng=rng, senses=senses[i % 5])
        for i in range(12)
    ]
    names = {0: "a", 1: "b", 2: "c"}
    path = write_shards(tmp_path_factory.mktemp("m") / "s", {"train": samples}, classes=names)
    shards = ShardSet.open(path)
    return ClipDataset(shards, "train", spec=describe(shards))


def in_double(batch: Batch, dataset: ClipDataset) -> dict[str, Frames]:
    frames = clip_frames(batch, events=dataset.event_input, size_hw=(32, 32), device=CPU)
    return {name: Frames(f.images.double(), f.index) for name, f in frames.items()}


def make_updater(settings: Settings, dataset: ClipDataset) -> Updater:
    model, _ = build_model(settings, num_classes=3, device=CPU)
    model.double().train()
    # B is zero at the start, and A then has no gradient.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("lora_b"):
                p.normal_(std=0.1, generator=generator)
    optimizer = make_optimizer(model, settings.train)
    return Updater(
        model,
        optimizer=optimizer,
        average=MovingAverage([], decay=0.0),
        settings=settings.train,
        rec_weight=settings.model.rec_weight,
        class_weights=WEIGHTS,
        frames_of=partial(in_double, dataset=dataset),
        device=CPU,
        ranks=ALONE,
    )


def updated(
    recipe: Path, dataset: ClipDataset, *, parts: int
) -> tuple[Outcome, dict[str, torch.Tensor]]:
    changes = {"lora.dropout": 0.0, "train.grad_clip": 0.0, "train.label_smoothing": 0.1}
    settings = load_settings(str(recipe), changes)[1]
    updater = make_updater(settings, dataset)
    loader = ClipLoader(
        dataset, batch_size=12, num_threads=0, shuffle_seed=3, mixup=0.4, parts=parts
    )
    (step,) = loader.steps(senses=("rgb", "event"))
    outcome = updater(step, step=1)
    gradients = {n: p.grad for n, p in updater.model.named_parameters() if p.grad is not None}
    return outcome, gradients


@pytest.mark.parametrize("parts", [2, 5, 12])
def test_parts_however_uneven_give_the_gradient_of_the_whole_batch(
    tiny_recipe: Path, mixed: ClipDataset, parts: int
) -> None:
    whole, expected = updated(tiny_recipe, mixed, parts=1)

    found, gradients = updated(tiny_recipe, mixed, parts=parts)

    assert (found.clips, found.hits) == (whole.clips, whole.hits) == (12, whole.hits)
    for name in ("loss", "rec_loss", "grad_norm"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-9)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-7, atol=1e-10, msg=name)


def test_the_loss_is_the_weighted_mean_of_mixed_cross_entropies_and_the_mean_reconstruction(
    tiny_recipe: Path, mixed: ClipDataset
) -> None:
    settings = load_settings(str(tiny_recipe), {"lora.dropout": 0.0, "train.label_smoothing": 0.1})[
        1
    ]
    updater = make_updater(settings, mixed)
    loader = ClipLoader(mixed, batch_size=12, num_threads=0, shuffle_seed=3, mixup=0.4)
    ((batch,),) = loader.steps(senses=("rgb", "event"))
    with torch.no_grad():
        output = updater.model(in_double(batch, mixed))

    outcome = updater([batch], step=1)

    logs = F.log_softmax(output.logits, dim=1)
    total = weight = 0.0
    for row, clip in enumerate(batch.clips[: len(batch)]):
        other = batch.clips[batch.partner[row]]
        share = float(batch.share[row])
        parts = ((share, clip.label), (1 - share, other.label))
        for weighed, label in ((share * float(WEIGHTS[label]), label) for share, label in parts):
            total -= weighed * float((_smooth(label) * logs[row]).sum())
            weight += weighed
    assert output.rec_loss is not None
    expected = total / weight + settings.model.rec_weight * float(output.rec_loss)
    assert outcome.loss == pytest.approx(expected, rel=1e-6)
    assert 0 < (batch.share < 1).sum() < 12  # some are mixed, and those of unequal senses are not


def _smooth(label: int) -> torch.Tensor:
    target = torch.full((3,), 0.1 / 3, dtype=torch.float64)
    target[label] += 0.9
    return target


def test_balanced_weights_are_inverse_frequencies_with_mean_one() -> None:
    labels = np.array([0, 0, 0, 0, 2, 2])

    weights = balanced_weights(labels, 4)

    assert weights.tolist() == [0.75, 1.0, 1.5, 1.0]
    assert float(weights[labels].mean()) == pytest.approx(1.0)
    assert sum(float(weights[labels[labels == c]].sum()) for c in (0, 2)) == pytest.approx(6.0)
    assert float(weights[labels[labels == 0]].sum()) == pytest.approx(3.0)


def test_a_step_without_a_clip_updates_nothing(tiny_recipe: Path, mixed: ClipDataset) -> None:
    settings = load_settings(str(tiny_recipe), {})[1]
    updater = make_updater(settings, mixed)
    before = [p.detach().clone() for p in updater.parameters]

    outcome = updater([], step=1)

    assert outcome.clips == 0
    assert all(torch.equal(a, b) for a, b in zip(before, updater.parameters, strict=True))
