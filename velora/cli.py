"""The commands ``velora-train`` and ``velora-eval``: flags, exit codes, what is printed.

Exit codes are those of `eventkit.cli.run`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from eventkit._optional import check_installed
from eventkit.cli.run import exit_codes
from eventkit.cli.text import echo
from eventkit.errors import SettingsError

# Threads that spin while they wait for each other cost a factor of ten where the cores are shared
# (measured: 3 s and 39 s for the same epoch). Must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_LIBRARIES = ("msgspec", "PIL", "rich", "safetensors", "torch", "timm")
_SPLITS = click.Choice(["train", "val", "test"])
_DEVICES = click.Choice(["auto", "cpu", "cuda"])
_PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--shards", default="shards", help="Folder or URL of `eventkit shard`.")
@click.option("--recipe", default="default", help="A packaged recipe or a TOML file.")
@click.option("--streams", type=click.Choice(["fusion", "rgb", "event"]), help="Senses to learn.")
@click.option("--backbone", help="A timm name of a plain ViT.")
@click.option("--weights", type=_PATH, help="Local safetensors file of the backbone.")
@click.option("--random-trunk", is_flag=True, help="Use an untrained trunk, on purpose.")
@click.option("--img-size", type=int, help="Side of the pictures in pixels.")
@click.option("--high-blocks", type=int, help="Last blocks, which see all streams together.")
@click.option("--rank", type=int, help="Rank of the adapters.")
@click.option("--alpha", type=float, help="Scale of the adapters is alpha / rank.")
@click.option("--rec-weight", type=float, help="Weight of the reconstruction loss.")
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int, help="Clips a step.")
@click.option("--lr", type=float, help="Highest learning rate.")
@click.option("--weight-decay", type=float)
@click.option("--seed", type=int)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other setting, as train.mixup=0.2; may be repeated.",
)
@click.option("--device", type=_DEVICES, default="auto", help="auto is cuda where there is one.")
@click.option("--num-workers", type=click.IntRange(0), default=2, help="Decoding threads.")
@click.option("--out", type=_PATH, default="runs", help="Folder of runs.")
@click.option("--name", help="Name of the run's folder.  [default: RECIPE-HASH]")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard files too.")
@click.option("--devices", type=click.IntRange(1), default=1, help="Processes, a GPU each.")
@click.option("--deterministic", is_flag=True, help="Only algorithms that repeat their bits.")
@click.option("--checkpointing", is_flag=True, help="Less memory, more time.")
@click.option(
    "--save-every", type=click.FloatRange(min=0.0), default=120.0, help="Seconds between states."
)
@click.option("--compile", "compiles", is_flag=True, help="Make the blocks faster first.")
@click.option("-v", "--verbose", is_flag=True, help="Log what is loaded and from where.")
def train(
    *,
    shards: str,
    recipe: str,
    weights: Path | None,
    random_trunk: bool,
    assignments: tuple[str, ...],
    device: str,
    num_workers: int,
    out: Path,
    name: str | None,
    tensorboard: bool,
    devices: int,
    deterministic: bool,
    checkpointing: bool,
    compiles: bool,
    save_every: float,
    verbose: bool,
    **flags: Any,
) -> None:
    """Train VELoRA on the shards that `eventkit shard` made, then measure it on the test split.

    The same command goes on after an interruption and does nothing once the run is finished. Flags
    override the recipe.
    """
    if weights is not None and random_trunk:
        msg = "--weights and --random-trunk exclude each other"
        raise click.UsageError(msg)
    saved = "the last step that was saved is kept, and the same command goes on from there"
    lower = "lower --batch-size (or --img-size)"
    with exit_codes(go_on=saved), _out_of_memory(lower), _logging(verbose=verbose):
        if "RANK" in os.environ:  # of torchrun
            # It ends a process for the fault of another, whose message is the one to read; and no
            # signal waits for a collective.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        check_installed(_LIBRARIES, extra="velora", purpose="velora-train")
        # torch and timm take seconds to import; --help should not wait for them.
        if devices > 1 and "RANK" not in os.environ:
            from velora.training.launch import launch

            program = [sys.executable, "-c", "from velora.cli import train; train()"]
            sys.exit(launch([*program, *sys.argv[1:]], processes=devices))
        from velora import run as runs
        from velora.config import load_settings, parse_assignments
        from velora.report.text import report_lines
        from velora.training.progress import make_reporter

        overrides = parse_assignments(assignments) | _overrides(flags, weights, random_trunk)
        short, settings = load_settings(recipe, overrides)
        options = runs.TrainOptions(
            shards=shards,
            out=out,
            name=name,
            device=device,
            num_workers=num_workers,
            tensorboard=tensorboard,
            deterministic=deterministic,
            compile=compiles,
            checkpointing=checkpointing,
            save_every_s=save_every,
        )
        reporter = make_reporter(sys.stdout)
        try:
            folder, report = runs.train(settings, recipe=short, options=options, reporter=reporter)
        finally:
            reporter.close()
        if os.environ.get("RANK", "0") == "0":
            for line in report_lines(report):
                echo(line)
            click.echo(f"run folder: {folder.path}")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("run", type=_PATH)
@click.option("--shards", default="shards", help="Folder or URL of `eventkit shard`.")
@click.option("--split", type=_SPLITS, default="test")
@click.option("--weights", type=_PATH, help="Where the trunk's weights file lies now.")
@click.option("--out", type=_PATH, help="Folder of the report.  [default: the run's]")
@click.option("--batch-size", type=click.IntRange(1), help="Clips at once.")
@click.option("--device", type=_DEVICES, default="auto", help="auto is cuda where there is one.")
@click.option("--num-workers", type=click.IntRange(0), default=2, help="Decoding threads.")
@click.option("--robustness", "spoilt", is_flag=True, help="Also spoil or hide each sense.")
@click.option("--other-settings", is_flag=True, help="Take clips made otherwise than the run's.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Log what is loaded and from where.")
def evaluate(
    *,
    run: Path,
    shards: str,
    split: str,
    weights: Path | None,
    out: Path | None,
    batch_size: int | None,
    device: str,
    num_workers: int,
    spoilt: bool,
    other_settings: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Measure a trained RUN: top-1 and top-5 with their errors, and the confusion matrix.

    A fusion model is also measured with RGB or events hidden ("by masking").
    """
    with exit_codes(), _out_of_memory("lower --batch-size"), _logging(verbose=verbose):
        check_installed(_LIBRARIES, extra="velora", purpose="velora-eval")
        import msgspec

        from velora.evaluate_run import evaluate_run
        from velora.report.text import report_lines, robustness_lines
        from velora.training.progress import make_reporter

        reporter = make_reporter(sys.stderr if as_json else sys.stdout)
        try:
            written, report, found = evaluate_run(
                run,
                shards_path=shards,
                split=split,
                weights=None if weights is None else str(weights),
                out=out,
                device_name=device,
                batch_size=batch_size,
                num_workers=num_workers,
                spoilt=spoilt,
                other_settings=other_settings,
                reporter=reporter,
            )
        finally:
            reporter.close()
        if as_json:
            click.echo(msgspec.json.encode(report))
        else:
            echo(*report_lines(report))
        if found is not None:
            echo(*robustness_lines(found), err=as_json)
        if as_json:
            return
        click.echo(f"written: {written}, and {written.with_suffix('.html').name} beside it")


def _overrides(
    flags: dict[str, Any], weights: Path | None, random_trunk: bool
) -> dict[str, object]:
    import msgspec

    tables = {
        "model": ("streams", "backbone", "img_size", "high_blocks", "rec_weight"),
        "lora": ("rank", "alpha"),
        "train": ("epochs", "batch_size", "lr", "weight_decay", "seed"),
    }
    overrides: dict[str, object] = {
        f"{table}.{key}": flags[key]
        for table, keys in tables.items()
        for key in keys
        if flags[key] is not None
    }
    # The two ways to a trunk replace each other, whatever the recipe says.
    if weights is not None:
        overrides |= {"model.weights": str(weights), "model.random_trunk": False}
    if random_trunk:
        overrides |= {"model.weights": msgspec.UNSET, "model.random_trunk": True}
    return overrides


@contextmanager
def _logging(*, verbose: bool) -> Iterator[None]:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(name)s: %(message)s",
        stream=sys.stderr,
    )
    yield


@contextmanager
def _out_of_memory(cure: str) -> Iterator[None]:
    """Say how to need less, where the memory of the machine or the device ran out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        from velora.out_of_memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        msg = f"out of memory: {cure}"
        raise SettingsError(msg) from error
