"""Sums over the updates of an epoch; part of a state, so that an epoch can be gone on with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from velora.training.update import Outcome


@dataclass(slots=True)
class EpochTotals:
    """What an epoch has seen so far, over all processes."""

    clips: int = 0
    hits: int = 0
    loss: float = 0.0
    rec_loss: float = 0.0
    #: When it was saved; states written before it was kept have none.
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Take in an update."""
        self.clips += outcome.clips
        self.hits += outcome.hits
        self.loss += outcome.loss * outcome.clips
        self.rec_loss += outcome.rec_loss * outcome.clips

    def record(self) -> dict[str, Any]:
        """Return the means for the epoch's line."""
        return {
            "loss": self.loss / self.clips,
            "rec_loss": self.rec_loss / self.clips,
            "train_top1": self.hits / self.clips,
            "train_clips": self.clips,
        }

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: ``EpochTotals(**state)`` is the same."""
        return asdict(self)
