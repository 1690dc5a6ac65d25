"""RGB pictures, and the size of all pictures."""

from __future__ import annotations

import torch

from velora.frames.pictures import resize, rgb_pictures


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
