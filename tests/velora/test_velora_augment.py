"""One change a clip: the same for both senses and for stored differences, whatever their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from velora_helpers import make_sample, write_shards

from eventkit.shards import ShardSet
from velora.data import Batch, Clip, ClipDataset, ClipLoader, describe, make_batch
from velora.data.clip_frames import clip_frames
from velora.frames.augment import (
    LATTICE,
    UNCHANGED,
    Change,
    bend,
    crop,
    draw_change,
    recolor,
    shift,
    sources,
)
from velora.frames.frames import Frames, difference_frames
from velora.inputs import resolve
from velora.settings import DataSettings

CPU = torch.device("cpu")
EVERYTHING: dict[str, Any] = {"shift": 0.1, "flip": True, "crop": 0.3, "color": 0.2} | {
    "rotate": 10.0,
    "shear": 0.2,
    "warp": 0.05,
}
REDBLUE = resolve("redblue", "counts:eventkit")


def clip(key: str, *, events: np.ndarray, rgb: np.ndarray, index: list[int]) -> Clip:
    return Clip(key=key, label=0, rgb=rgb, rgb_index=np.array(index), events=events)


def batch_of(*clips: Clip, changes: list[Change] | None = None) -> Batch:
    return make_batch(
        list(clips), positions=range(len(clips)), changes=changes or [UNCHANGED] * len(clips)
    )


def marked(key: str) -> Clip:
    """A clip with the same mark at 16x16 in RGB and at 32x32 in events."""
    rgb = np.zeros((1, 16, 16, 1), np.uint8)
    rgb[0, 4:6, 2:4] = 255
    events = np.zeros((2, 2, 32, 32), np.uint8)
    events[:, 1, 8:12, 4:8] = 1
    return clip(key, events=events, rgb=rgb, index=[0, 0])


def frames_of(batch: Batch, **options: Any) -> dict[str, Frames]:
    return clip_frames(batch, events=REDBLUE, size_hw=(16, 16), device=CPU, **options)


def test_a_shift_moves_pixels_and_fills_with_what_was_asked_for() -> None:
    picture = torch.arange(9.0).view(1, 1, 3, 3).expand(1, 3, 3, 3)

    moved = shift(picture, dy=1, dx=-1, fill=-1.0)
    repeated = shift(picture, dy=1, dx=-1)

    assert moved[0, 0].tolist() == [[-1, -1, -1], [1, 2, -1], [4, 5, -1]]
    assert repeated[0, 0].tolist() == [[1, 2, 2], [1, 2, 2], [4, 5, 5]]


def test_a_crop_shows_its_part_at_the_size_of_the_whole() -> None:
    picture = torch.zeros(1, 3, 8, 8)
    picture[..., 4:, :4] = 1.0

    cut = crop(picture, side=0.5, top=1.0, left=0.0)

    assert cut.shape == picture.shape
    assert bool((cut == 1).all())
    assert crop(picture, side=0.99, top=0.5, left=0.5) is picture


def test_a_quarter_turn_is_the_transpose_that_numpy_makes() -> None:
    picture = torch.rand(2, 3, 8, 8)

    turned = bend(picture, Change(rotation=90.0), ground=0.0)

    torch.testing.assert_close(turned, torch.rot90(picture, -1, (-2, -1)), atol=1e-5, rtol=0)


def test_a_shear_slides_rows_by_their_distance_from_the_middle() -> None:
    picture = torch.zeros(1, 3, 9, 9)
    picture[..., 4] = 1.0

    slid = bend(picture, Change(shear=0.5), ground=0.0)[0, 0]

    columns = (slid * torch.arange(9.0)).sum(1) / slid.sum(1)
    torch.testing.assert_close(columns, 4 + 0.5 * (torch.arange(9.0) - 4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size_hw", [(40, 64), (64, 40), (33, 33)])
@pytest.mark.parametrize("bf16", [False, True])
def test_pixels_come_from_where_the_inverse_of_shear_and_rotation_says(
    size_hw: tuple[int, int], *, bf16: bool
) -> None:
    height, width = size_hw
    angle, shear = np.deg2rad(25.0), 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(rotation @ np.array([[1.0, shear], [0.0, 1.0]]))  # of (x, y)
    y, x = np.mgrid[:height, :width].astype(float)
    pixels = np.stack([x + 0.5 - width / 2, y + 0.5 - height / 2], axis=-1)

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        grid = sources(Change(rotation=25.0, shear=shear), height, width, device=CPU)[0]

    found = grid.double().numpy() * np.array([width, height]) / 2
    np.testing.assert_allclose(found, pixels @ inverse.T, atol=1e-4)


def test_a_warp_takes_pixels_from_where_its_lattice_says() -> None:
    picture = torch.rand(1, 3, 8, 8)
    everywhere = (0.25,) * LATTICE**2 + (-0.125,) * LATTICE**2
    corner = (0.25,) + (0.0,) * (2 * LATTICE**2 - 1)

    moved = bend(picture, Change(warp=everywhere), ground=0.0)
    bent = bend(picture, Change(warp=corner), ground=0.0)

    torch.testing.assert_close(moved, shift(picture, dy=-2, dx=1, fill=0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(bent[..., 0, 0], picture[..., 2, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(bent[..., -1, :], picture[..., -1, :], atol=1e-5, rtol=0)


@pytest.mark.parametrize("ground", [None, 0.0, 1.0])
def test_what_a_rotation_brings_in_is_the_ground_or_the_edge(ground: float | None) -> None:
    picture = torch.full((1, 3, 8, 8), 0.5)

    turned = bend(picture, Change(rotation=45.0), ground=ground)

    torch.testing.assert_close(turned[..., 3:5, 3:5], picture[..., 3:5, 3:5])
    assert turned[0, 0, 0, 0].item() == pytest.approx(0.5 if ground is None else ground)


def test_colour_keeps_the_mean_and_scales_differences_of_frames() -> None:
    frames = 0.4 + 0.2 * torch.rand(3, 3, 8, 8)

    changed = recolor(frames, Change(brightness=0.1, contrast=1.2))

    torch.testing.assert_close(changed.mean(), frames.mean() + 0.1)
    torch.testing.assert_close(changed[1] - changed[0], 1.2 * (frames[1] - frames[0]))
    extreme = recolor(frames, Change(brightness=0.9))
    assert float(extreme.max()) <= 1


def test_changes_stay_within_their_settings_and_each_has_its_own_numbers() -> None:
    def drawn(settings: DataSettings) -> list[Change]:
        return [draw_change(settings, np.random.default_rng(i)) for i in range(300)]

    everything = drawn(DataSettings(**EVERYTHING))

    for name, low, high in (
        ("down", -0.1, 0.1),
        ("right", -0.1, 0.1),
        ("side", 0.7, 1.0),
        ("top", 0.0, 1.0),
        ("left", 0.0, 1.0),
        ("rotation", -10.0, 10.0),
        ("shear", -0.2, 0.2),
        ("brightness", -0.2, 0.2),
        ("contrast", 0.8, 1.2),
    ):
        values = np.array([getattr(change, name) for change in everything])
        assert values.min() >= low
        assert values.max() <= high
        assert values.std() > 0.25 * (high - low) * 0.9
    lattices = np.array([change.warp for change in everything])
    assert lattices.shape == (300, 2 * LATTICE**2)
    assert -0.05 <= lattices.min() < -0.0499
    assert 0.0499 < lattices.max() <= 0.05
    assert 120 < sum(change.flip for change in everything) < 180
    # Turning one off leaves the numbers of the others.
    assert [c.side for c in drawn(DataSettings(shift=0, crop=0.3))] == [c.side for c in everything]
    assert not any(c.moves for c in drawn(DataSettings(shift=0)))


def test_both_senses_of_a_clip_move_and_flip_together_whatever_their_sizes() -> None:
    one, two = marked("a"), marked("b")

    made = frames_of(
        batch_of(one, two, changes=[Change(down=0.125, right=0.25, flip=True), UNCHANGED])
    )

    for row, expected in ((0, [6.5, 15 - 6.5]), (1, [4.5, 2.5])):
        assert centres(made, row) == pytest.approx([*expected, *expected], abs=0.01)


def test_both_senses_are_cropped_alike() -> None:
    one = marked("a")

    made = frames_of(batch_of(one, changes=[Change(side=0.5, top=0.25, left=0.0)]))

    y, x, *of_events = centres(made, 0)
    # Rows 2 to 9 and columns 0 to 7 now fill the picture: twice as far from the corner.
    assert (y, x) == pytest.approx((2 * (4.5 - 2) + 0.5, 2 * 2.5 + 0.5), abs=0.1)
    assert of_events == pytest.approx([y, x], abs=0.1)


def test_both_senses_are_bent_alike() -> None:
    one = marked("a")
    change = draw_change(DataSettings(rotate=30, shear=0.2, warp=0.05), np.random.default_rng(3))

    plain = centres(frames_of(batch_of(one)), 0)
    y, x, *of_events = centres(frames_of(batch_of(one, changes=[change])), 0)

    assert abs(y - plain[0]) + abs(x - plain[1]) > 1
    assert of_events == pytest.approx([y, x], abs=0.1)


def centres(made: dict[str, Frames], row: int) -> list[float]:
    """Where the mark is in RGB (y, x) and in events (y, x)."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    bright = made["rgb"].images[made["rgb"].index[row, 0], 0]
    ink = 1 - made["event"].images[made["event"].index[row, 0], 2]
    return [float((mark * axis).sum() / mark.sum()) for mark in (bright, ink) for axis in (y, x)]


def test_clips_of_different_sizes_and_senses_meet_in_one_batch() -> None:
    rng = np.random.default_rng(0)
    no_rgb = np.zeros((0, 1, 1, 1), np.uint8)
    clips = [
        clip(
            "a",
            events=rng.integers(0, 3, (2, 2, 34, 34)).astype(np.uint8),
            rgb=rng.integers(0, 255, (2, 28, 28, 1)).astype(np.uint8),
            index=[0, 1],
        ),
        clip(
            "b",
            events=rng.integers(0, 3, (2, 2, 20, 30)).astype(np.uint8),
            rgb=no_rgb,
            index=[-1, -1],
        ),
        clip(
            "c",
            events=np.zeros((0, 2, 34, 34), np.uint8),
            rgb=rng.integers(0, 255, (1, 9, 12, 3)).astype(np.uint8),
            index=[0, 0],
        ),
    ]

    made = frames_of(batch_of(*clips))
    alone = frames_of(batch_of(clips[1]))

    assert made["rgb"].index.tolist() == [[0, 1], [-1, -1], [2, 2]]
    assert made["event"].index.tolist() == [[0, 1], [2, 3], [-1, -1]]
    assert made["rgb"].images.shape == (3, 3, 16, 16)
    torch.testing.assert_close(made["event"].images[2:], alone["event"].images)
    assert alone["rgb"].images.shape == (0, 3, 16, 16)


def test_a_hidden_sense_is_as_if_the_clips_lacked_it() -> None:
    rng = np.random.default_rng(0)
    one = clip(
        "a",
        events=rng.integers(0, 3, (2, 2, 16, 16)).astype(np.uint8),
        rgb=rng.integers(0, 255, (2, 16, 16, 3)).astype(np.uint8),
        index=[0, 1],
    )

    made = frames_of(batch_of(one), senses=("event",))

    assert made["rgb"].images.shape == (0, 3, 16, 16)
    assert made["rgb"].index.tolist() == [[-1, -1]]
    torch.testing.assert_close(made["event"].images, frames_of(batch_of(one))["event"].images)


def test_repeated_frames_stay_repeated_so_that_nothing_moves_between_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [make_sample("k_000000", label=0, rng=rng, static=True)]
    path = write_shards(tmp_path / "s", {"train": samples}, classes={0: "a", 1: "b"})
    shards = ShardSet.open(path)
    settings = DataSettings(**EVERYTHING)
    loader = ClipLoader(
        ClipDataset(shards, "train", spec=describe(shards)),
        batch_size=1,
        shuffle_seed=0,
        augment=settings,
    )
    (batch,) = loader.epoch(senses=("rgb", "event"))

    assert batch.changes[0] != UNCHANGED
    moving = difference_frames([frames_of(batch)["rgb"]])

    assert float(moving.images.abs().max()) == 0.0
