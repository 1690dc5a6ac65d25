"""What is drawn and weighed equally are the clips that the model can see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from velora_helpers import make_sample, write_shards

from eventkit.errors import DamageError
from eventkit.shards import ShardSet
from velora.build import build_model
from velora.config import load_settings
from velora.data import ClipDataset, ClipLoader, describe
from velora.data.seen import seen_clips
from velora.training.checkpoint import RunFolder
from velora.training.progress import PlainReporter
from velora.training.trainer import Trainer

BOTH = ("rgb", "event")
CPU = torch.device("cpu")


def write(folder: Path) -> Path:
    """48 clips, half of each class; of the second class 18 of 24 have events alone."""
    rng = np.random.default_rng(0)
    samples = [
        make_sample(
            f"k{i:02d}_000000",
            label=i % 2,
            rng=rng,
            senses=("event",) if i % 2 and i // 2 % 4 else BOTH,
        )
        for i in range(48)
    ]
    return write_shards(folder / "s", {"train": samples}, classes={0: "a", 1: "b"})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    shards = ShardSet.open(write(tmp_path_factory.mktemp("m")))
    return ClipDataset(shards, "train", spec=describe(shards))


def loader_of(dataset: ClipDataset) -> ClipLoader:
    return ClipLoader(dataset, batch_size=8, shuffle_seed=0, sampling="balanced", num_threads=0)


def drawn(loader: ClipLoader, epoch: int, senses: tuple[str, ...]) -> list[int]:
    labels = [batch.labels.numpy() for batch in loader.epoch(epoch, senses=senses)]
    return np.bincount(np.concatenate(labels), minlength=2).tolist()


def test_what_is_seen_of_a_clip_is_what_it_is_when_decoded(dataset: ClipDataset) -> None:
    for senses in (("rgb",), ("event",), BOTH):
        expected = [
            any(clip.has(s) for s in senses) for clip in map(dataset.__getitem__, range(48))
        ]
        found = seen_clips(dataset.shards, "train", senses)
        assert found.tolist() == expected
    assert seen_clips(dataset.shards, "train", ("rgb",)).sum() == 30


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_model_of_one_sense_sees_every_class_equally_often(
    dataset: ClipDataset, epoch: int
) -> None:
    loader = loader_of(dataset)

    assert drawn(loader, epoch, ("rgb",)) == [15, 15]
    assert drawn(loader, epoch, BOTH) == [24, 24]


def test_a_sense_that_no_clip_has_leaves_nothing_to_draw(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [make_sample(f"k{i}", label=i % 2, rng=rng, senses=("event",)) for i in range(8)]
    path = write_shards(tmp_path / "s", {"train": samples}, classes={0: "a", 1: "b"})
    shards = ShardSet.open(path)
    loader = loader_of(ClipDataset(shards, "train", spec=describe(shards)))

    assert list(loader.epoch(1, senses=("rgb",))) == []


def test_classes_weigh_by_the_clips_that_the_model_sees(
    dataset: ClipDataset, tiny_recipe: Path, tmp_path: Path
) -> None:
    def weights(streams: str) -> list[float]:
        changes = {"model.streams": streams, "train.class_weights": "balanced"}
        settings = load_settings(str(tiny_recipe), changes)[1]
        model, _ = build_model(settings, num_classes=2, device=CPU)
        trainer = Trainer(
            model,
            settings=settings.train,
            rec_weight=0.0,
            train=ClipLoader(dataset, batch_size=8, shuffle_seed=0),
            val=None,
            run=RunFolder(tmp_path),
            device=CPU,
            reporter=PlainReporter(),
        )
        found: list[float] = trainer.update.class_weights.tolist()
        return found

    assert weights("fusion") == [1.0, 1.0]
    assert weights("rgb") == [30 / (2 * 24), 30 / (2 * 6)]


def test_a_sample_that_does_not_say_what_it_has_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    shards = ShardSet.open(path)
    index = shards.index("train")
    with (path / "train" / "train-000000.tar").open("r+b") as file:
        file.seek(int(index.offset[7, index.fields.index("json")]))
        file.write(b"!")

    with pytest.raises(DamageError, match=r"k07_000000 .*train-000000\.tar.*eventkit verify"):
        seen_clips(ShardSet.open(path), "train", ("rgb",))
