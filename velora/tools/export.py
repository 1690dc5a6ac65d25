"""The command ``velora-export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventkit.cli.text import echo
from velora.tools.common import CONTEXT, FILE, WEIGHTS, running, told

if TYPE_CHECKING:
    from velora.files.export import Exported
    from velora.model.classifier import Classifier
    from velora.settings import Settings
    from velora.training.checkpoint import RunFacts

_FORMATS = ("safetensors", "onnx", "torch", "peft")


@click.command(context_settings=CONTEXT)
@click.argument("run", type=FILE)
@click.option("--to", "to", type=click.Choice(_FORMATS), required=True, help="See below.")
@click.option("--out", type=FILE, required=True, help="File to write; for peft a folder.")
@WEIGHTS
@click.option(
    "--frames", type=click.IntRange(1), help="Frames of a clip.  [default: those of the run]"
)
def main(*, run: Path, to: Any, out: Path, weights: Path | None, frames: int | None) -> None:
    """Write the trained model of RUN as files that need nothing of this package.

    safetensors: the weights with the adapters added, by their names in timm. onnx and torch: a
    graph from pictures (B, T, 3, H, W) in [0, 1] to logits. peft: a folder a stream that PEFT
    loads, and head.safetensors with what else was trained.

    What computes logits is compared with the run before it is kept. A file that is there already
    must be the same.
    """
    with running("velora-export"):
        import torch

        from velora.files.adapters import needs_separate_bias
        from velora.files.export import export
        from velora.opening import open_run

        settings, facts, model, _ = open_run(run, weights=weights, device=torch.device("cpu"))
        if facts.trunk.kind == "random":
            echo("note: the trunk of this run is random, nothing was pretrained")
        exported = export(
            model,
            out,
            to=to,
            frames=frames or settings.data.frames or facts.data.bins,
            description=_description(settings, facts, model),
            stored_differences=settings.data.diff == "stored",
        )
        echo(*_lines(exported, to))
        if to == "peft" and needs_separate_bias(model):
            echo("note: say block.attn.qkv_bias_separate = True for each block before PEFT loads")


def _description(settings: Settings, facts: RunFacts, model: Classifier) -> dict[str, Any]:
    """What somebody must know to build the trunk with timm alone and to feed the model."""
    from velora.files.adapters import trunk_name
    from velora.weights import timm_model

    data, m = facts.data, settings.model
    backbone, kwargs = timm_model(m.backbone, m.backbone_kwargs)
    return {
        "backbone": backbone,
        "backbone_kwargs": {**kwargs, **_as_built(model)},
        "classes": [data.classes[i] for i in data.class_ids],
        "event_input": settings.data.event_input,
        "fusion": m.fusion,
        "high_blocks": m.high_blocks,
        "image_size_hw": list(model.image_size_hw),
        "representation": data.representation,
        "settings_sha256": facts.settings_sha256,
        "streams": m.streams,
        "trunk": trunk_name(m.backbone, m.backbone_kwargs),
        "trunk_sha256": facts.trunk.sha256,
    }


def _as_built(model: Classifier) -> dict[str, Any]:
    """In what the trunk is otherwise than its settings say: the picture's size, no pooling."""
    from velora.model.paper import VELoRA

    height, width = model.image_size_hw
    built: dict[str, Any] = {"img_size": height if height == width else [height, width]}
    # Pooling by attention has weights, which a run drops: with "" timm makes none.
    if isinstance(model, VELoRA) and model.trunk.vit.global_pool == "map":
        built["global_pool"] = ""
    return built


def _lines(exported: Exported, to: str) -> list[str]:
    from velora.files.export import OPSET

    lines = []
    if exported.difference is not None:
        lines.append(
            f"largest difference of logits from the run: {exported.difference:.1e} "
            f"(at most {exported.tolerance:.1e} is taken for rounding)"
        )
    if to in ("onnx", "torch"):
        kind = f"ONNX opset {OPSET}" if to == "onnx" else "torch.export program"
        lines.append(f"{kind}, any number of clips, inputs: {', '.join(exported.inputs)}")
    return [*lines, *told(exported.files)]
