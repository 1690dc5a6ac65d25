"""Clips come in an order and with an augmentation that only seed, epoch and sample decide."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from velora_helpers import make_sample, write_shards

from eventkit.errors import DamageError, EventKitError
from eventkit.samples import Sample
from eventkit.shards import ShardSet
from velora.data import (
    Batch,
    ClipDataset,
    ClipLoader,
    check_fits,
    check_splits,
    describe,
    make_batch,
)
from velora.settings import DataSettings

BOTH = ("rgb", "event")


def open_split(path: Path, split: str = "train", **options: int) -> ClipDataset:
    shards = ShardSet.open(path)
    return ClipDataset(shards, split, spec=describe(shards), **options)


def test_order_and_augmentation_depend_neither_on_threads_nor_on_the_batch_size(
    shards: Path,
) -> None:
    dataset = open_split(shards)

    def drawn(batch_size: int, num_threads: int, epoch: int = 2) -> list[tuple[object, ...]]:
        loader = ClipLoader(
            dataset,
            batch_size=batch_size,
            num_threads=num_threads,
            shuffle_seed=5,
            augment=DataSettings(shift=0.1, flip=True),
        )
        return [
            (clip.key, change.down, change.right, change.flip)
            for batch in loader.epoch(epoch, senses=BOTH)
            for clip, change in zip(batch.clips, batch.changes, strict=True)
        ]

    first = drawn(8, 0)
    assert first == drawn(8, 3) == drawn(5, 1)
    assert first != drawn(8, 0, epoch=3)
    assert len(first) == len({key for key, *_ in first}) == len(dataset)
    shifts = np.array([row[1:3] for row in first])
    assert 0.03 < np.abs(shifts).max() <= 0.1
    assert {bool(row[3]) for row in first} == {True, False}


def test_clips_behind_a_url_are_those_of_the_folder(shards: Path, tmp_path: Path) -> None:
    remote = ShardSet.open(f"file://{shards}", cache=tmp_path)
    loader = ClipLoader(
        ClipDataset(remote, "train", spec=describe(remote)), batch_size=5, shuffle_seed=1
    )
    local = ClipLoader(open_split(shards), batch_size=5, shuffle_seed=1)

    found = [clip for batch in loader.epoch(1, senses=BOTH) for clip in batch.clips]

    expected = [clip for batch in local.epoch(1, senses=BOTH) for clip in batch.clips]
    assert [clip.key for clip in found] == [clip.key for clip in expected]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(found, expected, strict=True))


def test_a_clip_is_decoded_once_while_the_cache_has_room(shards: Path) -> None:
    cached, uncached = open_split(shards), open_split(shards, cache_bytes=0)

    assert cached[3] is cached[3]
    assert uncached[3] is not uncached[3]
    assert np.array_equal(cached[3].events, uncached[3].events)


def test_a_static_image_is_kept_once(make_shards) -> None:
    clip = open_split(make_shards(train=3, val=0, test=3, static=True))[1]

    assert clip.rgb.shape == (1, 28, 28, 1)
    assert clip.rgb_index.tolist() == [0, 0, 0]


def test_large_counts_saturate_at_uint8_and_voxels_keep_their_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = make_sample("a_000000", label=0, rng=rng)
    events = wide.events.astype(np.uint32) * 1000
    object.__setattr__(wide, "events", events)
    voxels = make_sample("b_000000", label=1, rng=rng, voxels=True)
    counts = write_shards(tmp_path / "c", {"train": [wide]}, classes={0: "a", 1: "b"})
    signed = write_shards(
        tmp_path / "v", {"train": [voxels]}, classes={0: "a", 1: "b"}, representation="voxel:zhu"
    )

    assert open_split(counts)[0].events.dtype == np.uint8
    assert open_split(counts)[0].events.max() == 255
    assert np.array_equal(open_split(signed)[0].events, voxels.events)


def of_shape(shape: tuple[int, ...], dtype: str, label: int = 0) -> Sample:
    sample = make_sample(f"k{label}_000000", label=label, rng=np.random.default_rng(0))
    object.__setattr__(sample, "events", np.ones(shape, dtype))
    return sample


def test_pictures_of_events_are_clips_as_they_are(tmp_path: Path) -> None:
    path = write_shards(
        tmp_path / "s",
        {"train": [of_shape((3, 3, 4, 5), "u1")]},
        classes={0: "a", 1: "b"},
        representation="image:event-ahu,painting=off-over-on",
    )

    clip = open_split(path)[0]

    assert clip.events.shape == (3, 3, 4, 5)
    assert clip.events.dtype == np.uint8


@pytest.mark.parametrize(
    ("representation", "shape"),
    [
        ("voxel:mine", (3, 3, 4, 5)),
        ("image:mine", (3, 4, 4, 5)),
        ("surface:mine", (3, 2, 4, 5)),
        ("", (3, 2, 4, 5)),
    ],
)
def test_frames_that_no_picture_is_drawn_from_are_refused_with_what_is(
    tmp_path: Path, representation: str, shape: tuple[int, ...]
) -> None:
    path = write_shards(
        tmp_path / "s",
        {"train": [of_shape(shape, "u1")]},
        classes={0: "a", 1: "b"},
        representation=representation,
    )

    with pytest.raises(EventKitError, match=r"holds events as .*expected a representation among"):
        describe(ShardSet.open(path))


def test_frames_of_other_channels_than_their_representation_are_damage(tmp_path: Path) -> None:
    path = write_shards(
        tmp_path / "s",
        {"train": [of_shape((3, 4, 4, 5), "u1")]},
        classes={0: "a", 1: "b"},
        representation="image:event-ahu",
    )

    with pytest.raises(DamageError, match=r"3 channels of image:event-ahu, got \(3, 4, 4, 5\)"):
        describe(ShardSet.open(path))


def test_the_type_of_counts_does_not_keep_a_run_from_shards(tmp_path: Path) -> None:
    specs = [
        describe(
            ShardSet.open(
                write_shards(
                    tmp_path / dtype,
                    {"train": [of_shape((3, 2, 4, 5), dtype)]},
                    classes={0: "a", 1: "b"},
                    representation=f"counts:eventkit,dtype={dtype}",
                )
            )
        )
        for dtype in ("u1", "u2")
    ]

    assert specs[0].representation == specs[1].representation == "counts:eventkit"
    check_fits(*specs)


def test_clips_without_a_wanted_sense_are_passed_over(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    senses = [("rgb", "event"), ("rgb",), ("event",)]
    samples = [
        make_sample(f"k{i}_000000", label=i % 2, rng=rng, senses=which)
        for i, which in enumerate(senses)
    ]
    path = write_shards(tmp_path / "s", {"train": samples}, classes={0: "a", 1: "b"})
    loader = ClipLoader(open_split(path), batch_size=2, num_threads=0)

    def keys(*wanted: str) -> list[str]:
        return [key[:2] for batch in loader.epoch(senses=wanted) for key in batch.keys]

    assert keys(*BOTH) == ["k0", "k1", "k2"]
    assert keys("rgb") == ["k0", "k1"]
    assert keys("event") == ["k0", "k2"]
    with_rgb, without = loader.dataset[1], loader.dataset[2]
    assert (len(with_rgb.events), len(without.rgb)) == (0, 0)
    assert without.rgb_index.tolist() == [-1, -1, -1]


def test_labels_become_positions_in_the_order_of_the_class_ids(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [make_sample(f"k{i}_000000", label=0, rng=rng) for i in range(3)]
    for sample, label in zip(samples, (7, 300, 41), strict=True):
        object.__setattr__(sample, "label", label)
    classes = {300: "walk", 7: "run", 41: "sit"}
    path = write_shards(tmp_path / "s", {"train": samples}, classes=classes)

    spec = describe(ShardSet.open(path))

    assert spec.class_ids == [7, 41, 300]
    assert open_split(path).labels.tolist() == [0, 2, 1]


def test_unlabelled_shards_are_refused_with_the_cure(make_shards) -> None:
    shards = ShardSet.open(make_shards(train=3, val=0, test=3, labelled=False))

    with pytest.raises(EventKitError, match=r"3 of the 3 .*<class>/<recording> <frames> <label>"):
        describe(shards)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"representation": "surface:exp"}, "surface:exp"),
        ({"classes": {0: "low"}}, "label"),
        ({"train": 0}, "no train samples"),
        ({"test": 0}, "no test samples"),
    ],
)
def test_a_set_that_no_model_can_learn_from_is_refused_with_the_reason(
    make_shards, options: dict[str, object], reason: str
) -> None:
    shards = ShardSet.open(make_shards(**{"train": 3, "val": 0, "test": 3, **options}))

    def check() -> None:
        describe(shards)
        check_splits(shards)

    with pytest.raises(EventKitError, match=reason):
        check()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bins": 4}, "3 bins of counts:eventkit.* 4 bins"),
        ({"voxels": True, "representation": "voxel:zhu"}, "voxel:zhu"),
        ({"classes": {0: "low", 1: "hight", 2: "mittle"}}, "1 hight, 2 mittle"),
    ],
)
def test_shards_that_do_not_fit_a_run_are_refused_with_what_differs(
    make_shards, shards: Path, options: dict[str, object], reason: str
) -> None:
    run = describe(ShardSet.open(shards))
    other = describe(ShardSet.open(make_shards(train=0, val=0, test=3, **options)))

    with pytest.raises(EventKitError, match=reason):
        check_fits(other, run)


def test_a_sample_with_other_bins_than_its_set_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [make_sample(f"k{b}_000000", label=0, rng=rng, bins=3) for b in (0, 1)]
    object.__setattr__(samples[1], "events", samples[1].events[:2])
    path = write_shards(tmp_path / "s", {"train": samples}, classes={0: "a", 1: "b"})
    loader = ClipLoader(open_split(path), batch_size=2)

    with pytest.raises(DamageError, match="k1_000000"):
        list(loader.epoch(senses=BOTH))


def test_a_shard_set_survives_pickling_into_a_dataset(shards: Path) -> None:
    again = pickle.loads(pickle.dumps(ShardSet.open(shards)))

    assert ClipDataset(again, "val", spec=describe(again))[0].label == 0


def packed_alone(batch: Batch) -> dict[str, list[torch.Tensor]]:
    """The pixels of a batch, joined from the clips' own arrays."""
    copies = [replace(clip, rgb=clip.rgb.copy(), events=clip.events.copy()) for clip in batch.clips]
    return make_batch(copies, positions=batch.positions, changes=batch.changes).packs


def large(num: int, path: Path, **odd: Any) -> Path:
    """Clips that are worth a row of a batch; ``odd`` is what is special of the fourth."""
    samples = [
        make_sample(
            f"k{i:02d}_000000",
            label=i % 2,
            rng=np.random.default_rng(i),
            **{"sizes": (120, 160), **(odd if i == 3 else {})},
        )
        for i in range(num)
    ]
    return write_shards(path / "s", {"train": samples}, classes={0: "a", 1: "b"})


@pytest.mark.parametrize("cache_bytes", [0, 500_000, 2**30])
def test_clips_are_decoded_into_the_batch_itself(tmp_path: Path, cache_bytes: int) -> None:
    path = large(24, tmp_path)
    loader = ClipLoader(
        open_split(path, cache_bytes=cache_bytes), batch_size=4, shuffle_seed=1, mixup=0.4, parts=2
    )
    plain, shared = open_split(path), 0

    for epoch in range(2):
        for batch in loader.epoch(epoch, senses=BOTH):
            expected = packed_alone(batch)
            for name in ("rgb", "events"):
                (pixels,) = batch.packs[name]
                assert torch.equal(pixels, expected[name][0])
                mine = getattr(batch.clips[0], name)
                shared += pixels.data_ptr() == mine.__array_interface__["data"][0]
            for clip in batch.clips:
                (i,) = np.flatnonzero(plain.keys == clip.key)
                assert np.array_equal(clip.rgb, plain[int(i)].rgb)
                assert np.array_equal(clip.events, plain[int(i)].events)

    # Of 6 steps, the first three of an epoch know nothing of the clips yet.
    assert shared > 8


@pytest.mark.parametrize(
    "odd", [{"static": True}, {"senses": ("event",)}, {"sizes": (120, 90)}, {"senses": ("rgb",)}]
)
def test_clips_that_do_not_fit_the_rows_are_joined_as_ever(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    path = large(20, tmp_path, **odd)
    for num_threads in (0, 1, 3):
        loader = ClipLoader(
            open_split(path, cache_bytes=0), batch_size=2, num_threads=num_threads, shuffle_seed=0
        )
        seen = []
        for batch in loader.epoch(senses=BOTH):
            expected = packed_alone(batch)
            for name, pieces in batch.packs.items():
                assert len(pieces) == len(expected[name])
                assert all(map(torch.equal, pieces, expected[name]))
            seen += batch.keys
        assert sorted(seen) == [f"k{i:02d}_000000" for i in range(20)]


def test_batches_that_are_kept_do_not_change_under_later_steps(tmp_path: Path) -> None:
    loader = ClipLoader(open_split(large(24, tmp_path), cache_bytes=0), batch_size=2)

    kept = []
    for batch in loader.epoch(senses=BOTH):
        pixels = batch.packs["rgb"][0]
        # The tensor alone is held, not the batch.
        kept.append((pixels, pixels.clone()))

    assert all(torch.equal(now, then) for now, then in kept)


def test_without_threads_a_clip_is_decoded_once_a_step(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_split(shards, cache_bytes=0)
    asked: list[int] = []
    decode = ClipDataset._decoded

    def counted(self: ClipDataset, i: int, rows: Any) -> Any:
        asked.append(i)
        return decode(self, i, rows)

    monkeypatch.setattr(ClipDataset, "_decoded", counted)
    list(ClipLoader(dataset, batch_size=4, num_threads=0).epoch(senses=BOTH))

    assert sorted(asked) == list(range(len(dataset)))
