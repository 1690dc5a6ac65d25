"""How fast a run is and how long it takes, and the steps and epochs that are told of it."""

from __future__ import annotations

import time
from typing import Any

import torch

from eventkit._optional import check_installed
from velora.training.checkpoint import RunFolder
from velora.training.epoch_totals import EpochTotals
from velora.training.memory import peak_bytes
from velora.training.progress import Step

_CURVES = ("loss", "rec_loss", "train_top1", "val_top1", "val_loss", "lr", "clips_per_s")


class Pace:
    """Times the epochs of this process, which may begin in the middle of one.

    Parameters
    ----------
    epochs : int
    clips : int
        Of an epoch.
    device : torch.device
    """

    def __init__(self, *, epochs: int, clips: int, device: torch.device) -> None:
        self.epochs = epochs
        self.clips = clips
        self.device = device
        self._seconds: list[float] = []
        self.start_epoch(EpochTotals())

    def start_epoch(self, before: EpochTotals) -> None:
        """Begin an epoch, or go on with one of which another process did this much."""
        self._start = time.monotonic()
        self._before = before.clips
        self._seconds_before = before.seconds
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        """How long the epoch has taken, with what was before this process."""
        return self._seconds_before + time.monotonic() - self._start

    def waited_since(self, moment: float) -> None:
        """Count the time since ``moment`` as spent on waiting for data."""
        self._waited += time.monotonic() - moment

    def training(self, totals: EpochTotals) -> dict[str, Any]:
        """Return what an epoch's line says of the speed, at the end of its last step."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        return {
            "clips_per_s": round((totals.clips - self._before) / elapsed, 2),
            "wait_share": round(self._waited / elapsed, 4),
            "memory_bytes": peak_bytes(self.device),
        }

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Return what an epoch's line says of its length, with validation."""
        self._seconds.append(self.seconds)
        return {
            "seconds": round(self._seconds[-1], 3),
            "seconds_left": round(self._left(epoch), 1),
        }

    def step(self, epoch: int, totals: EpochTotals, *, loss: float, best_val: float | None) -> Step:
        """Return what is told of a step."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = (totals.clips - self._before) / elapsed
        if self._seconds:
            left = self._left(epoch - 1) - elapsed
        else:
            left = ((self.epochs - epoch + 1) * self.clips - totals.clips) / rate
        return Step(
            epoch=epoch,
            epochs=self.epochs,
            done=totals.clips,
            total=self.clips,
            loss=loss,
            clips_per_s=rate,
            seconds_left=max(left, 0.0),
            top1=totals.hits / totals.clips,
            wait_share=self._waited / elapsed,
            memory_bytes=peak_bytes(self.device),
            best_val=best_val,
        )

    def _left(self, epochs_done: int) -> float:
        return sum(self._seconds) / len(self._seconds) * (self.epochs - epochs_done)


class TensorBoard:
    """The curves of a run as TensorBoard files.

    Raises
    ------
    MissingDependencyError
        Without the package.
    """

    def __init__(self, run: RunFolder) -> None:
        check_installed(("tensorboard",), extra="tensorboard", purpose="--tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.path / "tensorboard"))

    def add(self, record: dict[str, Any]) -> None:
        """Write the line of an epoch."""
        for name in _CURVES:
            if record[name] is not None:
                self._writer.add_scalar(name, record[name], record["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Nothing follows."""
        self._writer.close()
