"""From settings and shards to a trained or evaluated run: puts the parts together.

The command line is a thin layer over :func:`train` and :func:`evaluate_run`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from eventkit.atomic import write_atomic
from eventkit.errors import MissingDataError, SettingsError
from eventkit.shards import ShardSet
from velora.build import build_model, choose_device
from velora.checkpoint import RunFacts, RunFolder, TrunkFacts
from velora.config import settings_hash
from velora.data import (
    ClipDataset,
    ClipLoader,
    DataSpec,
    check_fits,
    check_labels,
    check_splits,
    describe,
)
from velora.evaluate import Report, confusion_csv, evaluate
from velora.model import VELoRA
from velora.progress import Reporter
from velora.settings import Settings
from velora.trainer import Trainer, parameter_table

logger = logging.getLogger(__name__)

_TRAIN_CACHE_BYTES = 2**30
_EVAL_CACHE_BYTES = 2**28

RANDOM_TRUNK_WARNING = (
    "WARNING: the trunk is RANDOM (--random-trunk): nothing was pretrained, so the accuracies say "
    "that the road works, not how good the method is"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """How a run is executed; none of it changes the result."""

    shards: Path | str
    out: Path = Path("runs")
    name: str | None = None
    device: str = "auto"
    num_workers: int = 2
    tensorboard: bool = False


def train(
    settings: Settings, *, recipe: str, options: TrainOptions, reporter: Reporter
) -> tuple[RunFolder, Report]:
    """Train, or go on training, and evaluate the test split.

    The folder is ``<out>/<recipe>-<hash of settings and data>``: the same command goes on where it
    stopped, and does nothing once the run is finished.

    Raises
    ------
    EventKitError
        For shards, weights or settings that do not fit; says the cure.
    """
    settings = _with_absolute_weights(settings)
    device = choose_device(options.device)
    shards = ShardSet.open(options.shards)
    spec = describe(shards, splits=_filled(shards))
    check_splits(shards)
    sha256 = settings_hash(
        settings, plan_id=spec.plan_id, weights_sha256=_file_sha256(settings.model.weights)
    )
    run = RunFolder(options.out / (options.name or f"{recipe}-{sha256[:10]}"))
    if run.exists:
        run.check_same(settings, settings_sha256=sha256, data=spec)
        if run.finished:
            reporter.note(f"{run.path} is finished: nothing to do")
            result = (run.path / "result.json").read_bytes()
            return run, msgspec.json.decode(result, type=Report)
    model, trunk = build_model(settings, num_classes=len(spec.classes), device=device)
    if trunk.kind == "random":
        reporter.note(RANDOM_TRUNK_WARNING)
    facts = RunFacts(
        recipe=recipe,
        settings_sha256=sha256,
        data=spec,
        trunk=TrunkFacts(**{f: getattr(trunk, f) for f in TrunkFacts.__struct_fields__}),
        versions={name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy")},
    )
    with run.locked():
        run.start(settings, facts)
        report = _fit(run, model, settings, shards, spec, device, options, reporter)
    return run, report


def _fit(
    run: RunFolder,
    model: VELoRA,
    settings: Settings,
    shards: ShardSet,
    spec: DataSpec,
    device: torch.device,
    options: TrainOptions,
    reporter: Reporter,
) -> Report:
    loaders = {
        split: _loader(shards, split, spec, settings, options, learns=split == "train")
        for split in _filled(shards)
    }
    sizes = ", ".join(f"{len(loader.dataset)} {split}" for split, loader in loaders.items())
    reporter.note(
        f"{run.path}: {sizes} clips, {len(spec.classes)} classes, {spec.bins} bins of "
        f"{spec.representation}; {' + '.join(model.streams)} at "
        f"{'x'.join(map(str, model.image_size_hw))} on {device}"
    )
    if "val" not in loaders:
        reporter.note("no val split: the last epoch is kept, for the test split never selects")
    trainer = Trainer(
        model,
        settings=settings.train,
        rec_weight=settings.model.rec_weight,
        train=loaders["train"],
        val=loaders.get("val"),
        run=run,
        device=device,
        reporter=reporter,
        tensorboard=options.tensorboard,
    )
    reporter.parameters(parameter_table(model))
    if trainer.resume():
        reporter.note(f"going on after epoch {trainer.epochs_done}")
    best = trainer.fit()
    run.load_weights(model)
    report = evaluate(
        model,
        loaders["test"],
        device=device,
        plan_id=spec.plan_id,
        classes=[spec.classes[i] for i in spec.class_ids],
        epoch=best,
        progress=_checking(reporter, loaders["test"]),
    )
    write_atomic(run.path / "confusion.csv", confusion_csv(report).encode())
    run.write_json("result.json", report)
    return report


def evaluate_run(
    path: Path,
    *,
    shards_path: Path | str,
    split: str = "test",
    weights: str | None = None,
    device_name: str = "auto",
    batch_size: int | None = None,
    num_workers: int = 2,
    reporter: Reporter,
) -> tuple[Path, Report]:
    """Evaluate the best epoch of a run on a split; returns where the report was written.

    The trunk is built again from the run's record and must be the one it was trained on, which
    its hash tells; ``weights`` says where its file lies now.
    """
    run = RunFolder(path)
    settings, facts = run.read()
    device = choose_device(device_name)
    shards = ShardSet.open(shards_path)
    if split not in _filled(shards):
        msg = f"{shards_path} has no {split} samples; it has {', '.join(_filled(shards)) or 'none'}"
        raise MissingDataError(msg)
    check_labels(shards, split)
    spec = describe(shards, splits=[split])
    check_fits(spec, facts.data)
    if weights is not None:
        changed = msgspec.structs.replace(settings.model, weights=weights)
        settings = msgspec.structs.replace(settings, model=changed)
    model, trunk = build_model(settings, num_classes=len(facts.data.classes), device=device)
    if trunk.sha256 != facts.trunk.sha256:
        msg = (
            f"this trunk ({trunk.kind}: {trunk.origin}) is not the one that {path} was trained on "
            f"({facts.trunk.kind}: {facts.trunk.origin}); give its file with --weights"
        )
        raise SettingsError(msg)
    if trunk.kind == "random":
        reporter.note(RANDOM_TRUNK_WARNING)
    run.load_weights(model)
    options = TrainOptions(shards=shards_path, num_workers=num_workers)
    loader = _loader(shards, split, facts.data, settings, options, batch_size=batch_size)
    state = run.load_state()
    report = evaluate(
        model,
        loader,
        device=device,
        plan_id=spec.plan_id,
        classes=[facts.data.classes[i] for i in facts.data.class_ids],
        epoch=state["best"]["epoch"] if state else 0,
        progress=_checking(reporter, loader),
    )
    name = f"eval-{split}-{spec.plan_id[:8]}"
    write_atomic(path / f"{name}.csv", confusion_csv(report).encode())
    return run.write_json(f"{name}.json", report), report


def _filled(shards: ShardSet) -> list[str]:
    known = ("train", "val", "test")
    return [split for split in known if split in shards.splits and shards.num_samples(split)]


def _loader(
    shards: ShardSet,
    split: str,
    spec: DataSpec,
    settings: Settings,
    options: TrainOptions,
    *,
    batch_size: int | None = None,
    learns: bool = False,
) -> ClipLoader:
    cache_bytes = _TRAIN_CACHE_BYTES if learns else _EVAL_CACHE_BYTES
    return ClipLoader(
        ClipDataset(shards, split, spec=spec, cache_bytes=cache_bytes),
        batch_size=batch_size or settings.train.batch_size,
        num_threads=options.num_workers,
        shuffle_seed=settings.train.seed if learns else None,
        augment=settings.data if learns else None,
    )


def _checking(reporter: Reporter, loader: ClipLoader) -> Callable[[str, int], None]:
    split, total = loader.dataset.split, len(loader.dataset)
    return lambda view, done: reporter.checking(f"{split} {view}", done, total)


def _with_absolute_weights(settings: Settings) -> Settings:
    """Let a run find its weights again from another working directory."""
    if settings.model.weights is None:
        return settings
    path = str(Path(settings.model.weights).expanduser().resolve())
    model = msgspec.structs.replace(settings.model, weights=path)
    return msgspec.structs.replace(settings, model=model)


def _file_sha256(path: str | None) -> str | None:
    if path is None:
        return None
    if not Path(path).is_file():
        msg = f"no weights file {path}; give --weights a safetensors file"
        raise MissingDataError(msg)
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
