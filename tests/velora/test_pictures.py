"""Event and RGB pictures, their size, and one augmentation per clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from velora.data import Batch, Clip
from velora.pictures import (
    OFF_RGB,
    ON_RGB,
    clip_frames,
    event_pictures,
    resize,
    rgb_pictures,
    shift,
)

CPU = torch.device("cpu")


def clip(key: str, *, events: np.ndarray, rgb: np.ndarray, index: list[int]) -> Clip:
    return Clip(key=key, label=0, rgb=rgb, rgb_index=np.array(index), events=events)


def batch_of(*clips: Clip, shifts: object = None, flips: object = None) -> Batch:
    return Batch(
        clips=list(clips),
        shifts=np.zeros((len(clips), 2)) if shifts is None else np.array(shifts, float),
        flips=np.zeros(len(clips), bool) if flips is None else np.array(flips, bool),
    )


def test_counts_are_painted_red_and_blue_on_white_with_off_on_top() -> None:
    counts = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    counts[0, 1, 0, 0] = 3  # ON
    counts[0, 0, 0, 1] = 1  # OFF
    counts[0, :, 1, 0] = 255  # both

    picture = event_pictures(counts)[0].permute(1, 2, 0)

    torch.testing.assert_close(picture[0, 0], torch.tensor(ON_RGB))
    torch.testing.assert_close(picture[0, 1], torch.tensor(OFF_RGB))
    torch.testing.assert_close(picture[1, 0], torch.tensor(OFF_RGB))
    torch.testing.assert_close(picture[1, 1], torch.ones(3))


def test_voxels_are_painted_by_sign_and_strength() -> None:
    voxels = torch.tensor([[[[5.0, -5.0], [0.0, 0.5]]]])

    picture = event_pictures(voxels)[0].permute(1, 2, 0)

    torch.testing.assert_close(picture[0, 0], torch.tensor(ON_RGB))
    torch.testing.assert_close(picture[0, 1], torch.tensor(OFF_RGB))
    torch.testing.assert_close(picture[1, 0], torch.ones(3))
    torch.testing.assert_close(picture[1, 1], (torch.ones(3) + torch.tensor(ON_RGB)) / 2)


def test_pictures_of_events_are_shown_as_they_are() -> None:
    frames = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)

    torch.testing.assert_close(event_pictures(frames), torch.tensor([0, 0.2, 1]).view(1, 3, 1, 1))


def test_event_frames_of_three_channels_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 channels"):
        event_pictures(torch.zeros(1, 3, 2, 2))


def test_gray_becomes_three_equal_channels_in_zero_to_one() -> None:
    pictures = rgb_pictures(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3, 1))

    assert pictures.shape == (1, 3, 1, 3)
    torch.testing.assert_close(pictures[0, :, 0], torch.tensor([[0.0, 0.2, 1.0]]).expand(3, 3))


def test_resizing_keeps_constant_pictures_and_the_range() -> None:
    noise = torch.rand(2, 3, 17, 31)

    for size in ((8, 8), (40, 24)):
        resized = resize(noise, size)
        assert resized.shape == (2, 3, *size)
        assert float(resized.min()) >= 0
        assert float(resized.max()) <= 1
        torch.testing.assert_close(resize(torch.ones(1, 3, 9, 9), size), torch.ones(1, 3, *size))


def test_a_shift_moves_pixels_and_fills_with_what_was_asked_for() -> None:
    picture = torch.arange(9.0).view(1, 1, 3, 3).expand(1, 3, 3, 3)

    moved = shift(picture, dy=1, dx=-1, fill=-1.0)
    repeated = shift(picture, dy=1, dx=-1)

    assert moved[0, 0].tolist() == [[-1, -1, -1], [1, 2, -1], [4, 5, -1]]
    assert repeated[0, 0].tolist() == [[1, 2, 2], [1, 2, 2], [4, 5, 5]]


def test_both_senses_of_a_clip_move_and_flip_together_whatever_their_sizes() -> None:
    # The same cross is drawn at 16x16 for RGB and at 32x32 for events.
    rgb = np.zeros((1, 16, 16, 1), np.uint8)
    rgb[0, 4:6, 2:4] = 255
    events = np.zeros((2, 2, 32, 32), np.uint8)
    events[:, 1, 8:12, 4:8] = 1
    one = clip("a", events=events, rgb=rgb, index=[0, 0])
    two = clip("b", events=events, rgb=rgb, index=[0, 0])

    made = clip_frames(
        batch_of(one, two, shifts=[[0.125, 0.25], [0, 0]], flips=[True, False]),
        size_hw=(16, 16),
        device=CPU,
    )

    def centre(ink: torch.Tensor) -> list[float]:
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        return [float((ink * axis).sum() / ink.sum()) for axis in (y, x)]

    for row, expected in ((0, [6.5, 15 - 6.5]), (1, [4.5, 2.5])):
        bright = made["rgb"].images[made["rgb"].index[row, 0], 0]
        ink = 1 - made["event"].images[made["event"].index[row, 0], 2]
        assert centre(bright) == pytest.approx(expected, abs=0.01)
        assert centre(ink) == pytest.approx(expected, abs=0.01)


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

    made = clip_frames(batch_of(*clips), size_hw=(16, 16), device=CPU)
    alone = clip_frames(batch_of(clips[1]), size_hw=(16, 16), device=CPU)

    assert made["rgb"].index.tolist() == [[0, 1], [-1, -1], [2, 2]]
    assert made["event"].index.tolist() == [[0, 1], [2, 3], [-1, -1]]
    assert made["rgb"].images.shape == (3, 3, 16, 16)
    torch.testing.assert_close(made["event"].images[2:], alone["event"].images)
    assert alone["rgb"].images.shape == (0, 3, 16, 16)
