"""One update: the gradient of a batch, of whatever parts on whatever processes it is made.

Nothing random is left to the order in which things happen: dropout is seeded by the run's seed, the
step, the process and the part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from velora.data import Batch
from velora.data.batches import make_batch
from velora.frames.frames import Frames
from velora.model.classifier import Classifier
from velora.non_finite import NonFiniteError, listed
from velora.out_of_memory import OutOfMemoryError, is_out_of_memory, largest_that_fits
from velora.parallel import Ranks
from velora.settings import TrainSettings
from velora.training.ema import MovingAverage
from velora.training.losses import Counts, Targets, clip_losses, part_loss, targets_of
from velora.training.memory import room_of_later_steps
from velora.training.optim import trained_parameters
from velora.training.precision import autocast, uses_bf16


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What an update has to say, over all processes; means over its clips."""

    clips: int
    hits: int
    loss: float
    rec_loss: float
    grad_norm: float


EMPTY = Outcome(clips=0, hits=0, loss=0.0, rec_loss=0.0, grad_norm=0.0)


class Updater:
    """Makes the updates of a model.

    Parameters
    ----------
    model : Classifier
        On ``device``.
    optimizer : Optimizer
    average : MovingAverage
    settings : TrainSettings
    rec_weight : float
        Weight of the reconstruction loss.
    class_weights : (C,) Tensor
    frames_of : callable
        Batch -> frames on the device.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        optimizer: torch.optim.Optimizer,
        average: MovingAverage,
        settings: TrainSettings,
        rec_weight: float,
        class_weights: Tensor,
        frames_of: Callable[[Batch], dict[str, Frames]],
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.average = average
        self.settings = settings
        self.rec_weight = rec_weight
        self.class_weights = class_weights
        self.frames_of = frames_of
        self.device = device
        self.ranks = ranks
        self.bf16 = uses_bf16(device, settings)
        self.parameters = trained_parameters(optimizer)

    def __call__(self, parts: list[Batch], *, step: int) -> Outcome:
        """Update with the clips of a step, this process's parts of them.

        Raises
        ------
        NonFiniteError
            Before the update, on all processes.
        OutOfMemoryError
            Names the largest part that fits.
        """
        counts, clips = self._count(parts)
        if not clips:
            return EMPTY
        self.optimizer.zero_grad(set_to_none=True)
        totals = torch.zeros(3, device=self.device, dtype=torch.float64)
        for number, part in enumerate(parts):
            self._seed(step, number)
            try:
                totals += self._gradient(part, counts)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                # The traceback holds the tensors that the search needs the room of.
                error.__traceback__ = None
                raise self._too_large(part, counts) from None
        totals = self.ranks.sum_gradients_(self.parameters, totals)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.grad_clip or math.inf)
        loss, rec_loss, hits, grad_norm = torch.cat([totals, norm.double()[None]]).tolist()
        self._check_finite(parts, loss, grad_norm, step=step)
        self.optimizer.step()
        self.average.update()
        return Outcome(
            clips=clips, hits=round(hits), loss=loss, rec_loss=rec_loss, grad_norm=grad_norm
        )

    def _count(self, parts: list[Batch]) -> tuple[Counts, int]:
        """Count over all parts and processes what the sums of the parts are divided by."""
        weight = sum(self._targets(part).total_weight for part in parts)
        both = sum(part.clips_of_both_senses for part in parts)
        own = torch.tensor([weight, both, sum(map(len, parts))], dtype=torch.float64)
        weight, both, clips = self.ranks.sum_(own).tolist()
        return Counts(weight, both), round(clips)

    def _targets(self, part: Batch) -> Targets:
        return targets_of(part.labels, part.partner_labels, part.share, self.class_weights)

    def _gradient(self, part: Batch, counts: Counts) -> Tensor:
        """Add the gradient of a part; returns its loss, reconstruction loss and hits."""
        targets = self._targets(part).to(self.device)
        with autocast(self.device, bf16=self.bf16):
            output = self.model(self.frames_of(part))
        losses = clip_losses(output.logits, targets, label_smoothing=self.settings.label_smoothing)
        loss, rec_loss = part_loss(output, losses, counts=counts, rec_weight=self.rec_weight)
        torch.autograd.backward(loss)
        hits = (output.logits.detach().argmax(dim=1) == targets.labels).sum()
        return torch.stack([loss.detach().double(), rec_loss.double(), hits.double()])

    def _seed(self, step: int, part: int) -> None:
        words = [self.settings.seed, step, self.ranks.rank, part]
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))
        # Not torch.manual_seed, which writes down the stack for devices that never start: 2 ms.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _check_finite(
        self, parts: list[Batch], loss: float, grad_norm: float, *, step: int
    ) -> None:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return
        what = "gradient" if math.isfinite(loss) else "loss"
        # The sums are the same on all processes, so all of them come here.
        everyone = self.ranks.gather((self._culprits(parts), [k for p in parts for k in p.keys]))
        culprits = [key for bad, _ in everyone for key in bad]
        keys = [key for _, some in everyone for key in some]
        self.optimizer.zero_grad(set_to_none=True)
        of = f", of them {listed(culprits)} by itself" if culprits else ""
        if len(culprits) == len(keys):
            of = ", every one of them by itself"
        msg = (
            f"the {what} is not finite at step {step} on the batch of {listed(keys)}{of}; nothing "
            "was updated with it; look at these samples, or lower --lr under another --name (or "
            "none): the same command comes to the same step again"
        )
        raise NonFiniteError(msg)

    @torch.no_grad()
    def _culprits(self, parts: list[Batch]) -> list[str]:
        """Return the clips that have no finite logits when they are alone in a batch."""
        found = []
        for part in parts:
            for row, key in enumerate(part.keys):
                with autocast(self.device, bf16=self.bf16):
                    logits = self.model(self.frames_of(part.rows(row, row + 1))).logits
                if not bool(torch.isfinite(logits).all()):
                    found.append(key)
        return found

    def _too_large(self, part: Batch, counts: Counts) -> OutOfMemoryError:
        def attempt(size: int) -> None:
            self.optimizer.zero_grad(set_to_none=True)
            room = room_of_later_steps(self.optimizer)
            self._gradient(_beginning(part, size), counts)
            del room

        self.optimizer.zero_grad(set_to_none=True)
        fits = largest_that_fits(attempt, len(part))
        self.optimizer.zero_grad(set_to_none=True)
        whole = self.settings.batch_size
        if not fits:
            msg = (
                f"out of memory with {len(part)} clips at once and with one: lower --img-size, "
                "under another --name, or none"
            )
            return OutOfMemoryError(msg)
        parts = -(-whole // (fits * self.ranks.world_size))
        msg = (
            f"out of memory with {len(part)} clips at once; the largest batch that fits is {fits}: "
            f"set train.accumulate={parts}, which computes a batch in parts, or lower "
            "--batch-size; both make another run, so give another --name, or none"
        )
        return OutOfMemoryError(msg)


def _beginning(part: Batch, size: int) -> Batch:
    """Return the first clips of a part, mixed as they are in it."""
    partner = part.partner[:size].tolist()
    # Those trained on come first, then what is mixed in from elsewhere.
    chosen = list(dict.fromkeys([*range(size), *partner]))
    return make_batch(
        [part.clips[i] for i in chosen],
        positions=part.positions[:size],
        changes=[part.changes[i] for i in chosen],
        partner=np.array([chosen.index(i) for i in partner]),
        share=part.share[:size],
    )
