"""Stored differences are those of the pictures where they must be, or they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from velora_helpers import TINY_RECIPE, make_sample, write_shards

from eventkit.differences import frame_difference
from eventkit.errors import EventKitError
from eventkit.samples import Sample, decode_images
from eventkit.shards import ShardSet
from velora.config import load_settings
from velora.data import Batch, ClipDataset, ClipLoader, describe
from velora.data.clip_frames import clip_frames
from velora.frames.frames import Frames, difference_frames
from velora.run import TrainOptions, train
from velora.settings import DataSettings
from velora.training.progress import PlainReporter
from velora.training.step_log import read_steps

CPU = torch.device("cpu")
SIDE = 32  # of the model's pictures too, so that nothing is resized
BOTH = ("rgb", "event")


def with_differences(sample: Sample) -> Sample:
    object.__setattr__(sample, "diff_events", frame_difference(sample.events))
    object.__setattr__(sample, "diff_rgb", frame_difference(decode_images(sample.rgb)))
    return sample


def write_set(path: Path, **options: Any) -> Path:
    rng = np.random.default_rng(0)
    senses = [BOTH, ("rgb",), ("event",)]
    splits = {
        split: [
            with_differences(
                make_sample(
                    f"{split}{i:02d}_000000",
                    label=i % 3,
                    rng=rng,
                    sizes=(SIDE, SIDE),
                    senses=senses[i // 3 % 3],
                    static=i % 2 == 1,
                    **options,
                )
            )
            for i in range(size)
        ]
        for split, size in {"train": 18, "test": 9}.items()
    }
    return write_shards(path, splits, classes={0: "a", 1: "b", 2: "c"})


@pytest.fixture(scope="module")
def stored_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts of at most three events, far from where they are cut off."""
    return write_set(tmp_path_factory.mktemp("d") / "shards")


def batch_of(path: Path, settings: DataSettings) -> tuple[Batch, ClipDataset]:
    shards = ShardSet.open(path)
    dataset = ClipDataset(shards, "train", spec=describe(shards), settings=settings)
    loader = ClipLoader(dataset, batch_size=18, num_threads=0, shuffle_seed=2, augment=settings)
    (batch,) = loader.epoch(senses=BOTH)
    return batch, dataset


def frames_of(batch: Batch, dataset: ClipDataset, **options: Any) -> dict[str, Frames]:
    return clip_frames(
        batch, events=dataset.event_input, size_hw=(SIDE, SIDE), device=CPU, **options
    )


def dense(frames: Frames) -> torch.Tensor:
    """(B, T, 3, H, W), zero where a clip has none."""
    images = torch.cat([frames.images, torch.zeros(1, *frames.images.shape[1:])])
    return images[frames.index]


@pytest.mark.parametrize("moving", [("rgb", "event"), ("rgb",), ("event",)])
def test_stored_differences_are_those_made_on_the_device(
    stored_set: Path, moving: tuple[str, ...]
) -> None:
    # A shift repeats the edge of RGB, which differs from frame to frame; a difference has none.
    settings = DataSettings(event_input="counts", diff="stored", shift=0.0, flip=True)
    batch, dataset = batch_of(stored_set, settings)
    assert any(change.flip for change in batch.changes)

    made = frames_of(batch, dataset, moving=moving)

    expected = difference_frames([made[sense] for sense in moving])
    torch.testing.assert_close(dense(made["diff"]), dense(expected), rtol=1e-5, atol=1e-6)
    assert ((made["diff"].index < 0) == (expected.index < 0)).all()
    assert float(dense(expected).max()) > 0.3


def test_stored_differences_are_shifted_and_scaled_as_the_pictures_are(stored_set: Path) -> None:
    settings = DataSettings(event_input="counts", diff="stored", shift=0.2, color=0.1)
    batch, dataset = batch_of(stored_set, settings)

    made = frames_of(batch, dataset)

    rgb, event = dense(made["rgb"]), dense(made["event"])
    expected = ((rgb[:, 1:] - rgb[:, :-1]).abs() + (event[:, 1:] - event[:, :-1]).abs()) / 2
    both = torch.tensor([clip.has("rgb") and clip.has("event") for clip in batch.clips])
    # Away from the edge, and where brightness and contrast cut nothing off.
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[7:-7, 7:-7] = True
    unclipped = ((rgb > 0) & (rgb < 1))[:, 1:] & ((rgb > 0) & (rgb < 1))[:, :-1]
    seen = both[:, None, None, None, None] & inside & unclipped
    assert int(seen.sum()) > 5_000
    torch.testing.assert_close(dense(made["diff"])[seen], expected[seen], rtol=1e-4, atol=1e-5)


def test_what_is_stored_is_what_eventkit_calls_a_difference(stored_set: Path) -> None:
    batch, dataset = batch_of(
        stored_set, DataSettings(event_input="counts", diff="stored", shift=0.0)
    )

    made = dense(frames_of(batch, dataset)["diff"])

    for row, clip in enumerate(batch.clips):
        total = torch.zeros(2, 3, SIDE, SIDE)
        if clip.has("event"):
            off, on = torch.from_numpy(frame_difference(clip.events)).float().unbind(1)
            total += torch.stack([off, on, on], dim=1) / 4  # the cap of the input
        if clip.has("rgb"):
            gray = torch.from_numpy(frame_difference(clip.rgb[clip.rgb_index])).float()
            total += gray.permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(made[row], total / 2, rtol=1e-5, atol=1e-6)


def test_a_hidden_sense_is_in_no_stored_difference(stored_set: Path) -> None:
    batch, dataset = batch_of(
        stored_set, DataSettings(event_input="counts", diff="stored", shift=0.0)
    )

    hidden = frames_of(batch, dataset, senses=("rgb",))

    on_device = difference_frames([hidden["rgb"], hidden["event"]])
    torch.testing.assert_close(dense(hidden["diff"]), dense(on_device), rtol=1e-5, atol=1e-6)
    absent = torch.tensor([not clip.has("rgb") for clip in batch.clips])
    assert ((hidden["diff"].index[:, 0] < 0) == absent).all()


def run_train(path: Path, out: Path, **changes: object) -> Path:
    (out.parent / "tiny.toml").write_text(TINY_RECIPE)
    settings = load_settings(
        str(out.parent / "tiny.toml"),
        {"lora.dropout": 0.0, "data.shift": 0.0, "data.event_input": "counts", **changes},
    )[1]
    options = TrainOptions(shards=path, out=out, device="cpu")
    return train(settings, recipe="tiny", options=options, reporter=PlainReporter())[0].path


def test_a_run_on_stored_differences_has_the_curve_of_one_that_makes_them(
    stored_set: Path, tmp_path: Path
) -> None:
    runs = {
        diff: run_train(stored_set, tmp_path / diff, **{"data.diff": diff})
        for diff in ("device", "stored")
    }

    curves = {
        diff: [[line[k] for k in ("loss", "rec_loss", "grad_norm")] for line in read_steps(run)]
        for diff, run in runs.items()
    }
    assert len(curves["device"]) == 6
    np.testing.assert_allclose(curves["stored"], curves["device"], rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data.event_input": "redblue"}, "'redblue' is not: set data.event_input = 'counts'"),
        ({"data.frames": 2}, "all 3 frames, not of 2"),
        ({"train.mixup": 0.2}, "no mixtures of differences"),
        ({"data.frames": 4, "data.diff": "device"}, r"at most the 3 bins .* --bins 4"),
    ],
)
def test_what_stored_differences_cannot_be_used_with_is_refused_before_anything_is_written(
    stored_set: Path, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(EventKitError, match=reason):
        run_train(stored_set, tmp_path / "runs", **{"data.diff": "stored", **changes})

    assert not (tmp_path / "runs").exists()


def test_shards_without_differences_are_refused_with_the_flag_that_makes_them(
    shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(EventKitError, match=r"lacks diff_events and diff_rgb.* --with-diffs"):
        run_train(shards, tmp_path / "runs", **{"data.diff": "stored"})


def test_fewer_frames_are_evenly_spaced_ones_in_both_senses(tmp_path: Path) -> None:
    path = write_set(tmp_path / "shards", bins=8)
    whole, _ = batch_of(path, DataSettings(shift=0.0))
    part, dataset = batch_of(path, DataSettings(shift=0.0, frames=3))
    kept = [1, 4, 6]

    for a, b in zip(whole.clips, part.clips, strict=True):
        assert a.key == b.key
        if a.has("event"):
            assert np.array_equal(a.events[kept], b.events)
        if a.has("rgb"):
            assert np.array_equal(a.rgb[a.rgb_index[kept]], b.rgb[b.rgb_index])
    assert frames_of(part, dataset)["event"].index.shape == (18, 3)
