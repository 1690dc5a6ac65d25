"""The command ``velora-weights``."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventkit.cli.text import counted, echo
from eventkit.errors import SettingsError
from velora.tools.common import CONTEXT, FILE, running, told

if TYPE_CHECKING:
    from velora.files.weight_files import Weights

_FILE = click.argument("file", type=FILE)
_BACKBONE = click.option("--backbone", required=True, metavar="NAME", help="A timm name.")
_SETTINGS = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Passed on to timm.create_model, as img_size=384; may be repeated.",
)


@click.group(context_settings=CONTEXT)
def main() -> None:
    """Bring published weights of a ViT into the form that `velora-train --weights` takes."""


@main.command("import")
@_FILE
@_BACKBONE
@_SETTINGS
@click.option("--out", type=FILE, help="File to write.  [default: NAME.safetensors]")
def import_(*, file: Path, backbone: str, assignments: tuple[str, ...], out: Path | None) -> None:
    """Write FILE as safetensors with the names of timm, if it is exactly that model.

    FILE is a safetensors or torch file, the index of one in parts, or a folder with one, in the
    layout of Hugging Face (ViT, DeiT, DINOv2, CLIP, SigLIP), OpenCLIP, OpenAI CLIP, the DINOv2 hub
    or timm. Every tensor is used, or named as not used with the reason.
    """
    with running("velora-weights"):
        from velora.files.weight_files import write_weights

        weights = _read(file, backbone, assignments)
        kept = write_weights(weights, out or Path(f"{backbone}.safetensors"))
        echo(*told(kept))
        echo(f"now: velora-train --backbone {backbone} --weights {kept.paths[0]}")


@main.command("check")
@_FILE
@_BACKBONE
@_SETTINGS
def check(*, file: Path, backbone: str, assignments: tuple[str, ...]) -> None:
    """Say whether `import` would take FILE; nothing is written."""
    with running("velora-weights"):
        _read(file, backbone, assignments)
        echo(f"{file} fits {backbone}")


def _read(file: Path, backbone: str, assignments: tuple[str, ...]) -> Weights:
    from velora.files.weight_files import read_weights

    weights = read_weights(file, backbone=backbone, backbone_kwargs=_settings(assignments))
    numbers = sum(tensor.numel() for tensor in weights.tensors.values())
    tensors = counted(len(weights.tensors), "tensors")
    echo(f"{weights.layout}: {tensors}, {numbers:,} numbers, all of {backbone}")
    for reason, count in Counter(weights.unused.values()).items():
        names = [name for name, why in weights.unused.items() if why == reason]
        shown = ", ".join(names[:3]) + (", ..." if count > 3 else "")
        echo(f"not used, {reason}: {counted(count, 'tensors')} ({shown})")
    for note in weights.notes:
        echo(f"note: {note}")
    return weights


def _settings(assignments: tuple[str, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for word in assignments:
        key, equals, text = word.partition("=")
        try:
            settings[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            equals = ""
        if not equals:
            msg = f"expected KEY=VALUE with a value as in TOML, as img_size=384, got {word!r}"
            raise SettingsError(msg)
    return settings
