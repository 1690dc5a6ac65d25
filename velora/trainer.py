"""The training loop: steps, epochs, what is saved, when it stops.

Takes built things and returns nothing but the best epoch; parses and builds nothing. All
randomness of an epoch comes from (seed, epoch), so a run that was killed goes on at its last whole
epoch to the same numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from eventkit.errors import EventKitError, SettingsError
from velora.checkpoint import RunFolder, load_trainable, trainable_tensors
from velora.classifier import Classifier
from velora.data import Batch, ClipLoader
from velora.evaluate import score
from velora.losses import loss_terms
from velora.pictures import clip_frames
from velora.predictions import autocast, predict
from velora.progress import ParameterRow, Reporter, Step
from velora.settings import TrainSettings

STATE_SCHEMA = 2


class NonFiniteError(EventKitError):
    """A loss or gradient that is no number; nothing was updated with it."""


class Trainer:
    """Train what trains of a model and keep its best epoch in a run folder.

    Parameters
    ----------
    model : Classifier
        On ``device``.
    settings : TrainSettings
    rec_weight : float
        Weight of the reconstruction loss.
    train, val : ClipLoader
        Without ``val`` the last epoch counts as the best: the test split never selects.
    run : RunFolder
        Started and locked by the caller.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        settings: TrainSettings,
        rec_weight: float,
        train: ClipLoader,
        val: ClipLoader | None,
        run: RunFolder,
        device: torch.device,
        reporter: Reporter,
        tensorboard: bool = False,
    ) -> None:
        self.model = model
        self.settings = settings
        self.rec_weight = rec_weight
        self.train = train
        self.val = val
        self.run = run
        self.device = device
        self.reporter = reporter
        self.optimizer = make_optimizer(model, settings, fused=device.type == "cuda")
        self.scheduler = LambdaLR(self.optimizer, lr_factor(settings, len(train)))
        self.epochs_done = 0
        self.best: dict[str, Any] | None = None
        self._epoch_seconds: list[float] = []
        self._writer = _tensorboard_writer(run) if tensorboard else None

    def resume(self) -> bool:
        """Take up the state of the run folder, if it has one."""
        state = self.run.load_state()
        if state is None:
            return False
        load_trainable(self.model, state["tensors"], where=str(self.run.path / "state.pt"))
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        # Refuses the state of another set or order of samples.
        self.train.lanes.resume(state.get("samples", {}))
        self.epochs_done = state["epoch"]
        self.best = state["best"]
        torch.set_rng_state(state["rng"])
        return True

    def fit(self) -> int:
        """Train the epochs that are left; return the number of the best epoch.

        Raises
        ------
        NonFiniteError
            Before the update that a loss or gradient without a finite value would make.
        """
        for epoch in range(self.epochs_done + 1, self.settings.epochs + 1):
            start = time.monotonic()
            record = self._train_epoch(epoch)
            record |= self._validate()
            record["best"] = self._is_best(record)
            if record["best"]:
                self.best = {k: record[k] for k in ("epoch", "val_top1", "val_loss")}
                self.run.save_weights(self.model)
            self.epochs_done = epoch
            self._epoch_seconds.append(time.monotonic() - start)
            record["seconds"] = round(self._epoch_seconds[-1], 3)
            record["seconds_left"] = round(self._seconds_left(), 1)
            # The state comes last: an epoch without it is done again and overwrites the others.
            self.run.add_metrics(record)
            self.run.save_state(self._state())
            self._to_tensorboard(record)
            self.reporter.epoch(record, epochs=self.settings.epochs)
        if self._writer is not None:
            self._writer.close()
        assert self.best is not None
        best: int = self.best["epoch"]
        return best

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        seed = np.random.SeedSequence([self.settings.seed, epoch]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed >> np.uint64(1)))
        self.model.train()
        start = time.monotonic()
        seen, hits, loss_sum, rec_sum = 0, 0, 0.0, 0.0
        for batch in self.train.epoch(epoch, senses=self.model.senses):
            loss, rec_loss, correct = self._train_step(batch)
            seen += len(batch.keys)
            hits += correct
            loss_sum += loss * len(batch.keys)
            rec_sum += rec_loss * len(batch.keys)
            self._tell_step(epoch, seen, loss, time.monotonic() - start)
        if not seen:
            msg = f"no training clip has {' or '.join(self.model.senses)} frames: choose --streams"
            raise SettingsError(msg)
        return {
            "epoch": epoch,
            "loss": loss_sum / seen,
            "rec_loss": rec_sum / seen,
            "train_top1": hits / seen,
            "train_clips": seen,
            "left_out": len(self.train.dataset) - seen,
            "lr": self.scheduler.get_last_lr()[0],
            "clips_per_s": round(seen / (time.monotonic() - start), 2),
        }

    def _train_step(self, batch: Batch) -> tuple[float, float, int]:
        """One update; returns the loss, its reconstruction part and the number of right clips."""
        frames = clip_frames(batch, size_hw=self.model.image_size_hw, device=self.device)
        labels = batch.labels.to(self.device)
        with autocast(self.device):
            output = self.model(frames)
        loss = loss_terms(
            output,
            labels,
            rec_weight=self.rec_weight,
            label_smoothing=self.settings.label_smoothing,
        )
        if not bool(torch.isfinite(loss)):
            raise NonFiniteError(_not_finite("loss", batch))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        limit = self.settings.grad_clip or math.inf
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        if not bool(torch.isfinite(norm)):
            raise NonFiniteError(_not_finite("gradient", batch))
        self.optimizer.step()
        self.scheduler.step()
        correct = int((output.logits.argmax(dim=1) == labels).sum())
        rec_loss = 0.0 if output.rec_loss is None else output.rec_loss.item()
        return loss.item(), rec_loss, correct

    def _validate(self) -> dict[str, Any]:
        if self.val is None:
            return {"val_top1": None, "val_loss": None}
        total = len(self.val.dataset)
        predictions = predict(
            self.model,
            self.val,
            device=self.device,
            progress=lambda done: self.reporter.checking("val", done, total),
        )
        result = score(predictions, view="", how="", total=total)
        if not result.samples:
            return {"val_top1": None, "val_loss": None}
        return {"val_top1": result.top1, "val_loss": result.loss}

    def _is_best(self, record: dict[str, Any]) -> bool:
        if self.best is None or record["val_top1"] is None:
            return True
        # Small validation sets tie often; the loss tells equal accuracies apart.
        new, old = ((r["val_top1"], -r["val_loss"]) for r in (record, self.best))
        return bool(new > old)

    def _state(self) -> dict[str, Any]:
        return {
            "schema": STATE_SCHEMA,
            "epoch": self.epochs_done,
            "samples": self.train.lanes.state(self.epochs_done + 1, samples_consumed=0),
            "best": self.best,
            "tensors": trainable_tensors(self.model),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def _tell_step(self, epoch: int, seen: int, loss: float, elapsed: float) -> None:
        total = len(self.train.dataset)
        rate = seen / max(elapsed, 1e-9)
        if self._epoch_seconds:
            left = self._seconds_left() - elapsed
        else:
            left = ((self.settings.epochs - epoch + 1) * total - seen) / rate
        epochs = self.settings.epochs
        self.reporter.step(
            Step(
                epoch=epoch,
                epochs=epochs,
                done=seen,
                total=total,
                loss=loss,
                clips_per_s=rate,
                seconds_left=max(left, 0.0),
            )
        )

    def _seconds_left(self) -> float:
        mean = sum(self._epoch_seconds) / len(self._epoch_seconds)
        return mean * (self.settings.epochs - self.epochs_done)

    def _to_tensorboard(self, record: dict[str, Any]) -> None:
        if self._writer is None:
            return
        for name in ("loss", "rec_loss", "train_top1", "val_top1", "val_loss", "lr", "clips_per_s"):
            if record[name] is not None:
                self._writer.add_scalar(name, record[name], record["epoch"])
        self._writer.flush()


def make_optimizer(
    model: nn.Module, settings: TrainSettings, *, fused: bool = False
) -> torch.optim.AdamW:
    """AdamW over the trainable tensors; biases and stream embeddings do not decay."""
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            keep = parameter.ndim < 2 or name == "stream_embed"
            (plain if keep else decay).append(parameter)
    groups = [
        {"params": decay, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=fused)


def lr_factor(settings: TrainSettings, steps_per_epoch: int) -> Callable[[int], float]:
    """Return step -> share of the highest rate: linear warm-up, then half a cosine down to 0."""
    total = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), total - 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, total - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return factor


def parameter_table(model: Classifier) -> list[ParameterRow]:
    """Count parameters by part, each tensor once; the last row is the whole model."""
    parts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        for part, total in _parts_of(model, name, parameter):
            row = parts.setdefault(part, [0, 0])
            row[0] += total
            row[1] += total * parameter.requires_grad
    rows = [ParameterRow(part, *counts) for part, counts in parts.items()]
    whole = ParameterRow("total", sum(r.total for r in rows), sum(r.trainable for r in rows))
    order = {"frozen trunk": -1, "stream embeddings": 1, "head": 2}
    return [*sorted(rows, key=lambda r: order.get(r.part, 0)), whole]


def _parts_of(model: Classifier, name: str, parameter: nn.Parameter) -> list[tuple[str, int]]:
    count = parameter.numel()
    if ".lora_" not in name:
        known = {"stream_embed": "stream embeddings", "head.weight": "head", "head.bias": "head"}
        return [(known.get(name, "frozen trunk"), count)]
    if name.startswith("rec."):
        return [("reconstruction LoRA", count)]
    if parameter.shape[0] == 1:
        return [("high blocks LoRA (shared)", count)]
    each = count // len(model.streams)
    return [(f"low blocks LoRA ({stream})", each) for stream in model.streams]


def _not_finite(what: str, batch: Batch) -> str:
    keys = ", ".join(batch.keys[:8]) + (", ..." if len(batch.keys) > 8 else "")
    return (
        f"the {what} is not finite on the batch of {keys}; nothing was updated with it; lower "
        "--lr, or look at these samples; the same command goes on from the last whole epoch"
    )


def _tensorboard_writer(run: RunFolder) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        msg = "--tensorboard needs the package tensorboard; install it or leave the flag out"
        raise SettingsError(msg) from error
    return SummaryWriter(str(run.path / "tensorboard"))
