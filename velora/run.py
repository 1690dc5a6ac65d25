"""From settings and shards to a trained run: puts the parts together.

The command line is a thin layer over :func:`train`.
"""

from __future__ import annotations

import importlib.metadata
import io
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import msgspec
import torch

from eventkit.errors import DamageError
from eventkit.shards import ShardSet
from velora.build import build_model, choose_device
from velora.config import settings_hash, weights_hash
from velora.data import (
    ClipLoader,
    DataSpec,
    check_splits,
    describe,
    filled_splits,
)
from velora.data.absent import absences
from velora.data.seen import check_seen, check_whole
from velora.files.adapters import holds_adapters, trunk_name, write_adapters
from velora.model.classifier import Classifier, kept_parameters
from velora.parallel import Ranks, joined
from velora.report.records import write_page, write_tables
from velora.scoring.evaluate import evaluate_views
from velora.scoring.scores import Evaluation, Report
from velora.settings import Settings
from velora.training.checkpoint import RunFacts, RunFolder, TrunkFacts
from velora.training.compiling import compiled
from velora.training.loaders import check_settings, make_loader
from velora.training.options import TrainOptions as TrainOptions
from velora.training.parameters import parameter_table
from velora.training.precision import (
    autocast,
    deterministic,
    multiplies_bf16,
    prepare_,
    uses_bf16,
)
from velora.training.progress import PlainReporter, Reporter
from velora.training.trainer import Trainer

RANDOM_TRUNK_WARNING = (
    "WARNING: the trunk is RANDOM (--random-trunk): nothing was pretrained, so the accuracies say "
    "that the road works, not how good the method is"
)
BF16_HINT = (
    "this processor multiplies bf16 matrices faster than fp32 ones: --set train.precision=bf16 "
    "trains in less time, to results that differ in rounding"
)


def train(
    settings: Settings, *, recipe: str, options: TrainOptions, reporter: Reporter
) -> tuple[RunFolder, Report]:
    """Train, or go on training, and evaluate the test split.

    The folder is ``<out>/<recipe>-<hash of settings and data>``: the same command goes on where it
    stopped, and does nothing once the run is finished. In a process that torchrun started it trains
    together with the others, of which the first one writes and reports.

    Raises
    ------
    EventKitError
        For shards, weights or settings that do not fit; says the cure.
    """
    device = choose_device(options.device)
    with joined(device.type) as ranks, deterministic(wanted=options.deterministic):
        if not ranks.is_first:
            reporter = PlainReporter(stream=io.StringIO(), every_s=math.inf)
        return _train(
            _with_absolute_weights(settings),
            recipe=recipe,
            options=options,
            reporter=reporter,
            device=ranks.device(device),
            ranks=ranks,
        )


def _train(
    settings: Settings,
    *,
    recipe: str,
    options: TrainOptions,
    reporter: Reporter,
    device: torch.device,
    ranks: Ranks,
) -> tuple[RunFolder, Report]:
    shards = ShardSet.open(options.shards)
    spec = describe(shards, splits=filled_splits(shards))
    check_splits(shards)
    check_settings(settings)
    sha256 = settings_hash(
        settings, plan_id=spec.plan_id, weights_sha256=weights_hash(settings.model.weights)
    )
    run = RunFolder(options.out / (options.name or f"{recipe}-{sha256[:10]}"))
    finished = ranks.from_first(_result(run, settings, sha256, spec) if ranks.is_first else None)
    if finished is not None:
        reporter.note(f"{run.path} is finished: nothing to do")
        return run, finished
    for split in ("train", "test"):
        check_seen(shards, split, settings.model.senses)
    if settings.model.mode == "compat":
        for split in filled_splits(shards):
            check_whole(shards, split, settings.model.senses)
    # Loaders first: they refuse what does not fit before a trunk is fetched.
    loaders = {
        split: make_loader(
            shards, split, spec, settings, options, ranks, device=device, learns=split == "train"
        )
        for split in filled_splits(shards)
    }
    model, trunk = build_model(
        settings, num_classes=len(spec.classes), device=device, num_bins=spec.bins
    )
    if trunk.kind == "random":
        reporter.note(RANDOM_TRUNK_WARNING)
    facts = RunFacts(
        recipe=recipe,
        settings_sha256=sha256,
        data=spec,
        trunk=TrunkFacts(**{f: getattr(trunk, f) for f in TrunkFacts.__struct_fields__}),
        versions={name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy")},
    )
    with run.locked() if ranks.is_first else nullcontext():
        if ranks.is_first:
            run.start(settings, facts)
        report = _fit(run, model, settings, spec, loaders, device, options, reporter, ranks)
    return run, report


def _result(run: RunFolder, settings: Settings, sha256: str, spec: DataSpec) -> Report | None:
    """Return the result of a run that is finished; refuse one of other settings or data."""
    if not run.exists:
        return None
    run.check_same(settings, settings_sha256=sha256, data=spec)
    if not run.finished:
        return None
    path = run.path / "result.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except msgspec.MsgspecError as error:
        msg = f"{path} is damaged or of another version ({error}); choose another --name"
        raise DamageError(msg) from error


def _fit(
    run: RunFolder,
    model: Classifier,
    settings: Settings,
    spec: DataSpec,
    loaders: dict[str, ClipLoader],
    device: torch.device,
    options: TrainOptions,
    reporter: Reporter,
    ranks: Ranks,
) -> Report:
    bf16 = uses_bf16(device, settings.train)
    sizes = ", ".join(f"{len(loader.dataset)} {split}" for split, loader in loaders.items())
    shared = f" x {ranks.world_size}" if ranks.world_size > 1 else ""
    reporter.note(
        f"{run.path}: {sizes} clips, {len(spec.classes)} classes, {spec.bins} bins of "
        f"{spec.representation}; {' + '.join(model.streams)} at "
        f"{'x'.join(map(str, model.image_size_hw))} on {device.type}{shared} in "
        f"{'bf16' if bf16 else 'fp32'}"
    )
    if device.type == "cpu" and settings.train.precision == "auto" and multiplies_bf16():
        reporter.note(BF16_HINT)
    for line in absences(loaders["train"].dataset.shards, spec, model.senses):
        reporter.note(line)
    reporter.parameters(parameter_table(model))
    prepare_(model, device, bf16=bf16)
    model.checkpointing = options.checkpointing
    with compiled(model, wanted=options.compile):
        trainer = Trainer(
            model,
            settings=settings.train,
            rec_weight=settings.model.rec_weight,
            train=loaders["train"],
            val=loaders.get("val"),
            run=run,
            device=device,
            reporter=reporter,
            ranks=ranks,
            save_every_s=options.save_every_s,
            tensorboard=options.tensorboard,
        )
        if trainer.resume():
            within = f" and {trainer.steps_in_epoch} steps" if trainer.steps_in_epoch else ""
            reporter.note(f"going on after epoch {trainer.epochs_done}{within}")
        best = trainer.fit()
        if ranks.is_first:
            run.load_weights(model)
        ranks.copy_from_first_(list(kept_parameters(model).values()))
        # The page draws gradients of the model, whose frozen part may be in bf16 by now.
        with autocast(device, bf16=bf16):
            evaluation = evaluate_views(
                model,
                loaders["test"],
                device=device,
                plan_id=spec.plan_id,
                classes=[spec.classes[i] for i in spec.class_ids],
                epoch=best,
                progress=checking(reporter, loaders["test"]),
            )
            if ranks.is_first:
                _write(run, settings, evaluation, loaders["test"], model, device)
    return evaluation.report


def _write(
    run: RunFolder,
    settings: Settings,
    evaluation: Evaluation,
    loader: ClipLoader,
    model: Classifier,
    device: torch.device,
) -> None:
    """Write what a finished run leaves; the result last, since it says that the run is finished."""
    write_tables(run.path, evaluation, confusion="confusion.csv", predictions="predictions.csv")
    write_page(
        run,
        evaluation,
        folder=run.path,
        name="report.html",
        dataset=loader.dataset,
        model=model,
        device=device,
        parameters=parameter_table(model),
    )
    if holds_adapters(settings):
        name = trunk_name(settings.model.backbone, settings.model.backbone_kwargs)
        write_adapters(model, run.path / "adapters", backbone=name)
    run.write_json("parameters.json", [row._asdict() for row in parameter_table(model)])
    run.write_json("result.json", evaluation.report)


def checking(reporter: Reporter, loader: ClipLoader) -> Callable[[str, int], None]:
    """Return what tells a person how far an evaluation is."""
    split, total = loader.dataset.split, len(loader.dataset)
    return lambda view, done: reporter.checking(f"{split} {view}", done, total)


def _with_absolute_weights(settings: Settings) -> Settings:
    """Let a run find its weights again from another working directory."""
    if settings.model.weights is None:
        return settings
    path = str(Path(settings.model.weights).expanduser().resolve())
    model = msgspec.structs.replace(settings.model, weights=path)
    return msgspec.structs.replace(settings, model=model)
