"""The training loop: steps, epochs, what is saved, when it stops.

Takes built things and returns nothing but the best epoch; parses and builds nothing. All randomness
comes from the seed, the epoch, the step and the sample, so a run that was killed at any moment goes
on at its last state to the same numbers, whenever that was saved.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from eventkit.errors import SettingsError
from velora.data import Batch, ClipLoader
from velora.data.clip_frames import clip_frames
from velora.model.classifier import Classifier
from velora.parallel import ALONE, Ranks
from velora.scoring.predictions import predict
from velora.scoring.scores import score
from velora.settings import TrainSettings
from velora.training.checkpoint import RunFolder, kept_tensors, load_kept
from velora.training.ema import MovingAverage
from velora.training.epoch_totals import EpochTotals
from velora.training.losses import balanced_weights
from velora.training.optim import (
    load_optimizer_state,
    lr_factor,
    make_optimizer,
    optimizer_state,
    set_rate,
    trained_parameters,
)
from velora.training.options import SAVE_EVERY_S
from velora.training.pace import Pace, TensorBoard
from velora.training.precision import autocast
from velora.training.progress import Reporter
from velora.training.states import State, load_state, save_state
from velora.training.step_log import StepLog
from velora.training.update import Updater


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
        Started and locked by the caller; written by the first process only.
    ranks : Ranks
    save_every_s : float
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
        ranks: Ranks = ALONE,
        save_every_s: float = SAVE_EVERY_S,
        tensorboard: bool = False,
    ) -> None:
        self.model = model
        self.settings = settings
        self.train = train
        self.val = val
        self.run = run
        self.device = device
        self.reporter = reporter
        self.ranks = ranks
        self.save_every_s = save_every_s
        self.optimizer = make_optimizer(model, settings, fused=device.type == "cuda")
        self.rate = lr_factor(settings, len(train))
        self.average = MovingAverage(trained_parameters(self.optimizer), decay=settings.ema)
        weights = torch.ones(model.num_classes)
        if settings.class_weights == "balanced":
            labels = train.dataset.labels[train.seen(model.senses)]
            weights = balanced_weights(labels, model.num_classes)
        self.update = Updater(
            model,
            optimizer=self.optimizer,
            average=self.average,
            settings=settings,
            rec_weight=rec_weight,
            class_weights=weights,
            frames_of=partial(
                clip_frames,
                events=train.dataset.event_input,
                size_hw=model.image_size_hw,
                device=device,
                senses=model.senses,
                moving=train.dataset.moving,
            ),
            device=device,
            ranks=ranks,
        )
        self.epochs_done = 0
        self.steps_in_epoch = 0
        self.totals = EpochTotals()
        self.best: dict[str, Any] | None = None
        self.pace = Pace(epochs=settings.epochs, clips=len(train.dataset), device=device)
        self._board = TensorBoard(run) if tensorboard and ranks.is_first else None

    @property
    def steps_done(self) -> int:
        """Updates so far; what the states are named by."""
        return self.epochs_done * len(self.train) + self.steps_in_epoch

    def resume(self) -> bool:
        """Take up the newest whole state of the run folder, if it has one."""
        state, damaged = self.ranks.from_first(
            load_state(self.run.path) if self.ranks.is_first else (None, [])
        )
        for text in damaged:
            self.reporter.note(f"{text}: going on from the state before it")
        if state is None:
            self.ranks.copy_from_first_(trained_parameters(self.optimizer))
            return False
        # Refuses the state of another set or order of samples.
        self.train.lanes.resume(state.get("samples", {}))
        load_kept(self.model, state["tensors"], where=f"the state of {self.run.path}")
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.average.load(state["average"])
        self.epochs_done, self.steps_in_epoch = state["epochs_done"], state["steps_in_epoch"]
        self.totals = EpochTotals(**state["totals"])
        self.best = state["best"]
        return True

    def fit(self) -> int:
        """Train the epochs that are left; return the number of the best epoch.

        Raises
        ------
        NonFiniteError
            Before the update that a loss or gradient without a finite value would make.
        """
        log = StepLog(self.run.path, done=self.steps_done) if self.ranks.is_first else None
        try:
            while self.epochs_done < self.settings.epochs and not self._has_stalled():
                self._fit_epoch(log)
        finally:
            if log is not None:
                log.close()
            if self._board is not None:
                self._board.close()
        assert self.best is not None
        best: int = self.best["epoch"]
        return best

    def _fit_epoch(self, log: StepLog | None) -> None:
        epoch = self.epochs_done + 1
        record = {"epoch": epoch, **self._train_epoch(epoch, log)}
        with self.average.applied():
            record |= self._validate()
            record["best"] = self._is_best(record)
            if record["best"]:
                self.best = {k: record[k] for k in ("epoch", "val_top1", "val_loss")}
                if self.ranks.is_first:
                    self.run.save_weights(self.model, epoch=epoch)
        self.epochs_done, self.steps_in_epoch, self.totals = epoch, 0, EpochTotals()
        record |= self.pace.end_epoch(epoch)
        # The state comes last: an epoch without it ends again and overwrites the others.
        if log is not None:
            self.run.add_metrics(record)
            self._save(log)
        if self._board is not None:
            self._board.add(record)
        self.reporter.epoch(record, epochs=self.settings.epochs)

    def _train_epoch(self, epoch: int, log: StepLog | None) -> dict[str, Any]:
        self.model.train()
        self.pace.start_epoch(self.totals)
        saved = time.monotonic()
        steps = self.train.steps(epoch, senses=self.model.senses, first=self.steps_in_epoch)
        while True:
            asked = time.monotonic()
            parts = next(steps, None)
            self.pace.waited_since(asked)
            if parts is None:
                break
            self._step(epoch, parts, log)
            if log is not None and time.monotonic() - saved >= self.save_every_s:
                self.totals.seconds = self.pace.seconds
                self._save(log)
                saved = time.monotonic()
        if not self.totals.clips:
            msg = f"no training clip has {' or '.join(self.model.senses)} frames: choose --streams"
            raise SettingsError(msg)
        return {
            **self.totals.record(),
            "left_out": len(self.train.dataset) - self.totals.clips,
            "lr": self.settings.lr * self.rate(self.steps_done - 1),
            **self.pace.training(self.totals),
        }

    def _step(self, epoch: int, parts: list[Batch], log: StepLog | None) -> None:
        set_rate(self.optimizer, self.rate(self.steps_done))
        outcome = self.update(parts, step=self.steps_done + 1)
        self.steps_in_epoch += 1
        self.totals.add(outcome)
        if log is not None:
            lr = self.settings.lr * self.rate(self.steps_done - 1)
            log.add({"step": self.steps_done, "epoch": epoch, "lr": lr, **asdict(outcome)})
        if outcome.clips:
            best_val = None if self.best is None else self.best["val_top1"]
            self.reporter.step(
                self.pace.step(epoch, self.totals, loss=outcome.loss, best_val=best_val)
            )

    def _validate(self) -> dict[str, Any]:
        if self.val is None:
            return {"val_top1": None, "val_loss": None}
        total = len(self.val.dataset)
        with autocast(self.device, bf16=self.update.bf16):
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

    def _has_stalled(self) -> bool:
        if not self.settings.patience or self.best is None or self.steps_in_epoch:
            return False
        return self.epochs_done - int(self.best["epoch"]) >= self.settings.patience

    def _save(self, log: StepLog) -> None:
        log.sync()
        save_state(self.run.path, self._state(), step=self.steps_done)

    def _state(self) -> State:
        consumed = self.steps_in_epoch * self.train.batch_size
        return {
            "epochs_done": self.epochs_done,
            "steps_in_epoch": self.steps_in_epoch,
            "samples": self.train.lanes.state(self.epochs_done + 1, samples_consumed=consumed),
            "totals": self.totals.state(),
            "best": self.best,
            "tensors": kept_tensors(self.model),
            "optimizer": optimizer_state(self.optimizer),
            "average": self.average.state(),
        }
