"""A trained run as a model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from eventkit.errors import SettingsError
from velora.build import build_model
from velora.model.classifier import Classifier
from velora.settings import Settings
from velora.training.checkpoint import RunFacts, RunFolder


class OpenedRun(NamedTuple):
    """What a run folder holds, with the weights of its best ``epoch`` in the model."""

    settings: Settings
    facts: RunFacts
    model: Classifier
    epoch: int


def open_run(path: Path, *, weights: str | Path | None = None, device: torch.device) -> OpenedRun:
    """Build the model of a run with its best weights, in evaluation mode.

    The trunk is built again from the run's record and must be the one it was trained on, which
    its hash tells; ``weights`` says where its file lies now.

    Raises
    ------
    SettingsError
        If the trunk is another one.
    """
    run = RunFolder(path)
    settings, facts = run.read()
    if weights is not None:
        if settings.model.random_trunk:
            msg = f"the trunk of {path} was drawn at random and is in no file; leave --weights out"
            raise SettingsError(msg)
        changed = msgspec.structs.replace(settings.model, weights=str(weights))
        settings = msgspec.structs.replace(settings, model=changed)
    model, trunk = build_model(
        settings, num_classes=len(facts.data.classes), device=device, num_bins=facts.data.bins
    )
    if trunk.sha256 != facts.trunk.sha256:
        msg = (
            f"this trunk ({trunk.kind}: {trunk.origin}) is not the one that {path} was trained on "
            f"({facts.trunk.kind}: {facts.trunk.origin}); give its file with --weights"
        )
        raise SettingsError(msg)
    epoch = run.load_weights(model)
    return OpenedRun(settings, facts, model.eval(), epoch)
