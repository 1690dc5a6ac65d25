"""The training loop: one thread, the same bits every time, resumable at any moment."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eventkit.atomic import committed
from eventkit.errors import SettingsError
from velora.pretrain.images import NUM_CLASSES, Images
from velora.pretrain.recipe import Recipe, make_vit, normalised
from velora.pretrain.views import make_views
from velora.training.precision import plain_attention_

logger = logging.getLogger(__name__)

CHECKPOINT = "last.pt"
LOG = "log.jsonl"
Line = dict[str, float]


@dataclass
class Training:
    """A training run as it stands.

    ``averaged`` is the moving average of the weights, which is what gets published.
    """

    recipe: Recipe
    images: Images
    vit: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: dict[str, Tensor]
    step: int = 0
    seconds: float = 0.0
    _order: tuple[int, Tensor] = field(default=(-1, torch.empty(0)), repr=False)

    @classmethod
    def begin(cls, recipe: Recipe, images: Images) -> Training:
        """Start from random weights."""
        vit = make_vit(num_outputs=NUM_CLASSES, seed=recipe.seed)
        plain_attention_(vit)
        decayed = [p for p in vit.parameters() if p.ndim > 1]
        others = [p for p in vit.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=recipe.lr,
            betas=(0.9, 0.95),
            fused=True,
        )
        averaged = {name: value.clone() for name, value in vit.state_dict().items()}
        return cls(recipe, images, vit, optimizer, averaged)

    def update(self) -> Line:
        """Take one step and return what to log of it."""
        began = time.perf_counter()
        recipe = self.recipe
        rng = torch.Generator().manual_seed((recipe.seed << 32) + self.step)
        chosen = self._chosen()
        shares = torch.tensor([share for _, share in recipe.sizes])
        size, _ = recipe.sizes[int(torch.multinomial(shares, 1, generator=rng))]
        gray = torch.from_numpy(self.images.pixels[chosen.numpy()]).float() / 255
        views = make_views(gray, size=size, shares=recipe.views, rng=rng)
        targets = torch.from_numpy(self.images.labels)[chosen]
        rate = learning_rate(recipe, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # bf16 by PyTorch's own kernels: 0.15 s an update where float32 takes 0.41 (AVX-512 BF16).
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.vit(normalised(views)).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.vit.parameters(), recipe.grad_clip)
        self.optimizer.step()
        self._average()
        self.step += 1
        self.seconds += time.perf_counter() - began
        if not math.isfinite(loss.item()):
            msg = f"the loss is {loss.item()} at step {self.step}; lower the learning rate"
            raise SettingsError(msg)
        right = (logits.argmax(1) == targets).float().mean().item()
        return {"loss": loss.item(), "accuracy": right, "lr": rate}

    def _chosen(self) -> Tensor:
        """Return which images come now: each once an epoch, in an order of its own."""
        size, count = self.recipe.batch_size, len(self.images)
        found = []
        for place in range(self.step * size, (self.step + 1) * size):
            epoch, i = divmod(place, count)
            if self._order[0] != epoch:
                rng = torch.Generator().manual_seed((self.recipe.seed << 32) + (1 << 31) + epoch)
                self._order = (epoch, torch.randperm(count, generator=rng))
            found.append(self._order[1][i])
        return torch.stack(found)

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average must not hold on to the random start.
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.vit.state_dict().items():
            self.averaged[name].lerp_(value, 1 - decay)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "recipe": msgspec.to_builtins(self.recipe),
            "images": digest(self.images),
            "vit": self.vit.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any], *, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        SettingsError
            If it was made with another recipe or other images, or of another length whose rate
            has begun to fall.
        """
        found = msgspec.convert(state["recipe"], Recipe)
        same = msgspec.structs.replace(found, images=self.recipe.images) == self.recipe
        if not same or state["images"] != digest(self.images):
            msg = f"{path} was made with another recipe or other images; give another --out"
            raise SettingsError(msg)
        latest = min(found.cooldown_from, self.recipe.cooldown_from)
        if found.images != self.recipe.images and state["step"] > latest:
            msg = (
                f"{path} is at step {state['step']}, and a run of {found.images} pictures can "
                f"become one of {self.recipe.images} up to step {latest}; go on with --images "
                f"{found.images}, or give another --out"
            )
            raise SettingsError(msg)
        self.vit.load_state_dict(state["vit"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaged = state["averaged"]
        self.step, self.seconds = state["step"], state["seconds"]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rise, stay, and fall to zero at the end, each linearly."""
    rise = (step + 1) / recipe.warmup
    fall = (recipe.steps - step) / max(1, recipe.steps - recipe.cooldown_from)
    return recipe.lr * min(1.0, rise, fall)


def digest(images: Images) -> str:
    """SHA-256 of pixels and labels."""
    found = hashlib.sha256(np.ascontiguousarray(images.pixels))
    found.update(np.ascontiguousarray(images.labels))
    return found.hexdigest()


def train(
    recipe: Recipe,
    images: Images,
    out: Path,
    *,
    every: int = 100,
    tell: Callable[[str], None] = logger.info,
) -> Training:
    """Train to the end, or go on where an earlier run of the same recipe was stopped.

    Parameters
    ----------
    recipe : Recipe
    images : Images
    out : Path
        Receives ``last.pt`` and ``log.jsonl``.
    every : int
        Steps between two checkpoints, each with a line of the log: means since the one before.
    tell : callable
        Receives a line of text for each.

    Raises
    ------
    SettingsError
        If ``out`` holds a run of another recipe, or the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    training = Training.begin(recipe, images)
    checkpoint = out / CHECKPOINT
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        training.restore(state, path=checkpoint)
        tell(f"going on from step {training.step} of {recipe.steps}")
    _forget_after(out / LOG, training.step)
    lines: list[Line] = []
    while training.step < recipe.steps:
        lines.append(training.update())
        if training.step % every == 0 or training.step == recipe.steps:
            line = {name: float(np.mean([x[name] for x in lines])) for name in lines[0]}
            line = {"step": training.step, **line, "seconds": round(training.seconds, 1)}
            # The line first: a line too many is forgotten on resuming, one too few is lost.
            with (out / LOG).open("a") as log:
                log.write(json.dumps(line) + "\n")
            _save(training.state(), checkpoint)
            tell(_text(line, recipe))
            lines = []
    return training


def read_log(path: Path) -> list[Line]:
    """Return the lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _forget_after(path: Path, step: int) -> None:
    kept = [line for line in read_log(path) if line["step"] <= step]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))


def _save(state: dict[str, Any], path: Path) -> None:
    with committed(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def _text(line: Line, recipe: Recipe) -> str:
    left = line["seconds"] / line["step"] * (recipe.steps - line["step"])
    return (
        f"step {line['step']:.0f}/{recipe.steps}  loss {line['loss']:.3f}  "
        f"accuracy {line['accuracy']:.3f}  lr {line['lr']:.1e}  "
        f"{line['seconds'] / 60:.1f} min, about {left / 60:.0f} left"
    )
