"""``python -m velora.compat.count``: what the release trains, counted from the built model.

The model is built at its full size with random values, and which tensors receive a gradient is
found by a backward pass: seconds on two cores, 1.9 GB.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import click
import torch
from torch.nn import functional as F

from eventkit.cli.run import exit_codes
from velora.compat.keys import text_shapes
from velora.compat.model import CompatVELoRA
from velora.compat.towers import STREAMS
from velora.frames.frames import Frames
from velora.model.backbone import timm
from velora.model.lora import Adapter
from velora.model.trunk import Trunk
from velora.settings import CompatSettings, LoraSettings, ModelSettings

_CLIP_SPACE = 512


class Row(NamedTuple):
    """Trained numbers of one part of the model."""

    part: str
    registered: int
    with_gradient: int


class Tower(NamedTuple):
    """Parameters of one of the three adapted CLIP models."""

    visual: int
    text: int
    visual_lora: int
    text_lora: int

    @property
    def lora(self) -> int:
        """Those of all its adapters."""
        return self.visual_lora + self.text_lora

    @property
    def total(self) -> int:
        """All of them."""
        return self.visual + self.text + self.lora


def random_model(*, num_classes: int) -> CompatVELoRA:
    """Build the model as released, with random values, which count like any others."""
    # The usual draw of timm takes three times as long.
    vit = timm.create_model(ModelSettings().backbone, num_classes=0, weight_init="moco")
    trunk = Trunk(vit, num_high=1)
    lora = LoraSettings()
    return CompatVELoRA(
        trunk,
        torch.randn(trunk.width, _CLIP_SPACE),
        num_classes=num_classes,
        adapter=Adapter(lora.rank, lora.alpha, lora.dropout),
        compat=CompatSettings(),
    )


def trained_rows(model: CompatVELoRA) -> list[Row]:
    """Count what trains by part, in the order of the model; the last row is the sum.

    Leaves the gradients of a backward pass over one clip in the model.
    """
    _backward(model)
    rows: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        for part, count in model.parts(name, parameter.numel()):
            row = rows.setdefault(part, [0, 0])
            row[0] += count
            row[1] += count * (parameter.grad is not None)
    counted = [Row(part, *counts) for part, counts in rows.items()]
    return [*counted, Row("all", *(sum(column) for column in zip(*rows.values(), strict=True)))]


def _backward(model: CompatVELoRA) -> None:
    """Send one random clip of two frames forward and backward in training mode."""
    model.train()
    event = torch.rand(2, 3, *model.image_size_hw)
    frames = {
        "rgb": Frames(event[:1].flip(-1), torch.tensor([[0, 0]])),
        "event": Frames(event, torch.tensor([[0, 1]])),
    }
    output = model(frames)
    assert output.rec_loss is not None
    torch.autograd.backward(F.nll_loss(output.logits, torch.tensor([0])) + output.rec_loss)


def tower(model: CompatVELoRA) -> Tower:
    """Count one CLIP model; its frozen text tower is counted from its shapes alone."""
    assert model.text is not None
    own = dict(model.towers.named_parameters())
    return Tower(
        visual=sum(p.numel() for name, p in own.items() if ".lora_" not in name),
        text=sum(prod(shape) for shape in text_shapes(space=_CLIP_SPACE).values()),
        visual_lora=sum(p.numel() for name, p in own.items() if ".lora_" in name) // len(STREAMS),
        text_lora=sum(p.numel() for p in model.text.parameters()) // len(STREAMS),
    )


def mib(numbers: int) -> float:
    """Size in float32, MiB."""
    return numbers * 4 / 2**20


def report_lines(one: Tower, rows: list[Row]) -> list[str]:
    """Format the counts as docs/reproduce.md quotes them."""
    num_towers = len(STREAMS)
    lines = ["one of the three CLIP ViT-B/16 with LoRA          numbers       MiB"]
    lines += [
        _line(label, count)
        for label, count in (
            ("  visual tower, frozen", one.visual),
            ("  text tower, frozen", one.text),
            ("  LoRA of the visual tower", one.visual_lora),
            ("  LoRA of the text tower", one.text_lora),
            ("  LoRA of both", one.lora),
            ("  all", one.total),
            ("three of them", num_towers * one.total),
            ("  their LoRA", num_towers * one.lora),
        )
    ]
    width = max(len(row.part) for row in rows)
    lines += ["", f"{'what trains':<{width}}     numbers  with gradient       MiB"]
    lines += [
        f"{row.part:<{width}}  {row.registered:>10,}  {row.with_gradient:>13,}"
        f"  {mib(row.registered):>8.2f}"
        for row in rows
    ]
    published = num_towers * round(mib(one.lora), 2)
    registered, used = rows[-1][1:]
    head = used - num_towers * one.visual_lora
    lines += [
        "",
        f"as published, {num_towers} x {mib(one.lora):.2f} = {published:.2f} of "
        f"{mib(num_towers * one.total):.0f} MiB: the LoRA of visual and text towers alone",
        f"left out: {head:,} numbers of the head ({mib(head):.1f} MiB), all with gradient",
        f"counted although without gradient: {num_towers * one.text_lora:,} of the text towers",
        f"what receives gradient: {used:,} of {registered:,} ({mib(used):.1f} MiB)",
    ]
    return lines


def _line(label: str, count: int) -> str:
    return f"{label:<44}  {count:>11,}  {mib(count):>8.2f}"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--num-classes", type=click.IntRange(1), default=114, help="PokerEvent has 114.")
def main(*, num_classes: int) -> None:
    """Count what the release trains: by tower, by part, and by what receives a gradient."""
    with exit_codes():
        model = random_model(num_classes=num_classes)
        for line in report_lines(tower(model), trained_rows(model)):
            click.echo(line)


if __name__ == "__main__":
    main()
