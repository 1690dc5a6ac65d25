"""Mixtures of clips: in both senses alike, before differences, the same for any division."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from velora_helpers import make_sample, write_shards

from eventkit.shards import ShardSet
from velora.data import Batch, ClipDataset, ClipLoader, describe
from velora.data.clip_frames import clip_frames
from velora.data.sampling import balanced_order, occurrences
from velora.frames.frames import Frames, difference_frames
from velora.frames.mixup import draw_share, mix_frames
from velora.parallel import Ranks
from velora.settings import DataSettings

CPU = torch.device("cpu")
BOTH = ("rgb", "event")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    rng = np.random.default_rng(0)
    senses = [BOTH, BOTH, ("event",), BOTH, ("rgb",), BOTH]
    samples = [
        make_sample(
            f"k{i:02d}_000000", label=i % 3, rng=rng, senses=senses[i % 6], static=i % 2 == 1
        )
        for i in range(18)
    ]
    names = {0: "a", 1: "b", 2: "c"}
    path = write_shards(tmp_path_factory.mktemp("m") / "s", {"train": samples}, classes=names)
    shards = ShardSet.open(path)
    return ClipDataset(shards, "train", spec=describe(shards))


def loader_of(dataset: ClipDataset, *, rank: int = 0, of: int = 1, parts: int = 1) -> ClipLoader:
    return ClipLoader(
        dataset,
        batch_size=6,
        num_threads=0,
        shuffle_seed=4,
        augment=DataSettings(shift=0.1, flip=True),
        mixup=0.5,
        parts=parts,
        ranks=Ranks(rank=rank, world_size=of),
    )


def frames_of(batch: Batch, dataset: ClipDataset) -> dict[str, Frames]:
    return clip_frames(batch, events=dataset.event_input, size_hw=(16, 16), device=CPU)


def dense(frames: Frames, row: int) -> torch.Tensor:
    return frames.images[frames.index[row]]


def test_a_mixed_clip_is_the_weighted_sum_of_two_in_both_senses_and_in_its_differences(
    dataset: ClipDataset,
) -> None:
    plain, mixed = loader_of(dataset), loader_of(dataset)
    plain.mixup = 0.0
    (batch, *_), (same, *_) = mixed.epoch(senses=BOTH), plain.epoch(senses=BOTH)
    assert batch.keys == same.keys
    found, clean = frames_of(batch, dataset), frames_of(same, dataset)

    rows = np.flatnonzero(batch.share < 1)
    assert len(rows) >= 2
    for row in rows:
        share, other = batch.share[row], batch.partner[row]
        assert 0.5 <= share < 1
        for sense in BOTH:
            if clean[sense].index[row, 0] < 0:
                assert clean[sense].index[other, 0] < 0
                continue
            expected = share * dense(clean[sense], row) + (1 - share) * dense(clean[sense], other)
            torch.testing.assert_close(dense(found[sense], row), expected, rtol=1e-5, atol=1e-6)
        moved = difference_frames([found["event"]])
        step = (dense(found["event"], row)[1:] - dense(found["event"], row)[:-1]).abs()
        torch.testing.assert_close(moved.images[moved.index[row]], step)
    for row in np.flatnonzero(batch.share == 1):
        for sense in BOTH:
            torch.testing.assert_close(dense(found[sense], row), dense(clean[sense], row))


def test_pairs_of_unequal_senses_are_left_alone(dataset: ClipDataset) -> None:
    mixed = [0, 0]
    for epoch in range(4):
        for batch in loader_of(dataset).epoch(epoch, senses=BOTH):
            for row, other in enumerate(batch.partner):
                a, b = batch.clips[row], batch.clips[other]
                assert (a.has("rgb"), a.has("event")) == (b.has("rgb"), b.has("event"))
                mixed[int(batch.share[row] < 1)] += 1
    assert min(mixed) > 10


def test_the_mixtures_of_an_epoch_depend_neither_on_processes_nor_on_parts(
    dataset: ClipDataset,
) -> None:
    def mixtures(of: int, parts: int) -> dict[str, tuple[str, float, float]]:
        return {
            key: (
                batch.clips[batch.partner[row]].key,
                float(batch.share[row]),
                batch.changes[batch.partner[row]].down,
            )
            for rank in range(of)
            for batch in loader_of(dataset, rank=rank, of=of, parts=parts).epoch(3, senses=BOTH)
            for row, key in enumerate(batch.keys)
        }

    alone = mixtures(1, 1)

    assert len(alone) == 18
    assert alone == mixtures(1, 4) == mixtures(3, 1) == mixtures(2, 2)


def test_static_images_are_mixed_once(dataset: ClipDataset) -> None:
    images = torch.rand(4, 3, 2, 2)
    frames = Frames(images, torch.tensor([[0, 0, 0], [1, 2, 3], [-1, -1, -1]]))

    found = mix_frames(frames, np.array([1, 1, 2]), np.array([0.75, 1.0, 1.0]))
    still = mix_frames(
        Frames(images, torch.tensor([[0, 0, 0], [1, 1, 1]])), np.array([1, 0]), np.array([0.5, 0.5])
    )

    assert len(found.images) == 6  # three mixtures of the first clip, three of the second itself
    assert found.index[2].tolist() == [-1, -1, -1]
    torch.testing.assert_close(dense(found, 0), 0.75 * images[[0]] + 0.25 * images[1:])
    assert len(still.images) == 2


def test_shares_are_those_of_beta_folded_at_one_half() -> None:
    rng = np.random.default_rng(0)

    shares = np.array([draw_share(1.0, rng) for _ in range(2000)])

    assert shares.min() >= 0.5
    assert abs(shares.mean() - 0.75) < 0.01  # Beta(1, 1) is uniform


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    epoch=st.integers(0, 5),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_balanced_draws_show_every_class_equally_often_and_as_many_of_its_clips_as_can_be(
    labels: list[int], epoch: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = np.array(labels)
    order = rng.permutation(len(names))

    drawn = balanced_order(order, names, epoch=epoch, rng=rng)

    assert drawn.shape == order.shape
    counts = np.bincount(names[drawn], minlength=5)[np.unique(names)]
    assert counts.max() - counts.min() <= 1
    for c, count in zip(np.unique(names), counts, strict=True):
        times = np.bincount(drawn[names[drawn] == c], minlength=len(names))[names == c]
        if count:
            assert times.max() - times.min() <= 1
    again = occurrences(drawn)
    for i, n in zip(drawn, again, strict=True):
        assert 0 <= n < np.count_nonzero(drawn == i)
    assert len({(int(i), int(n)) for i, n in zip(drawn, again, strict=True)}) == len(drawn)


def test_every_class_of_a_skewed_set_is_spread_over_the_epoch_and_repeats_look_different(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    samples = [make_sample(f"k{i:02d}_000000", label=int(i % 10 == 0), rng=rng) for i in range(40)]
    path = write_shards(tmp_path / "s", {"train": samples}, classes={0: "a", 1: "b"})
    shards = ShardSet.open(path)
    loader = ClipLoader(
        ClipDataset(shards, "train", spec=describe(shards)),
        batch_size=10,
        num_threads=0,
        shuffle_seed=1,
        augment=DataSettings(shift=0.2),
        sampling="balanced",
    )

    batches = list(loader.epoch(1, senses=BOTH))

    assert [int(batch.labels.sum()) for batch in batches] == pytest.approx([5] * 4, abs=1)
    rare = [
        (clip.key, change.down)
        for batch in batches
        for clip, change in zip(batch.clips, batch.changes, strict=True)
        if clip.label
    ]
    assert len(rare) == 20
    assert len({key for key, _ in rare}) == 4
    assert len({down for _, down in rare}) == 20
    assert [b.keys for b in loader.epoch(1, senses=BOTH)] == [b.keys for b in batches]
    assert [b.keys for b in loader.epoch(2, senses=BOTH)] != [b.keys for b in batches]
