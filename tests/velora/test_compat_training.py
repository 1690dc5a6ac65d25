"""The released model goes through the training loop."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from test_compat_model import RANK, tiny_settings

from eventkit.shards import ShardSet
from velora.compat import build_compat
from velora.data import ClipDataset, ClipLoader, describe
from velora.training.checkpoint import RunFolder
from velora.training.parameters import parameter_table
from velora.training.progress import PlainReporter
from velora.training.trainer import Trainer


class Records(PlainReporter):
    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def epoch(self, record: dict[str, float], *, epochs: int) -> None:
        self.losses.append(record["loss"])


def test_it_trains_on_shards_and_leaves_what_is_frozen_or_unused_alone(
    shards: Path, tmp_path: Path
) -> None:
    opened = ShardSet.open(shards)
    spec = describe(opened)
    settings = tiny_settings(text_towers=True, dropout=0.01)
    train = msgspec.structs.replace(settings.train, epochs=3, batch_size=8, warmup_epochs=0.0)
    model, _ = build_compat(settings, num_classes=len(spec.classes))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    reporter = Records()

    Trainer(
        model,
        settings=train,
        rec_weight=1.0,
        train=ClipLoader(ClipDataset(opened, "train", spec=spec), batch_size=8),
        val=ClipLoader(ClipDataset(opened, "val", spec=spec), batch_size=6),
        run=RunFolder(tmp_path),
        device=torch.device("cpu"),
        reporter=reporter,
    ).fit()

    assert reporter.losses[-1] < reporter.losses[0]
    for name, parameter in model.named_parameters():
        idle = not parameter.requires_grad or name.startswith(("unused.", "text."))
        assert torch.equal(before[name], parameter) == idle, name
    rows = {row.part: row for row in parameter_table(model)}
    assert rows["text LoRA (no gradient)"].trainable == 3 * 12 * RANK * 2 * (512 + 2048)
    assert rows["trunk"].trainable == 0
    assert rows["total"].total == sum(p.numel() for p in model.parameters())
