"""Training clips that are shown without one of their senses: data.drop_sense."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from eventkit.errors import SettingsError
from eventkit.shards import ShardSet
from velora.config import load_settings
from velora.data import ClipDataset, ClipLoader, describe
from velora.data.clip_frames import clip_frames
from velora.frames.augment import draw_change
from velora.frames.frames import Frames, hide
from velora.run import TrainOptions, train
from velora.settings import DataSettings
from velora.training.progress import PlainReporter
from velora.training.step_log import read_steps

CPU = torch.device("cpu")
BOTH = ("rgb", "event")


def test_either_sense_is_hidden_as_often_and_nothing_else_changes() -> None:
    plain, dropping = (
        DataSettings(shift=0.1, crop=0.2),
        DataSettings(shift=0.1, crop=0.2, drop_sense=0.4),
    )
    drawn = []
    for seed in range(4000):
        a, b = (draw_change(s, np.random.default_rng(seed)) for s in (plain, dropping))
        assert a.hidden is None
        assert (a.down, a.right, a.side, a.top) == (b.down, b.right, b.side, b.top)
        drawn.append(b.hidden)

    counts = Counter(drawn)
    for sense in BOTH:  # five standard deviations of 4,000 draws
        assert abs(counts[sense] / 4000 - 0.2) < 5 * (0.2 * 0.8 / 4000) ** 0.5


def test_frames_of_hidden_clips_go_with_their_images() -> None:
    frames = Frames(
        torch.arange(5.0).view(5, 1, 1, 1), torch.tensor([[0, 0], [1, 2], [-1, -1], [3, 4]])
    )

    left = hide(frames, torch.tensor([False, True, True, False]))

    assert left.images.flatten().tolist() == [0, 3, 4]
    assert left.index.tolist() == [[0, 0], [-1, -1], [-1, -1], [1, 2]]
    assert hide(frames, torch.zeros(4, dtype=torch.bool)) is frames
    assert len(hide(frames, torch.ones(4, dtype=torch.bool)).images) == 0


@pytest.mark.parametrize("held", [BOTH, ("rgb",), ("event",)])
@pytest.mark.parametrize("senses", [BOTH, ("rgb",), ("event",)])
def test_what_a_clip_shows_alone_is_never_hidden(
    make_shards, held: tuple[str, ...], senses: tuple[str, ...]
) -> None:
    shards = ShardSet.open(make_shards(senses=held))
    dataset = ClipDataset(shards, "train", spec=describe(shards))
    augment = DataSettings(drop_sense=1.0)
    loader = ClipLoader(dataset, batch_size=8, shuffle_seed=0, augment=augment)
    met: Counter[str] = Counter()
    for batch in loader.epoch(senses=senses):
        frames = clip_frames(
            batch, events=dataset.event_input, size_hw=(16, 16), device=CPU, senses=senses
        )
        shown = {sense: (frames[sense].index[:, 0] >= 0).tolist() for sense in BOTH}
        for row in range(len(batch)):
            (sees,) = [sense for sense in BOTH if shown[sense][row]]
            met[sees] += 1
        assert batch.clips_of_both_senses == 0

    assert met.keys() == set(held) & set(senses)


def test_a_run_with_it_repeats_itself_and_evaluates_whole_clips(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    def run(name: str, **changes: object):
        settings = load_settings(str(tiny_recipe), {"train.epochs": 2, **changes})[1]
        options = TrainOptions(shards=shards, out=tmp_path, name=name, device="cpu")
        made, report = train(settings, recipe="tiny", options=options, reporter=PlainReporter())
        return [line["loss"] for line in read_steps(made.path)], report

    plain, _ = run("a")
    first, report = run("b", **{"data.drop_sense": 0.5})
    again, same = run("c", **{"data.drop_sense": 0.5})

    assert first == again
    assert report.scores == same.scores
    assert first != plain
    assert report.scores[0].samples == 9


@pytest.mark.parametrize("changes", [{"model.mode": "compat"}, {"data.diff": "stored"}])
def test_what_it_cannot_go_with_is_refused(
    changes: dict[str, object], shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    settings = load_settings(str(tiny_recipe), {"data.drop_sense": 0.5, **changes})[1]

    with pytest.raises(SettingsError, match=r"set data.drop_sense = 0"):
        train(
            settings,
            recipe="tiny",
            options=TrainOptions(shards=shards, out=tmp_path, device="cpu"),
            reporter=PlainReporter(),
        )
