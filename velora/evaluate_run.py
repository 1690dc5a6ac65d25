"""A trained run, measured on a split of any shards that fit it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from eventkit.errors import MissingDataError
from eventkit.shards import ShardSet
from velora.build import choose_device
from velora.data import check_fits, check_labels, describe, filled_splits
from velora.data.seen import check_seen, check_whole
from velora.data.spec import clip_differences
from velora.opening import open_run
from velora.report.records import read_robustness, robustness_name, write_page, write_tables
from velora.run import RANDOM_TRUNK_WARNING, checking
from velora.scoring.evaluate import evaluate_views
from velora.scoring.robustness import Robustness, robustness
from velora.scoring.scores import Report
from velora.training.checkpoint import RunFolder
from velora.training.loaders import make_loader
from velora.training.options import TrainOptions
from velora.training.parameters import parameter_table
from velora.training.precision import autocast, prepare_, uses_bf16
from velora.training.progress import Reporter


def evaluate_run(
    path: Path,
    *,
    shards_path: Path | str,
    split: str = "test",
    weights: str | None = None,
    out: Path | None = None,
    device_name: str = "auto",
    batch_size: int | None = None,
    num_workers: int = 2,
    spoilt: bool = False,
    other_settings: bool = False,
    reporter: Reporter,
) -> tuple[Path, Report, Robustness | None]:
    """Evaluate the best epoch of a run on a split.

    Parameters
    ----------
    weights : str, optional
        Where the trunk's file lies now, see `open_run`.
    out : Path, optional
        Folder of the report, made where there is none; the run's own without it.
    spoilt : bool
        Measure too how the model fares when a sense fails.
    other_settings : bool
        Take shards whose clips were made with other settings than those of the run, and say so in
        the report.

    Returns
    -------
    Path
        Where the report was written.
    Report
    Robustness or None
    """
    run = RunFolder(path)
    trained, facts = run.read()
    device = choose_device(device_name)
    shards = ShardSet.open(shards_path)
    if split not in filled_splits(shards):
        there = ", ".join(filled_splits(shards)) or "none"
        msg = f"{shards_path} has no {split} samples; it has {there}"
        raise MissingDataError(msg)
    check_labels(shards, split)
    spec = describe(shards, splits=[split])
    check_fits(spec, facts.data, other_settings=other_settings)
    check_seen(shards, split, trained.model.senses)
    if trained.model.mode == "compat":
        check_whole(shards, split, trained.model.senses)
    settings, facts, model, epoch = open_run(path, weights=weights, device=device)
    reports = RunFolder(report_folder(out or path))
    # A folder may take the reports of many runs.
    prefix = "" if out is None else f"{path.resolve().name}-"
    if settings.model.random_trunk:
        reporter.note(RANDOM_TRUNK_WARNING)
    options = TrainOptions(shards=shards_path, num_workers=num_workers)
    loader = make_loader(
        shards, split, facts.data, settings, options, device=device, batch_size=batch_size
    )
    bf16 = uses_bf16(device, settings.train)
    prepare_(model, device, bf16=bf16)
    with autocast(device, bf16=bf16):
        evaluation = evaluate_views(
            model,
            loader,
            device=device,
            plan_id=spec.plan_id,
            classes=[facts.data.classes[i] for i in facts.data.class_ids],
            epoch=epoch,
            other_settings=clip_differences(spec, facts.data),
            progress=checking(reporter, loader),
        )
        found = None
        table = f"{prefix}{robustness_name(split, spec.plan_id)}"
        if spoilt:
            found = robustness(
                model,
                loader,
                device=device,
                plan_id=spec.plan_id,
                epoch=epoch,
                clean=evaluation.predictions,
                progress=checking(reporter, loader),
            )
            reports.write_json(table, found)
        name = f"{prefix}eval-{split}-{spec.plan_id[:8]}"
        write_tables(
            reports.path, evaluation, confusion=f"{name}.csv", predictions=f"{name}-predictions.csv"
        )
        write_page(
            run,
            evaluation,
            folder=reports.path,
            name=f"{name}.html",
            dataset=loader.dataset,
            model=model,
            device=device,
            parameters=parameter_table(model),
            robustness=read_robustness(reports.path / table, evaluation),
        )
    return reports.write_json(f"{name}.json", evaluation.report), evaluation.report, found


def report_folder(path: Path) -> Path:
    """Make a folder that a report can be written to, before an evaluation that may take hours.

    Raises
    ------
    OSError
        If it cannot be made, or this user may not write there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        reason = f"{error.strerror}: the report cannot be written there; give another --out FOLDER"
        raise OSError(error.errno, reason, str(path)) from error
