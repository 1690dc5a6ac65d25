"""The optimiser: AdamW in groups, and the rate of every step as a function of its number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from velora.settings import TrainSettings


def make_optimizer(
    model: nn.Module, settings: TrainSettings, *, fused: bool = False
) -> torch.optim.AdamW:
    """AdamW over what trains, in the order of the parameters, in up to four groups.

    The head has a rate of its own. Biases, norms, embeddings, tokens and learned queries do not
    decay: to pull them to zero regularises nothing.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("head."), _decays(name, parameter))
            groups.setdefault(key, []).append(parameter)
    head_lr = settings.lr if settings.head_lr is None else settings.head_lr
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": head_lr if is_head else settings.lr,
                "highest_lr": head_lr if is_head else settings.lr,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (is_head, decays), parameters in groups.items()
        ],
        fused=fused,
    )


def _decays(name: str, parameter: nn.Parameter) -> bool:
    leaf = name.rpartition(".")[2]
    return parameter.ndim >= 2 and not leaf.endswith(("embed", "token", "query"))


def trained_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters of all groups, in their order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group this share of its highest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["highest_lr"] * factor


def lr_factor(settings: TrainSettings, steps_per_epoch: int) -> Callable[[int], float]:
    """Return step -> share of the highest rate: linear warm-up, then half a cosine down to 0.

    Steps count from 0. A function of the step alone, so that there is no state to keep.
    """
    total = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), total - 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, total - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return factor


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what an optimiser knows of its parameters, by their place; no settings."""
    state: dict[str, Any] = optimizer.state_dict()["state"]
    return state


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put back what `optimizer_state` gave; rates and decays stay those of the settings."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
