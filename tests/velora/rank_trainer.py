"""What each process of `test_parallel` does: train in float64 and write down what it saw."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch

from eventkit.shards import ShardSet
from velora.build import build_model
from velora.config import load_settings
from velora.data import Batch, ClipDataset, ClipLoader, describe
from velora.data.clip_frames import clip_frames
from velora.frames.frames import Frames
from velora.parallel import joined
from velora.training.checkpoint import RunFolder, kept_tensors
from velora.training.options import SAVE_EVERY_S
from velora.training.progress import PlainReporter, Step
from velora.training.trainer import Trainer

CPU = torch.device("cpu")


class StopAt(PlainReporter):
    """Stops after a step, as a kill after its state would."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.left = last

    def step(self, step: Step) -> None:
        self.left -= 1
        if self.left < 0:
            raise SystemExit


def in_double(batch: Batch, dataset: ClipDataset) -> dict[str, Frames]:
    frames = clip_frames(batch, events=dataset.event_input, size_hw=(32, 32), device=CPU)
    return {name: Frames(f.images.double(), f.index) for name, f in frames.items()}


def main(
    rank: int,
    world_size: int,
    port: int,
    *,
    recipe: str,
    shards_path: str,
    out: str,
    changes: dict[str, object],
    last: int | None,
) -> None:
    """Train, up to step ``last`` if one is given, then with states after every step."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    settings = load_settings(recipe, changes)[1]
    shards = ShardSet.open(shards_path)
    dataset = ClipDataset(shards, "train", spec=describe(shards), settings=settings.data)
    with joined("cpu") as ranks:
        model, _ = build_model(settings, num_classes=3, device=CPU)
        model.double()
        loader = ClipLoader(
            dataset,
            batch_size=settings.train.batch_size,
            num_threads=1,
            shuffle_seed=settings.train.seed,
            augment=settings.data,
            sampling=settings.data.sampling,
            mixup=settings.train.mixup,
            parts=settings.train.accumulate,
            ranks=ranks,
        )
        Path(out).mkdir(exist_ok=True)
        trainer = Trainer(
            model,
            settings=settings.train,
            rec_weight=settings.model.rec_weight,
            train=loader,
            val=None,
            run=RunFolder(Path(out)),
            device=CPU,
            reporter=StopAt(10**9 if last is None else last),
            ranks=ranks,
            save_every_s=SAVE_EVERY_S if last is None else 0.0,
        )
        trainer.update.frames_of = partial(in_double, dataset=dataset)
        trainer.resume()
        trainer.fit()
        torch.save(kept_tensors(model), f"{out}/rank{ranks.rank}.pt")
