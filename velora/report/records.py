"""The files of an evaluation, in a run folder or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from eventkit.atomic import write_atomic
from eventkit.errors import DamageError
from velora.data import ClipDataset
from velora.model.classifier import Classifier
from velora.report.page import Run, run_page
from velora.report.tables import confusion_csv, predictions_csv
from velora.scoring.robustness import Robustness
from velora.scoring.scores import Evaluation
from velora.training.checkpoint import RunFolder
from velora.training.progress import ParameterRow


def write_tables(folder: Path, evaluation: Evaluation, *, confusion: str, predictions: str) -> None:
    """Write the confusion matrix and the predictions, under these names, as CSV."""
    report = evaluation.report
    write_atomic(folder / confusion, confusion_csv(report).encode())
    text = predictions_csv(
        evaluation.predictions, classes=report.classes, recordings=evaluation.recordings
    )
    write_atomic(folder / predictions, text.encode())


def write_page(
    run: RunFolder,
    evaluation: Evaluation,
    *,
    folder: Path,
    name: str,
    dataset: ClipDataset,
    model: Classifier,
    device: torch.device,
    parameters: Sequence[ParameterRow],
    robustness: Robustness | None = None,
) -> Path:
    """Write the page of a run; returns where.

    Parameters
    ----------
    run : RunFolder
        Its settings, facts and metrics are read.
    evaluation : Evaluation
    folder : Path
        Of the page.
    name : str
        Of the file.
    dataset : ClipDataset
        The split of the evaluation, for the pictures.
    model : Classifier
        With the weights that were evaluated.
    device : torch.device
        Of the model.
    parameters : sequence of ParameterRow
    robustness : Robustness, optional
        Shown where it is given.
    """
    settings, facts = run.read()
    text = run_page(
        Run(
            name=run.path.resolve().name,
            settings=settings,
            facts=facts,
            metrics=run.metrics(),
            evaluation=evaluation,
            dataset=dataset,
            model=model,
            device=device,
            parameters=parameters,
            robustness=robustness,
        )
    )
    write_atomic(folder / name, text.encode())
    return folder / name


def robustness_name(split: str, plan_id: str) -> str:
    """Return the name of the robustness table of a split."""
    return f"robustness-{split}-{plan_id[:8]}.json"


def read_robustness(path: Path, evaluation: Evaluation) -> Robustness | None:
    """Read a robustness table; None where none was made of the weights of this evaluation.

    Raises
    ------
    DamageError
        If the file is not what was written.
    """
    if not path.is_file():
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Robustness)
    except msgspec.DecodeError as error:
        msg = f"{path} is damaged: {error}; make it again with velora-eval --robustness"
        raise DamageError(msg) from error
    return found if found.epoch == evaluation.report.epoch else None
