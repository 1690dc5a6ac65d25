"""The rate of every step, and what belongs to which group of the optimiser."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from velora.build import build_model
from velora.config import load_settings
from velora.settings import Settings
from velora.training.optim import lr_factor, make_optimizer, set_rate

CPU = torch.device("cpu")


def settings_of(recipe: Path, **overrides: object) -> Settings:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_settings(str(recipe), changes)[1]


def test_the_rate_warms_up_linearly_and_falls_as_half_a_cosine() -> None:
    settings = load_settings("default", {"train.epochs": 4, "train.warmup_epochs": 1.0})[1].train

    factors = [lr_factor(settings, 10)(step) for step in range(40)]

    assert factors[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert factors[10] == max(factors) == 1.0
    assert factors[25] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.01


def groups_of(recipe: Path, **overrides: object) -> dict[str, tuple[float, float]]:
    """Name of each parameter that trains -> its highest rate and decay."""
    settings = settings_of(recipe, **overrides)
    model, _ = build_model(settings, num_classes=3, device=CPU)
    optimizer = make_optimizer(model, settings.train)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group["highest_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert found.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    return found


def test_biases_and_stream_embeddings_do_not_decay_and_the_head_has_its_rate(
    tiny_recipe: Path,
) -> None:
    groups = groups_of(tiny_recipe, train__head_lr=0.01, train__weight_decay=0.05)

    assert groups["head.weight"] == (0.01, 0.05)
    assert groups["head.bias"] == (0.01, 0.0)
    assert groups["stream_embed"] == (0.003, 0.0)
    adapters = {group for name, group in groups.items() if ".lora_" in name}
    assert adapters == {(0.003, 0.05)}


def test_tokens_positions_norms_and_frame_queries_do_not_decay_in_full_tuning(
    tiny_recipe: Path,
) -> None:
    groups = groups_of(
        tiny_recipe, model__tuning="full", model__temporal="attention", train__weight_decay=0.05
    )

    decays = {name for name, (_, decay) in groups.items() if decay}
    for leaf in ("cls_token", "pos_embed", "query", "norm1.weight", "fc1.bias"):
        named = [name for name in groups if name.endswith(leaf)]
        assert named, leaf
        assert not decays & set(named)
    assert {"trunk.vit.patch_embed.proj.weight", "trunk.vit.blocks.0.attn.qkv.weight"} <= decays
    # Without a rate of its own the head has that of the rest.
    assert {rate for rate, _ in groups.values()} == {0.003}


def test_the_rate_of_a_step_scales_every_group() -> None:
    model = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2), "rest": torch.nn.Linear(2, 2)})
    settings = load_settings("default", {"train.lr": 0.5, "train.head_lr": 2.0})[1].train
    optimizer = make_optimizer(model, settings)

    set_rate(optimizer, 0.25)

    assert {group["lr"] for group in optimizer.param_groups} == {0.125, 0.5}
